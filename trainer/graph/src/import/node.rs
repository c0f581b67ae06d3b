//! Names and operators of nodes.

use crate::onnx::NodeProto;

const OF_SEQUENCES: [&str; 8] = [
    "ConcatFromSequence",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SplitToSequence",
];

/// Name of a node, or of its first output if it has none.
pub(super) fn name_of(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}

pub(super) fn is_of_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Whether a node is one of these standard operators.
pub(super) fn is_one_of(node: &NodeProto, operators: &[&str]) -> bool {
    is_of_onnx(node.domain()) && operators.contains(&node.op_type())
}

/// Operators that move the values of their first operand.
pub(super) const SHAPING: [&str; 7] =
    ["Cast", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

/// Whether a node is a value that stands in the file.
pub(super) fn is_constant(node: &NodeProto) -> bool {
    is_one_of(node, &["Constant"])
}

/// Whether a node chooses between values of two branches.
pub(super) fn is_choice(node: &NodeProto) -> bool {
    is_one_of(node, &["If"])
}

/// Whether a node makes a sequence or takes one.
pub(super) fn is_of_sequences(node: &NodeProto) -> bool {
    is_one_of(node, &OF_SEQUENCES)
}
