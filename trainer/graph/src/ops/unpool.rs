//! MaxUnpool: values at the places where a pool has found them, zeros elsewhere.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::limits::LENGTH;
use crate::import::translation::{Family, Translation, given};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;
use crate::ops::scatter::Scatter;
use crate::types::ElementType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&MAX_UNPOOL, Some(import_max_unpool))];
static MAX_UNPOOL: Operator = Operator::decomposed("MaxUnpool", 9);

impl Builder {
    /// `x` at the flat `places`, i64 in its shape, of a tensor of zeros of `shape`.
    ///
    /// # Errors
    /// `places` are not i64 in the shape of `x`.
    pub fn max_unpool(&mut self, x: Tensor, places: Tensor, shape: &[usize]) -> Result<Tensor> {
        if self.element(places) != ElementType::I64 || self.shape(places) != self.shape(x) {
            let reason = "there must be an i64 place for each value";
            return Err(self.mismatch(MAX_UNPOOL.name, &[x, places], reason));
        }
        let count = self.ty(x).len();
        let (x, places) = (self.reshape(x, &[count])?, self.reshape(places, &[count])?);
        let zeros = self.zeros(self.ty(x).reshaped([shape.iter().product::<usize>()]))?;
        let flat = self.scatter_elements(zeros, places, x, 0, Scatter::Replace)?;
        self.reshape(flat, shape)
    }
}

fn import_max_unpool<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let (x, places) = (file.operand(node, 0)?, file.operand(node, 1)?);
    let pooled = file.g.shape(x).to_vec();
    let kernel = attributes.sizes("kernel_shape").unwrap_or_default();
    let axes = kernel.len();
    let strides = attributes.sizes("strides").unwrap_or_else(|| vec![1; axes]);
    let pads = attributes.sizes("pads").unwrap_or_else(|| vec![0; 2 * axes]);
    if axes == 0 || pooled.len() != 2 + axes || strides.len() != axes || pads.len() != 2 * axes {
        let reason = format!("has a kernel {kernel:?}, strides {strides:?} and pads {pads:?} for {pooled:?}");
        return Err(file.at_node(node, reason));
    }
    let length = |axis: usize| {
        let reach = pooled[2 + axis].saturating_sub(1) * strides[axis] + kernel[axis];
        reach.checked_sub(pads[axis] + pads[axes + axis]).filter(|&length| length > 0)
    };
    let Some(lengths) = (0..axes).map(length).collect::<Option<Vec<usize>>>() else {
        return Err(file.at_node(node, format!("has pads {pads:?} that leave nothing")));
    };
    let shape = [&pooled[..2], &lengths].concat();
    let y = file.g.max_unpool(x, places, &shape)?;
    if !given(node, 2) {
        return Ok(y);
    }
    // The places are those of the shape without this one, which adds zeros at the ends.
    let wanted = file.integers(node, 2)?.unwrap_or_default();
    let wanted = file.target_shape(node, 2, wanted, 0);
    let added = |(&wanted, &length): (&i64, &usize)| {
        let wanted = usize::try_from(wanted).ok().filter(|&wanted| wanted <= LENGTH)?;
        wanted.checked_sub(length)
    };
    let after: Option<Vec<usize>> = wanted.iter().zip(&shape).map(added).collect();
    match after.filter(|after| after.len() == shape.len() && wanted.len() == shape.len()) {
        Some(after) => file.g.pad(y, &vec![0; shape.len()], &after),
        None => {
            let reason = format!("has the output shape {wanted:?}, expected at least {shape:?}");
            Err(file.at_node(node, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::ops::pool_nd::PoolNd;
    use crate::ops::windows::Windows;
    use crate::{Builder, Result, Tensor};

    /// The maxima of windows of two by two, where they were.
    fn maxima(g: &mut Builder, x: Tensor) -> Result<Tensor> {
        let windows =
            Windows { strides: vec![2; 2], before: vec![0; 2], after: vec![0; 2], dilations: vec![1; 2] };
        let [y, places] = g.max_pool_with_places(x, &PoolNd { kernel: vec![2; 2], windows, ceil: false })?;
        let (squared, shape) = (g.mul(y, y)?, g.shape(x).to_vec());
        g.max_unpool(squared, places, &shape)
    }

    #[test]
    fn maxima_return_to_their_places() {
        let values = vec![1.0, 2.0, 5.0, 3.0, 4.0, 3.0, 1.0, 0.0];
        let given = evaluate(Case::f32("unpool").values([1, 1, 2, 4], values), |g, x| maxima(g, x[0]));
        assert_eq!(given, [0.0, 0.0, 25.0, 0.0, 16.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn gradients_of_maxima_at_their_places_agree_with_finite_differences() {
        check_gradients(Case::f32("unpool").normal([2, 3, 4, 4]), |g, x| maxima(g, x[0]));
    }
}
