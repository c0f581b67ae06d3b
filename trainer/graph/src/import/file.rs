//! The contents of an ONNX file: constants, attributes, shapes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::GraphError;
use crate::onnx::tensor_proto::{DataLocation, DataType};
use crate::onnx::tensor_shape_proto::dimension;
use crate::onnx::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

/// A network from a file.
#[derive(Clone, Debug)]
pub struct Imported {
    pub(super) path: PathBuf,
    pub(super) graph: GraphProto,
    pub(super) constants: HashMap<String, Constant>,
    /// Name of the input, and the lengths of its axes where they are fixed.
    pub(super) input: (String, Vec<Option<usize>>),
    /// Name of the logits.
    pub(super) logits: String,
    pub(super) opset: i64,
}

impl Imported {
    pub(super) fn failed(&self, reason: String) -> GraphError {
        GraphError::File { path: self.path.clone(), reason }
    }

    pub(super) fn at_node(&self, node: &NodeProto, reason: impl Into<String>) -> GraphError {
        GraphError::Node {
            path: self.path.clone(),
            node: name_of(node).to_owned(),
            operator: node.op_type().to_owned(),
            reason: reason.into(),
        }
    }
}

/// Name of a node, or of its first output if it has none.
pub(super) fn name_of(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}

/// A tensor with its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub shape: Vec<usize>,
    pub values: Values,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    /// Shared with the parameters that begin with them.
    Floats(Arc<[f32]>),
    Integers(Vec<i64>),
}

/// The initialisers and `Constant` nodes of a graph, by name.
pub(super) fn constants(graph: &GraphProto) -> Result<HashMap<String, Constant>, String> {
    let mut all = HashMap::new();
    for tensor in &graph.initializer {
        all.insert(tensor.name().to_owned(), constant(tensor)?);
    }
    for node in graph.node.iter().filter(|node| node.op_type() == "Constant") {
        let (Some(output), Some(attribute)) = (node.output.first(), node.attribute.first()) else { continue };
        all.insert(output.clone(), constant_of_attribute(output, attribute)?);
    }
    Ok(all)
}

fn constant_of_attribute(name: &str, attribute: &AttributeProto) -> Result<Constant, String> {
    let list = |length: usize, values| Constant { shape: vec![length], values };
    Ok(match attribute.name() {
        "value" => constant(attribute.t.as_ref().ok_or_else(|| format!("constant `{name}` has no value"))?)?,
        "value_int" => Constant { shape: vec![], values: Values::Integers(vec![attribute.i()]) },
        "value_float" => Constant { shape: vec![], values: Values::Floats([attribute.f()].into()) },
        "value_ints" => list(attribute.ints.len(), Values::Integers(attribute.ints.clone())),
        "value_floats" => list(attribute.floats.len(), Values::Floats(attribute.floats.as_slice().into())),
        other => return Err(format!("constant `{name}` is given as `{other}`, expected numbers")),
    })
}

fn constant(tensor: &TensorProto) -> Result<Constant, String> {
    let name = tensor.name();
    if tensor.data_location() == DataLocation::External {
        return Err(format!("tensor `{name}` is stored in another file; export the network as one file"));
    }
    let shape: Vec<usize> = tensor.dims.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect();
    let raw = tensor.raw_data();
    let has_raw = tensor.raw_data.is_some();
    let values = match tensor.data_type() {
        t if t == DataType::Float as i32 && has_raw => {
            Values::Floats(raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        }
        t if t == DataType::Float as i32 => Values::Floats(tensor.float_data.as_slice().into()),
        t if t == DataType::Double as i32 && has_raw => {
            Values::Floats(raw.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect())
        }
        t if t == DataType::Int64 as i32 && has_raw => {
            Values::Integers(raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
        }
        t if t == DataType::Int64 as i32 => Values::Integers(tensor.int64_data.clone()),
        t if t == DataType::Int32 as i32 && has_raw => Values::Integers(
            raw.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect(),
        ),
        t if t == DataType::Int32 as i32 => {
            Values::Integers(tensor.int32_data.iter().map(|&value| value.into()).collect())
        }
        other => {
            let element =
                DataType::try_from(other).map_or_else(|_| other.to_string(), |t| t.as_str_name().into());
            return Err(format!(
                "tensor `{name}` is of type {element}, expected FLOAT, DOUBLE, INT64 or INT32"
            ));
        }
    };
    let (found, expected) = match &values {
        Values::Floats(values) => (values.len(), shape.iter().product::<usize>()),
        Values::Integers(values) => (values.len(), shape.iter().product()),
    };
    if found != expected {
        return Err(format!(
            "tensor `{name}` has {found} values, expected {expected} for its shape {shape:?}"
        ));
    }
    Ok(Constant { shape, values })
}

/// Element type of an input, and the lengths of its axes where they are fixed.
pub(super) fn axis_lengths(input: &ValueInfoProto) -> (String, Vec<Option<usize>>) {
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|ty| ty.value.as_ref())
    else {
        return ("not a tensor".into(), vec![]);
    };
    let element = match tensor.elem_type() {
        t if t == DataType::Float as i32 => "f32".into(),
        other => DataType::try_from(other).map_or_else(|_| other.to_string(), |t| t.as_str_name().into()),
    };
    let axes = tensor.shape.iter().flat_map(|shape| &shape.dim).map(|axis| match axis.value {
        Some(dimension::Value::DimValue(length)) => usize::try_from(length).ok().filter(|&length| length > 0),
        _ => None,
    });
    (element, axes.collect())
}

/// Attributes of a node by name, with defaults.
pub(crate) struct NodeAttributes<'a>(pub &'a NodeProto);

impl NodeAttributes<'_> {
    fn find(&self, name: &str) -> Option<&AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name() == name)
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |attribute| attribute.i())
    }

    pub fn float(&self, name: &str, default: f32) -> f64 {
        self.find(name).map_or(default, |attribute| attribute.f()).into()
    }

    /// A list of sizes; `None` if it is absent or has a negative entry.
    pub fn sizes(&self, name: &str) -> Option<Vec<usize>> {
        let list = &self.find(name)?.ints;
        list.iter().map(|&value| usize::try_from(value).ok()).collect()
    }

    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.find(name).map(|attribute| attribute.ints.clone())
    }

    pub fn text(&self, name: &str) -> String {
        self.find(name)
            .map_or_else(String::new, |attribute| String::from_utf8_lossy(attribute.s()).into_owned())
    }
}
