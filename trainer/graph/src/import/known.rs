//! Operands of a node that are known when its network is read.

use super::bound::Bound;
use super::constant::{Constant, Values};
use super::file::NodeAttributes;
use super::fold::axis_of;
use super::translation::{Translation, given};
use crate::onnx::NodeProto;
use crate::{Result, Tensor};

impl Translation<'_> {
    /// The values of a floating-point operand; `None` if the node does not have it.
    pub fn floats(&self, node: &NodeProto, at: usize) -> Result<Option<Vec<f64>>> {
        if !given(node, at) {
            return Ok(None);
        }
        match self.constant(node, at).map(|constant| &constant.values) {
            Some(Values::Floats(values)) => Ok(Some(values.iter().map(|&value| value.into()).collect())),
            _ => {
                let reason =
                    format!("takes `{}`, which is computed, expected constant numbers", node.input[at]);
                Err(self.at_node(node, reason))
            }
        }
    }

    /// Axes of `x` in operand `at` or, in older operator sets, in the attribute `axes`.
    pub fn axes(&self, node: &NodeProto, x: Tensor, at: usize) -> Result<Option<Vec<usize>>> {
        let list = self.integers(node, at)?.or_else(|| NodeAttributes(node).ints("axes"));
        Ok(list.map(|list| list.into_iter().map(|axis| self.axis(x, axis)).collect()))
    }

    /// Index of an axis, which counts from the end if negative; `rank + 1`, which the builder refuses, if
    /// there is no such axis.
    pub fn axis(&self, x: Tensor, axis: i64) -> usize {
        let rank = self.g.shape(x).len();
        // The end of the axes is where a flattened matrix may be cut.
        if axis == rank as i64 { rank } else { axis_of(axis, rank).unwrap_or(rank + 1) }
    }

    /// The scalar in an operand or, in older operator sets, in an attribute.
    pub fn scalar(&self, node: &NodeProto, at: usize, attribute: &str, default: f32) -> Result<f64> {
        if !given(node, at) {
            return Ok(NodeAttributes(node).float(attribute, default));
        }
        match self.constant(node, at).map(|constant| &constant.values) {
            Some(Values::Floats(values)) if values.len() == 1 => Ok(values[0].into()),
            Some(Values::Integers(values)) if values.len() == 1 => Ok(values[0] as f64),
            _ => Err(self
                .file
                .at_node(node, format!("has a {attribute} that is computed, expected a constant"))),
        }
    }

    /// An operand whose values are known.
    pub fn constant(&self, node: &NodeProto, at: usize) -> Option<&Constant> {
        let name = node.input.get(at)?;
        match self.values.get(name.as_str()) {
            Some(Bound::Known { constant, .. }) => Some(constant),
            Some(Bound::Tensor(_) | Bound::Random(_) | Bound::Sequence(_)) => None,
            None => self.file.constants.get(name),
        }
    }

    /// Whether an operand is a constant that stands in the file.
    pub fn is_given_by_file(&self, node: &NodeProto, at: usize) -> bool {
        node.input.get(at).is_some_and(|name| self.file.constants.contains_key(name))
    }

    /// The values of an operand of integers; `None` if the node does not have it.
    pub fn integers(&self, node: &NodeProto, at: usize) -> Result<Option<Vec<i64>>> {
        if !given(node, at) {
            return Ok(None);
        }
        match self.constant(node, at).map(|constant| &constant.values) {
            Some(Values::Integers(values)) => Ok(Some(values.clone())),
            found => {
                let expected = "integers that are constant or computed from shapes";
                let found =
                    if found.is_some() { "other values" } else { "a value that depends on the images" };
                let (name, nth) = (&node.input[at], at + 1);
                Err(self
                    .at_node(node, format!("takes `{name}` as operand {nth}: {found}, expected {expected}")))
            }
        }
    }
}
