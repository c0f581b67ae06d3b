//! What must hold of a file before anything is read from it.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use super::node::name_of;
use crate::onnx::tensor_shape_proto::dimension;
use crate::onnx::{GraphProto, ModelProto, type_proto};

/// Versions of the file format: the first is older than operator set 7, the last newer than any.
const FORMATS: RangeInclusive<i64> = 3..=20;
/// Operator sets that files may use.
const OPSETS: RangeInclusive<i64> = 7..=25;

/// The version of the standard operator set of a model.
pub(super) fn opset(model: &ModelProto) -> Result<i64, String> {
    let (format, sets) = (model.ir_version(), &model.opset_import);
    let set = sets.iter().find(|set| matches!(set.domain(), "" | "ai.onnx")).and_then(|set| set.version);
    let opset = set.ok_or("it declares no operator set")?;
    if !OPSETS.contains(&opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        return Err(format!("it uses operator set {opset}, expected {first} to {last}"));
    }
    if !FORMATS.contains(&format) {
        let (first, last) = (FORMATS.start(), FORMATS.end());
        return Err(format!("its ir_version is {format}, expected {first} to {last}"));
    }
    Ok(opset)
}

/// Refuses a graph that makes or gives a value twice, or has an input with an axis of negative length. A
/// length of −1 stands for a free one in files of some programs.
pub(super) fn graph(graph: &GraphProto) -> Result<(), String> {
    for input in &graph.input {
        let Some(type_proto::Value::TensorType(tensor)) =
            input.r#type.as_ref().and_then(|ty| ty.value.as_ref())
        else {
            continue;
        };
        for axis in tensor.shape.iter().flat_map(|shape| &shape.dim) {
            if let Some(dimension::Value::DimValue(length @ ..-1)) = axis.value {
                return Err(format!("its input `{}` has an axis of length {length}", input.name()));
            }
        }
    }
    let mut outputs = HashSet::new();
    if let Some(output) = graph.output.iter().find(|output| !outputs.insert(output.name())) {
        return Err(format!("it has two outputs `{}`", output.name()));
    }
    let mut makers: HashMap<&str, String> = HashMap::new();
    let initializers = graph.initializer.iter().map(|tensor| (tensor.name(), "an initialiser".to_owned()));
    let made = graph.node.iter().flat_map(|node| {
        let maker = format!("node `{}` ({})", name_of(node), node.op_type());
        node.output.iter().map(move |output| (output.as_str(), maker.clone()))
    });
    for (name, maker) in initializers.chain(made).filter(|(name, _)| !name.is_empty()) {
        if let Some(other) = makers.get(name) {
            return Err(format!("its value `{name}` is made twice, by {other} and by {maker}"));
        }
        makers.insert(name, maker);
    }
    Ok(())
}
