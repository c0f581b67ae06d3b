//! Branches of a file: an `If` becomes the nodes of both branches, each with the condition under which it
//! runs, and a node that chooses their results.
//!
//! PyTorch's older exporter writes branches where it does not know a length, as for `squeeze`. Lengths are
//! known when a graph is built, and only the nodes of one branch are then translated.

use std::collections::{HashMap, HashSet};

use super::constant::Values;
use super::declarations::{Condition, Conditions};
use super::node::{is_choice, is_constant, name_of};
use super::translation::Translation;
use crate::onnx::{GraphProto, NodeProto, TensorProto};

/// Attributes of `If`, and what its condition is for each.
const BRANCHES: [(&str, bool); 2] = [("then_branch", true), ("else_branch", false)];

/// Moves the constants of all branches before the node that has these, and gives values in branches names
/// that no other has.
pub(super) fn hoist(graph: &mut GraphProto) {
    if !graph.node.iter().any(is_choice) {
        return;
    }
    let inputs = graph.input.iter().map(|input| input.name().to_owned());
    let mut taken: HashSet<String> = inputs.chain(made_in(graph)).collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        for branch in branches_of(&mut node) {
            let (tensors, constants) = constants_of(branch, &mut taken);
            graph.initializer.extend(tensors);
            nodes.extend(constants);
        }
        nodes.push(node);
    }
    graph.node = nodes;
}

/// Takes the constants out of a branch, and of those in it.
fn constants_of(branch: &mut GraphProto, taken: &mut HashSet<String>) -> (Vec<TensorProto>, Vec<NodeProto>) {
    let mut renamed = HashMap::new();
    for name in made_in(branch) {
        let (mut free, mut number) = (name.clone(), 1);
        while !taken.insert(free.clone()) {
            number += 1;
            free = format!("{name}_{number}");
        }
        renamed.insert(name, free);
    }
    rename(branch, &|name| renamed.get(name).map_or(name, String::as_str).to_owned());
    let mut tensors = std::mem::take(&mut branch.initializer);
    let (mut constants, mut others) = (Vec::new(), Vec::new());
    for mut node in std::mem::take(&mut branch.node) {
        if is_constant(&node) {
            constants.push(node);
            continue;
        }
        for inner in branches_of(&mut node) {
            let (more_tensors, more_constants) = constants_of(inner, taken);
            tensors.extend(more_tensors);
            constants.extend(more_constants);
        }
        others.push(node);
    }
    branch.node = others;
    (tensors, constants)
}

/// Replaces each `If` of `nodes` by the nodes of its branches and one that chooses: its operands are the
/// condition, the results of the first branch and those of the second.
///
/// # Errors
/// A node lacks a branch, or a branch has another number of results than the node.
pub(super) fn inline(nodes: Vec<NodeProto>) -> Result<(Vec<NodeProto>, Conditions), String> {
    let (mut inlined, mut conditions) = (Vec::with_capacity(nodes.len()), HashMap::new());
    append(nodes, &[], &mut inlined, &mut conditions)?;
    Ok((inlined, conditions))
}

fn append(
    nodes: Vec<NodeProto>,
    outer: &[Condition],
    to: &mut Vec<NodeProto>,
    conditions: &mut Conditions,
) -> Result<(), String> {
    for mut node in nodes {
        if is_choice(&node) {
            node.input.truncate(1);
            for (attribute, is) in BRANCHES {
                let Some(branch) = branch_of(&mut node, attribute).map(std::mem::take) else {
                    return Err(format!("its node `{}` (If) has no {attribute}", name_of(&node)));
                };
                if branch.output.len() != node.output.len() {
                    return Err(format!(
                        "its node `{}` (If) has {} outputs, and its {attribute} {}",
                        name_of(&node),
                        node.output.len(),
                        branch.output.len()
                    ));
                }
                let value = node.input.first().cloned().unwrap_or_default();
                append(branch.node, &[outer, &[Condition { value, is }]].concat(), to, conditions)?;
                node.input.extend(branch.output.iter().map(|output| output.name().to_owned()));
            }
            node.attribute.clear();
        }
        if let Some(first) = node.output.first().filter(|_| !outer.is_empty()) {
            conditions.insert(first.clone(), outer.to_vec());
        }
        to.push(node);
    }
    Ok(())
}

/// Names that a node takes: its operands, and what its branches take from outside of them.
pub(super) fn taken_by(node: &NodeProto) -> Vec<&String> {
    let graphs = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
    let inner = graphs.flat_map(|graph| graph.node.iter().flat_map(taken_by));
    let mut names: Vec<&String> = node.input.iter().chain(inner).collect();
    let graphs = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
    names.extend(graphs.flat_map(|graph| &graph.output).filter_map(|output| output.name.as_ref()));
    names
}

/// Calls `change` for each of `nodes` and those in their branches.
pub(super) fn for_each(nodes: &mut [NodeProto], change: &mut dyn FnMut(&mut NodeProto)) {
    for node in nodes {
        change(node);
        for branch in branches_of(node) {
            for_each(&mut branch.node, change);
        }
    }
}

/// Renames all values of a graph inside of a node, also in those inside of its own nodes.
pub(super) fn rename(graph: &mut GraphProto, name: &dyn Fn(&str) -> String) {
    let ports = graph.input.iter_mut().chain(&mut graph.output).map(|port| &mut port.name);
    for given in ports.chain(graph.initializer.iter_mut().map(|tensor| &mut tensor.name)) {
        *given = given.as_deref().map(name);
    }
    for node in &mut graph.node {
        for given in node.input.iter_mut().chain(&mut node.output).filter(|given| !given.is_empty()) {
            *given = name(given);
        }
        for inner in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
            rename(inner, name);
        }
    }
}

/// Names of the constants of a graph, and of what its nodes make.
fn made_in(graph: &GraphProto) -> Vec<String> {
    let tensors = graph.initializer.iter().map(|tensor| tensor.name().to_owned());
    let made = graph.node.iter().flat_map(|node| node.output.iter().cloned());
    tensors.chain(made).filter(|name| !name.is_empty()).collect()
}

fn branches_of(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    let has_branches = is_choice(node);
    node.attribute.iter_mut().filter(move |_| has_branches).filter_map(|attribute| attribute.g.as_mut())
}

fn branch_of<'a>(node: &'a mut NodeProto, attribute: &str) -> Option<&'a mut GraphProto> {
    node.attribute.iter_mut().find(|found| found.name() == attribute)?.g.as_mut()
}

impl<'a> Translation<'a> {
    /// Whether the conditions of a node in a branch hold; false if they are not known.
    pub(super) fn runs(&self, node: &NodeProto) -> bool {
        self.file
            .conditions_of(node)
            .iter()
            .all(|condition| self.flag(&condition.value) == Some(condition.is))
    }

    /// The Boolean value `name`, if it is known.
    fn flag(&self, name: &str) -> Option<bool> {
        match self.known(name).or_else(|| self.file.constants.get(name))?.values {
            Values::Booleans(ref values) if values.len() == 1 => Some(values[0]),
            _ => None,
        }
    }

    /// The operands that a node takes: one that chooses between branches, those of the branch that runs.
    pub(super) fn taken<'n>(&self, node: &'n NodeProto) -> &'n [String] {
        if !is_choice(node) {
            return &node.input;
        }
        let (count, operands) = (node.output.len(), &node.input[..]);
        match operands.first().and_then(|condition| self.flag(condition)) {
            Some(true) => &operands[1..=count],
            Some(false) => &operands[1 + count..],
            None => &operands[..1],
        }
    }

    /// Binds the outputs of a node that chooses to the results of the branch that runs.
    pub(super) fn choose(&mut self, node: &'a NodeProto) -> crate::Result<()> {
        let condition = node.input.first().map_or("", String::as_str);
        if self.flag(condition).is_none() {
            let reason = format!(
                "chooses by `{condition}`, which is not known before the images are; export the network \
                 without control flow"
            );
            return Err(self.at_node(node, reason));
        }
        for (result, output) in self.taken(node).iter().zip(&node.output) {
            let bound = self.bound(node, result)?;
            self.bind(output, bound);
        }
        Ok(())
    }
}
