//! The contents of an ONNX file: nodes and their attributes, the input.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::constant::{Constant, Values};
use super::declarations::{Condition, Conditions, Declarations};
use super::node::{SHAPING, is_one_of, name_of};
use crate::error::GraphError;
use crate::init::Init;
use crate::module::ParameterKind;
use crate::onnx::{AttributeProto, NodeProto, TensorProto};

/// A network from a file.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    pub(super) path: PathBuf,
    /// The nodes that its logits, or other values that are asked for, depend on, in their order.
    pub(super) nodes: Vec<NodeProto>,
    /// Under which conditions nodes of branches run.
    pub(super) conditions: Conditions,
    /// Initialisers and the values of `Constant` nodes, by name.
    pub(super) constants: HashMap<String, Constant>,
    /// Names of the initialisers.
    pub(super) initializers: HashSet<String>,
    /// Those of them that training leaves as they are by their place, each with the reason.
    pub(super) held: HashMap<String, &'static str>,
    pub(super) input: Input,
    /// Name of the logits.
    pub(super) logits: String,
    pub(super) opset: i64,
    pub(super) declarations: Declarations,
    /// First outputs of the nodes that are copied as they are.
    pub(super) copied: HashSet<String>,
    /// Files beside it that hold values, relative to its folder.
    pub(super) external: Vec<PathBuf>,
    /// Initial values of parameters that do not begin with those of the file.
    pub(super) initial: HashMap<String, Init>,
    /// Number of classes of a new head.
    pub(super) classes: Option<usize>,
    /// Names that parameters and buffers may not have.
    pub(super) reserved: HashSet<String>,
    /// Names of constants that are parameters whatever they are.
    pub(super) asked: HashSet<String>,
    /// Whether training normalises by the running statistics and leaves them as they are.
    pub(super) frozen_statistics: bool,
}

/// The images that a network takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Input {
    pub name: String,
    /// Batch size, where it is fixed.
    pub batch: Option<usize>,
    /// Height and width, where they are fixed.
    pub px: [Option<usize>; 2],
    /// Whether channels are the last axis, as in `[N,H,W,3]`.
    pub channels_last: bool,
}

impl Imported {
    /// Whether training changes the initialiser `name`: it is floating-point, has more than one value, and is
    /// not a mask of scores or held by its place; or it is asked for.
    pub(super) fn is_trained(&self, name: &str) -> bool {
        self.asked.contains(name)
            || self.initializers.contains(name)
                && !self.held.contains_key(name)
                && self.constants.get(name).is_some_and(|constant| {
                    matches!(constant.values, Values::Floats(_))
                        && constant.values.len() > 1
                        && !constant.is_mask()
                })
    }

    /// What a list of values is that `node` takes: a bias if it adds them to values of the network, a scale
    /// if it multiplies by them, or if a later node does and this one only gives them the shape to do so in.
    pub(super) fn kind_of_list<'a>(&'a self, mut node: &'a NodeProto) -> ParameterKind {
        for _ in 0..SHAPING.len() {
            if !SHAPING.contains(&node.op_type()) {
                break;
            }
            let Some(output) = node.output.first() else { break };
            let Some(next) = self.nodes.iter().find(|next| next.input.contains(output)) else { break };
            node = next;
        }
        match node.op_type() {
            "Add" | "Sub" | "Sum" => ParameterKind::Bias,
            "Mul" | "Div" | "PRelu" => ParameterKind::Scale,
            _ => ParameterKind::Weight,
        }
    }

    /// Whether `node` adds the list of values `name` to what a layer makes: its bias, also in a `Constant`
    /// node.
    pub(super) fn is_bias_of_layer(&self, node: &NodeProto, name: &str) -> bool {
        let is_list = |constant: &Constant| {
            let is_float = matches!(constant.values, Values::Floats(_)) && constant.values.len() > 1;
            is_float && constant.is_list()
        };
        let of_layer = |other: &String| {
            let maker = self.maker(other, self.nodes.len()).map(|(_, maker)| maker);
            maker.is_some_and(|maker| is_one_of(maker, &["Conv", "ConvTranspose", "Gemm", "MatMul"]))
        };
        is_one_of(node, &["Add"])
            && !self.held.contains_key(name)
            && self.constants.get(name).is_some_and(is_list)
            && node.input.iter().any(of_layer)
    }

    /// The conditions under which `node` runs; none for one outside of branches.
    pub(super) fn conditions_of(&self, node: &NodeProto) -> &[Condition] {
        node.output.first().and_then(|output| self.conditions.get(output)).map_or(&[], Vec::as_slice)
    }

    /// Files with values of the network, as paths relative to the folder of its own file.
    #[must_use]
    pub fn external_files(&self) -> &[PathBuf] {
        &self.external
    }

    /// Why there is no value `name` for operand `at` of a node: the part of a message.
    pub(super) fn why_missing(&self, name: &str, at: Option<usize>) -> String {
        if name.is_empty() {
            return format!("lacks operand {}", at.map_or(1, |at| at + 1));
        }
        let maker = self.nodes.iter().find(|node| node.output.iter().any(|output| output == name));
        match maker {
            Some(maker) if maker.output.first().is_some_and(|first| first != name) => format!(
                "takes `{name}`, an output of `{}` ({}) that is not supported",
                name_of(maker),
                maker.op_type()
            ),
            Some(_) => format!(
                "takes `{name}`, which no node before it produces but one after it; nodes must stand in the order \
                 of their execution, without a circle"
            ),
            None => format!("takes `{name}`, which no node before it produces"),
        }
    }

    /// The name in graphs of the file's tensor `name`.
    pub(super) fn name_here(&self, name: &str) -> String {
        if self.reserved.contains(name) { format!("network/{name}") } else { name.to_owned() }
    }

    /// The floating-point values that the file has under `name`, as f32.
    #[must_use]
    pub fn constant(&self, name: &str) -> Option<&[f32]> {
        match &self.constants.get(name)?.values {
            Values::Floats(values) => Some(values),
            Values::Integers(_) | Values::Booleans(_) => None,
        }
    }

    /// An error about the file as a whole.
    #[must_use]
    pub fn failed(&self, reason: String) -> GraphError {
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

    pub fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.find(name)?.t.as_ref()
    }

    pub fn floats(&self, name: &str) -> Option<Vec<f64>> {
        self.find(name).map(|attribute| attribute.floats.iter().map(|&value| value.into()).collect())
    }

    pub fn text(&self, name: &str) -> String {
        self.find(name)
            .map_or_else(String::new, |attribute| String::from_utf8_lossy(attribute.s()).into_owned())
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let list = self.find(name).map_or(&[][..], |attribute| &attribute.strings);
        list.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }
}
