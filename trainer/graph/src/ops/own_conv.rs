//! Convolutions and their gradients as operators of the domain [`DOMAIN`].

use super::conv::Conv;
use crate::builder::Builder;
use crate::import::translation::Family;
use crate::model::DOMAIN;
use crate::node::{Attributes, Tensor, int, ints};
use crate::operator::Operator;
use crate::types::{ElementType, TensorType};

/// The operators of this file; files do not hold them.
pub(super) const OPERATORS: Family = &[(&CONV, None), (&CONV_DATA, None), (&CONV_WEIGHT, None)];
static CONV: Operator = Operator::new("Conv", 1).in_domain(DOMAIN);
static CONV_DATA: Operator = Operator::new("ConvData", 1).in_domain(DOMAIN);
static CONV_WEIGHT: Operator = Operator::new("ConvWeight", 1).in_domain(DOMAIN);

/// Smallest number of channels of a group's output for which the own convolution is as fast as the standard
/// one: its kernel computes so many side by side.
const CHANNELS: usize = 16;

impl Builder {
    /// Whether a convolution of tensors of `element` with weights of `shape` `[O,C/g,k,k]` has an operator of
    /// its own.
    pub(super) fn is_own_conv(&self, element: ElementType, conv: Conv, shape: &[usize]) -> bool {
        self.is_own(element, conv, shape, shape[0] / conv.groups)
    }

    /// Whether the gradient of its data has one.
    pub(super) fn is_own_data_gradient(&self, element: ElementType, conv: Conv, shape: &[usize]) -> bool {
        self.is_own(element, conv, shape, shape[1])
    }

    fn is_own(&self, element: ElementType, conv: Conv, shape: &[usize], channels: usize) -> bool {
        let is_depthwise = conv.groups > 1 && shape[..2] == [conv.groups, 1];
        self.is_own_weight_gradient(element, conv, shape) && (is_depthwise || channels >= CHANNELS)
    }

    /// Whether the gradient of its weights has one.
    pub(super) fn is_own_weight_gradient(&self, element: ElementType, conv: Conv, shape: &[usize]) -> bool {
        // A kernel of one element that meets every position is a product as it is.
        let is_product = shape[2..] == [1, 1] && conv.groups == 1 && conv.strides == [1, 1];
        self.lowering().has_own(&CONV) && element == ElementType::F32 && !is_product
    }

    /// The convolution of `operands` `[N,C,H,W]`, `[O,C/g,k,k]` and perhaps `[O]`, of `shape` `[N,O,P,Q]`.
    pub(super) fn own_conv(&mut self, operands: &[Tensor], conv: Conv, shape: &[usize]) -> Tensor {
        let kernel = self.shape(operands[1])[2..].to_vec();
        self.emit(&CONV, operands, attributes(conv, &kernel, shape), TensorType::f32(shape))
    }

    /// The gradient of the input, of `shape`.
    pub(super) fn own_conv_data(&mut self, dy: Tensor, w: Tensor, conv: Conv, shape: &[usize]) -> Tensor {
        let kernel = self.shape(w)[2..].to_vec();
        self.emit(&CONV_DATA, &[dy, w], attributes(conv, &kernel, shape), TensorType::f32(shape))
    }

    /// The gradient of the weights, of `shape`.
    pub(super) fn own_conv_weight(&mut self, x: Tensor, dy: Tensor, conv: Conv, shape: &[usize]) -> Tensor {
        let attributes = attributes(conv, &shape[2..], shape);
        self.emit(&CONV_WEIGHT, &[x, dy], attributes, TensorType::f32(shape))
    }
}

/// The geometry, and the shape of the output.
fn attributes(conv: Conv, kernel: &[usize], shape: &[usize]) -> Attributes {
    vec![
        ints("kernel_shape", kernel),
        ints("strides", &conv.strides),
        ints("pads", &conv.pads_before),
        ints("dilations", &conv.dilations),
        int("group", conv.groups as i64),
        ints("shape", shape),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::conv::Conv;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Lowering, Target};

    #[test]
    fn own_operators_agree_with_finite_differences_and_with_the_standard_ones() {
        let standard = Lowering::training(Target::Cpu).of_files(true);
        let own = Lowering { own_operators: true, ..standard };
        let uneven =
            Conv { strides: [2, 1], pads_before: [1, 0], pads_after: [0, 2], dilations: [1, 2], groups: 20 };
        let cases = [
            (Conv::new(1, 1).groups(20), [2, 20, 5, 6], [20, 1, 3, 3]),
            (Conv::new(2, 2).groups(3), [3, 3, 7, 6], [3, 1, 5, 5]),
            (Conv::new(1, 3).groups(2), [1, 2, 4, 4], [2, 1, 7, 7]),
            (uneven, [2, 20, 7, 8], [20, 1, 3, 2]),
            (Conv::new(1, 1), [2, 16, 5, 4], [17, 16, 3, 3]),
            (Conv::new(2, 1), [2, 3, 7, 6], [5, 3, 3, 3]),
            (Conv { groups: 2, ..uneven }, [2, 32, 7, 8], [40, 16, 3, 2]),
            (Conv::new(2, 0), [2, 16, 5, 4], [16, 16, 1, 1]),
        ];
        for (conv, x, w) in cases {
            let case =
                |lowering| Case::f32("Conv, own").normal(x).normal(w).normal([w[0]]).lowering(lowering);
            check_gradients(case(own), |g, x| g.conv(x[0], x[1], Some(x[2]), conv));
            let [found, expected] =
                [own, standard].map(|form| evaluate(case(form), |g, x| g.conv(x[0], x[1], Some(x[2]), conv)));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{conv:?}: {found}, expected {expected}");
            }
        }
    }
}
