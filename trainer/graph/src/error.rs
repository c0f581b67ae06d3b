//! Errors of building a graph.

use std::path::PathBuf;

use super::types::TensorType;

/// Result of building a graph.
pub type Result<T> = std::result::Result<T, GraphError>;

/// Why a graph cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// An operator does not accept the given tensors.
    #[error("node `{node}` ({operator}): {reason}; given {}", list(.given))]
    Operands {
        /// Name of the node, with its scope.
        node: String,
        /// ONNX operator, or the name of the composite function.
        operator: &'static str,
        /// What was expected.
        reason: String,
        /// Types of all operands in order.
        given: Vec<TensorType>,
    },
    /// The loss depends on a parameter through an operator without a gradient rule.
    #[error(
        "node `{node}` ({operator}) has no gradient rule, but the loss depends on a parameter through it"
    )]
    NoGradient {
        /// Name of the node.
        node: String,
        /// ONNX operator.
        operator: &'static str,
    },
    /// Gradients were requested for a tensor that is not a floating-point scalar.
    #[error("gradients need a floating-point scalar, but `{tensor}` is {given}")]
    LossNotScalar {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        given: TensorType,
    },
    /// Two inputs or outputs have the same name.
    #[error("the name `{name}` is used twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A node depends on the batch size in a graph that must work for every batch size.
    #[error("graph `{graph}`: node `{node}` depends on the batch size, so the graph cannot have a free one")]
    BatchDependent {
        /// Name of the graph.
        graph: String,
        /// First node that differs between two batch sizes.
        node: String,
    },
    /// A value was set for an input that the graph does not have, or with the wrong size.
    #[error("graph `{graph}`: cannot set `{name}`: {reason}")]
    Binding {
        /// Name of the graph.
        graph: String,
        /// Name of the input.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be used as the initial values of a network.
    #[error("{}: cannot be used as weights: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file cannot be used as a network.
    #[error("{}: cannot be used as a network: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A node of a file cannot be imported.
    #[error("{}: node `{node}` ({operator}) {reason}", path.display())]
    Node {
        /// The file.
        path: PathBuf,
        /// Name of the node, or of its first output if it has none.
        node: String,
        /// ONNX operator.
        operator: String,
        /// What is wrong.
        reason: String,
    },
    /// The description of a network is invalid.
    #[error("network `{network}`: {reason}")]
    Network {
        /// Name of the network.
        network: String,
        /// What is wrong, with the value that was given.
        reason: String,
    },
}

fn list(types: &[TensorType]) -> String {
    types.iter().map(TensorType::to_string).collect::<Vec<_>>().join(", ")
}
