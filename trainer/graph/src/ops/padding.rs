//! Pad: with a constant, by reflection, by the edge, or around; and CenterCropPad.

use std::ops::Range;

use super::slicing::AxisSlice;
use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::lowering::ADDRESSES_AS_ARGUMENTS;
use crate::node::{Attribute, Tensor};
use crate::onnx::NodeProto;
use crate::operator::Operator;
use crate::types::ElementType::{Bool, F16, F32};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family =
    &[(&PAD, Some(import_pad)), (&CENTER_CROP_PAD, Some(import_center_crop_pad))];
static PAD: Operator = Operator::new("Pad", 1).on_cuda(&[F16, F32, Bool]);
static CENTER_CROP_PAD: Operator = Operator::decomposed("CenterCropPad", 18);

/// What lies beyond the ends of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The values, mirrored at the outermost one, which is not repeated.
    Reflect,
    /// The outermost value.
    Edge,
    /// The values from the other end.
    Wrap,
}

/// The attributes of a padding with one value.
const CONSTANT: &[(&str, Attribute)] = &[("mode", Attribute::Text("constant"))];

/// A tensor in a range of one axis of another, which is 0 elsewhere.
struct SliceAmidZeros {
    of: Tensor,
    axis: usize,
    range: Range<usize>,
}

impl Builder {
    /// Zeros before and after every axis.
    ///
    /// # Errors
    /// `before` and `after` do not have one entry per axis, or `x` is not numeric.
    pub fn pad(&mut self, x: Tensor, before: &[usize], after: &[usize]) -> Result<Tensor> {
        self.pad_with(x, before, after, 0.0)
    }

    /// `value` before and after every axis.
    ///
    /// # Errors
    /// See [`pad`](Self::pad).
    pub fn pad_with(&mut self, x: Tensor, before: &[usize], after: &[usize], value: f64) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        if before.len() != ty.rank() || after.len() != ty.rank() {
            let reason = format!("paddings {before:?} and {after:?} must have one entry per axis");
            return Err(self.mismatch(PAD.name, &[x], reason));
        }
        if before.iter().chain(after).all(|&p| p == 0) {
            return Ok(x);
        }
        let shape: Vec<usize> = (0..ty.rank()).map(|i| before[i] + ty.shape[i] + after[i]).collect();
        let mut inputs = vec![x, self.sizes(&[before, after].concat())];
        if value != 0.0 {
            inputs.push(self.scalar(ty.element, value));
        }
        let y = self.emit(&PAD, &inputs, CONSTANT.to_vec(), ty.reshaped(shape));
        let before = before.to_vec();
        self.record(&[x], &[y], move |g, up| {
            let slices: Vec<AxisSlice> = (0..ty.rank())
                .map(|axis| AxisSlice {
                    axis,
                    start: before[axis],
                    end: before[axis] + ty.shape[axis],
                    step: 1,
                })
                .collect();
            Ok(vec![Some(g.slice_axes(up.single(), &slices)?)])
        });
        Ok(y)
    }

    /// a + b, where gradients of neighbouring slices, with zeros for the rest, become one of both slices.
    pub(crate) fn add_gradients(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let (Some(left), Some(right)) = (self.slice_amid_zeros(a), self.slice_amid_zeros(b)) else {
            return self.add(a, b);
        };
        let [left, right] = if left.range.start < right.range.start { [left, right] } else { [right, left] };
        let parts = [self.parts(left.of, left.axis), self.parts(right.of, right.axis)].concat();
        if (left.axis, left.range.end) != (right.axis, right.range.start)
            || parts.len() > ADDRESSES_AS_ARGUMENTS
        {
            return self.add(a, b);
        }
        let axis = left.axis;
        let (mut before, mut after) = (vec![0; self.shape(a).len()], vec![0; self.shape(a).len()]);
        (before[axis], after[axis]) = (left.range.start, self.shape(a)[axis] - right.range.end);
        let whole = self.concat(&parts, axis)?;
        self.pad(whole, &before, &after)
    }

    /// The tensor that `x` has in a range of one axis, if zeros were added around it.
    fn slice_amid_zeros(&self, x: Tensor) -> Option<SliceAmidZeros> {
        let node = self.node_of(x)?;
        let &[of, lengths] = &node.inputs[..] else { return None };
        if *node.operator != PAD || node.attributes != CONSTANT {
            return None;
        }
        let lengths = self.known_integers(lengths)?;
        let (before, after) = lengths.split_at(lengths.len() / 2);
        let mut padded = (0..before.len()).filter(|&axis| (before[axis], after[axis]) != (0, 0));
        let axis = padded.next().filter(|_| padded.next().is_none())?;
        let start = usize::try_from(before[axis]).ok()?;
        Some(SliceAmidZeros { of, axis, range: start..start + self.shape(of)[axis] })
    }

    /// Values of `x` itself before and after every axis.
    ///
    /// # Errors
    /// `before` and `after` do not have one entry per axis, or exceed what an axis can give.
    pub fn pad_by(
        &mut self,
        x: Tensor,
        before: &[usize],
        after: &[usize],
        padding: Padding,
    ) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        if before.len() != shape.len() || after.len() != shape.len() {
            let reason = format!("paddings {before:?} and {after:?} must have one entry per axis");
            return Err(self.mismatch(PAD.name, &[x], reason));
        }
        let mut y = x;
        for (axis, &length) in shape.iter().enumerate() {
            let (front, back) = (before[axis], after[axis]);
            let most = match padding {
                Padding::Reflect => length.saturating_sub(1),
                Padding::Edge if length > 0 => usize::MAX,
                Padding::Edge | Padding::Wrap => length,
            };
            if front.max(back) > most {
                let reason = format!("axis {axis} can give at most {most} values, given {front} and {back}");
                return Err(self.mismatch(PAD.name, &[x], reason));
            }
            let mut parts = vec![y];
            if front > 0 {
                parts.insert(0, self.beyond(y, axis, front, padding, true)?);
            }
            if back > 0 {
                parts.push(self.beyond(y, axis, back, padding, false)?);
            }
            y = self.concat(&parts, axis)?;
        }
        Ok(y)
    }

    /// The `count` values before the first of an axis, or after the last.
    fn beyond(
        &mut self,
        x: Tensor,
        axis: usize,
        count: usize,
        padding: Padding,
        is_front: bool,
    ) -> Result<Tensor> {
        let mut shape = self.shape(x).to_vec();
        let length = shape[axis];
        match (padding, is_front) {
            (Padding::Reflect, true) => {
                let part = self.slice(x, axis, 1, 1 + count)?;
                self.reverse(part, axis)
            }
            (Padding::Reflect, false) => {
                let part = self.slice(x, axis, length - 1 - count, length - 1)?;
                self.reverse(part, axis)
            }
            (Padding::Wrap, true) => self.slice(x, axis, length - count, length),
            (Padding::Wrap, false) => self.slice(x, axis, 0, count),
            (Padding::Edge, _) => {
                let at = if is_front { 0 } else { length - 1 };
                let part = self.slice(x, axis, at, at + 1)?;
                shape[axis] = count;
                self.expand(part, &shape)
            }
        }
    }
}

/// Negative paddings cut values off.
fn import_pad<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let mut x = file.operand(node, 0)?;
    let shape = file.g.shape(x).to_vec();
    let pads = match file.integers(node, 1)? {
        Some(pads) => pads,
        None => attributes.ints("pads").unwrap_or_default(),
    };
    let axes = match file.integers(node, 3)? {
        Some(axes) => axes.into_iter().map(|axis| file.axis(x, axis)).collect(),
        None => (0..shape.len()).collect::<Vec<_>>(),
    };
    if pads.len() != 2 * axes.len() || axes.iter().any(|&axis| axis >= shape.len()) {
        return Err(file.at_node(node, format!("has pads {pads:?}, expected two for each axis")));
    }
    let (mut before, mut after) = (vec![0; shape.len()], vec![0; shape.len()]);
    for (at, &axis) in axes.iter().enumerate() {
        let (front, back) = (pads[at], pads[at + axes.len()]);
        let cut = |padding: i64| usize::try_from(-padding).unwrap_or(0);
        let (start, end) = (cut(front), shape[axis].saturating_sub(cut(back)));
        x = file.g.slice(x, axis, start, end)?;
        before[axis] = usize::try_from(front).unwrap_or(0);
        after[axis] = usize::try_from(back).unwrap_or(0);
    }
    let padding = match attributes.text("mode").as_str() {
        "" | "constant" => {
            let value = file.scalar(node, 2, "value", 0.0)?;
            return file.g.pad_with(x, &before, &after, value);
        }
        "reflect" => Padding::Reflect,
        "edge" => Padding::Edge,
        "wrap" => Padding::Wrap,
        other => {
            let reason = format!("has the mode `{other}`, expected constant, reflect, edge or wrap");
            return Err(file.at_node(node, reason));
        }
    };
    file.g.pad_by(x, &before, &after, padding)
}

/// Zeros around the operand, or its middle, along each axis; of an odd number the larger half is at the end.
fn import_center_crop_pad<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let mut x = file.operand(node, 0)?;
    let target = file.integers(node, 1)?.unwrap_or_default();
    let axes = match NodeAttributes(node).ints("axes") {
        Some(axes) => axes.into_iter().map(|axis| file.axis(x, axis)).collect(),
        None => (0..file.g.shape(x).len()).collect::<Vec<_>>(),
    };
    let rank = file.g.shape(x).len();
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    if axes.len() != target.len() || axes.iter().any(|&axis| axis >= rank) {
        return Err(file.at_node(node, format!("has {target:?} as lengths of the axes {axes:?}")));
    }
    for (axis, length) in axes.into_iter().zip(target) {
        let (now, length) = (file.g.shape(x)[axis], usize::try_from(length).unwrap_or(0));
        let cut = now.saturating_sub(length);
        x = file.g.slice(x, axis, cut / 2, cut / 2 + now.min(length))?;
        let missing = length.saturating_sub(now);
        (before[axis], after[axis]) = (missing / 2, missing - missing / 2);
    }
    file.g.pad(x, &before, &after)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::Padding;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Result, Target, Tensor, TensorType};

    #[test]
    fn gradients_of_paddings_agree_with_finite_differences() {
        let case = || Case::f64("Pad").normal([3, 4, 2]);
        check_gradients(case(), |g, x| g.pad(x[0], &[0, 2, 1], &[1, 0, 0]));
        check_gradients(case(), |g, x| g.pad_with(x[0], &[0, 2, 1], &[1, 0, 0], 1.5));
        for padding in [Padding::Reflect, Padding::Edge, Padding::Wrap] {
            check_gradients(case(), |g, x| g.pad_by(x[0], &[2, 0, 1], &[1, 3, 0], padding));
        }
    }

    /// The sum of the squares of slices of `x` along its second axis, each with a factor of its own.
    fn squares(g: &mut Builder, x: Tensor, slices: &[Range<usize>]) -> Result<Tensor> {
        let mut sum = g.scalar(g.element(x), 0.0);
        for (at, slice) in slices.iter().enumerate() {
            let part = g.slice(x, 1, slice.start, slice.end)?;
            let square = g.mul(part, part)?;
            let scaled = g.scale(square, 1.0 + at as f64)?;
            let addend = g.sum(scaled)?;
            sum = g.add(sum, addend)?;
        }
        Ok(sum)
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // One slice.
    fn gradients_of_slices_agree_with_finite_differences_in_any_order() {
        for slices in [
            &[0..2, 2..3, 3..6][..],
            &[3..6, 0..2, 2..3],
            &[1..2, 2..5],
            &[0..2, 4..6],
            &[0..4, 2..6],
            &[2..3],
        ] {
            check_gradients(Case::f64("Slice").normal([2, 6, 3]), |g, x| squares(g, x[0], slices));
        }
    }

    #[test]
    fn the_gradient_of_all_slices_is_their_concatenation() {
        let count = |slices: &[Range<usize>]| {
            let mut g = Builder::new("test", Lowering::training(Target::Cpu));
            let x = g.input("x", TensorType::f32([2, 40, 3])).unwrap();
            let loss = squares(&mut g, x, slices).unwrap();
            let dx = g.grad(loss, &[x]).unwrap()[0];
            g.output("dx", dx).unwrap();
            let graph = g.finish();
            ["Concat", "Pad"].map(|name| graph.nodes().filter(|(operator, ..)| operator.name == name).count())
        };
        assert_eq!(count(&[0..10, 10..30, 30..40]), [1, 0]);
        assert_eq!(count(&[5..10, 10..30]), [1, 1]);
        assert_eq!(count(&[0..10, 11..40]), [0, 2]);
        // A CUDA graph replays a concatenation of few parts only.
        let single: Vec<Range<usize>> = (0..40).map(|at| at..at + 1).collect();
        assert_eq!(count(&single), [1, 9]);
    }

    #[test]
    fn padded_values_are_those_of_numpy() {
        let case = || Case::f64("Pad").values([3], vec![1.0, 2.0, 3.0]);
        assert_eq!(evaluate(case(), |g, x| g.pad(x[0], &[1], &[2])), [0.0, 1.0, 2.0, 3.0, 0.0, 0.0]);
        assert_eq!(evaluate(case(), |g, x| g.pad_with(x[0], &[1], &[0], 9.0)), [9.0, 1.0, 2.0, 3.0]);
        let by = |padding| evaluate(case(), |g, x| g.pad_by(x[0], &[2], &[1], padding));
        assert_eq!(by(Padding::Reflect), [3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
        assert_eq!(by(Padding::Edge), [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
        assert_eq!(by(Padding::Wrap), [2.0, 3.0, 1.0, 2.0, 3.0, 1.0]);
    }

    #[test]
    fn paddings_that_an_axis_cannot_give_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        assert!(g.pad(x, &[1], &[1]).is_err());
        assert!(g.pad_by(x, &[0, 3], &[0, 0], Padding::Reflect).is_err());
        assert!(g.pad_by(x, &[0, 0], &[3, 0], Padding::Wrap).is_err());
        assert!(g.pad_by(x, &[0], &[3], Padding::Edge).is_err());
    }
}
