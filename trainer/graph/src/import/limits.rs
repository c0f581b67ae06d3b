//! What a file may ask for: far more than any network does, and so little that lengths within these limits
//! can be added and multiplied, and loops over them end.

use super::constant::{Constant, Values};
use crate::TensorType;
use crate::onnx::NodeProto;

/// The longest kernel, padding or axis that a node gives.
pub(crate) const LENGTH: usize = 1 << 20;
/// Most values of a tensor.
const VALUES: usize = 1 << 40;
/// Most values that are computed while a file is imported, in all.
pub(super) const COMPUTED: usize = 1 << 26;
/// Most values of a constant that is made for a node.
pub(crate) const CONSTANT: usize = 1 << 24;
/// Operators with operands that are lengths.
const OF_LENGTHS: [&str; 8] = ["Col2Im", "Expand", "Pad", "Resize", "Split", "Tile", "TopK", "Trilu"];

/// Refuses a node with numbers that no network has. A slice may end at the largest integer there is.
pub(super) fn check<'a>(
    node: &NodeProto,
    operand: impl Fn(usize) -> Option<&'a Constant>,
) -> Result<(), String> {
    if node.op_type() == "Slice" {
        return Ok(());
    }
    let is_long = |value: &&i64| value.unsigned_abs() > LENGTH as u64;
    for attribute in &node.attribute {
        if let Some(found) = attribute.ints.iter().chain(&attribute.i).find(is_long) {
            return Err(format!("has the {} {found}, expected at most {LENGTH}", attribute.name()));
        }
    }
    if OF_LENGTHS.contains(&node.op_type()) {
        for at in 1..node.input.len() {
            let Some(Values::Integers(values)) = operand(at).map(|constant| &constant.values) else {
                continue;
            };
            if let Some(found) = values.iter().find(is_long) {
                return Err(format!("takes `{}`, {found}, expected at most {LENGTH}", node.input[at]));
            }
        }
    }
    Ok(())
}

/// Refuses a tensor that fits into no memory.
pub(super) fn check_made(ty: &TensorType) -> Result<(), String> {
    if ty.len() > VALUES { Err(format!("makes {ty}, more than {VALUES} values")) } else { Ok(()) }
}
