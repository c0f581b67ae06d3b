//! Sequences of tensors, which exporters write for lists: what is in each is known when a file is imported.

use super::bound::Bound;
use super::constant::{Constant, Values};
use super::file::NodeAttributes;
use super::fold::axis_of;
use super::translation::{Translation, given};
use crate::onnx::NodeProto;
use crate::{Result, Tensor};

impl<'a> Translation<'a> {
    /// Binds the output of a node that makes a sequence or takes one.
    pub(super) fn append_sequence(&mut self, node: &'a NodeProto) -> Result<()> {
        let bound = match node.op_type() {
            "SequenceEmpty" => Bound::Sequence(Vec::new()),
            "SequenceConstruct" => {
                let items = node.input.iter().map(|name| self.bound(node, name));
                Bound::Sequence(items.collect::<Result<_>>()?)
            }
            "SplitToSequence" => Bound::Sequence(self.pieces(node)?),
            "SequenceLength" => {
                let count = self.sequence(node)?.len() as i64;
                Bound::Known { constant: Constant::new([], Values::Integers(vec![count])), of_shape: false }
            }
            "SequenceAt" => {
                let items = self.sequence(node)?;
                let at = self.position(node, 1, items.len())?.unwrap_or(0);
                items[at].clone()
            }
            "SequenceErase" => {
                let mut items = self.sequence(node)?;
                let last = items.len().saturating_sub(1);
                let at = self.position(node, 1, items.len())?.unwrap_or(last);
                if items.is_empty() {
                    return Err(self.at_node(node, "takes from a sequence of nothing"));
                }
                items.remove(at);
                Bound::Sequence(items)
            }
            "SequenceInsert" => {
                let mut items = self.sequence(node)?;
                let item = self.bound(node, node.input.get(1).map_or("", String::as_str))?;
                // It may stand after the last.
                let at = self.position(node, 2, items.len() + 1)?.unwrap_or(items.len());
                items.insert(at, item);
                Bound::Sequence(items)
            }
            _ => Bound::Tensor(self.joined(node)?),
        };
        if let Some(output) = node.output.first() {
            self.bind(output, bound);
        }
        Ok(())
    }

    fn sequence(&mut self, node: &'a NodeProto) -> Result<Vec<Bound>> {
        let name = node.input.first().map_or("", String::as_str);
        match self.bound(node, name)? {
            Bound::Sequence(items) => Ok(items),
            _ => Err(self.at_node(node, format!("takes `{name}`, a tensor, expected a sequence"))),
        }
    }

    /// Operand `at`, a place among `count`; `None` if the node does not have it.
    fn position(&self, node: &NodeProto, at: usize, count: usize) -> Result<Option<usize>> {
        let Some(position) = self.integers(node, at)? else { return Ok(None) };
        let &[position] = &position[..] else {
            return Err(self.at_node(node, format!("has the positions {position:?}, expected one")));
        };
        let place = axis_of(position, count);
        place.map(Some).map_err(|_| self.at_node(node, format!("takes item {position} of {count}")))
    }

    /// The parts of a tensor along an axis.
    fn pieces(&mut self, node: &'a NodeProto) -> Result<Vec<Bound>> {
        let x = self.operand(node, 0)?;
        let attributes = NodeAttributes(node);
        let axis = self.axis(x, attributes.int("axis", 0));
        let Some(&length) = self.g.shape(x).get(axis) else {
            return Err(self.at_node(node, format!("has no axis {}", attributes.int("axis", 0))));
        };
        let is_list = self.constant(node, 1).is_some_and(|lengths| !lengths.shape.is_empty());
        let lengths: Vec<usize> = match self.integers(node, 1)? {
            Some(lengths) if is_list => {
                lengths.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect()
            }
            given => {
                let each = given.as_ref().map_or(1, |given| given.first().copied().unwrap_or(0));
                let each = usize::try_from(each).ok().filter(|&each| each > 0);
                let Some(each) = each else {
                    return Err(self.at_node(node, "has parts of nothing"));
                };
                (0..length.div_ceil(each)).map(|at| each.min(length - at * each)).collect()
            }
        };
        if lengths.contains(&0)
            || lengths.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)) != Some(length)
        {
            return Err(self.at_node(node, format!("has parts of {lengths:?} along an axis of {length}")));
        }
        let drops_axis = !given(node, 1) && attributes.int("keepdims", 1) == 0;
        let mut pieces = Vec::with_capacity(lengths.len());
        for part in self.g.split(x, axis, &lengths)? {
            pieces.push(Bound::Tensor(if drops_axis { self.g.squeeze(part, &[axis])? } else { part }));
        }
        Ok(pieces)
    }

    /// All items after each other along an axis, or along a new one.
    fn joined(&mut self, node: &'a NodeProto) -> Result<Tensor> {
        let attributes = NodeAttributes(node);
        let is_new = attributes.int("new_axis", 0) != 0;
        let mut parts = Vec::new();
        for item in self.sequence(node)? {
            parts.push(match item {
                Bound::Tensor(tensor) => tensor,
                Bound::Known { constant, .. } => self.embed(&constant),
                Bound::Random(_) | Bound::Sequence(_) => {
                    return Err(self.at_node(node, "joins items that are no tensors"));
                }
            });
        }
        let Some(&first) = parts.first() else {
            return Err(self.at_node(node, "joins a sequence of nothing"));
        };
        let rank = self.g.shape(first).len() + usize::from(is_new);
        let axis = attributes.int("axis", 0);
        let axis = axis_of(axis, rank).map_err(|reason| self.at_node(node, reason))?;
        if is_new {
            parts = parts.into_iter().map(|part| self.g.unsqueeze(part, &[axis])).collect::<Result<_>>()?;
        }
        self.g.concat(&parts, axis)
    }
}
