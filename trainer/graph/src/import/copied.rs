//! Nodes of operators that are not known here. They are copied as they are where no gradient passes through
//! them, with the types that the file declares for what they make.

use std::collections::{HashMap, HashSet};

use super::declarations::Declared;
use super::file::Imported;
use super::held::{passes_gradient, reached_from};
use super::translation::{Translation, given};
use crate::onnx::NodeProto;
use crate::onnx::tensor_proto::DataType;
use crate::{ElementType, Operator, Result, Tensor, TensorType};

/// Why a node cannot be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A gradient passes through it.
    Gradient,
    /// It holds a graph.
    Graph,
    /// The file does not declare the type of what it makes.
    Undeclared,
}

impl Imported {
    /// The nodes for which `is_unknown`, by the first output, each with why it cannot be copied; `None` if it
    /// can.
    pub(super) fn obstacles(
        &self,
        outputs: &[String],
        is_unknown: impl Fn(&NodeProto) -> bool,
    ) -> HashMap<String, Option<Obstacle>> {
        let unknown: Vec<&NodeProto> = self.nodes.iter().filter(|node| is_unknown(node)).collect();
        if unknown.is_empty() {
            return HashMap::new();
        }
        let reached = reached_from(outputs, &self.nodes);
        let is_discrete = |node: &NodeProto| {
            let declared: Vec<_> = self.declarations.of_outputs(node).collect();
            let is_float = |(element, _): &Declared| is_floating_point(*element);
            declared.iter().all(|(_, ty)| ty.is_some_and(|ty| !is_float(ty)))
        };
        // Values that depend on parameters, and those that do not.
        let (mut learned, mut unlearned): (HashSet<&str>, HashSet<&str>) = Default::default();
        for node in &self.nodes {
            let normalises = matches!(node.op_type(), "Add" | "Sub" | "Mul" | "Div")
                && node
                    .input
                    .iter()
                    .any(|name| unlearned.contains(name.as_str()) || *name == self.input.name);
            let passes_on = |(at, name): (usize, &String)| {
                passes_gradient(node, at)
                    && (learned.contains(name.as_str()) || self.is_trained(name) && !normalises)
            };
            let is_learned =
                node.input.iter().enumerate().any(passes_on) && !(is_unknown(node) && is_discrete(node));
            let values = if is_learned { &mut learned } else { &mut unlearned };
            values.extend(node.output.iter().map(String::as_str));
        }
        let obstacle = |node: &NodeProto| {
            let leads =
                |output: &String| reached.contains(output.as_str()) && learned.contains(output.as_str());
            let is_declared = |(_, ty): (&str, Option<&Declared>)| ty.is_some();
            if node.output.iter().any(leads) {
                Some(Obstacle::Gradient)
            } else if node.attribute.iter().any(|attribute| attribute.g.is_some()) {
                Some(Obstacle::Graph)
            } else if !self.declarations.of_outputs(node).all(is_declared) {
                Some(Obstacle::Undeclared)
            } else {
                None
            }
        };
        unknown.iter().filter_map(|node| Some((node.output.first()?.clone(), obstacle(node)))).collect()
    }
}

fn is_floating_point(element: DataType) -> bool {
    matches!(element, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
}

/// Appends a node as it is.
pub(super) fn copy<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let declarations = file.declarations();
    let mut types = Vec::new();
    for (name, declared) in declarations.of_outputs(node) {
        let Some(declared) = declared else {
            return Err(file.at_node(node, format!("makes `{name}`, whose type the file does not declare")));
        };
        types.push(ty(file, node, name, declared)?);
    }
    let version = declarations.version(node.domain());
    let operator = Operator::of_file(node.op_type(), node.domain(), version);
    let mut operands = Vec::with_capacity(node.input.len());
    for at in 0..node.input.len() {
        operands.push(if given(node, at) { file.operand(node, at)? } else { file.g.absent() });
    }
    let made = file.g.copy(operator, &operands, node.attribute.clone(), types);
    let mut first = None;
    for (output, made) in node.output.iter().filter(|output| !output.is_empty()).zip(made) {
        // Integers are of 64 bits here.
        let value = match file.g.element(made) {
            ElementType::I32 => file.g.cast(made, ElementType::I64)?,
            _ => made,
        };
        first = first.or(Some(value));
        file.define(output, value);
    }
    first.ok_or_else(|| file.at_node(node, "has no output"))
}

/// The type of the output `name` here, from what the file declares.
fn ty(file: &Translation<'_>, node: &NodeProto, name: &str, declared: &Declared) -> Result<TensorType> {
    let (element, axes) = declared;
    let element = match element {
        element if is_floating_point(*element) => Some(file.element()),
        element => ElementType::of_onnx(*element as i32),
    };
    let length = |(axis, length): (usize, &Option<usize>)| match length {
        None if axis == 0 => Some(file.batch),
        Some(length) if axis == 0 && file.fixed_batch() == Some(*length) => Some(file.batch),
        &length => length,
    };
    let shape: Option<Vec<usize>> = axes.iter().enumerate().map(length).collect();
    match (element, shape) {
        (Some(element), Some(shape)) => Ok(TensorType::new(element, shape)),
        (None, _) => {
            Err(file.at_node(node, format!("makes `{name}`, which is {}", declared.0.as_str_name())))
        }
        (_, None) => Err(file.at_node(
            node,
            format!(
                "makes `{name}`, an axis of which has no length in the file; export it for images of one size"
            ),
        )),
    }
}
