//! Which constants training leaves as they are, by their place in the graph.

use std::collections::{HashMap, HashSet};

use super::constant::{Constant, Values};
use super::file::NodeAttributes;
use super::statistics::{Uses, statistics};
use crate::builder;
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

/// Normalisations, whose operands 1 and 2 are the scale and the offset.
pub(super) const NORMALISATIONS: [&str; 4] =
    ["BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"];

/// The floating-point constants that training leaves, each with the reason; `nodes` stand in their order.
pub(super) fn held(
    nodes: &[NodeProto],
    outputs: &[String],
    constants: &HashMap<String, Constant>,
    initializers: &HashSet<String>,
) -> HashMap<String, &'static str> {
    let reached = reached_from(outputs, nodes);
    let mut uses: Uses<'_> = HashMap::new();
    for node in nodes {
        for (at, operand) in node.input.iter().enumerate() {
            uses.entry(operand).or_default().push((node, at));
        }
    }
    let statistics = statistics(nodes, &uses, constants);
    let why = |name: &str, constant: &Constant, values: &[f32]| {
        let places = uses.get(name)?;
        // What is divided by counts, sizes and deviations; no layer has a divisor as its weight.
        let divides = places.iter().all(|&(node, at)| node.op_type() == "Div" && at == 1);
        let is_unnamed = !initializers.contains(name) || is_numbered(name) || was_constant(name);
        match name {
            _ if !reached.contains(name) => Some("no gradient reaches it"),
            _ if divides => Some("a divisor"),
            _ if statistics.contains(name) => Some("running statistics of a normalisation in parts"),
            _ if places.iter().all(|&(node, at)| sums_windows(node, at, &constant.shape, values)) => {
                Some("it sums the values of a window")
            }
            _ if is_unnamed && places.iter().all(|&(node, at)| changes_nothing(node, at, values)) => {
                Some("the exporter has written it, since the normalisation has no parameters")
            }
            _ if is_unnamed && places.iter().all(|&(node, at)| fills(node, at, values)) => {
                Some("the exporter has written it, to fill a part of another value")
            }
            _ => None,
        }
    };
    let held = constants.iter().filter_map(|(name, constant)| match &constant.values {
        Values::Floats(values) => Some((name.clone(), why(name, constant, values)?)),
        Values::Integers(_) | Values::Booleans(_) => None,
    });
    held.collect()
}

/// The values that gradients of `outputs` reach; `nodes` stand in their order.
pub(super) fn reached_from<'a>(outputs: &'a [String], nodes: &'a [NodeProto]) -> HashSet<&'a str> {
    let mut reached: HashSet<&str> = outputs.iter().map(String::as_str).collect();
    for node in nodes.iter().rev() {
        if node.output.iter().any(|output| reached.contains(output.as_str())) {
            let operands = node.input.iter().enumerate().filter(|&(at, _)| passes_gradient(node, at));
            reached.extend(operands.map(|(_, operand)| operand.as_str()));
        }
    }
    reached
}

/// Whether a gradient of what a node makes passes to operand `at`.
pub(super) fn passes_gradient(node: &NodeProto, at: usize) -> bool {
    match node.op_type() {
        _ if is_opaque(node) => false,
        "If" | "Where" => at != 0,
        // Regions.
        "MaxRoiPool" | "RoiAlign" => at == 0,
        // The statistics that it is given are not those by which it normalises.
        "BatchNormalization" => at < 3 || NodeAttributes(node).int("training_mode", 0) == 0,
        _ => true,
    }
}

/// Whether PyTorch's exporter has given the name to a value of its own, as in `val_12`.
pub(super) fn is_numbered(name: &str) -> bool {
    name.strip_prefix("val_").is_some_and(|number| number.parse::<u64>().is_ok())
}

/// Whether a value was one of a `Constant` node of PyTorch's older exporter, by its name, which optimisers of
/// files keep.
fn was_constant(name: &str) -> bool {
    name.strip_suffix("_output_0").is_some_and(|name| builder::is_numbered(name, "Constant"))
}

/// Whether `values` of `shape`, as operand `at`, are a kernel of ones for each channel: a part of an average
/// pool.
fn sums_windows(node: &NodeProto, at: usize, shape: &[usize], values: &[f32]) -> bool {
    node.op_type() == "Conv"
        && at == 1
        && shape.get(1) == Some(&1)
        && shape[2..].iter().any(|&length| length > 1)
        && values.iter().all(|&value| value == 1.0)
}

/// Whether `values`, as operand `at`, scale a normalisation by 1 or move it by 0.
fn changes_nothing(node: &NodeProto, at: usize, values: &[f32]) -> bool {
    let neutral = match at {
        1 => 1.0,
        2 => 0.0,
        _ => return false,
    };
    NORMALISATIONS.contains(&node.op_type()) && values.iter().all(|&value| value == neutral)
}

/// Whether a part of another value becomes `values`, operand `at`, which are all the same: the regions from
/// which masks of attention are made.
fn fills(node: &NodeProto, at: usize, values: &[f32]) -> bool {
    matches!(node.op_type(), "ScatterElements" | "ScatterND")
        && at == 2
        && values.windows(2).all(|pair| pair[0] == pair[1])
}

fn is_opaque(node: &NodeProto) -> bool {
    let is_cast_to_other = || {
        let to =
            i32::try_from(NodeAttributes(node).int("to", 0)).ok().and_then(|to| DataType::try_from(to).ok());
        !matches!(to, Some(DataType::Float | DataType::Float16 | DataType::Double | DataType::Bfloat16))
    };
    OPAQUE.contains(&node.op_type()) || (node.op_type() == "Cast" && is_cast_to_other())
}
