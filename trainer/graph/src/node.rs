//! The parts of a graph: handles, values, attributes, nodes.

use super::onnx::AttributeProto;
use super::operator::Operator;
use super::types::TensorType;

/// Handle of a value in a [`Builder`](super::Builder); meaningless in any other builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor(pub(crate) u32);

impl Tensor {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The value of an ONNX attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A number in single precision.
    Float(f32),
    /// Text.
    Text(&'static str),
}

/// Attributes of one node by name.
pub type Attributes = Vec<(&'static str, Attribute)>;

/// An attribute that is a list of sizes.
pub(crate) fn ints(name: &'static str, values: &[usize]) -> (&'static str, Attribute) {
    (name, Attribute::Ints(values.iter().map(|&v| v as i64).collect()))
}

/// An attribute that is one integer.
pub(crate) fn int(name: &'static str, value: i64) -> (&'static str, Attribute) {
    (name, Attribute::Int(value))
}

/// One ONNX node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub name: String,
    pub operator: &'static Operator,
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    pub attributes: Attributes,
    /// Attributes of a node of a file that is copied.
    pub copied: Option<Vec<AttributeProto>>,
    /// Whether a gradient rule covers this node.
    pub covered: bool,
}

impl Node {
    /// Whether `tensor` is its first output.
    pub fn makes(&self, tensor: Tensor) -> bool {
        self.outputs.first() == Some(&tensor)
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    Input,
    Constant(Vec<u8>),
    Node,
}

/// One value of the graph.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub name: String,
    pub ty: TensorType,
    pub origin: Origin,
}
