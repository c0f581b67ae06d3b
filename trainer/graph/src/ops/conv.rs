//! Two-dimensional convolution and its gradient with respect to the data and the bias.
//!
//! Letters: kernel k, stride s, padding p, dilation d, groups g; all spatial parameters are per axis.

use super::slicing::SLICE;
use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation, given};
use crate::node::{Attributes, Tensor, int, ints};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, Operator};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&CONV, Some(import_conv)), (&CONV_TRANSPOSE, None)];
static CONV: Operator = Operator::new("Conv", 1).on_cuda(FLOATS);
static CONV_TRANSPOSE: Operator = Operator::new("ConvTranspose", 1).on_cuda(FLOATS);

/// Geometry of a two-dimensional convolution; the kernel's size is in the shape of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Distance between kernel positions along H and W.
    pub strides: [usize; 2],
    /// Zeros before the first row and column.
    pub pads_before: [usize; 2],
    /// Zeros after the last row and column.
    pub pads_after: [usize; 2],
    /// Distance between kernel elements along H and W.
    pub dilations: [usize; 2],
    /// Number of groups into which channels are split.
    pub groups: usize,
}

impl Default for Conv {
    fn default() -> Self {
        Self::new(1, 0)
    }
}

impl Conv {
    /// The same stride and padding along both axes, one group, no dilation.
    #[must_use]
    pub fn new(stride: usize, padding: usize) -> Self {
        Self {
            strides: [stride; 2],
            pads_before: [padding; 2],
            pads_after: [padding; 2],
            dilations: [1; 2],
            groups: 1,
        }
    }

    /// The same geometry with `groups` groups.
    #[must_use]
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The same geometry with a dilation along both axes.
    #[must_use]
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilations: [dilation; 2], ..self }
    }

    /// Length of input along `axis` (0 or 1) that a kernel of `kernel` elements covers.
    fn reach(&self, axis: usize, kernel: usize) -> usize {
        (kernel - 1) * self.dilations[axis] + 1
    }

    fn attributes(&self) -> Attributes {
        vec![
            ints("strides", &self.strides),
            ints("pads", &[self.pads_before, self.pads_after].concat()),
            ints("dilations", &self.dilations),
            int("group", self.groups as i64),
        ]
    }
}

impl Builder {
    /// Convolution of `x` `[N,C,H,W]` with `w` `[O,C/g,k,k]` plus `b` `[O]`: `[N,O,P,Q]`.
    ///
    /// # Errors
    /// Shapes, types or groups do not fit, or the kernel is larger than the padded input.
    pub fn conv(&mut self, x: Tensor, w: Tensor, b: Option<Tensor>, conv: Conv) -> Result<Tensor> {
        let operands: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
        let shape = self.conv_shape(&operands, &conv)?;
        let (lowering, w_shape) = (self.lowering(), self.shape(w).to_vec());
        let has_few_channels = conv.groups == 1 && w_shape[1] <= lowering.space_to_depth_channels;
        let overlaps = conv.dilations == [1, 1]
            && (0..2).any(|a| conv.strides[a] > 1 && w_shape[2 + a] > conv.strides[a]);
        if has_few_channels && overlaps {
            return self.conv_by_space_to_depth(x, w, b, conv, [shape[2], shape[3]]);
        }
        if (2..=lowering.groups_apart).contains(&conv.groups) {
            return self.conv_by_groups(x, w, b, conv);
        }
        let y = self.emit(&CONV, &operands, conv.attributes(), self.ty(x).reshaped(shape));
        let x_shape = self.shape(x).to_vec();
        self.record(&operands, &[y], move |g, up| {
            let dy = up.single();
            let dx = g.when(up.wanted[0], |g| g.conv_data_gradient(dy, w, conv, &x_shape))?;
            let dw = g.when(up.wanted[1], |g| g.conv_weight_gradient(x, dy, conv, &w_shape))?;
            let mut gradients = vec![dx, dw];
            if b.is_some() {
                gradients.push(g.when(up.wanted[2], |g| g.reduce_sum(dy, &[0, 2, 3], false))?);
            }
            Ok(gradients)
        });
        Ok(y)
    }

    /// A convolution of one group, with output size `out`, as a convolution of stride 1: of its kernel's
    /// offsets a = s·i + r, the remainders r become channels of data and weights, and the i become the
    /// offsets.
    fn conv_by_space_to_depth(
        &mut self,
        x: Tensor,
        w: Tensor,
        b: Option<Tensor>,
        conv: Conv,
        out: [usize; 2],
    ) -> Result<Tensor> {
        let offsets = [0, 1].map(|a| self.shape(w)[2 + a].div_ceil(conv.strides[a]));
        let rows = [0, 1].map(|a| (out[a] + offsets[a] - 1) * conv.strides[a]);
        let x = self.pad_or_crop(x, conv.pads_before, rows)?;
        let x = self.space_to_depth(x, conv.strides)?;
        let w = self.pad_or_crop(w, [0; 2], [0, 1].map(|a| offsets[a] * conv.strides[a]))?;
        let w = self.space_to_depth(w, conv.strides)?;
        self.conv(x, w, b, Conv::default())
    }

    /// `x` `[N,C,s·H,t·W]` as `[N,C·s·t,H,W]`.
    fn space_to_depth(&mut self, x: Tensor, [s, t]: [usize; 2]) -> Result<Tensor> {
        let (n, c, h, w) = (self.shape(x)[0], self.shape(x)[1], self.shape(x)[2] / s, self.shape(x)[3] / t);
        let x = self.reshape(x, &[n, c, h, s, w, t])?;
        let x = self.transpose(x, &[0, 1, 3, 5, 2, 4])?;
        self.reshape(x, &[n, c * s * t, h, w])
    }

    /// One convolution per group.
    fn conv_by_groups(&mut self, x: Tensor, w: Tensor, b: Option<Tensor>, conv: Conv) -> Result<Tensor> {
        let xs = self.split_evenly(x, 1, conv.groups)?;
        let ws = self.split_evenly(w, 0, conv.groups)?;
        let bs = b.map(|b| self.split_evenly(b, 0, conv.groups)).transpose()?;
        let alone = conv.groups(1);
        let ys: Vec<Tensor> = (0..conv.groups)
            .map(|group| self.conv(xs[group], ws[group], bs.as_ref().map(|bs| bs[group]), alone))
            .collect::<Result<_>>()?;
        self.concat(&ys, 1)
    }

    /// A convolution with stride 1 and without padding.
    pub(crate) fn conv_forward(&mut self, x: Tensor, w: Tensor, b: Option<Tensor>) -> Result<Tensor> {
        self.conv(x, w, b, Conv::default())
    }

    /// The gradient of a convolution's input of `shape`: the transposed convolution with the same weights.
    pub(crate) fn conv_data_gradient(
        &mut self,
        dy: Tensor,
        w: Tensor,
        conv: Conv,
        shape: &[usize],
    ) -> Result<Tensor> {
        let ty = self.ty(dy).reshaped(shape);
        if conv.strides == [1, 1] && self.lowering().conv_data_by_flipped_kernel {
            let (w, conv) = self.flip_kernel(w, conv)?;
            return Ok(self.emit(&CONV, &[dy, w], conv.attributes(), ty));
        }
        let (out, kernel) = (self.shape(dy)[2..].to_vec(), self.shape(w)[2..].to_vec());
        // Rows at the end that no kernel position reached get zeros, by the operator's output padding.
        let rest: Vec<usize> = (0..2)
            .map(|a| {
                let reached = (out[a] - 1) * conv.strides[a] + conv.reach(a, kernel[a]);
                shape[2 + a] + conv.pads_before[a] + conv.pads_after[a] - reached
            })
            .collect();
        let mut attributes = conv.attributes();
        attributes.push(ints("output_padding", &rest));
        Ok(self.emit(&CONV_TRANSPOSE, &[dy, w], attributes, ty))
    }

    /// Weights and geometry of the convolution that equals the transposed convolution of stride 1 with `w`:
    /// the kernel is flipped, input and output channels are swapped.
    fn flip_kernel(&mut self, w: Tensor, conv: Conv) -> Result<(Tensor, Conv)> {
        let ty = self.ty(w).clone();
        let (filters, inner) = (ty.shape[0] / conv.groups, ty.shape[1]);
        let kernel = [ty.shape[2], ty.shape[3]];
        let ends = [
            w,
            self.sizes(&kernel.map(|k| k - 1)),
            self.integers(&[i64::MIN; 2]),
            self.sizes(&[2, 3]),
            self.integers(&[-1; 2]),
        ];
        let w = self.emit(&SLICE, &ends, vec![], ty);
        let w = self.reshape(w, &[conv.groups, filters, inner, kernel[0], kernel[1]])?;
        let w = self.transpose(w, &[0, 2, 1, 3, 4])?;
        let w = self.reshape(w, &[conv.groups * inner, filters, kernel[0], kernel[1]])?;
        let rest = |pads: [usize; 2]| [0, 1].map(|a| conv.reach(a, kernel[a]) - 1 - pads[a]);
        Ok((w, Conv { pads_before: rest(conv.pads_before), pads_after: rest(conv.pads_after), ..conv }))
    }

    /// Checks the operands of a convolution and returns the shape of its output.
    fn conv_shape(&self, operands: &[Tensor], conv: &Conv) -> Result<Vec<usize>> {
        let (x, w) = (self.ty(operands[0]), self.ty(operands[1]));
        let failed = |reason: String| Err(self.mismatch(CONV.name, operands, reason));
        if x.rank() != 4 || w.rank() != 4 || !x.element.is_float() || x.element != w.element {
            return failed("data and weights must be floating-point with four axes".into());
        }
        if conv.strides.contains(&0) || conv.dilations.contains(&0) || w.shape[2..].contains(&0) {
            return failed(format!("strides, dilations and kernel must be at least 1, given {conv:?}"));
        }
        let (groups, channels, out) = (conv.groups, x.shape[1], w.shape[0]);
        if groups == 0 || channels % groups != 0 || out % groups != 0 || w.shape[1] * groups != channels {
            return failed(format!(
                "{groups} groups must divide both channel counts, with C/{groups} in the weights"
            ));
        }
        if let Some(&b) = operands.get(2)
            && *self.ty(b) != w.reshaped([out])
        {
            return failed(format!("the bias must have {out} values"));
        }
        let mut shape = vec![x.shape[0], out];
        for a in 0..2 {
            let padded = x.shape[2 + a] + conv.pads_before[a] + conv.pads_after[a];
            let reach = conv.reach(a, w.shape[2 + a]);
            if padded < reach || conv.pads_before[a].max(conv.pads_after[a]) >= reach {
                return failed(format!(
                    "the kernel covers {reach} of {padded} positions, and must fit and exceed either padding"
                ));
            }
            shape.push((padded - reach) / conv.strides[a] + 1);
        }
        Ok(shape)
    }
}

fn import_conv<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let (x, w) = (file.operand(node, 0)?, file.weight(node, 1)?);
    let b = if given(node, 2) { Some(file.bias(node, 2)?) } else { None };
    let pads = file.pads(node)?;
    let pair = |name| match attributes.sizes(name).as_deref() {
        None => Ok([1; 2]),
        Some(&[height, width]) => Ok([height, width]),
        Some(list) => Err(file.at_node(node, format!("has {name} {list:?}, expected two numbers"))),
    };
    let conv = Conv {
        strides: pair("strides")?,
        pads_before: [pads[0], pads[1]],
        pads_after: [pads[2], pads[3]],
        dilations: pair("dilations")?,
        groups: usize::try_from(attributes.int("group", 1)).unwrap_or(0),
    };
    file.g.conv(x, w, b, conv)
}

#[cfg(test)]
mod tests {
    use super::Conv;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, ConvWeightForm, Lowering, Target, TensorType};

    fn lowering(form: ConvWeightForm) -> Lowering {
        let base = Lowering::training(Target::Cpu);
        Lowering { conv_weight_unit_stride: form, conv_weight_strided: form, ..base }
    }

    #[test]
    fn gradients_of_convolutions_agree_with_finite_differences() {
        let uneven =
            Conv { strides: [2, 1], pads_before: [1, 0], pads_after: [0, 2], dilations: [1, 2], groups: 2 };
        let cases = [
            (Conv::new(1, 0), [2, 3, 5, 6], [4, 3, 3, 3]),
            (Conv::new(1, 2), [2, 3, 5, 6], [4, 3, 5, 5]),
            (Conv::new(4, 2), [2, 3, 13, 14], [4, 3, 5, 5]),
            (Conv::new(2, 1).groups(2), [2, 4, 6, 7], [6, 2, 3, 3]),
            (Conv::new(3, 0), [2, 2, 9, 10], [3, 2, 2, 2]),
            (Conv::new(1, 1).groups(2), [2, 4, 5, 5], [4, 2, 3, 3]),
            (Conv::new(1, 2).dilation(2), [2, 2, 7, 6], [3, 2, 3, 3]),
            (Conv::new(2, 2).dilation(2), [2, 2, 9, 8], [3, 2, 3, 2]),
            (Conv::new(1, 0).groups(3), [1, 3, 4, 4], [3, 1, 2, 2]),
            (uneven, [2, 4, 7, 8], [2, 2, 3, 2]),
            (Conv::new(1, 1), [3, 2, 1, 1], [3, 2, 3, 3]),
            (Conv::new(1, 2), [3, 2, 2, 1], [2, 2, 5, 5]),
            (Conv::new(2, 1), [3, 2, 2, 2], [2, 2, 3, 3]),
        ];
        let dilated = |parts| lowering(ConvWeightForm::DilatedConv { parts });
        let by_offsets = lowering(ConvWeightForm::OffsetGemm);
        let apart = Lowering { groups_apart: 2, ..dilated(1) };
        let to_depth = Lowering { space_to_depth_channels: 8, ..by_offsets };
        let limited = Lowering { conv_weight_dilated_px: 3, ..dilated(1) };
        let alike = Lowering { conv_weight_products_alike: true, conv_weight_product_rows: 10, ..by_offsets };
        let flipped = Lowering { conv_data_by_flipped_kernel: true, ..by_offsets };
        for lowering in
            [dilated(1), dilated(2), dilated(3), by_offsets, alike, apart, to_depth, limited, flipped]
        {
            for (conv, x, w) in cases {
                let case = Case::f32(&format!("Conv {conv:?} by {lowering:?}")).lowering(lowering);
                check_gradients(case.normal(x).normal(w).normal([w[0]]), |g, t| {
                    g.conv(t[0], t[1], Some(t[2]), conv)
                });
            }
        }
    }

    #[test]
    fn all_forms_of_a_convolution_agree() {
        let uneven = Conv { pads_before: [2, 1], pads_after: [1, 2], strides: [3, 2], ..Conv::new(1, 0) };
        let plain = lowering(ConvWeightForm::OffsetGemm);
        let apart = Lowering { groups_apart: 2, ..plain };
        let to_depth = Lowering { space_to_depth_channels: 4, ..plain };
        let cases = [
            (uneven, [2, 4, 10, 11], [6, 4, 5, 4], to_depth),
            (
                Conv { pads_before: [1, 0], pads_after: [1, 1], ..uneven },
                [2, 4, 10, 11],
                [6, 4, 2, 3],
                to_depth,
            ),
            (uneven.groups(2), [2, 4, 10, 11], [6, 2, 5, 4], apart),
        ];
        for (conv, x, w, other) in cases {
            let given = |lowering| {
                let case = Case::f32("Conv").lowering(lowering).normal(x).normal(w).normal([w[0]]);
                evaluate(case, |g, t| g.conv(t[0], t[1], Some(t[2]), conv))
            };
            let (expected, found) = (given(plain), given(other));
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-5, "{conv:?} by {other:?}: {worst}");
        }
    }

    #[test]
    fn each_device_gets_the_forms_of_its_lowering() {
        let operators = |target, conv: Conv, x: [usize; 4], w: [usize; 4]| {
            let mut g = Builder::new("test", Lowering::training(target));
            let x = g.input("x", TensorType::f32(x)).unwrap();
            let w = g.input("w", TensorType::f32(w)).unwrap();
            let y = g.conv(x, w, None, conv).unwrap();
            let loss = g.sum(y).unwrap();
            for (name, gradient) in ["dx", "dw"].into_iter().zip(g.grad(loss, &[x, w]).unwrap()) {
                g.output(name, gradient).unwrap();
            }
            g.output("y", y).unwrap();
            let graph = g.finish();
            let count = |name| graph.nodes().filter(|(operator, ..)| operator.name == name).count();
            [count("Conv"), count("ConvTranspose"), count("Gemm")]
        };
        // Forward, data gradient and weight gradient; two groups double each where groups are separate
        // convolutions.
        let second = |target| operators(target, Conv::new(1, 2).groups(2), [8, 96, 27, 27], [256, 48, 5, 5]);
        assert_eq!(second(Target::Cpu), [1, 1, 2 * 25]);
        assert_eq!(second(Target::Cuda), [2 * 3, 0, 0]);
        assert_eq!(second(Target::CudaTf32), [1 + 2, 1, 0]);
        assert_eq!(second(Target::CudaF16), [1 + 2, 1, 0]);
        let first = |target| operators(target, Conv::new(4, 2), [8, 3, 224, 224], [96, 3, 11, 11]);
        assert_eq!(first(Target::Cpu), [1 + 1, 1, 0]);
        assert_eq!(first(Target::Cuda), [3, 0, 0]);
        assert_eq!(first(Target::CudaTf32), [1, 1, 1]);
        assert_eq!(first(Target::CudaF16), [1, 1, 1]);
    }

    #[test]
    fn a_convolution_sums_its_window() {
        let case = Case::f32("Conv").values([1, 1, 2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let y = evaluate(case.values([1, 1, 2, 2], vec![1.0, 0.0, 0.0, 1.0]), |g, x| {
            g.conv(x[0], x[1], None, Conv::default())
        });
        assert_eq!(y, [6.0, 8.0]);
    }

    #[test]
    fn a_wrong_kernel_is_named_with_both_shapes() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 96, 27, 27])).unwrap();
        let w = g.input("w", TensorType::f32([256, 96, 5, 5])).unwrap();
        let error = g.scope("conv2", |g| g.conv(x, w, None, Conv::new(1, 2).groups(2))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node `conv2/Conv` (Conv): 2 groups must divide both channel counts, with C/2 in the weights; \
             given f32[2,96,27,27], f32[256,96,5,5]"
        );
        assert!(g.conv(x, w, None, Conv { strides: [0, 1], ..Conv::default() }).is_err());
        let huge = g.input("huge", TensorType::f32([8, 96, 28, 28])).unwrap();
        assert!(g.conv(x, huge, None, Conv::default()).is_err());
    }
}
