//! A user's own network: an `.onnx` file for inference as the network of a recipe.
//!
//! The file takes images `f32 [N,3,H,W]`, normalised as the recipe says, and answers `[N,K]`; a softmax at the end is left
//! out, as training needs the logits. Its operators are translated one by one through the builder, so that they are
//! differentiated as any others are.
//!
//! Weights and biases of convolutions and matrix products, and lists of numbers that are added, become parameters under
//! their names and begin with the file's values. All other numbers (a mean that is subtracted, a factor) stay as they are.

mod file;
#[cfg(test)]
mod tests;
mod translation;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use self::file::{Constant, axis_lengths, constants};
pub(crate) use self::file::{NodeAttributes, Values};
pub(crate) use self::translation::{Translation, given};
use crate::module::{Forward, Mode, Network, unknown_tap};
use crate::onnx::{GraphProto, ModelProto, NodeProto};
use crate::operator::Import;
use crate::ops::operators;
use crate::{Builder, GraphError, Operator, Result, Tensor};

/// Operator sets that files may use.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=24;

/// A network that was read from a file.
#[derive(Clone, Debug)]
pub struct Imported {
    path: PathBuf,
    graph: GraphProto,
    constants: HashMap<String, Constant>,
    /// Name of the input, and its axes where they have fixed lengths.
    input: (String, Vec<Option<usize>>),
    /// The value that holds the logits.
    logits: String,
    opset: i64,
}

impl Imported {
    /// Reads the network in the file `path`.
    ///
    /// # Errors
    /// [`GraphError::File`] when it is no such file, or takes or gives something else.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |reason: String| GraphError::File { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(|reason| failed(reason.to_string()))?;
        let model = ModelProto::decode(bytes.as_slice())
            .map_err(|reason| failed(format!("it is no ONNX file: {reason}")))?;
        let opset = model
            .opset_import
            .iter()
            .find(|set| is_of_onnx(set.domain()))
            .and_then(|set| set.version)
            .ok_or_else(|| failed("it names no operator set".into()))?;
        if !OPSETS.contains(&opset) {
            let (first, last) = (OPSETS.start(), OPSETS.end());
            return Err(failed(format!("it uses operator set {opset}, expected {first} to {last}")));
        }
        let mut graph = model.graph.ok_or_else(|| failed("it holds no graph".into()))?;
        let constants = constants(&graph).map_err(failed)?;
        let input = input(&graph, &constants).map_err(failed)?;
        let logits = logits(&graph).map_err(failed)?;
        keep_what_leads_to(&logits, &mut graph);
        Ok(Self { path: path.to_owned(), graph, constants, input, logits, opset })
    }

    /// Translates all nodes; those of the batch `x` and of everything that follows from it are known by name then.
    fn translate<'a>(&'a self, g: &'a mut Builder, x: Tensor, mode: Mode) -> Result<Translation<'a>> {
        let (name, axes) = &self.input;
        let (given, fits) = (g.shape(x), |(&length, expected): (&usize, &Option<usize>)| {
            expected.is_none_or(|expected| expected == length)
        });
        if !given[1..].iter().zip(&axes[1..]).all(fits) {
            let side = axes[2..].iter().flatten().map(usize::to_string).collect::<Vec<_>>().join("x");
            return Err(self.failed(format!(
                "it takes images of {side} pixels, the recipe's have {}; use --set input.crop_px and input.image_px",
                given[2]
            )));
        }
        let mut translation = Translation::new(self, g, x, mode);
        translation.define(name, x);
        for node in &self.graph.node {
            translation.append(node)?;
        }
        Ok(translation)
    }

    fn failed(&self, reason: String) -> GraphError {
        GraphError::File { path: self.path.clone(), reason }
    }

    fn at_node(&self, node: &NodeProto, reason: impl Into<String>) -> GraphError {
        GraphError::Node {
            path: self.path.clone(),
            node: name_of(node).to_owned(),
            operator: node.op_type().to_owned(),
            reason: reason.into(),
        }
    }

    fn not_supported(&self, node: &NodeProto) -> GraphError {
        let reason = match node.op_type() {
            "BatchNormalization" => {
                "is not supported, because its running statistics would have to be kept while training; \
                                     export the network with its normalisations folded into the convolutions"
                    .to_owned()
            }
            _ => format!("is not supported; these are: {}", supported().join(", ")),
        };
        self.at_node(node, reason)
    }
}

impl Network for Imported {
    fn name(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("network")
    }

    /// [`GraphError::Node`] names a node that cannot be translated; or the images have another size.
    fn forward(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward> {
        self.translate(g, x, mode)?.finish()
    }

    /// Names of the nodes, of what they make where they have none.
    fn taps(&self) -> Vec<String> {
        self.graph
            .node
            .iter()
            .filter(|node| !is_constant(node))
            .map(|node| name_of(node).to_owned())
            .collect()
    }

    /// The node that makes the first operand of the last matrix product; nodes that keep its values are skipped.
    fn last_hidden(&self) -> Option<String> {
        let nodes = &self.graph.node;
        let mut at = nodes.iter().rposition(|node| is_one_of(node, &["Gemm", "MatMul"]))?;
        loop {
            let value = nodes[at].input.first()?;
            // Nodes stand in the order of their execution, so this ends for any file.
            at = nodes[..at].iter().rposition(|node| !is_constant(node) && node.output.contains(value))?;
            if !is_one_of(&nodes[at], &["Dropout", "Flatten", "Reshape", "Identity"]) {
                return Some(name_of(&nodes[at]).to_owned());
            }
        }
    }

    fn forward_with_tap(&self, g: &mut Builder, x: Tensor, tap: &str) -> Result<(Forward, Tensor)> {
        let Some(node) = self.graph.node.iter().find(|node| !is_constant(node) && name_of(node) == tap)
        else {
            return Err(unknown_tap(self, tap));
        };
        let translation = self.translate(g, x, Mode::Evaluate)?;
        let activation = translation.value_of(node)?;
        Ok((translation.finish()?, activation))
    }
}

/// Name of a node, or of what it makes if it has none.
fn name_of(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}

fn is_constant(node: &NodeProto) -> bool {
    is_one_of(node, &["Constant"])
}

/// Whether a node is one of these standard operators.
fn is_one_of(node: &NodeProto, operators: &[&str]) -> bool {
    is_of_onnx(node.domain()) && operators.contains(&node.op_type())
}

fn is_of_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// The operator of a node with its translation, if there is one.
fn importable(node: &NodeProto) -> Option<(&'static Operator, Import)> {
    let domain = if is_of_onnx(node.domain()) { "" } else { node.domain() };
    let operator = operators().find(|known| (known.domain, known.name) == (domain, node.op_type()))?;
    Some((operator, operator.import?))
}

/// Names of the operators that files may hold, in alphabetical order.
fn supported() -> Vec<&'static str> {
    // Read without being translated: constants, and what comes behind the logits.
    let mut names = vec!["Constant", "Softmax (at the end)"];
    names.extend(operators().filter(|operator| operator.import.is_some()).map(|operator| operator.name));
    names.sort_unstable();
    names
}

/// The one input that is no constant.
fn input(
    graph: &GraphProto,
    constants: &HashMap<String, Constant>,
) -> std::result::Result<(String, Vec<Option<usize>>), String> {
    let free: Vec<_> = graph.input.iter().filter(|input| !constants.contains_key(input.name())).collect();
    let [input] = free[..] else {
        return Err(format!("it has {} inputs, expected one: the images", free.len()));
    };
    let expected = "expected images f32 [N,3,H,W], normalised as the recipe says";
    let (element, axes) = axis_lengths(input);
    if element != "f32" {
        return Err(format!("its input `{}` is {element}, {expected}", input.name()));
    }
    if axes.len() != 4 || axes[1].is_some_and(|channels| channels != 3) {
        return Err(format!("its input `{}` has the axes {axes:?}, {expected}", input.name()));
    }
    Ok((input.name().to_owned(), axes))
}

/// The first output, or what a softmax at the end makes it from.
fn logits(graph: &GraphProto) -> std::result::Result<String, String> {
    let output = graph.output.first().ok_or("it has no output")?.name().to_owned();
    let maker = graph.node.iter().find(|node| node.output.first() == Some(&output));
    Ok(match maker {
        Some(node) if matches!(node.op_type(), "Softmax" | "LogSoftmax") => {
            node.input.first().cloned().unwrap_or(output)
        }
        _ => output,
    })
}

/// Drops nodes that the logits do not depend on, a softmax after them among these, and values that were read.
fn keep_what_leads_to(logits: &str, graph: &mut GraphProto) {
    let mut needed = HashSet::from([logits.to_owned()]);
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in graph.node.drain(..).rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.clear();
}
