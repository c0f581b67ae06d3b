//! Initialisers that an exporter has merged.
//!
//! PyTorch writes parameters that are equal once, and an `Identity` node of it for each of the others, whose
//! output has the name of that parameter. Those that are equal because they begin alike, such as the zeros
//! and ones of normalisations, are parameters of their own; others, such as shared matrices, stay one.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::constant::{Values, of_tensor};
use super::is_one_of;
use crate::onnx::{GraphProto, NodeProto, TensorProto};

/// Replaces `Identity` nodes of initialisers by initialisers, where these are statistics of a normalisation
/// or have one value throughout.
pub(super) fn separate(graph: &mut GraphProto, folder: &Path) -> Result<(), String> {
    if !graph.node.iter().any(|node| is_one_of(node, &["Identity"])) {
        return Ok(());
    }
    let initializers: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
    let statistics = graph.node.iter().filter(|node| is_one_of(node, &["BatchNormalization"]));
    let statistics: HashSet<&str> =
        statistics.flat_map(|node| node.input.iter().skip(3).map(String::as_str)).collect();
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name()).collect();
    let mut copies: HashMap<String, TensorProto> = HashMap::new();
    for node in graph.node.iter().filter(|node| is_one_of(node, &["Identity"])) {
        let (Some(from), Some(to)) = (node.input.first(), node.output.first()) else { continue };
        let tensor = copies.get(from).or_else(|| initializers.get(from.as_str()).copied());
        let Some(tensor) = tensor.filter(|_| !outputs.contains(to.as_str())) else { continue };
        let is_alike = match of_tensor(tensor, folder)?.values {
            Values::Floats(values) => values.windows(2).all(|pair| pair[0] == pair[1]),
            Values::Integers(_) | Values::Booleans(_) => false,
        };
        if is_alike || statistics.contains(to.as_str()) {
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
    Ok(())
}
