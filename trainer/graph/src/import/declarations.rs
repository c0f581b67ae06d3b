//! What a file declares of values and domains, beside its nodes.

use std::collections::HashMap;

use crate::onnx::tensor_proto::DataType;
use crate::onnx::tensor_shape_proto::dimension;
use crate::onnx::{GraphProto, NodeProto, ValueInfoProto, type_proto};

/// A Boolean value of the file and what it must be.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub value: String,
    pub is: bool,
}

/// The conditions of nodes in branches, by the first output.
pub(super) type Conditions = HashMap<String, Vec<Condition>>;

/// Element type, and the length of each axis where it is fixed.
pub(super) type Declared = (DataType, Vec<Option<usize>>);

/// What a file declares of values and domains that is only needed for nodes that are copied.
#[derive(Clone, Debug, Default)]
pub(super) struct Declarations {
    types: HashMap<String, Declared>,
    /// Versions of operator sets, by domain.
    versions: HashMap<String, i64>,
}

impl Declarations {
    pub fn new(versions: HashMap<String, i64>, graph: &GraphProto) -> Self {
        let values = graph.value_info.iter().chain(&graph.output);
        let types = values.filter_map(|value| Some((value.name().to_owned(), axis_lengths(value)?)));
        Self { types: types.collect(), versions }
    }

    /// The version of the operators of a domain.
    pub fn version(&self, domain: &str) -> i64 {
        self.versions.get(domain).copied().unwrap_or(1)
    }

    /// What is declared for the outputs of `node`.
    pub fn of_outputs<'a>(
        &'a self,
        node: &'a NodeProto,
    ) -> impl Iterator<Item = (&'a str, Option<&'a Declared>)> {
        let outputs = node.output.iter().filter(|output| !output.is_empty());
        outputs.map(|output| (output.as_str(), self.types.get(output)))
    }
}

/// Element type of an input, and the lengths of its axes where they are fixed; `None` if it is no tensor.
pub(super) fn axis_lengths(input: &ValueInfoProto) -> Option<(DataType, Vec<Option<usize>>)> {
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|ty| ty.value.as_ref())
    else {
        return None;
    };
    let element = DataType::try_from(tensor.elem_type()).unwrap_or(DataType::Undefined);
    let axes = tensor.shape.iter().flat_map(|shape| &shape.dim).map(|axis| match axis.value {
        Some(dimension::Value::DimValue(length)) => usize::try_from(length).ok().filter(|&length| length > 0),
        _ => None,
    });
    Some((element, axes.collect()))
}
