//! Running statistics of normalisations that a file has in parts: a root of the variance, by which what is
//! left without the mean is divided.

use std::collections::{HashMap, HashSet};

use super::constant::{Constant, Values};
use super::node::SHAPING;
use crate::onnx::NodeProto;

/// Where each value is taken: nodes and operands.
pub(super) type Uses<'a> = HashMap<&'a str, Vec<(&'a NodeProto, usize)>>;

/// The constants that are variances and means of such normalisations; `nodes` stand in their order.
pub(super) fn statistics<'a>(
    nodes: &'a [NodeProto],
    uses: &Uses<'a>,
    constants: &'a HashMap<String, Constant>,
) -> HashSet<&'a str> {
    let lists = || {
        let is_list =
            |constant: &Constant| matches!(&constant.values, Values::Floats(list) if list.len() > 1);
        constants.iter().filter(move |(_, constant)| is_list(constant)).map(|(name, _)| name.as_str())
    };
    let parts = Parts { uses, constants };
    let (mut found, mut roots) = (HashSet::new(), HashSet::new());
    for (name, of_it) in lists().filter_map(|name| Some((name, parts.roots_of(name)?))) {
        found.insert(name);
        roots.extend(of_it);
    }
    if !found.is_empty() {
        let factors = parts.factors(nodes, roots);
        found.extend(lists().filter(|name| parts.is_mean(name, &factors)));
    }
    found.extend(lists().filter(|name| parts.is_centre(name)));
    found
}

struct Parts<'a, 'b> {
    uses: &'b Uses<'a>,
    constants: &'a HashMap<String, Constant>,
}

impl<'a> Parts<'a, '_> {
    /// Where the values of `name` are taken, in whatever shape, other than to be moved; and to be negated
    /// where `negates`. `true` for negated ones.
    fn ends(&self, name: &'a str, negates: bool) -> Vec<(&'a NodeProto, usize, bool)> {
        let (mut ends, mut open) = (Vec::new(), vec![(name, false)]);
        while let Some((name, is_negated)) = open.pop() {
            for &(node, at) in self.uses.get(name).into_iter().flatten() {
                let is_moved = at == 0 && SHAPING.contains(&node.op_type());
                let changes_sign = negates && node.op_type() == "Neg";
                match node.output.first() {
                    Some(output) if is_moved || changes_sign => {
                        open.push((output, is_negated != changes_sign))
                    }
                    _ => ends.push((node, at, is_negated)),
                }
            }
        }
        ends
    }

    fn is_single(&self, name: &str) -> bool {
        self.constants.get(name).is_some_and(|constant| constant.values.len() == 1)
    }

    /// The square roots of `name`, after the addition of a small number, if nothing else is taken of it: it
    /// is a variance.
    fn roots_of(&self, name: &'a str) -> Option<Vec<&'a str>> {
        let mut taken = Vec::new();
        for (node, at, _) in self.ends(name, false) {
            match (node.op_type(), node.output.first()) {
                ("Add", Some(sum))
                    if node.input.get(1 - at.min(1)).is_some_and(|other| self.is_single(other)) =>
                {
                    let ends = self.ends(sum, false);
                    if ends.is_empty() {
                        return None;
                    }
                    taken.extend(ends.into_iter().map(|(node, ..)| node));
                }
                _ => taken.push(node),
            }
        }
        let root = |node: &'a NodeProto| node.output.first().filter(|_| node.op_type() == "Sqrt");
        let roots: Option<Vec<&str>> = taken.into_iter().map(|node| root(node).map(String::as_str)).collect();
        roots.filter(|roots| !roots.is_empty())
    }

    /// The values that are made of `roots` and constants by products, quotients and bounds.
    fn factors(&self, nodes: &'a [NodeProto], roots: HashSet<&'a str>) -> HashSet<&'a str> {
        let (mut factors, mut known): (_, HashSet<&str>) = (roots, HashSet::new());
        for node in nodes {
            let is_known = |name: &String| {
                self.constants.contains_key(name)
                    || known.contains(name.as_str())
                    || factors.contains(name.as_str())
            };
            let is_of_constants = node.input.iter().all(is_known);
            let has_factor = node.input.iter().any(|name| factors.contains(name.as_str()));
            let keeps = SHAPING.contains(&node.op_type())
                || matches!(node.op_type(), "Div" | "Max" | "Mul" | "Neg" | "Reciprocal");
            let Some(output) = node.output.first().filter(|_| is_of_constants && keeps) else { continue };
            if has_factor {
                factors.insert(output)
            } else {
                known.insert(output)
            };
        }
        factors
    }

    /// Whether `name` is subtracted from what is then multiplied or divided by one of `factors`, or from that
    /// after its own product with one; and nothing else is done with it.
    fn is_mean(&self, name: &'a str, factors: &HashSet<&str>) -> bool {
        let by_factor = |node: &'a NodeProto, at: usize| {
            let is_factor = |other: &String| factors.contains(other.as_str());
            match node.op_type() {
                "Mul" => node.input.get(1 - at.min(1)).is_some_and(is_factor),
                "Div" => at == 0 && node.input.get(1).is_some_and(is_factor),
                _ => false,
            }
        };
        let ends = self.ends(name, true);
        !ends.is_empty()
            && ends.iter().all(|&(node, at, is_negated)| match (node.op_type(), node.output.first()) {
                ("Sub", Some(rest)) if at == 1 && !is_negated => self.all_by(rest, by_factor),
                ("Add", Some(rest)) if is_negated => self.all_by(rest, by_factor),
                _ => is_negated && by_factor(node, at),
            })
    }

    /// Whether `name` is subtracted from what is then multiplied by a list and moved by another: the mean of
    /// a normalisation whose deviation is part of its scale. No layer has both offsets.
    fn is_centre(&self, name: &'a str) -> bool {
        let takes_list = |node: &NodeProto, at: usize| {
            let other = node.input.get(1 - at.min(1)).and_then(|other| self.constants.get(other));
            other.is_some_and(|other| other.values.len() > 1)
        };
        let is_moved = |node: &'a NodeProto, at| node.op_type() == "Add" && takes_list(node, at);
        let is_scaled = |node: &'a NodeProto, at| {
            let product = node.output.first().filter(|_| node.op_type() == "Mul" && takes_list(node, at));
            product.is_some_and(|product| self.all_by(product, is_moved))
        };
        self.all_by(name, |node, at| {
            let rest = node.output.first().filter(|_| node.op_type() == "Sub" && at == 1);
            rest.is_some_and(|rest| self.all_by(rest, is_scaled))
        })
    }

    fn all_by(&self, name: &'a str, is_so: impl Fn(&'a NodeProto, usize) -> bool) -> bool {
        let ends = self.ends(name, false);
        !ends.is_empty() && ends.iter().all(|&(node, at, _)| is_so(node, at))
    }
}
