//! What is asked for, and what is given back.

use std::collections::BTreeMap;

use crate::Port;
use crate::module::Mode;

/// Which gradients of a file are wanted.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// Values of the file, outputs or others, that are kept and differentiated; all outputs if empty.
    pub of: Vec<String>,
    /// What is differentiated.
    pub objective: Objective,
    /// What the gradients are with respect to.
    pub wrt: Vec<Wrt>,
    /// Whether batch normalisation and dropout do what they do in evaluation or in training.
    pub mode: Mode,
    /// Lengths of the axes of inputs, by name, instead of the file's; `None` for a free first axis.
    pub shapes: BTreeMap<String, Vec<Option<usize>>>,
}

/// What is differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// The sum of the products of outputs with their seeds, which are inputs `grad.OUTPUT`; an output of a
    /// single value has the seed 1 and no input.
    Outputs,
    /// The mean cross-entropy of the logits `[N,K]` against the input `labels` `i64 [N]`, over the rows whose
    /// label is not negative. A softmax that makes the output is not part of the logits.
    CrossEntropy,
}

/// What gradients are with respect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrt {
    /// All parameters that training would change.
    Weights,
    /// All floating-point inputs.
    Inputs,
    /// An input, an initialiser, or what a node makes.
    Named(String),
}

/// A file with its gradients.
#[derive(Clone, Debug)]
pub struct Differentiated {
    /// Inputs that must be given.
    pub inputs: Vec<Port>,
    /// Inputs that have the values of the file unless others are given.
    pub weights: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// The `.onnx` file.
    pub bytes: Vec<u8>,
}
