//! Geometry of kernels and windows over any number of spatial axes, as nodes of files give it.

use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::limits::CONSTANT;
use crate::import::translation::Translation;
use crate::onnx::NodeProto;

/// Positions of a kernel or window, per spatial axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Distance between positions.
    pub strides: Vec<usize>,
    /// Padding before the first element.
    pub before: Vec<usize>,
    /// Padding after the last element.
    pub after: Vec<usize>,
    /// Distance between the elements of one window.
    pub dilations: Vec<usize>,
}

/// Length that `kernel` elements at a distance of `dilation` cover.
pub(crate) fn reach(kernel: usize, dilation: usize) -> usize {
    kernel.saturating_sub(1) * dilation + 1
}

/// How a node chooses its padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AutoPad {
    /// In numbers.
    Given,
    /// As much as for an output of the input's length by the stride, the odd one at the end.
    SameUpper,
    /// The same, the odd one at the beginning.
    SameLower,
    /// None.
    Valid,
}

impl AutoPad {
    pub fn of<'a>(file: &Translation<'a>, node: &'a NodeProto) -> Result<Self> {
        Ok(match NodeAttributes(node).text("auto_pad").as_str() {
            "" | "NOTSET" => Self::Given,
            "SAME_UPPER" => Self::SameUpper,
            "SAME_LOWER" => Self::SameLower,
            "VALID" => Self::Valid,
            other => {
                let expected = "expected NOTSET, SAME_UPPER, SAME_LOWER or VALID";
                return Err(file.at_node(node, format!("has the auto_pad `{other}`, {expected}")));
            }
        })
    }

    /// A padding of `total` as those before and after.
    pub fn halves(self, total: usize) -> (usize, usize) {
        let small = total / 2;
        if self == Self::SameUpper { (small, total - small) } else { (total - small, small) }
    }
}

impl Windows {
    /// The geometry of a node whose kernel or window has the sides `kernel`, over axes of `lengths`.
    pub fn of_node<'a>(
        file: &Translation<'a>,
        node: &'a NodeProto,
        lengths: &[usize],
        kernel: &[usize],
    ) -> Result<Self> {
        let axes = lengths.len();
        let values = kernel.iter().fold(1usize, |values, &length| values.saturating_mul(length));
        if kernel.len() != axes || kernel.contains(&0) || values > CONSTANT {
            let expected = format!("expected {axes} lengths of at least 1, and of {CONSTANT} values at most");
            return Err(file.at_node(node, format!("has a kernel of {kernel:?}, {expected}")));
        }
        let strides = positive(file, node, "strides", axes)?;
        let dilations = positive(file, node, "dilations", axes)?;
        let pads = list(file, node, "pads", 2 * axes, 0)?;
        let auto_pad = AutoPad::of(file, node)?;
        let (before, after) = (0..axes)
            .map(|a| match auto_pad {
                AutoPad::Given => (pads[a], pads[axes + a]),
                AutoPad::Valid => (0, 0),
                same => {
                    let end = (lengths[a].div_ceil(strides[a]).max(1) - 1) * strides[a];
                    same.halves((end + reach(kernel[a], dilations[a])).saturating_sub(lengths[a]))
                }
            })
            .unzip();
        Ok(Self { strides, before, after, dilations })
    }
}

/// A list of `length` sizes, each at least 1; ones if the node does not have it.
pub(crate) fn positive<'a>(
    file: &Translation<'a>,
    node: &'a NodeProto,
    name: &str,
    length: usize,
) -> Result<Vec<usize>> {
    let list = list(file, node, name, length, 1)?;
    if list.contains(&0) {
        return Err(file.at_node(node, format!("has {name} {list:?}, expected at least 1")));
    }
    Ok(list)
}

/// A list of `length` sizes, each `default` if the node does not have it.
pub(crate) fn list<'a>(
    file: &Translation<'a>,
    node: &'a NodeProto,
    name: &str,
    length: usize,
    default: usize,
) -> Result<Vec<usize>> {
    let attributes = NodeAttributes(node);
    match (attributes.ints(name), attributes.sizes(name)) {
        (None, _) => Ok(vec![default; length]),
        (Some(_), Some(sizes)) if sizes.len() == length => Ok(sizes),
        (Some(found), _) => {
            let expected = format!("expected {length} numbers of at least 0");
            Err(file.at_node(node, format!("has {name} {found:?}, {expected}")))
        }
    }
}
