//! Batches that a trace has fixed: shapes for another batch.
//!
//! A file that was exported for one batch size has it in the targets of its reshapes, and perhaps in other
//! constants. It is translated for that batch first, which gives every shape of the trace; an axis is one of
//! images where the two translations differ.

use std::collections::{HashMap, HashSet};

use super::constant::{Constant, Values};
use super::file::NodeAttributes;
use super::fold::one_along;
use super::node::is_one_of;
use super::translation::Translation;
use crate::onnx::{GraphProto, NodeProto};
use crate::{Result, Tensor};

/// The shape of a reshape's result for `batch.1` images, where the trace, of `batch.0` images, has reshaped
/// `traced` to `target`, and the operand has the shape `now`; `None` if it does not follow from these.
///
/// A reshape keeps the order of values, so the images lie as far apart in the result as in the operand.
pub(super) fn reshaped_batch(
    batch: (usize, usize),
    traced: &[usize],
    now: &[usize],
    target: &[usize],
) -> Option<Vec<usize>> {
    let (from, to) = batch;
    let changed: Vec<usize> = (0..traced.len()).filter(|&axis| traced[axis] != now[axis]).collect();
    let [axis] = changed[..] else { return None };
    let distance = |shape: &[usize], axis: usize| shape[axis + 1..].iter().product::<usize>();
    let (inner, merged) = (distance(traced, axis), traced[axis] / from);
    if merged * from != traced[axis] || merged * to != now[axis] {
        return None;
    }
    let find = |fits: &dyn Fn(usize) -> bool| {
        (0..target.len()).find(|&at| target[at].is_multiple_of(from) && fits(at))
    };
    // Images are outside in a merged axis, as in [N·heads, …], or inside, as in [places·N, …].
    let outside = |apart: usize| find(&|at| target[at] / from * distance(target, at) == apart);
    let inside = || find(&|at| target[at] > from && target[at + 1..] == traced[axis + 1..]);
    let at = match merged {
        1 => inside().or_else(|| outside(inner)),
        _ => find(&|at| distance(target, at) == inner * merged)
            .or_else(|| outside(inner * merged))
            .or_else(inside)
            .or_else(|| outside(inner)),
    };
    let at = at.or_else(|| find(&|at| distance(target, at) == inner))?;
    let mut shape = target.to_vec();
    shape[at] = target[at] / from * to;
    Some(shape)
}

/// Names of the constants that hold the same values for each of `batch` images, because an exporter has
/// expanded them beside values of images; they are cut to one image.
pub(super) fn cut_repeated(
    graph: &GraphProto,
    constants: &mut HashMap<String, Constant>,
    batch: Option<usize>,
) -> HashSet<String> {
    let Some(batch) = batch.filter(|&batch| batch > 1) else { return HashSet::new() };
    let beside_images =
        |node: &&NodeProto| is_one_of(node, &["Concat"]) && !matches!(NodeAttributes(node).int("axis", 1), 0);
    let is_used_elsewhere =
        |name: &String| graph.node.iter().any(|node| !beside_images(&node) && node.input.contains(name));
    let mut cut = HashSet::new();
    for name in graph.node.iter().filter(beside_images).flat_map(|node| &node.input) {
        let Some(constant) = constants.get_mut(name) else { continue };
        if constant.shape.len() > 1
            && constant.shape[0] == batch
            && !is_used_elsewhere(name)
            && let Values::Floats(values) = &constant.values
            && let Some((first, rest)) = values.split_at_checked(values.len() / batch)
            && rest.chunks(first.len().max(1)).all(|image| image == first)
        {
            constant.values = Values::Floats(first.into());
            constant.shape[0] = 1;
            cut.insert(name.clone());
        }
    }
    cut
}

impl<'a> Translation<'a> {
    /// The shape of what a reshape of `x` makes, where the file's batch is another: `target` is that of the
    /// trace.
    pub fn reshaped_for_batch(&self, node: &NodeProto, x: Tensor) -> Option<Vec<usize>> {
        let traced = self.traced_shape(node.input.first()?)?;
        let target = self.traced_shape(node.output.first()?)?;
        let now = self.g.shape(x);
        let batch = (self.fixed_batch()?, self.batch);
        if traced.len() != now.len() { None } else { reshaped_batch(batch, traced, now, target) }
    }

    /// Indices `[N,…]` into values of all images, one image after the other, for the batch of the graph:
    /// where the file has the same indices for each image, shifted to its values.
    pub fn indices_for_batch(&self, node: &NodeProto, x: Tensor, axis: usize) -> Option<Constant> {
        let traced = self.traced_shape(node.input.first()?)?;
        let (before, now) = (*traced.get(axis)?, *self.g.shape(x).get(axis)?);
        let batch = self.fixed_batch().filter(|&batch| batch != self.batch)?;
        let constant = self.constant(node, 1)?;
        let Values::Integers(values) = &constant.values else { return None };
        let fits = before != now
            && before.is_multiple_of(batch)
            && constant.shape.first() == Some(&batch)
            && now == before / batch * self.batch;
        if !fits || values.is_empty() {
            return None;
        }
        let (of_image, step) = (values.len() / batch, before / batch);
        let first = &values[..of_image];
        let shifted = |image: usize| first.iter().map(move |&index| index + (image * step) as i64);
        let reach = 0..step as i64;
        let is_by_image = first.iter().all(|index| reach.contains(index))
            && (0..batch).flat_map(shifted).eq(values.iter().copied());
        if !is_by_image {
            return None;
        }
        let mut shape = constant.shape.clone();
        shape[0] = self.batch;
        Some(Constant::new(shape, Values::Integers((0..self.batch).flat_map(shifted).collect())))
    }

    /// Whether a node repeats `x` for every image of the trace, whose batch is not that of the graph.
    pub fn expands_to_images(&self, node: &NodeProto, x: Tensor) -> bool {
        let Some(traced) = node.output.first().and_then(|output| self.traced_shape(output)) else {
            return false;
        };
        let shape = self.g.shape(x);
        let is_repeated = shape.len() < traced.len() || shape.first() == Some(&1);
        is_repeated && traced.first().copied() == self.fixed_batch()
    }

    /// The constant `x`, which a node expands for the batch of the graph, for one image, if the file holds
    /// the same values for each image of its trace.
    pub(super) fn of_one_image(&self, node: &NodeProto, x: &Constant) -> Option<Constant> {
        let batch = self.fixed_batch().filter(|&batch| batch != self.batch && batch > 1)?;
        let Values::Integers(target) = &self.constant(node, 1)?.values else { return None };
        let before = target.len().checked_sub(x.shape.len())?;
        let is_of_images =
            |&axis: &usize| x.shape[axis] == batch && target[before + axis] == self.batch as i64;
        one_along(x, (0..x.shape.len()).find(is_of_images)?)
    }

    /// `x`, which holds one image's values, for every image, if other `parts` hold those of all images.
    pub fn for_every_image(&mut self, x: Tensor, parts: &[Tensor]) -> Result<Tensor> {
        let shape = self.g.shape(x).to_vec();
        let is_one = self.fixed_batch().is_some() && shape.first() == Some(&1);
        let others = parts.iter().any(|&part| self.g.shape(part).first() == Some(&self.batch));
        if !is_one || !others {
            return Ok(x);
        }
        self.g.expand(x, &[&[self.batch], &shape[1..]].concat())
    }

    /// Fails if the first output of `node` has other axes of images than in the trace.
    pub(super) fn check_batch(&self, node: &NodeProto) -> Result<()> {
        let output = node.output.first().map_or("", String::as_str);
        let (Some(traced), Some(now)) = (self.traced_shape(output), self.computed_shape(node)) else {
            return Ok(());
        };
        let traced_batch = self.fixed_batch().unwrap_or(self.batch);
        let follows =
            |(&before, &now): (&usize, &usize)| before == now || before * self.batch == now * traced_batch;
        let has_images = |name: &String| {
            self.traced_shape(name)
                .is_some_and(|traced| self.shape_here(name).is_some_and(|now| now != traced))
        };
        let is_lost = now == *traced && node.input.iter().any(has_images);
        if traced.len() == now.len() && traced.iter().zip(&now).all(follows) && !is_lost {
            return Ok(());
        }
        Err(self.at_node(
            node,
            format!(
                "makes {traced:?} of {traced_batch} images, but {now:?} of {}{}",
                self.batch,
                self.batch_remedy()
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::reshaped_batch;

    #[test]
    fn a_reshape_for_another_batch_keeps_images_as_far_apart() {
        for (traced, now, target, expected) in [
            (&[2, 4, 6][..], &[4, 4, 6][..], &[2, 24][..], &[4, 24][..]),
            (&[2, 56, 56, 96], &[3, 56, 56, 96], &[2, 8, 7, 8, 7, 96], &[3, 8, 7, 8, 7, 96]),
            // Heads become a part of the batch, which is the second axis, and leave it.
            (&[17, 2, 768], &[17, 4, 768], &[17, 24, 64], &[17, 48, 64]),
            (&[17, 1, 768], &[17, 3, 768], &[17, 12, 64], &[17, 36, 64]),
            (&[24, 17, 64], &[36, 17, 64], &[2, 12, 17, 64], &[3, 12, 17, 64]),
            (&[12, 17, 64], &[36, 17, 64], &[1, 12, 17, 64], &[3, 12, 17, 64]),
            (&[17, 2, 768], &[17, 3, 768], &[34, 768], &[51, 768]),
            (&[17, 1, 768], &[17, 3, 768], &[17, 768], &[51, 768]),
            (&[34, 768], &[51, 768], &[17, 2, 768], &[17, 3, 768]),
            (&[1, 17, 768], &[3, 17, 768], &[17, 768], &[51, 768]),
            // Heads leave the batch, and rows and images become one axis.
            (&[17, 24, 64], &[17, 36, 64], &[34, 768], &[51, 768]),
            (&[17, 12, 64], &[17, 36, 64], &[17, 768], &[51, 768]),
            (&[1, 17, 768], &[3, 17, 768], &[1, 1, 17, 768], &[3, 1, 17, 768]),
            (&[2, 3], &[4, 3], &[6], &[12]),
        ] {
            let axis = (0..traced.len()).find(|&axis| traced[axis] != now[axis]).unwrap();
            let batch = match (traced[axis], now[axis]) {
                (24, 36) | (34, 51) => (2, 3),
                (12, 36) => (1, 3),
                other => other,
            };
            assert_eq!(reshaped_batch(batch, traced, now, target).as_deref(), Some(expected), "{traced:?}");
        }
        assert_eq!(reshaped_batch((2, 4), &[2, 3], &[4, 5], &[6]), None, "two axes differ");
        assert_eq!(reshaped_batch((2, 3), &[2, 6], &[3, 6], &[3, 4]), None, "images are torn apart");
    }
}
