//! Which initialisers training leaves as they are, by their place in the graph.

use std::collections::{HashMap, HashSet};

use super::file::NodeAttributes;
use crate::onnx::NodeProto;
use crate::onnx::tensor_proto::DataType;

/// Operators that pass no gradient to any operand.
const OPAQUE: [&str; 25] = [
    "And",
    "ArgMax",
    "ArgMin",
    "Bernoulli",
    "Ceil",
    "ConstantOfShape",
    "Equal",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "RandomNormalLike",
    "RandomUniformLike",
    "Round",
    "Shape",
    "Sign",
    "Size",
    "Xor",
];

/// The initialisers of `names` that training leaves, each with the reason; `nodes` stand in their order.
pub(super) fn held(
    nodes: &[NodeProto],
    outputs: &[String],
    names: &HashSet<String>,
) -> HashMap<String, &'static str> {
    let mut reached: HashSet<&str> = outputs.iter().map(String::as_str).collect();
    for node in nodes.iter().rev() {
        if node.output.iter().any(|output| reached.contains(output.as_str())) && !is_opaque(node) {
            let operands = node.input.iter().skip(usize::from(node.op_type() == "Where"));
            reached.extend(operands.map(String::as_str));
        }
    }
    // What is divided by counts, sizes and deviations; no layer has a divisor as its weight.
    let divides = |name: &str| {
        let mut places = nodes
            .iter()
            .flat_map(|node| node.input.iter().enumerate().map(move |(at, input)| (node, at, input)));
        places.all(|(node, at, input)| input != name || (node.op_type() == "Div" && at == 1))
    };
    let why = |name: &String| match name.as_str() {
        name if !reached.contains(name) => Some("no gradient reaches it"),
        name if divides(name) => Some("a divisor"),
        _ => None,
    };
    names.iter().filter_map(|name| Some((name.clone(), why(name)?))).collect()
}

fn is_opaque(node: &NodeProto) -> bool {
    let is_cast_to_other = || {
        let to =
            i32::try_from(NodeAttributes(node).int("to", 0)).ok().and_then(|to| DataType::try_from(to).ok());
        !matches!(to, Some(DataType::Float | DataType::Float16 | DataType::Double | DataType::Bfloat16))
    };
    OPAQUE.contains(&node.op_type()) || (node.op_type() == "Cast" && is_cast_to_other())
}
