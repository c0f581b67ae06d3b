//! The head of a network from a file: the last linear layer, which makes the logits.

use super::constant::{Constant, Values};
use super::file::{Imported, NodeAttributes};
use super::node::is_one_of;
use crate::init::Init;
use crate::onnx::NodeProto;
use crate::{GraphError, Result};

/// A constant of the head that has an axis of classes.
struct Part {
    name: String,
    axis: usize,
}

/// Which of equal lengths is that of the classes: channels come before places, and values of a row are last.
#[derive(Clone, Copy)]
enum Axis {
    First,
    Last,
}

/// The last linear layer.
struct Head {
    weight: Part,
    biases: Vec<Part>,
    /// The constant shapes of what reshapes its output.
    targets: Vec<(String, Axis)>,
}

impl Imported {
    /// The network with a new last layer for `classes` classes: weights and bias are uniform between
    /// ±1/√(values of a row of the weights), as PyTorch initialises linear layers.
    ///
    /// # Errors
    /// [`GraphError::Node`] or [`GraphError::File`] if no matrix product or convolution with constant weights
    /// makes the logits.
    pub fn with_classes(mut self, classes: usize) -> Result<Self> {
        let Head { weight, biases, targets } = self.head()?;
        let Some(old) = self.constants.get(&weight.name).map(|constant| constant.shape[weight.axis]) else {
            return Err(self.failed(format!("its head has no weights `{}`", weight.name)));
        };
        self.classes = Some(classes);
        let row = self.constants[&weight.name].values.len() / old.max(1);
        let init = Init::Uniform { bound: 1.0 / (row.max(1) as f64).sqrt() };
        for part in std::iter::once(weight).chain(biases) {
            if self.nodes.iter().flat_map(|node| &node.input).filter(|name| **name == part.name).count() > 1 {
                let name = &part.name;
                return Err(self.failed(format!(
                    "another layer uses the values `{name}` of its head too, which are to be new for {classes} classes: \
                     give each its own and export it again, or keep the {old} classes"
                )));
            }
            let Some(constant) = self.constants.get_mut(&part.name) else { continue };
            if constant.values.len() == 1 && old != 1 {
                // It is added to the logits of all classes.
                continue;
            }
            if constant.shape.get(part.axis) != Some(&old) {
                let (name, shape) = (&part.name, constant.shape.clone());
                return Err(self.failed(format!(
                    "the bias `{name}` of its head has the shape {shape:?}, expected one value for each of {old} classes"
                )));
            }
            constant.shape[part.axis] = classes;
            let count = constant.shape.iter().product();
            constant.values = Values::Floats(vec![0.0; count].into());
            self.initial.insert(part.name, init.clone());
        }
        for (target, axis) in targets {
            if let Some(Constant { values: Values::Integers(lengths), .. }) = self.constants.get_mut(&target)
            {
                let is_old = |length: &i64| *length == old as i64;
                let at = match axis {
                    Axis::First => lengths.iter().position(is_old),
                    Axis::Last => lengths.iter().rposition(is_old),
                };
                if let Some(at) = at {
                    lengths[at] = classes as i64;
                }
            }
        }
        Ok(self)
    }

    fn head(&self) -> Result<Head> {
        let (mut at, mut is_transposed) = (self.logits.as_str(), false);
        let (mut biases, mut targets, mut of_biases) = (Vec::new(), Vec::new(), Vec::new());
        let mut before = self.nodes.len();
        loop {
            let Some((place, node)) = self.maker(at, before) else {
                return Err(self.failed(format!("no linear layer makes its output `{}`", self.logits)));
            };
            before = place;
            let input = |at: usize| node.input.get(at).map_or("", String::as_str);
            match node.op_type() {
                "Gemm" | "MatMul" | "Conv" => {
                    let (axis, of_logits) = match node.op_type() {
                        "Conv" => (0, if is_transposed { Axis::Last } else { Axis::First }),
                        "MatMul" => (self.rank(input(1), place).saturating_sub(1), Axis::Last),
                        _ => (usize::from(NodeAttributes(node).int("transB", 0) == 0), Axis::Last),
                    };
                    let weight = self.part(place, input(1), axis)?;
                    if let Some((bias, shapes)) = self.bias(input(2), place) {
                        biases.push(bias);
                        of_biases.extend(shapes);
                    }
                    let targets = targets.into_iter().map(|target| (target, of_logits));
                    let targets =
                        targets.chain(of_biases.into_iter().map(|shape| (shape, Axis::Last))).collect();
                    return Ok(Head { weight, biases, targets });
                }
                "Add" => {
                    let (offset, rest) = if self.bias(input(1), place).is_some() { (1, 0) } else { (0, 1) };
                    let (bias, shapes) = self.bias(input(offset), place).ok_or_else(|| self.no_head(node))?;
                    biases.push(bias);
                    of_biases.extend(shapes);
                    at = input(rest);
                }
                // Channels come last from here on.
                "Transpose" if self.rank_of_transposed(node) > 2 => {
                    is_transposed = true;
                    at = input(0);
                }
                "Identity" | "Flatten" | "Reshape" | "Squeeze" | "Cast" | "Dropout" | "Relu"
                | "ReduceMean" | "GlobalAveragePool" | "AveragePool" => {
                    if is_one_of(node, &["Reshape"]) {
                        targets.push(input(1).to_owned());
                    }
                    at = input(0);
                }
                _ => return Err(self.no_head(node)),
            }
        }
    }

    fn no_head(&self, node: &NodeProto) -> GraphError {
        self.at_node(
            node,
            "is the last one before the logits, expected a linear layer, whose weights could be made new for \
             other classes: keep it with --classes file, or export the network with as many classes as needed",
        )
    }

    /// The last node before the place `before` whose first output is `name`, with its place. Nodes stand in
    /// the order of their execution, so a walk from node to node ends, and sees each once.
    pub(super) fn maker(&self, name: &str, before: usize) -> Option<(usize, &NodeProto)> {
        let is_maker = |node: &NodeProto| node.output.first().is_some_and(|output| output == name);
        let place = self.nodes[..before].iter().rposition(is_maker)?;
        Some((place, &self.nodes[place]))
    }

    /// Number of axes of what a `Transpose` moves, if the node says it.
    fn rank_of_transposed(&self, node: &NodeProto) -> usize {
        NodeAttributes(node).sizes("perm").map_or(0, |order| order.len())
    }

    /// The list of values that `name`, before the place `before`, is, in whatever type and shape; and the
    /// constant shapes that it is brought into.
    fn bias<'a>(&'a self, mut name: &'a str, mut before: usize) -> Option<(Part, Vec<String>)> {
        let mut shapes = Vec::new();
        while !self.constants.contains_key(name) {
            let (place, node) = self.maker(name, before)?;
            let moves = ["Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];
            let input = node.input.first().filter(|_| is_one_of(node, &moves))?;
            if node.op_type() == "Reshape" {
                shapes.extend(node.input.get(1).cloned());
            }
            (name, before) = (input, place);
        }
        let constant = self.constants.get(name)?;
        let axis = constant.shape.iter().position(|&length| length == constant.values.len())?;
        constant.is_list().then(|| (Part { name: name.to_owned(), axis }, shapes))
    }

    /// Number of axes of the constant that `name` is made from, before the place `before`.
    fn rank<'a>(&'a self, mut name: &'a str, mut before: usize) -> usize {
        loop {
            if let Some(constant) = self.constants.get(name) {
                return constant.shape.len();
            }
            let Some((place, node)) = self.maker(name, before) else { return 0 };
            let Some(input) = node.input.first() else { return 0 };
            (name, before) = (input, place);
        }
    }

    /// The constant that `name`, an operand of the node at the place `user`, is, or is a copy or
    /// transposition of, and its axis for `axis` of that.
    fn part<'a>(&'a self, user: usize, mut name: &'a str, mut axis: usize) -> Result<Part> {
        let (operand, mut before) = (name, user);
        loop {
            if let Some(constant) = self.constants.get(name)
                && matches!(constant.values, Values::Floats(_))
                && axis < constant.shape.len()
            {
                return Ok(Part { name: name.to_owned(), axis });
            }
            let Some((place, node)) = self.maker(name, before) else { break };
            match node.op_type() {
                "Identity" | "Cast" => {}
                "Transpose" => {
                    let reversed = || (0..self.rank(name, before)).rev().collect();
                    let order = NodeAttributes(node).sizes("perm").unwrap_or_else(reversed);
                    let Some(&from) = order.get(axis) else { break };
                    axis = from;
                }
                _ => break,
            }
            let Some(input) = node.input.first() else { break };
            (name, before) = (input, place);
        }
        let reason = format!(
            "makes the logits with weights that are computed, `{operand}`, which can't be made new for other \
             classes: keep it with --classes file, or export the network with as many classes as needed"
        );
        Err(self.at_node(&self.nodes[user], reason))
    }
}
