//! What a file's network is: its layers, and what training changes.

use std::collections::HashSet;

use super::constant::Values;
use super::file::{Imported, NodeAttributes};
use super::node::{is_constant, is_one_of, name_of};
use super::translation::Translation;
use crate::module::Mode;
use crate::onnx::NodeProto;
use crate::{Builder, Lowering, Result, Target, TensorType};

/// A network of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The nodes that compute with images or parameters, in their order.
    pub layers: Vec<LayerSummary>,
    /// Logits of each image.
    pub classes: usize,
    /// Values of parameters, which training changes by their gradients.
    pub trained: usize,
    /// Values of running statistics, which training sets.
    pub running: usize,
    /// Floating-point initialisers that stay as they are, with the reason for each.
    pub constant: Vec<ConstantSummary>,
}

/// A node of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSummary {
    /// Name, or that of the first output.
    pub name: String,
    /// ONNX operator.
    pub operator: String,
    /// Shape of the first output, for one image or for the batch that the file fixes.
    pub shape: Vec<usize>,
    /// Values of the parameters that the node is the first to use.
    pub parameters: usize,
    /// Multiplications of a convolution or matrix product, each followed by an addition, for one image.
    pub multiply_adds: u64,
}

/// An initialiser that is not trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstantSummary {
    /// Its name.
    pub name: String,
    /// Number of values.
    pub values: usize,
    /// Why it is not trained.
    pub reason: &'static str,
}

impl Imported {
    /// Layers, parameters and constants for images of `height` × `width` pixels.
    ///
    /// # Errors
    /// Those of [`forward`](crate::Network::forward).
    pub fn summary(&self, [height, width]: [usize; 2]) -> Result<Summary> {
        let mut g = Builder::new("summary", Lowering::evaluation(Target::Cpu));
        // A file with a fixed batch may only work with that.
        let batch = self.input.batch.unwrap_or(1);
        let x = g.input("images", TensorType::f32([batch, 3, height, width]))?;
        let mut layers = Vec::new();
        let translation = self.translate(&mut g, x, Mode::Evaluate, |translation, node, before| {
            if let Some(shape) = translation.computed_shape(node) {
                layers.push(LayerSummary {
                    name: name_of(node).to_owned(),
                    operator: node.op_type().to_owned(),
                    multiply_adds: multiply_adds(translation, node, &shape) / batch as u64,
                    shape,
                    parameters: translation.parameter_values() - before,
                });
            }
        })?;
        let forward = translation.finish()?;
        let classes = g.shape(forward.logits)[1];
        let trained = forward.parameters.iter().map(|(parameter, _)| parameter.len()).sum();
        let running = forward.buffers.iter().map(|used| used.buffer.len()).sum();
        let used: HashSet<&str> = forward
            .parameters
            .iter()
            .map(|(parameter, _)| parameter.name.as_str())
            .chain(forward.buffers.iter().map(|used| used.buffer.name.as_str()))
            .collect();
        // Of `Constant` nodes, those that might be parameters.
        let is_list = |name: &&String| {
            let constant = self.constants.get(*name);
            !self.initializers.contains(*name) && constant.is_some_and(|constant| constant.values.len() > 1)
        };
        let of_nodes =
            self.nodes.iter().filter(|node| is_constant(node)).filter_map(|node| node.output.first());
        let mut constant: Vec<_> = self
            .initializers
            .iter()
            .chain(of_nodes.filter(is_list))
            .filter(|name| !used.contains(self.name_here(name).as_str()))
            .filter_map(|name| self.why_constant(name))
            .collect();
        constant.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Summary { layers, classes, trained, running, constant })
    }

    /// Why a floating-point initialiser that is not declared stays constant.
    fn why_constant(&self, name: &str) -> Option<ConstantSummary> {
        let constant = self.constants.get(name)?;
        let values = constant.values.len();
        let mut users =
            self.nodes.iter().filter(|node| node.input.iter().any(|input| input == name)).peekable();
        let is_needed = users.peek().is_some();
        let is_in_branches = users.all(|node| !self.conditions_of(node).is_empty());
        let reason = match &constant.values {
            Values::Integers(_) | Values::Booleans(_) => return None,
            Values::Floats(_) if !is_needed => "the logits do not depend on it",
            Values::Floats(_) if is_in_branches => "it is of a branch that does not run",
            Values::Floats(_) if values <= 1 => "a single value",
            Values::Floats(_) if constant.is_mask() => "a mask of attention scores",
            Values::Floats(_) if self.held.contains_key(name) => self.held[name],
            Values::Floats(_) if !self.initializers.contains(name) => {
                "of a `Constant` node, and no weights or bias of a layer"
            }
            Values::Floats(_) => "no gradient passes through it, or it normalises the images",
        };
        Some(ConstantSummary { name: name.to_owned(), values, reason })
    }
}

fn multiply_adds(translation: &Translation<'_>, node: &NodeProto, output: &[usize]) -> u64 {
    let (Some(a), Some(b)) = (translation.shape_of(node, 0), translation.shape_of(node, 1)) else { return 0 };
    let product = |shape: &[usize]| shape.iter().fold(1, |count: u64, &n| count.saturating_mul(n as u64));
    if is_one_of(node, &["Conv"]) {
        // Each value of the output sums over the channels of its group and the kernel.
        product(output).saturating_mul(product(b.get(1..).unwrap_or_default()))
    } else if is_one_of(node, &["ConvTranspose"]) {
        product(&a).saturating_mul(product(b.get(1..).unwrap_or_default()))
    } else if is_one_of(node, &["Gemm"]) {
        let inner = if NodeAttributes(node).int("transA", 0) != 0 { a.first() } else { a.last() };
        product(output).saturating_mul(inner.map_or(0, |&inner| inner as u64))
    } else if is_one_of(node, &["MatMul"]) {
        product(output).saturating_mul(a.last().map_or(0, |&inner| inner as u64))
    } else if is_one_of(node, &["GRU", "LSTM", "RNN"]) {
        // Each step multiplies its input and the state by their weights.
        let of_state = translation.shape_of(node, 2).unwrap_or_default();
        let weights = product(&b).saturating_add(product(&of_state));
        product(a.get(..2).unwrap_or_default()).saturating_mul(weights)
    } else if is_one_of(node, &["Attention"]) {
        // Queries by all keys, and the weights of all keys by values.
        let keys = b.iter().rev().nth(1).map_or(0, |&keys| keys as u64);
        product(&a).saturating_add(product(output)).saturating_mul(keys)
    } else {
        0
    }
}
