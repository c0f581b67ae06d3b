//! Joining and slicing tensors: Concat, Split, Slice; ReverseSequence.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::fold::{even_split, slice_of};
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{ALL_TYPES, Operator};
use crate::types::{ElementType, TensorType};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&CONCAT, Some(import_concat)),
    (&SPLIT, Some(import_split)),
    (&SLICE, Some(import_slice)),
    (&REVERSE_SEQUENCE, Some(import_reverse_sequence)),
];
static CONCAT: Operator = Operator::new("Concat", 1).on_cuda(ALL_TYPES);
static SPLIT: Operator = Operator::new("Split", 1).on_cuda(ALL_TYPES);
pub(crate) static SLICE: Operator = Operator::new("Slice", 1).on_cuda(ALL_TYPES);
static REVERSE_SEQUENCE: Operator = Operator::new("ReverseSequence", 10).on_cuda(ALL_TYPES);

/// A slice of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AxisSlice {
    pub axis: usize,
    /// First element taken.
    pub start: usize,
    /// One past the last element that may be taken.
    pub end: usize,
    /// Distance between elements taken, at least 1.
    pub step: usize,
}

impl Builder {
    /// Concatenation of `parts` along `axis`.
    ///
    /// # Errors
    /// There is no part, or parts differ in type or in another axis.
    pub fn concat(&mut self, parts: &[Tensor], axis: usize) -> Result<Tensor> {
        let Some((&first, rest)) = parts.split_first() else {
            return Err(self.mismatch(CONCAT.name, parts, "at least one operand is needed"));
        };
        if rest.is_empty() {
            return Ok(first);
        }
        let mut ty = self.ty(first).clone();
        for &part in parts {
            let other = self.ty(part);
            let fits = other.element == ty.element
                && other.rank() == ty.rank()
                && axis < ty.rank()
                && (0..ty.rank()).all(|i| i == axis || other.shape[i] == ty.shape[i]);
            if !fits {
                let reason = format!("operands must agree in everything but axis {axis}");
                return Err(self.mismatch(CONCAT.name, parts, reason));
            }
        }
        let lengths: Vec<usize> = parts.iter().map(|&p| self.shape(p)[axis]).collect();
        ty.shape[axis] = lengths.iter().sum();
        let y = self.emit(&CONCAT, parts, vec![int("axis", axis as i64)], ty);
        self.record(parts, &[y], move |g, up| {
            Ok(g.split(up.single(), axis, &lengths)?.into_iter().map(Some).collect())
        });
        Ok(y)
    }

    /// What `x` is the concatenation of along `axis`; `x` itself if it is none.
    pub(super) fn parts(&self, x: Tensor, axis: usize) -> Vec<Tensor> {
        match self.node_of(x) {
            Some(node) if *node.operator == CONCAT && node.attributes == [int("axis", axis as i64)] => {
                node.inputs.clone()
            }
            _ => vec![x],
        }
    }

    /// Consecutive parts of `x` along `axis` with the given lengths.
    ///
    /// # Errors
    /// The lengths do not sum to the length of the axis.
    pub fn split(&mut self, x: Tensor, axis: usize, lengths: &[usize]) -> Result<Vec<Tensor>> {
        let ty = self.ty(x).clone();
        if ty.shape.get(axis) != Some(&lengths.iter().sum()) {
            let reason = format!("lengths {lengths:?} must sum to the length of axis {axis}");
            return Err(self.mismatch(SPLIT.name, &[x], reason));
        }
        if lengths.len() == 1 {
            return Ok(vec![x]);
        }
        let types = lengths
            .iter()
            .map(|&length| {
                let mut part = ty.clone();
                part.shape[axis] = length;
                part
            })
            .collect();
        let list = self.sizes(lengths);
        let parts = self.emit_many(&SPLIT, &[x, list], vec![int("axis", axis as i64)], types);
        let outputs = parts.clone();
        self.record(&[x], &parts, move |g, up| {
            let mut gradients = Vec::with_capacity(outputs.len());
            for (&part, gradient) in outputs.iter().zip(&up.outputs) {
                gradients.push(match gradient {
                    Some(gradient) => *gradient,
                    None => g.zeros(g.ty(part).clone())?,
                });
            }
            Ok(vec![Some(g.concat(&gradients, axis)?)])
        });
        Ok(parts)
    }

    /// `x` in `parts` equal parts along `axis`.
    pub(crate) fn split_evenly(&mut self, x: Tensor, axis: usize, parts: usize) -> Result<Vec<Tensor>> {
        self.split(x, axis, &vec![self.shape(x)[axis] / parts; parts])
    }

    /// `x` `[N,C,H,W]` with `before` zeros in front along H and W, padded or cropped at the end to `lengths`.
    pub(crate) fn pad_or_crop(
        &mut self,
        x: Tensor,
        before: [usize; 2],
        lengths: [usize; 2],
    ) -> Result<Tensor> {
        let ends = [0, 1].map(|a| (lengths[a] - before[a]).min(self.shape(x)[2 + a]));
        let x = self.crop(x, &ends)?;
        let after = [0, 1].map(|a| lengths[a] - before[a] - ends[a]);
        self.pad(x, &[0, 0, before[0], before[1]], &[0, 0, after[0], after[1]])
    }

    /// `x` `[N,C,…]` up to `ends` along the axes after the channels.
    pub(crate) fn crop(&mut self, x: Tensor, ends: &[usize]) -> Result<Tensor> {
        let slices =
            ends.iter().enumerate().map(|(a, &end)| AxisSlice { axis: 2 + a, start: 0, end, step: 1 });
        self.slice_axes(x, &slices.collect::<Vec<_>>())
    }

    /// Elements `start..end` of `axis`.
    ///
    /// # Errors
    /// The range is empty or exceeds the axis.
    pub fn slice(&mut self, x: Tensor, axis: usize, start: usize, end: usize) -> Result<Tensor> {
        self.slice_axes(x, &[AxisSlice { axis, start, end, step: 1 }])
    }

    /// Elements `start, start + step, …` below `end` of `axis`.
    ///
    /// # Errors
    /// The range is empty or exceeds the axis, or `step` is 0.
    pub fn slice_step(
        &mut self,
        x: Tensor,
        axis: usize,
        start: usize,
        end: usize,
        step: usize,
    ) -> Result<Tensor> {
        self.slice_axes(x, &[AxisSlice { axis, start, end, step }])
    }

    /// `x` sliced along several axes at once.
    pub(crate) fn slice_axes(&mut self, x: Tensor, slices: &[AxisSlice]) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let mut shape = ty.shape.clone();
        for slice in slices {
            if slice.axis >= ty.rank()
                || slice.start >= slice.end
                || slice.end > ty.shape[slice.axis]
                || slice.step == 0
            {
                return Err(self.mismatch(
                    SLICE.name,
                    &[x],
                    format!("{slice:?} must lie within the operand"),
                ));
            }
            shape[slice.axis] = (slice.end - slice.start).div_ceil(slice.step);
        }
        if shape == ty.shape {
            return Ok(x);
        }
        let list = |part: fn(&AxisSlice) -> usize| slices.iter().map(part).collect::<Vec<_>>();
        let inputs = [
            x,
            self.sizes(&list(|c| c.start)),
            self.sizes(&list(|c| c.end)),
            self.sizes(&list(|c| c.axis)),
            self.sizes(&list(|c| c.step)),
        ];
        let y = self.emit(&SLICE, &inputs, vec![], ty.reshaped(shape));
        let slices = slices.to_vec();
        self.record(&[x], &[y], move |g, up| {
            let mut gradient = up.single();
            for slice in &slices {
                gradient = g.unslice(gradient, slice, ty.shape[slice.axis])?;
            }
            Ok(vec![Some(gradient)])
        });
        Ok(y)
    }

    /// `x` with the order along `axis` reversed.
    ///
    /// # Errors
    /// `x` has no such axis.
    pub fn reverse(&mut self, x: Tensor, axis: usize) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        if axis >= ty.rank() {
            return Err(self.mismatch(
                SLICE.name,
                &[x],
                format!("axis {axis} must be an axis of the operand"),
            ));
        }
        let lists = [[-1], [i64::MIN], [axis as i64], [-1]].map(|list| self.integers(&list));
        let y = self.emit(&SLICE, &[&[x], &lists[..]].concat(), vec![], ty);
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.reverse(up.single(), axis)?)]));
        Ok(y)
    }

    /// `x` with the first steps of each sequence in reverse order, as many as `lengths`, i64 `[N]`, says.
    /// Sequences lie along axis `batch`, their steps along axis `time`; one of both is 0, the other 1.
    ///
    /// # Errors
    /// `x` has no such axes, or `lengths` another type or shape.
    pub fn reverse_sequence(
        &mut self,
        x: Tensor,
        lengths: Tensor,
        batch: usize,
        time: usize,
    ) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let fits = ty.rank() >= 2
            && matches!([batch, time], [0, 1] | [1, 0])
            && *self.ty(lengths) == TensorType::new(ElementType::I64, [ty.shape[batch]]);
        if !fits {
            let reason = "the axes must be 0 and 1, and there must be an i64 length for each sequence";
            return Err(self.mismatch(REVERSE_SEQUENCE.name, &[x, lengths], reason));
        }
        let attributes = vec![int("batch_axis", batch as i64), int("time_axis", time as i64)];
        let y = self.emit(&REVERSE_SEQUENCE, &[x, lengths], attributes, ty);
        self.record(&[x], &[y], move |g, up| {
            Ok(vec![Some(g.reverse_sequence(up.single(), lengths, batch, time)?)])
        });
        Ok(y)
    }

    /// The inverse of a slice of an axis of `length` elements, with zeros elsewhere.
    fn unslice(&mut self, x: Tensor, slice: &AxisSlice, length: usize) -> Result<Tensor> {
        let taken = self.shape(x)[slice.axis];
        let mut x = x;
        if slice.step > 1 {
            // [.., taken, ..] → [.., taken, 1 + zeros, ..] → [.., taken · step, ..], then without the last
            // zeros.
            x = self.unsqueeze(x, &[slice.axis + 1])?;
            let mut after = vec![0; self.shape(x).len()];
            after[slice.axis + 1] = slice.step - 1;
            x = self.pad(x, &vec![0; after.len()], &after)?;
            let mut shape = self.shape(x).to_vec();
            shape.remove(slice.axis + 1);
            shape[slice.axis] = taken * slice.step;
            x = self.reshape(x, &shape)?;
            x = self.slice(x, slice.axis, 0, (taken - 1) * slice.step + 1)?;
        }
        let (mut before, mut after) = (vec![0; self.shape(x).len()], vec![0; self.shape(x).len()]);
        before[slice.axis] = slice.start;
        after[slice.axis] = length - slice.start - self.shape(x)[slice.axis];
        self.pad(x, &before, &after)
    }
}

fn import_concat<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let parts: Vec<Tensor> = (0..node.input.len()).map(|at| file.operand(node, at)).collect::<Result<_>>()?;
    let axis = NodeAttributes(node).int("axis", 1);
    let axis = parts.first().map_or(0, |&first| file.axis(first, axis));
    if axis == 0 {
        return file.g.concat(&parts, axis);
    }
    let whole: Vec<Tensor> =
        parts.iter().map(|&part| file.for_every_image(part, &parts)).collect::<Result<_>>()?;
    file.g.concat(&whole, axis)
}

fn import_reverse_sequence<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let lengths = file.operand(node, 1)?;
    let [batch, time] = [("batch_axis", 1), ("time_axis", 0)]
        .map(|(name, default)| file.axis(x, attributes.int(name, default)));
    file.g.reverse_sequence(x, lengths, batch, time)
}

/// Parts of given lengths, or as many equal parts as outputs, the last shorter if they do not fit.
fn import_split<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let axis = file.axis(x, attributes.int("axis", 0));
    let length = file.g.shape(x).get(axis).copied().unwrap_or(0);
    let lengths = match file.integers(node, 1)?.or_else(|| attributes.ints("split")) {
        Some(list) => list.into_iter().map(|length| usize::try_from(length).unwrap_or(0)).collect::<Vec<_>>(),
        None => even_split(length, node.output.len().max(1)),
    };
    let parts = file.g.split(x, axis, &lengths)?;
    for (name, &part) in node.output.iter().zip(&parts).skip(1) {
        file.define(name, part);
    }
    parts.first().copied().ok_or_else(|| file.at_node(node, "has no output"))
}

/// Starts and ends count from the end if negative, and are clamped to the axis; a negative step walks
/// backwards.
fn import_slice<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, mut x) = (NodeAttributes(node), file.operand(node, 0)?);
    let list = |at, name| -> Result<Option<Vec<i64>>> {
        Ok(file.integers(node, at)?.or_else(|| attributes.ints(name)))
    };
    let (starts, ends) = (list(1, "starts")?.unwrap_or_default(), list(2, "ends")?.unwrap_or_default());
    let axes = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || steps.contains(&0) {
        let reason = format!("has starts {starts:?}, ends {ends:?}, axes {axes:?} and steps {steps:?}");
        return Err(file.at_node(node, reason));
    }
    let (mut slices, mut backwards) = (Vec::with_capacity(starts.len()), Vec::new());
    for at in 0..starts.len() {
        let axis = file.axis(x, axes[at]);
        let Some(&length) = file.g.shape(x).get(axis) else {
            return Err(
                file.at_node(node, format!("slices axis {}, which its operand does not have", axes[at]))
            );
        };
        let (start, step, count) =
            slice_of(starts[at], ends[at], steps[at], length).map_err(|reason| file.at_node(node, reason))?;
        if count == 0 {
            let reason = format!("takes nothing from axis {axis}, whose length is {length}");
            return Err(file.at_node(node, reason));
        }
        if step < 0 && count > 1 {
            backwards.push(axis);
        }
        let reach = (count - 1) * step.unsigned_abs() as usize;
        let (start, step) = match step {
            ..0 => (start as usize - reach, step.unsigned_abs() as usize),
            _ => (start as usize, step as usize),
        };
        slices.push(AxisSlice { axis, start, end: start + reach + 1, step });
    }
    x = file.g.slice_axes(x, &slices)?;
    backwards.into_iter().try_fold(x, |x, axis| file.g.reverse(x, axis))
}

#[cfg(test)]
mod tests {
    use super::AxisSlice;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, TensorType};

    #[test]
    fn gradients_of_joining_slicing_and_padding_agree_with_finite_differences() {
        check_gradients(Case::f64("Concat").normal([2, 3]).normal([2, 1]).normal([2, 4]), |g, x| {
            g.concat(x, 1)
        });
        let case = |name: &str| Case::f64(name).normal([3, 7, 2]);
        check_gradients(case("Slice"), |g, x| g.slice(x[0], 1, 2, 5));
        check_gradients(case("Slice with step 3"), |g, x| g.slice_step(x[0], 1, 1, 6, 3));
        check_gradients(case("Slice of two axes"), |g, x| {
            g.slice_axes(
                x[0],
                &[
                    AxisSlice { axis: 0, start: 1, end: 3, step: 1 },
                    AxisSlice { axis: 1, start: 0, end: 7, step: 2 },
                ],
            )
        });
        check_gradients(case("Slice backwards"), |g, x| g.reverse(x[0], 1));
        check_gradients(case("Split, all parts used"), |g, x| {
            let parts = g.split(x[0], 1, &[2, 2, 3])?;
            let product = g.mul(parts[0], parts[1])?;
            g.concat(&[product, parts[2]], 1)
        });
        check_gradients(case("Split, one part unused"), |g, x| Ok(g.split(x[0], 1, &[2, 5])?[1]));
    }

    #[test]
    fn a_reversed_axis_ends_with_its_first_value() {
        let case = Case::f64("Slice").values([2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        assert_eq!(evaluate(case, |g, x| g.reverse(x[0], 1)), [2.0, 1.0, 4.0, 3.0]);
    }

    #[test]
    fn the_first_steps_of_each_sequence_are_reversed() {
        for (batch, time) in [(0, 1), (1, 0)] {
            check_gradients(Case::f64("ReverseSequence").normal([3, 3, 2]), |g, x| {
                let lengths = g.integers(&[2, 0, 3]);
                g.reverse_sequence(x[0], lengths, batch, time)
            });
        }
        let case = Case::f32("ReverseSequence").values([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let y = evaluate(case, |g, x| {
            let lengths = g.integers(&[2, 3]);
            g.reverse_sequence(x[0], lengths, 0, 1)
        });
        assert_eq!(y, [2.0, 1.0, 3.0, 6.0, 5.0, 4.0]);
    }

    #[test]
    fn sequences_without_a_length_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        let (two, three) = (g.integers(&[1, 2]), g.integers(&[1, 2, 2]));
        assert!(g.reverse_sequence(x, two, 0, 1).is_ok());
        assert!(g.reverse_sequence(x, three, 1, 0).is_ok());
        assert!(g.reverse_sequence(x, two, 1, 0).is_err());
        assert!(g.reverse_sequence(x, two, 0, 2).is_err());
        assert!(g.reverse_sequence(x, x, 0, 1).is_err());
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        let y = g.input("y", TensorType::f32([3, 3])).unwrap();
        assert!(g.concat(&[], 0).is_err());
        assert!(g.concat(&[x, y], 1).is_err());
        assert!(g.split(x, 1, &[1, 1]).is_err());
        assert!(g.slice(x, 1, 2, 4).is_err());
        assert!(g.slice(x, 1, 2, 2).is_err());
        assert!(g.reverse(x, 2).is_err());
    }
}
