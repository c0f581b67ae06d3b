//! Initialisers that an exporter has merged.
//!
//! PyTorch writes parameters that are equal once: its older exporter with an `Identity` node for each of the
//! others, whose output has the name of that parameter, its newer one with several nodes that take the one
//! value. Those that are equal because they begin alike, such as the zeros and ones of normalisations and of
//! biases, are parameters of their own; others, such as shared matrices, stay one.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::constant::{Values, of_tensor};
use super::held::{NORMALISATIONS, is_numbered};
use super::node::{is_of_onnx, is_one_of};
use crate::onnx::{GraphProto, NodeProto, TensorProto};

/// Gives every parameter and statistic a value of its own, where an exporter has merged it with others that
/// begin alike.
pub(super) fn separate(graph: &mut GraphProto, folder: &Path) -> Result<(), String> {
    let has_identities = replace_identities(graph, folder)?;
    // Where there is a node for each parameter, what several nodes take directly is shared on purpose.
    if has_identities { Ok(()) } else { separate_places(graph, folder) }
}

/// Replaces `Identity` nodes of initialisers by initialisers, where these are statistics of a normalisation
/// or have one value throughout; returns whether initialisers have such nodes.
fn replace_identities(graph: &mut GraphProto, folder: &Path) -> Result<bool, String> {
    let initializers: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
    let statistics = graph.node.iter().filter(|node| is_one_of(node, &["BatchNormalization"]));
    let statistics: HashSet<&str> =
        statistics.flat_map(|node| node.input.iter().skip(3).map(String::as_str)).collect();
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name()).collect();
    let mut copies: HashMap<String, TensorProto> = HashMap::new();
    let mut has_identities = false;
    for node in graph.node.iter().filter(|node| is_one_of(node, &["Identity"])) {
        let (Some(from), Some(to)) = (node.input.first(), node.output.first()) else { continue };
        let tensor = copies.get(from).or_else(|| initializers.get(from.as_str()).copied());
        let Some(tensor) = tensor.filter(|_| !outputs.contains(to.as_str())) else { continue };
        has_identities = true;
        if is_alike(tensor, folder)? || statistics.contains(to.as_str()) {
            copies.insert(to.clone(), TensorProto { name: Some(to.clone()), ..tensor.clone() });
        }
    }
    let is_replaced = |node: &NodeProto| {
        is_one_of(node, &["Identity"])
            && node.output.first().is_some_and(|output| copies.contains_key(output))
    };
    graph.node.retain(|node| !is_replaced(node));
    let mut copies: Vec<TensorProto> = copies.into_values().collect();
    copies.sort_by(|a, b| a.name.cmp(&b.name));
    graph.initializer.extend(copies);
    Ok(has_identities)
}

/// Gives each place of a parameter that several nodes take an initialiser of its own, `NAME_2` and so on, if
/// that has one value throughout; and each statistic of a normalisation that is a parameter as well.
fn separate_places(graph: &mut GraphProto, folder: &Path) -> Result<(), String> {
    let mut uses: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        for (place, name) in node.input.iter().enumerate().filter(|(place, _)| is_place(node, *place)) {
            uses.entry(name).or_default().push((at, place));
        }
    }
    let mut taken: HashSet<String> =
        graph.initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
    taken.extend(graph.node.iter().flat_map(|node| node.output.iter().cloned()));
    let (mut copies, mut moved) = (Vec::new(), Vec::new());
    for tensor in &graph.initializer {
        let Some(places) = uses.get(tensor.name()).filter(|places| places.len() > 1) else { continue };
        let is_statistic =
            |&(at, place): &(usize, usize)| place > 2 && is_one_of(&graph.node[at], &["BatchNormalization"]);
        let is_both = places.iter().any(is_statistic) && !places.iter().all(is_statistic);
        let has_several = tensor.dims.iter().product::<i64>() > 1;
        // What an exporter writes for a normalisation without parameters is none.
        let is_neutral = is_numbered(tensor.name())
            && places.iter().any(|&(at, _)| is_one_of(&graph.node[at], &NORMALISATIONS));
        if is_neutral || !has_several || !(is_both || is_alike(tensor, folder)?) {
            continue;
        }
        for (number, &place) in places.iter().enumerate().skip(1) {
            let mut name = format!("{}_{}", tensor.name(), number + 1);
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            copies.push(TensorProto { name: Some(name.clone()), ..tensor.clone() });
            moved.push((place, name));
        }
    }
    for ((at, place), name) in moved {
        graph.node[at].input[place] = name;
    }
    graph.initializer.extend(copies);
    Ok(())
}

/// Whether operand `place` of a node is where a layer has a parameter that begins with one value throughout.
fn is_place(node: &NodeProto, place: usize) -> bool {
    is_of_onnx(node.domain())
        && match node.op_type() {
            "BatchNormalization" => place > 0,
            "GroupNormalization" | "InstanceNormalization" | "LayerNormalization" => matches!(place, 1 | 2),
            "RMSNormalization" | "PRelu" => place == 1,
            "Conv" | "ConvTranspose" | "Gemm" => place == 2,
            "Add" | "Mul" => true,
            _ => false,
        }
}

/// Whether a tensor has floating-point values, which are all the same.
fn is_alike(tensor: &TensorProto, folder: &Path) -> Result<bool, String> {
    Ok(match of_tensor(tensor, folder)?.values {
        Values::Floats(values) => values.windows(2).all(|pair| pair[0] == pair[1]),
        Values::Integers(_) | Values::Booleans(_) => false,
    })
}
