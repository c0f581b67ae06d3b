//! The names of a file that gradients are asked for by, and the names of what is added.

use std::collections::{HashMap, HashSet};

use super::super::constant::Values;
use super::super::declarations::axis_lengths;
use super::super::file::Imported;
use super::super::node::is_one_of;
use super::request::{Gradients, Objective, Wrt};
use crate::onnx::{GraphProto, NodeProto};
use crate::{ElementType, GraphError, Result, nearest_names};

/// Name of the input of labels.
pub(super) const LABELS: &str = "labels";
/// Name of the loss.
pub(super) const LOSS: &str = "loss";

/// A value that is kept as an output.
pub(super) struct Output {
    pub name: String,
    /// Its type, where it is an output of the file.
    pub element: Option<ElementType>,
}

/// What is asked for, by the names in the file.
pub(super) struct Names {
    pub of: Vec<Output>,
    /// What gradients are with respect to, each once; `true` if it is named rather than one of a group.
    pub wrt: Vec<(String, bool)>,
}

impl Names {
    /// The names that `request` has, looked up in the file.
    pub fn new(request: &Gradients, file: &Imported, graph: &GraphProto) -> Result<Self> {
        let outputs: Vec<&str> = graph.output.iter().map(|output| output.name()).collect();
        let made: Vec<&str> = graph
            .node
            .iter()
            .flat_map(|node| &node.output)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .collect();
        let inputs: Vec<&str> = graph.input.iter().map(|input| input.name()).collect();
        let of = Self::outputs(request, file, graph, &outputs, &made)?;

        let mut wrt: Vec<(String, bool)> = Vec::new();
        let is_constant = |name: &&str| file.constants.contains_key(*name);
        for asked in &request.wrt {
            match asked {
                Wrt::Weights => {
                    let mut names: Vec<&String> =
                        file.initializers.iter().filter(|name| file.is_trained(name)).collect();
                    // Values of `Constant` nodes are weights where a layer takes them as such.
                    names.extend(made.iter().filter(|name| is_constant(name)).filter_map(|name| {
                        let (name, constant) = file.constants.get_key_value(*name)?;
                        matches!(constant.values, Values::Floats(_)).then_some(name)
                    }));
                    names.retain(|name| !is_statistic(name, &graph.node));
                    names.sort_unstable();
                    wrt.extend(names.into_iter().map(|name| (name.clone(), false)));
                }
                Wrt::Inputs => {
                    let names = inputs.iter().filter(|name| !is_constant(name));
                    wrt.extend(names.map(|name| ((*name).to_owned(), false)));
                }
                Wrt::Named(name) => {
                    let known = || {
                        let constants = file.constants.keys().map(String::as_str);
                        let mut all: Vec<&str> =
                            inputs.iter().chain(&made).copied().chain(constants).collect();
                        all.sort_unstable();
                        all.dedup();
                        all
                    };
                    let is_float = match file.constants.get(name) {
                        Some(constant) => matches!(constant.values, Values::Floats(_)),
                        None if inputs.contains(&name.as_str()) || made.contains(&name.as_str()) => true,
                        None => return Err(unknown(file, "value", name, known())),
                    };
                    if !is_float {
                        let reason = format!("`{name}` has no gradient: it is not floating-point");
                        return Err(file.failed(reason));
                    }
                    wrt.push((name.clone(), true));
                }
            }
        }
        let named: HashSet<String> =
            wrt.iter().filter(|(_, is_named)| *is_named).map(|(name, _)| name.clone()).collect();
        let mut seen = HashSet::new();
        wrt.retain(|(name, is_named)| (*is_named || !named.contains(name)) && seen.insert(name.clone()));
        let names = Self { of, wrt };
        names.check_added(request, file, &inputs)?;
        Ok(names)
    }

    /// What is kept and differentiated.
    fn outputs(
        request: &Gradients,
        file: &Imported,
        graph: &GraphProto,
        outputs: &[&str],
        made: &[&str],
    ) -> Result<Vec<Output>> {
        let is_known = |name: &str| outputs.contains(&name) || made.contains(&name);
        if let Some(name) = request.of.iter().find(|name| !is_known(name)) {
            let known = outputs.iter().chain(made.iter().filter(|name| !outputs.contains(name)));
            return Err(unknown(file, "output or other value", name, known.copied()));
        }
        let mut of: Vec<&str> = request.of.iter().map(String::as_str).collect();
        if of.is_empty() {
            of.extend(outputs);
        }
        let mut seen = HashSet::new();
        if let Some(name) = of.iter().find(|name| !seen.insert(**name)) {
            return Err(file.failed(format!("`{name}` is asked for twice")));
        }
        let is_given = |name: &&&str| {
            file.initializers.contains(**name) || graph.input.iter().any(|input| input.name() == **name)
        };
        if let Some(name) = of.iter().find(is_given) {
            return Err(file.failed(format!(
                "its output `{name}` is an input or initialiser, which no node computes; name others with --of"
            )));
        }
        match (request.objective, of.len()) {
            (_, 0) => return Err(file.failed("it has no output".into())),
            (Objective::CrossEntropy, 2..) => {
                return Err(file.failed(format!(
                    "it has several outputs; name the one that gives the logits, as in --of {}; outputs: {}",
                    of[0],
                    of.join(", ")
                )));
            }
            _ => {}
        }
        let elements: HashMap<&str, ElementType> = graph
            .output
            .iter()
            .filter_map(|output| {
                let element = ElementType::of_onnx(axis_lengths(output)?.0 as i32)?;
                Some((output.name(), element))
            })
            .collect();
        let output = |name: &str| Output { name: name.to_owned(), element: elements.get(name).copied() };
        Ok(of.into_iter().map(output).collect())
    }

    /// Fails if the file has a name of what is added.
    fn check_added(&self, request: &Gradients, file: &Imported, inputs: &[&str]) -> Result<()> {
        let mut kept: HashSet<&str> = inputs.iter().copied().collect();
        kept.extend(file.initializers.iter().map(String::as_str));
        kept.extend(self.of.iter().map(|output| output.name.as_str()));
        match self.added(request.objective).iter().find(|name| kept.contains(name.as_str())) {
            None => Ok(()),
            Some(name) => Err(file.failed(format!(
                "it has an input, output or initialiser `{name}`, the name of one that is added; rename it"
            ))),
        }
    }

    /// Names of the inputs and outputs that are added.
    pub fn added(&self, objective: Objective) -> Vec<String> {
        let mut added: Vec<String> = self.wrt.iter().map(|(name, _)| gradient_name(name)).collect();
        match objective {
            Objective::CrossEntropy => added.extend([LABELS.to_owned(), LOSS.to_owned()]),
            Objective::Outputs => added.extend(self.of.iter().map(|output| seed_name(&output.name))),
        }
        added
    }

    /// The names that gradients are asked for by.
    pub fn asked(&self) -> impl Iterator<Item = &str> {
        self.wrt.iter().filter(|(_, is_named)| *is_named).map(|(name, _)| name.as_str())
    }
}

/// Whether `name` is nothing but running statistics, which training moves without a gradient.
fn is_statistic(name: &str, nodes: &[NodeProto]) -> bool {
    let operands =
        nodes.iter().flat_map(|node| node.input.iter().enumerate().map(move |place| (node, place)));
    let mut uses = operands.filter(|(_, (_, operand))| *operand == name).peekable();
    uses.peek().is_some() && uses.all(|(node, (at, _))| at >= 3 && is_one_of(node, &["BatchNormalization"]))
}

/// Name of the gradient of `name`.
pub(super) fn gradient_name(name: &str) -> String {
    format!("{name}.grad")
}

/// Name of the seed of the output `name`.
pub(super) fn seed_name(name: &str) -> String {
    format!("grad.{name}")
}

/// The error of a name that a file does not have.
pub(super) fn unknown<'a>(
    file: &Imported,
    kind: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> GraphError {
    let near = nearest_names(name, known);
    let near = if near.is_empty() { "it has none".to_owned() } else { format!("near: {}", near.join(", ")) };
    file.failed(format!("it has no {kind} `{name}`; {near}"))
}
