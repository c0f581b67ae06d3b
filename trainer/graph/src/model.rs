//! A finished graph: its inputs, its outputs and its ONNX form.

use std::collections::BTreeMap;

use prost::Message;

use super::error::{GraphError, Result};
use super::node::{Attribute, Node, Origin, Tensor, Value};
use super::operator::Operator;
use super::types::{ElementType, TensorType};
use crate::onnx::attribute_proto::AttributeType;
use crate::onnx::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// The operator set of every emitted graph; ONNX Runtime 1.17 and later load it.
pub const OPSET: i64 = 18;
/// The version of the file format of every emitted graph.
pub const IR_VERSION: i64 = 8;

/// Who every emitted graph says has made it.
pub(crate) const PRODUCER: &str = "fovea";

/// The domain of operators of Fovea's own; a session must know them.
pub const DOMAIN: &str = "fovea";

/// Name of the free first axis in files.
const BATCH_AXIS: &str = "N";

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name in the file, used for binding.
    pub name: String,
    /// Element type and shape.
    pub ty: TensorType,
    /// Whether the first axis may have any length; `ty` then shows one possible length.
    pub free_batch: bool,
}

/// A finished graph.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(crate) name: String,
    pub(crate) values: Vec<Value>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
    /// Inputs and outputs whose first axis may have any length.
    pub(crate) free: Vec<Tensor>,
}

impl Graph {
    /// Assembles the parts, without nodes that no output depends on.
    pub(crate) fn assemble(
        name: String,
        values: Vec<Value>,
        nodes: Vec<Node>,
        inputs: Vec<Tensor>,
        outputs: Vec<Tensor>,
    ) -> Self {
        let mut needed = vec![false; values.len()];
        for output in &outputs {
            needed[output.index()] = true;
        }
        let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
        for mut node in nodes.into_iter().rev() {
            if !node.outputs.iter().any(|t| needed[t.index()]) {
                continue;
            }
            for input in &node.inputs {
                needed[input.index()] = true;
            }
            // Optional trailing outputs (the indices of a max-pool) cost time if requested.
            while node.copied.is_none()
                && node.operator.domain != DOMAIN
                && !matches!(node.operator.name, "Split" | "TopK")
                && node.outputs.last().is_some_and(|t| !needed[t.index()])
            {
                node.outputs.pop();
            }
            kept.push(node);
        }
        kept.reverse();
        Self { name, values, nodes: kept, inputs, outputs, free: Vec::new() }
    }

    /// Name of the graph.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Inputs in the order of their declaration.
    #[must_use]
    pub fn inputs(&self) -> Vec<Port> {
        self.inputs.iter().map(|&t| self.port(t)).collect()
    }

    /// Outputs in the order of their declaration.
    #[must_use]
    pub fn outputs(&self) -> Vec<Port> {
        self.outputs.iter().map(|&t| self.port(t)).collect()
    }

    /// The operators of the graph with the element type of their data, sorted by name, each pair once.
    ///
    /// The data of `Where` are the operands that it selects from; of all other operators, the first operand,
    /// or what they make where they have none.
    #[must_use]
    pub fn operators(&self) -> Vec<(&'static Operator, ElementType)> {
        let element = |node: &Node| {
            let data = node.inputs.get(usize::from(node.operator.name == "Where"));
            self.values[data.unwrap_or(&node.outputs[0]).index()].ty.element
        };
        let mut operators: Vec<_> = self.nodes.iter().map(|node| (node.operator, element(node))).collect();
        operators.sort_unstable_by_key(|(operator, element)| (operator.domain, operator.name, *element));
        operators.dedup();
        operators
    }

    /// All nodes: operator, types of the operands, types of the outputs.
    pub fn nodes(&self) -> impl Iterator<Item = (&'static Operator, Vec<&TensorType>, Vec<&TensorType>)> {
        let types = |tensors: &[Tensor]| tensors.iter().map(|t| &self.values[t.index()].ty).collect();
        self.nodes.iter().map(move |node| (node.operator, types(&node.inputs), types(&node.outputs)))
    }

    /// Replaces the input `name` by a constant of little-endian `bytes`.
    ///
    /// # Errors
    /// There is no such input, or the number of bytes is not that of its type.
    pub fn set_input(&mut self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let failed = |graph: &Self, reason: String| {
            Err(GraphError::Binding { graph: graph.name.clone(), name: name.to_owned(), reason })
        };
        let Some(at) = self.inputs.iter().position(|t| self.values[t.index()].name == name) else {
            return failed(self, "the graph has no such input".into());
        };
        let value = &mut self.values[self.inputs[at].index()];
        let expected = value.ty.len() * value.ty.element.size_bytes();
        if bytes.len() != expected {
            let reason = format!("{} has {expected} bytes, given {}", value.ty, bytes.len());
            return failed(self, reason);
        }
        value.origin = Origin::Constant(bytes);
        self.inputs.remove(at);
        Ok(())
    }

    /// The graph as an ONNX model.
    #[must_use]
    pub fn to_model(&self) -> ModelProto {
        let mut used = vec![false; self.values.len()];
        for tensor in self.nodes.iter().flat_map(|n| &n.inputs) {
            used[tensor.index()] = true;
        }
        let initializer = self.values.iter().zip(used).filter_map(|(value, used)| match &value.origin {
            Origin::Constant(bytes) if used => Some(constant(value, bytes)),
            _ => None,
        });
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some(PRODUCER.into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            opset_import: self.operator_sets(),
            graph: Some(GraphProto {
                name: Some(self.name.clone()),
                node: self.nodes.iter().map(|n| self.node(n)).collect(),
                initializer: initializer.collect(),
                input: self.inputs.iter().map(|&t| self.value_info(t)).collect(),
                output: self.outputs.iter().map(|&t| self.value_info(t)).collect(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The graph as the bytes of an `.onnx` file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_model().encode_to_vec()
    }

    /// The graph as the bytes of an `.onnx` file with metadata: keys and values.
    #[must_use]
    pub fn to_bytes_with(&self, metadata: &[(String, String)]) -> Vec<u8> {
        let mut model = self.to_model();
        model.metadata_props.extend(metadata_of(metadata));
        model.encode_to_vec()
    }

    /// The domains of the graph's operators, each with the oldest version that has all of them.
    fn operator_sets(&self) -> Vec<OperatorSetIdProto> {
        let mut versions = BTreeMap::from([("", OPSET)]);
        for node in &self.nodes {
            let version = versions.entry(node.operator.domain).or_insert(node.operator.since);
            *version = node.operator.since.max(*version);
        }
        let set = |(domain, version): (&str, i64)| OperatorSetIdProto {
            domain: Some(domain.into()),
            version: Some(version),
        };
        versions.into_iter().map(set).collect()
    }

    fn port(&self, tensor: Tensor) -> Port {
        let value = &self.values[tensor.index()];
        Port { name: value.name.clone(), ty: value.ty.clone(), free_batch: self.free.contains(&tensor) }
    }

    fn node(&self, node: &Node) -> NodeProto {
        let names =
            |tensors: &[Tensor]| tensors.iter().map(|t| self.values[t.index()].name.clone()).collect();
        NodeProto {
            name: Some(node.name.clone()),
            op_type: Some(node.operator.name.into()),
            domain: (!node.operator.domain.is_empty()).then(|| node.operator.domain.into()),
            input: names(&node.inputs),
            output: names(&node.outputs),
            attribute: match &node.copied {
                Some(attributes) => attributes.clone(),
                None => node.attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            },
            ..Default::default()
        }
    }

    fn value_info(&self, tensor: Tensor) -> ValueInfoProto {
        let value = &self.values[tensor.index()];
        let free = self.free.contains(&tensor);
        let dim = value.ty.shape.iter().enumerate().map(|(axis, &length)| {
            let value = match (axis, free) {
                (0, true) => dimension::Value::DimParam(BATCH_AXIS.into()),
                _ => dimension::Value::DimValue(length as i64),
            };
            Dimension { value: Some(value), ..Default::default() }
        });
        let tensor = type_proto::Tensor {
            elem_type: Some(value.ty.element.onnx()),
            shape: Some(TensorShapeProto { dim: dim.collect() }),
        };
        ValueInfoProto {
            name: Some(value.name.clone()),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// The metadata of a model.
pub(crate) fn metadata_of(metadata: &[(String, String)]) -> impl Iterator<Item = StringStringEntryProto> {
    metadata
        .iter()
        .map(|(key, value)| StringStringEntryProto { key: Some(key.clone()), value: Some(value.clone()) })
}

fn constant(value: &Value, bytes: &[u8]) -> TensorProto {
    TensorProto {
        name: Some(value.name.clone()),
        dims: value.ty.shape.iter().map(|&d| d as i64).collect(),
        data_type: Some(value.ty.element.onnx()),
        raw_data: Some(bytes.to_vec()),
        ..Default::default()
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.into()), ..Default::default() };
    let kind = match value {
        Attribute::Int(i) => {
            proto.i = Some(*i);
            AttributeType::Int
        }
        Attribute::Ints(list) => {
            proto.ints = list.clone();
            AttributeType::Ints
        }
        Attribute::Float(f) => {
            proto.f = Some(*f);
            AttributeType::Float
        }
        Attribute::Text(text) => {
            proto.s = Some(text.as_bytes().to_vec());
            AttributeType::String
        }
    };
    proto.set_type(kind);
    proto
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Graph, OPSET};
    use crate::gradcheck::run_f32;
    use crate::ops::Pool;
    use crate::{Builder, GraphError, Lowering, Operator, Result, Target, Tensor, TensorType};

    /// A graph from `f32 [batch,1,4,4]` to what `build` makes of it.
    pub(crate) fn graph(
        batch: usize,
        build: impl Fn(&mut Builder, Tensor) -> Result<Tensor>,
    ) -> Result<Graph> {
        let mut g = Builder::new("test", Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([batch, 1, 4, 4]))?;
        let y = build(&mut g, x)?;
        g.output("y", y)?;
        Ok(g.finish())
    }

    #[test]
    fn nodes_that_no_output_depends_on_are_removed() {
        let pool = Pool { kernel: 2, stride: 2, padding: 0, ceil: false };
        let made = graph(1, |g, x| {
            g.relu(x)?;
            g.max_pool(x, pool)
        });
        let model = made.unwrap().to_model();
        let nodes = model.graph.unwrap().node;
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes[0].output.len(), 1, "the indices of the maxima");
    }

    #[test]
    fn an_operator_of_another_domain_is_written_with_it_and_differentiated_by_its_own_rule() {
        static GELU: Operator = Operator::new("Gelu", 1).in_domain("com.microsoft");
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([3])).unwrap();
        let y = g.emit(&GELU, &[x], vec![], g.ty(x).clone());
        // Correct at x = 0 only.
        g.record(&[x], &[y], |g, up| Ok(vec![Some(g.scale(up.single(), 0.5)?)]));
        let loss = g.sum(y).unwrap();
        let dx = g.grad(loss, &[x]).unwrap()[0];
        g.output("y", y).unwrap();
        g.output("dx", dx).unwrap();
        let graph = g.finish();
        let model = graph.to_model();
        let sets: Vec<_> = model.opset_import.iter().map(|set| (set.domain(), set.version())).collect();
        assert_eq!(sets, [("", OPSET), ("com.microsoft", 1)]);
        assert_eq!(model.graph.unwrap().node[0].domain(), "com.microsoft");
        let given = run_f32(&graph, &[("x", &[0.0; 3])]);
        assert_eq!((given["y"].as_slice(), given["dx"].as_slice()), (&[0.0; 3][..], &[0.5; 3][..]));
    }

    #[test]
    fn only_inputs_that_exist_can_be_set_and_only_with_their_size() {
        let mut made = graph(1, |g, x| g.relu(x)).unwrap();
        assert!(matches!(made.set_input("z", vec![]), Err(GraphError::Binding { .. })));
        assert!(matches!(made.set_input("x", vec![0; 3]), Err(GraphError::Binding { .. })));
        made.set_input("x", vec![0; 64]).unwrap();
        assert!(made.inputs().is_empty());
        assert_eq!(made.to_model().graph.unwrap().initializer.len(), 1);
    }
}
