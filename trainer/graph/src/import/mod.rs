//! Networks from `.onnx` files for inference.
//!
//! The input of a file is images `f32 [N,3,H,W]`, normalised as in the recipe, and its output is `[N,K]`; a
//! final softmax is dropped, because training needs the logits. The operators are translated one by one
//! through the builder, which makes them differentiable like any others.
//!
//! Weights and biases of convolutions and matrix products, and vectors that are added, become parameters with
//! the names and initial values of the file. All other constants (a mean that is subtracted, a factor) stay
//! constants.

pub(crate) mod file;
#[cfg(test)]
mod tests;
pub(crate) mod translation;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use prost::Message;

pub use self::file::Imported;
use self::file::{Constant, axis_lengths, constants, name_of};
use self::translation::{Import, Translation};
use crate::module::{Forward, Mode, Network, unknown_tap};
use crate::onnx::{GraphProto, ModelProto, NodeProto};
use crate::ops::imports;
use crate::{Builder, GraphError, Operator, Result, Tensor};

/// Operator sets that files may use.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=24;

impl Imported {
    /// Reads the network in the file `path`.
    ///
    /// # Errors
    /// [`GraphError::File`] if it is not an ONNX file, or has other inputs or outputs than expected.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |reason: String| GraphError::File { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(|reason| failed(reason.to_string()))?;
        let model = ModelProto::decode(bytes.as_slice())
            .map_err(|reason| failed(format!("it is not an ONNX file: {reason}")))?;
        let opset = model
            .opset_import
            .iter()
            .find(|set| is_of_onnx(set.domain()))
            .and_then(|set| set.version)
            .ok_or_else(|| failed("it declares no operator set".into()))?;
        if !OPSETS.contains(&opset) {
            let (first, last) = (OPSETS.start(), OPSETS.end());
            return Err(failed(format!("it uses operator set {opset}, expected {first} to {last}")));
        }
        let mut graph = model.graph.ok_or_else(|| failed("it contains no graph".into()))?;
        let constants = constants(&graph).map_err(failed)?;
        let input = input(&graph, &constants).map_err(failed)?;
        let logits = logits(&graph).map_err(failed)?;
        keep_what_leads_to(&logits, &mut graph);
        Ok(Self { path: path.to_owned(), graph, constants, input, logits, opset })
    }

    /// Height and width of the images that the network takes, where the file fixes both.
    #[must_use]
    pub fn input_px(&self) -> Option<[usize; 2]> {
        match self.input.1[..] {
            [_, _, Some(height), Some(width)] => Some([height, width]),
            _ => None,
        }
    }

    /// Translates all nodes, with `x` as the input.
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
            self.append(&mut translation, node)?;
        }
        Ok(translation)
    }

    /// Appends a node of the file, unless it is a constant.
    fn append<'a>(&'a self, translation: &mut Translation<'a>, node: &'a NodeProto) -> Result<()> {
        if is_constant(node) {
            return Ok(());
        }
        let Some(output) = node.output.first() else { return Err(self.at_node(node, "has no output")) };
        let Some((operator, import)) = importable(node) else { return Err(self.not_supported(node)) };
        if self.opset < operator.since {
            let (since, opset) = (operator.since, self.opset);
            let reason =
                format!("exists from operator set {since} on, and the file uses {opset}; export it again");
            return Err(self.at_node(node, reason));
        }
        let y = import(translation, node)?;
        translation.define(output, y);
        Ok(())
    }

    fn not_supported(&self, node: &NodeProto) -> GraphError {
        let reason = match node.op_type() {
            "BatchNormalization" => {
                "is not supported, because training would have to update its running statistics; \
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

    /// The node that makes the first operand of the last matrix product; nodes that keep its values are
    /// skipped.
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

/// The operator of a node and its import, if files may hold it.
fn importable(node: &NodeProto) -> Option<(&'static Operator, Import)> {
    let domain = if is_of_onnx(node.domain()) { "" } else { node.domain() };
    let (operator, import) =
        imports().find(|(operator, _)| (operator.domain, operator.name) == (domain, node.op_type()))?;
    Some((operator, import?))
}

/// Names of the operators that files may hold, in alphabetical order.
fn supported() -> Vec<&'static str> {
    // Handled without an import: constants, and a softmax after the logits.
    let mut names = vec!["Constant", "Softmax (at the end)"];
    names.extend(imports().filter(|(_, import)| import.is_some()).map(|(operator, _)| operator.name));
    names.sort_unstable();
    names
}

/// Name and axes of the only input that is not a constant.
fn input(
    graph: &GraphProto,
    constants: &HashMap<String, Constant>,
) -> std::result::Result<(String, Vec<Option<usize>>), String> {
    let free: Vec<_> = graph.input.iter().filter(|input| !constants.contains_key(input.name())).collect();
    let [input] = free[..] else {
        return Err(format!("it has {} inputs, expected one: the images", free.len()));
    };
    let expected = "expected images f32 [N,3,H,W], normalised as in the recipe";
    let (element, axes) = axis_lengths(input);
    if element != "f32" {
        return Err(format!("its input `{}` is {element}, {expected}", input.name()));
    }
    if axes.len() != 4 || axes[1].is_some_and(|channels| channels != 3) {
        return Err(format!("its input `{}` has the axes {axes:?}, {expected}", input.name()));
    }
    Ok((input.name().to_owned(), axes))
}

/// Name of the first output, or of the input of a softmax that makes it.
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

/// Removes nodes that the logits do not depend on, such as a final softmax, and the initialisers, which have
/// been read.
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
