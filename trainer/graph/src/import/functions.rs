//! Functions of a model: nodes that call one are replaced by its body.

use std::collections::{HashMap, HashSet};

use super::branches::rename;
use crate::onnx::{AttributeProto, FunctionProto, NodeProto};

/// Calls within calls beyond which a file is refused.
const DEPTH: usize = 32;
/// Nodes beyond which a file is refused.
const NODES: usize = 1 << 20;

/// `nodes` with the calls of `functions` replaced by their bodies, to any depth.
///
/// Values inside a body are called `CALL/NAME`, where CALL is the name of the calling node, with a number if
/// another has that name.
pub(super) fn inline(nodes: Vec<NodeProto>, functions: &[FunctionProto]) -> Result<Vec<NodeProto>, String> {
    let mut inlined = Vec::with_capacity(nodes.len());
    let mut calls = HashSet::new();
    for node in nodes {
        append(node, functions, DEPTH, &mut calls, &mut inlined)?;
    }
    Ok(inlined)
}

fn append(
    mut node: NodeProto,
    functions: &[FunctionProto],
    depth: usize,
    calls: &mut HashSet<String>,
    to: &mut Vec<NodeProto>,
) -> Result<(), String> {
    let Some(function) = functions.iter().find(|function| is_called(function, &node)) else {
        for graph in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
            let mut inlined = Vec::with_capacity(graph.node.len());
            for inner in std::mem::take(&mut graph.node) {
                append(inner, functions, depth, calls, &mut inlined)?;
            }
            graph.node = inlined;
        }
        to.push(node);
        return Ok(());
    };
    if depth == 0 {
        return Err(format!(
            "its function `{}` calls itself, or others more than {DEPTH} deep",
            function.name()
        ));
    }
    if calls.len() >= NODES {
        return Err(format!("its functions are called more than {NODES} times"));
    }
    let number = calls.len() + 1;
    let call = match node.name() {
        "" => format!("{}_{number}", function.name()),
        name if calls.contains(name) => format!("{name}_{number}"),
        name => name.to_owned(),
    };
    calls.insert(call.clone());
    let outer = |names: &[String], given: &[String]| -> Vec<(String, String)> {
        names.iter().cloned().zip(given.iter().cloned().chain(std::iter::repeat(String::new()))).collect()
    };
    let mut names: HashMap<String, String> = HashMap::new();
    names.extend(outer(&function.input, &node.input));
    // An output that nobody takes has no name outside.
    names.extend(outer(&function.output, &node.output).into_iter().filter(|(_, given)| !given.is_empty()));
    let renamed = |name: &str| match names.get(name) {
        _ if name.is_empty() => String::new(),
        Some(given) => given.clone(),
        None => format!("{call}/{name}"),
    };
    for body in &function.node {
        let mut body = body.clone();
        // A node without a name has none here either, as names may not be given twice.
        body.name = body.name.filter(|name| !name.is_empty()).map(|name| format!("{call}/{name}"));
        body.input = body.input.iter().map(|name| renamed(name)).collect();
        body.output = body.output.iter().map(|name| renamed(name)).collect();
        body.attribute =
            body.attribute.into_iter().filter_map(|attribute| resolved(attribute, &node, function)).collect();
        for graph in body.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
            rename(graph, &renamed);
        }
        append(body, functions, depth - 1, calls, to)?;
    }
    if to.len() > NODES {
        return Err(format!("its functions make more than {NODES} nodes"));
    }
    Ok(())
}

fn is_called(function: &FunctionProto, node: &NodeProto) -> bool {
    function.name() == node.op_type()
        && function.domain() == node.domain()
        && function.overload() == node.overload()
}

/// An attribute of a body with the caller's value, or the function's default; `None` if neither is given.
fn resolved(attribute: AttributeProto, call: &NodeProto, function: &FunctionProto) -> Option<AttributeProto> {
    let refers_to = attribute.ref_attr_name();
    if refers_to.is_empty() {
        return Some(attribute);
    }
    let given =
        call.attribute.iter().chain(&function.attribute_proto).find(|given| given.name() == refers_to);
    given.map(|given| AttributeProto { name: attribute.name.clone(), ..given.clone() })
}
