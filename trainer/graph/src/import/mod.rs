//! Networks from `.onnx` files.
//!
//! The input of a file is images `[N,3,H,W]` or `[N,H,W,3]`, normalised as in the recipe, and its first
//! output is `[N,K]`; a final softmax is dropped, because training needs the logits. Calls of functions are
//! replaced by their bodies, and branches by their nodes. What exporters compute from shapes is evaluated at
//! once, with the shapes of the batch that the graph is built for. The other operators are translated one by
//! one through the builder, which makes them differentiable like any others; those that are not known here
//! are copied, where no gradient passes through them.
//!
//! Floating-point initialisers of several values become parameters, with the names and values of the file,
//! wherever they stand. These stay constants: masks of attention scores, values that normalise the images,
//! divisors, what no gradient reaches, and values of `Constant` nodes, unless they are the weights or the
//! bias of a layer. Running statistics of batch normalisation are buffers.

mod batch;
mod bound;
mod branches;
mod checks;
#[cfg(test)]
mod conformance;
pub(crate) mod constant;
mod copied;
mod declarations;
pub(crate) mod file;
pub(crate) mod fold;
mod functions;
mod gradients;
mod head;
mod held;
mod known;
pub(crate) mod limits;
mod merged;
mod node;
mod random;
mod rewrite;
mod sequences;
mod sparse;
mod statistics;
mod summary;
#[cfg(test)]
mod tests;
pub(crate) mod translation;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use prost::Message;

use self::constant::Constant;
use self::copied::Obstacle;
use self::declarations::{Declarations, axis_lengths};
pub use self::file::Imported;
use self::file::Input;
pub use self::gradients::{Differentiated, Gradients, Objective, Wrt};
use self::limits::LENGTH;
use self::node::{is_choice, is_constant, is_of_onnx, is_of_sequences, is_one_of, name_of};
pub use self::summary::{ConstantSummary, LayerSummary, Summary};
use self::translation::{Import, Translation};
use crate::builder::{CONSTANT, is_numbered};
use crate::model::PRODUCER;
use crate::module::{Forward, Mode, Network, unknown_tap};
use crate::onnx::tensor_proto::DataType;
use crate::onnx::{GraphProto, ModelProto, NodeProto, StringStringEntryProto};
use crate::ops::imports;
use crate::{Builder, GraphError, Operator, Result, Tensor, TensorType, nearest_names};

impl Imported {
    /// Reads the network in the file `path`.
    ///
    /// # Errors
    /// [`GraphError::File`] if it is not an ONNX file, or has other inputs or outputs than expected.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |reason: String| GraphError::File { path: path.to_owned(), reason };
        let (mut file, graph, _) = Self::open(path)?;
        file.input = input(&graph, &file.constants).map_err(failed)?;
        batch::cut_repeated(&graph, &mut file.constants, file.input.batch);
        let output = graph.output.first().ok_or_else(|| failed("it has no output".into()))?;
        file.logits = operand_of_last(&["Softmax", "LogSoftmax"], &graph.node, output.name()).to_owned();
        // Without what follows the logits, such as a softmax.
        let logits = [file.logits.clone()];
        file.set_nodes(graph.node, logits)?;
        Ok(file)
    }

    /// Opens the file `path`: its constants, and its graph without their values, which has no part in the
    /// network yet; and its metadata.
    fn open(path: &Path) -> Result<(Self, GraphProto, Vec<StringStringEntryProto>)> {
        let failed = |reason: String| GraphError::File { path: path.to_owned(), reason };
        let model = decoded(path)?;
        let opset = checks::opset(&model).map_err(failed)?;
        let versions = model.opset_import.iter().map(|set| (set.domain().to_owned(), set.version()));
        let versions = versions.collect();
        let mut graph = model.graph.ok_or_else(|| failed("it contains no graph".into()))?;
        checks::graph(&graph).map_err(failed)?;
        if !model.functions.is_empty() {
            graph.node = functions::inline(graph.node, &model.functions).map_err(failed)?;
            checks::graph(&graph).map_err(failed)?;
        }
        let folder = constant::folder_of(path);
        merged::separate(&mut graph, folder).map_err(failed)?;
        branches::hoist(&mut graph);
        let conditions;
        (graph.node, conditions) = branches::inline(graph.node).map_err(failed)?;
        let constants = constants(&graph, folder).map_err(failed)?;
        // What we have written ourselves has constants among its initialisers.
        let is_ours = model.producer_name.as_deref() == Some(PRODUCER);
        let names = graph.initializer.iter().map(|tensor| tensor.name().to_owned());
        let initializers = names.filter(|name| !(is_ours && is_numbered(name, CONSTANT))).collect();
        let external = constant::external_files(&graph);
        graph.initializer.clear();
        let file = Self {
            path: path.to_owned(),
            external,
            conditions,
            constants,
            initializers,
            opset,
            declarations: Declarations::new(versions, &graph),
            ..Self::default()
        };
        Ok((file, graph, model.metadata_props))
    }

    /// Makes those of `nodes` the network that `outputs` depend on.
    ///
    /// # Errors
    /// There are operators that can neither be imported nor evaluated.
    fn set_nodes(&mut self, nodes: Vec<NodeProto>, outputs: impl IntoIterator<Item = String>) -> Result<()> {
        let outputs: Vec<String> = outputs.into_iter().collect();
        self.nodes = keep_what_leads_to(outputs.iter().cloned(), nodes);
        self.held = held::held(&self.nodes, &outputs, &self.constants, &self.initializers);
        self.refuse_unknown_operators(&outputs)
    }

    /// The network with another name in front of parameters and buffers that have one of `names`:
    /// `network/NAME`.
    #[must_use]
    pub fn reserving(mut self, names: &[&str]) -> Self {
        self.reserved.extend(names.iter().map(|&name| name.to_owned()));
        self
    }

    /// The network with batch normalisation by its running statistics in training too; they do not change.
    #[must_use]
    pub fn with_frozen_statistics(mut self) -> Self {
        self.frozen_statistics = true;
        self
    }

    /// The network without a sigmoid at its end, for losses that take logits.
    ///
    /// # Errors
    /// None that reading the file has not had.
    pub fn without_sigmoid(mut self) -> Result<Self> {
        self.logits = operand_of_last(&["Sigmoid"], &self.nodes, &self.logits).to_owned();
        let (nodes, logits) = (std::mem::take(&mut self.nodes), self.logits.clone());
        self.set_nodes(nodes, [logits])?;
        Ok(self)
    }

    /// Height and width of the images that the network takes, where the file fixes both.
    #[must_use]
    pub fn input_px(&self) -> Option<[usize; 2]> {
        match self.input.px {
            [Some(height), Some(width)] => Some([height, width]),
            _ => None,
        }
    }

    /// Translates all nodes, with `x` as the input; `after` sees each one with the number of values of the
    /// parameters before it.
    fn translate<'a>(
        &'a self,
        g: &'a mut Builder,
        x: Tensor,
        mode: Mode,
        after: impl FnMut(&Translation<'a>, &'a NodeProto, usize),
    ) -> Result<Translation<'a>> {
        let (given, element) = (g.shape(x).to_vec(), g.element(x));
        let fits = |(&length, expected): (&usize, &Option<usize>)| expected.is_none_or(|px| px == length);
        if !given[2..].iter().zip(&self.input.px).all(fits) {
            let remedy = match self.input.px {
                [Some(height), Some(width)] if height != width => {
                    "export it for square images, or with free axes".to_owned()
                }
                [side, other] => {
                    let px = side.or(other).unwrap_or_default();
                    format!(
                        "give this side, as in --set input.crop_px={px} --set input.image_px={px} or --px {px}"
                    )
                }
            };
            let side = self.input.px.iter().flatten().map(usize::to_string).collect::<Vec<_>>().join("x");
            return Err(self
                .failed(format!("it takes images of {side} pixels, and these have {}; {remedy}", given[2])));
        }
        g.set_lowering(g.lowering().of_files(mode == Mode::Train));
        let mut traced = HashMap::new();
        if let Some(batch) = self.input.batch.filter(|&batch| batch != given[0]) {
            let mut g = Builder::new("trace", g.lowering());
            let shape = [&[batch], &given[1..]].concat();
            let x = g.input(&self.input.name, TensorType::new(element, shape))?;
            traced = self.translate_nodes(&mut g, x, mode, HashMap::new(), |_, _, _| ())?.shapes();
        }
        self.translate_nodes(g, x, mode, traced, after)
    }

    /// [`translate`](Self::translate) for images that fit.
    fn translate_nodes<'a>(
        &'a self,
        g: &'a mut Builder,
        x: Tensor,
        mode: Mode,
        traced: HashMap<String, Vec<usize>>,
        after: impl FnMut(&Translation<'a>, &'a NodeProto, usize),
    ) -> Result<Translation<'a>> {
        let x = if self.input.channels_last { g.transpose(x, &[0, 2, 3, 1])? } else { x };
        let mut translation = Translation::new(self, g, &[(&self.input.name, x)], mode, traced);
        self.append_nodes(&mut translation, after)?;
        Ok(translation)
    }

    /// Translates all nodes; `after` sees each one with the number of values of the parameters before it.
    fn append_nodes<'a>(
        &'a self,
        translation: &mut Translation<'a>,
        mut after: impl FnMut(&Translation<'a>, &'a NodeProto, usize),
    ) -> Result<()> {
        let mut failures = Failures::default();
        for node in self.nodes.iter().filter(|node| !is_constant(node)) {
            if !translation.runs(node) || failures.lead_to(node, translation.taken(node)) {
                continue;
            }
            let before = translation.parameter_values();
            match translation.append(node, || self.import(node)) {
                Ok(()) => after(translation, node, before),
                Err(error) => failures.add(node, error),
            }
        }
        failures.into_result()
    }

    /// The import of the node's operator.
    fn import(&self, node: &NodeProto) -> Result<Import> {
        let Some((operator, import)) = importable(node) else {
            if node.output.first().is_some_and(|output| self.copied.contains(output)) {
                return Ok(copied::copy);
            }
            let reason = match is_unknown(node) {
                true => "is not supported",
                false => "depends on the images, and is only supported for shapes and constants",
            };
            return Err(self.at_node(node, reason));
        };
        if self.opset < operator.since {
            let (since, opset) = (operator.since, self.opset);
            let reason =
                format!("exists from operator set {since} on, and the file uses {opset}; export it again");
            return Err(self.at_node(node, reason));
        }
        Ok(import)
    }

    /// Fails if the file has operators that can neither be imported, evaluated nor copied; names all of them.
    fn refuse_unknown_operators(&mut self, outputs: &[String]) -> Result<()> {
        let obstacles = self.obstacles(outputs, is_unknown);
        let copied = obstacles.iter().filter(|(_, obstacle)| obstacle.is_none());
        self.copied = copied.map(|(output, _)| output.clone()).collect();
        let mut unknown: BTreeMap<String, (usize, Obstacle)> = BTreeMap::new();
        let mut first = None;
        for node in &self.nodes {
            let obstacle = node.output.first().and_then(|output| *obstacles.get(output)?);
            // Whether a node of a branch runs is not known yet.
            if let Some(obstacle) = obstacle.filter(|_| self.conditions_of(node).is_empty()) {
                let name = match is_of_onnx(node.domain()) {
                    true => node.op_type().to_owned(),
                    false => format!("{}.{}", node.domain(), node.op_type()),
                };
                unknown.entry(name).or_insert((0, obstacle)).0 += 1;
                first = first.or(Some(node));
            }
        }
        let Some(first) = first else { return Ok(()) };
        let list: Vec<String> = unknown
            .iter()
            .map(|(name, (times, obstacle))| format!("{name} ({times}{})", remedy(name, *obstacle)))
            .collect();
        let list = list.join(", ");
        let reason = format!("is not supported; in all, the file has these that are not: {list}");
        Err(self.at_node(first, reason))
    }
}

/// The nodes that could not be translated; those that depend on them are not tried.
#[derive(Default)]
struct Failures<'a> {
    missing: HashSet<&'a str>,
    errors: Vec<GraphError>,
}

impl<'a> Failures<'a> {
    /// Whether a value is missing among `operands`, those that `node` takes.
    fn lead_to(&mut self, node: &'a NodeProto, operands: &[String]) -> bool {
        let depends = operands.iter().any(|input| self.missing.contains(input.as_str()));
        if depends {
            self.missing.extend(node.output.iter().map(String::as_str));
        }
        depends
    }

    fn add(&mut self, node: &'a NodeProto, error: GraphError) {
        self.missing.extend(node.output.iter().map(String::as_str));
        self.errors.push(error);
    }

    /// The first error, with the number and the nodes of the others.
    fn into_result(self) -> Result<()> {
        const SHOWN: usize = 5;
        let mut errors = self.errors.into_iter();
        let Some(mut first) = errors.next() else { return Ok(()) };
        let others: Vec<String> = errors
            .map(|error| match error {
                GraphError::Node { node, operator, reason, .. } => format!("`{node}` ({operator}) {reason}"),
                other => other.to_string(),
            })
            .collect();
        if let GraphError::Node { reason, .. } = &mut first
            && !others.is_empty()
        {
            let more = if others.len() > SHOWN { "; …" } else { "" };
            let shown = others[..others.len().min(SHOWN)].join("; ");
            *reason = format!("{reason}; and {} more: {shown}{more}", others.len());
        }
        Err(first)
    }
}

impl Network for Imported {
    fn name(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("network")
    }

    /// [`GraphError::Node`] names a node that cannot be translated; or the images have another size.
    fn forward(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward> {
        self.translate(g, x, mode, |_, _, _| ())?.finish()
    }

    /// Names of the nodes that compute with the images, of what they make where they have none.
    fn taps(&self) -> Vec<String> {
        let mut computed = HashSet::from([self.input.name.as_str()]);
        let mut taps = Vec::new();
        for node in &self.nodes {
            let is_activation = !is_one_of(node, &["Shape", "Size"])
                && node.input.iter().any(|input| computed.contains(input.as_str()));
            if is_activation {
                computed.extend(node.output.iter().map(String::as_str));
                taps.push(name_of(node).to_owned());
            }
        }
        taps
    }

    /// The node that makes the first operand of the last matrix product or convolution; nodes that keep its
    /// values are skipped.
    fn last_hidden(&self) -> Option<String> {
        let nodes = &self.nodes;
        let mut at = nodes.iter().rposition(|node| is_one_of(node, &["Gemm", "MatMul", "Conv"]))?;
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
        let Some(node) = self.nodes.iter().find(|node| !is_constant(node) && name_of(node) == tap) else {
            return Err(unknown_tap(self, tap));
        };
        let mut translation = self.translate(g, x, Mode::Evaluate, |_, _, _| ())?;
        let activation = translation.value_of(node)?;
        Ok((translation.finish()?, activation))
    }
}

/// Whether a node can neither be imported nor evaluated.
fn is_unknown(node: &NodeProto) -> bool {
    let is_standard = is_of_onnx(node.domain());
    let is_known = is_constant(node)
        || is_choice(node)
        || is_of_sequences(node)
        || importable(node).is_some()
        || (is_standard && (fold::is_evaluated(node.op_type()) || random::is_drawn(node.op_type())));
    !is_known
}

/// The operator of a node and its import, if files may hold it.
fn importable(node: &NodeProto) -> Option<(&'static Operator, Import)> {
    let domain = if is_of_onnx(node.domain()) { "" } else { node.domain() };
    let (operator, import) =
        imports().find(|(operator, _)| (operator.domain, operator.name) == (domain, node.op_type()))?;
    Some((operator, import?))
}

/// What to do about an operator that is not supported: the part of a message.
fn remedy(operator: &str, obstacle: Obstacle) -> String {
    const QUANTISED: [&str; 4] = ["Integer", "Dequantize", "Quantize", "QLinear"];
    const NEAREST: usize = 3;
    if matches!(operator, "Loop" | "Scan") {
        return ": export the network without control flow".into();
    }
    if QUANTISED.iter().any(|part| operator.contains(part)) {
        return ": use the file from before quantisation".into();
    }
    if obstacle == Obstacle::Undeclared {
        return ": no gradient passes through it, but the file does not declare what it makes; use \
                onnx.shape_inference.infer_shapes"
            .into();
    }
    let supported = imports().filter(|(_, import)| import.is_some()).map(|(operator, _)| operator.name);
    let near = nearest_names(operator.rsplit('.').next().unwrap_or(operator), supported);
    format!("; near: {}", near[..near.len().min(NEAREST)].join(", "))
}

/// The model in the file `path`.
fn decoded(path: &Path) -> Result<ModelProto> {
    let failed = |reason: String| GraphError::File { path: path.to_owned(), reason };
    let kind = fs::metadata(path).map_err(|reason| failed(reason.to_string()))?;
    // To read a FIFO would wait for a writer, and a device may have no end.
    if !kind.is_file() {
        return Err(failed("it is not a regular file".into()));
    }
    let bytes = fs::read(path).map_err(|reason| failed(reason.to_string()))?;
    if bytes.is_empty() {
        return Err(failed("it is empty".into()));
    }
    if let Some(what) = other_format(&bytes) {
        return Err(failed(format!("it is {what}, not an ONNX file")));
    }
    if bytes.get(4..8) == Some(b"TFL3") {
        return Err(failed("it is a file of TensorFlow Lite, not an ONNX file (export it: tf2onnx)".into()));
    }
    let mut model = ModelProto::decode(bytes.as_slice())
        .map_err(|reason| failed(format!("it is cut short, or not an ONNX file: {reason}")))?;
    if let Some(graph) = &mut model.graph {
        sparse::densify(graph, constant::folder_of(path)).map_err(failed)?;
    }
    Ok(model)
}

/// What a file is that is often taken for an ONNX file, and how to make one of it.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    const FORMATS: [(&[u8], &str); 9] = [
        (
            b"PK\x03\x04",
            "a PyTorch file (export it: torch.onnx.export(model, x, \"network.onnx\")) or a zip archive",
        ),
        (b"\x80", "a Python pickle, perhaps weights of PyTorch (export the network: torch.onnx.export)"),
        (b"\x89HDF", "an HDF5 file, perhaps weights of Keras (export the network: tf2onnx)"),
        (b"\x1f\x8b", "compressed by gzip (decompress it: gunzip)"),
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"<?xml", "an XML file, perhaps a network of OpenVINO (use the .onnx file that it was made from)"),
        (b"<", "a page of a web site (download the file itself)"),
        (b"version https://git-lfs", "a pointer of Git LFS (fetch the file itself: git lfs pull)"),
    ];
    FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|&(_, what)| what)
}

/// The initialisers and `Constant` nodes of a graph, by name.
fn constants(graph: &GraphProto, folder: &Path) -> std::result::Result<HashMap<String, Constant>, String> {
    let mut all = HashMap::new();
    for tensor in &graph.initializer {
        all.insert(tensor.name().to_owned(), constant::of_tensor(tensor, folder)?);
    }
    for node in graph.node.iter().filter(|node| is_constant(node)) {
        let (Some(output), Some(attribute)) = (node.output.first(), node.attribute.first()) else { continue };
        all.insert(output.clone(), constant::of_attribute(output, attribute, folder)?);
    }
    Ok(all)
}

/// The only input that is not a constant, and that some node reads.
fn input(graph: &GraphProto, constants: &HashMap<String, Constant>) -> std::result::Result<Input, String> {
    let mut free: Vec<_> = graph.input.iter().filter(|input| !constants.contains_key(input.name())).collect();
    let read: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    if free.len() > 1 {
        free.retain(|input| read.iter().any(|name| *name == input.name()));
    }
    let [input] = free[..] else {
        let names: Vec<_> = free.iter().map(|input| format!("`{}`", input.name())).collect();
        let (count, names) = (free.len(), names.join(", "));
        return Err(format!("it has {count} inputs ({names}), expected one: the images"));
    };
    let (name, expected) =
        (input.name().to_owned(), "expected images f32 [N,3,H,W], normalised as in the recipe");
    let Some((element, axes)) = axis_lengths(input) else {
        return Err(format!("its input `{name}` is not a tensor, {expected}"));
    };
    let is_float =
        matches!(element, DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double);
    if !is_float {
        return Err(format!("its input `{name}` is {}, {expected}", element.as_str_name()));
    }
    let may_be_colours = |axis: Option<usize>| axis.is_none_or(|length| length == 3);
    if let Some(length) = axes.iter().flatten().find(|&&length| length > LENGTH) {
        return Err(format!("its input `{name}` has an axis of {length}, more than {LENGTH}, {expected}"));
    }
    match axes[..] {
        [batch, channels, height, width] if may_be_colours(channels) => {
            Ok(Input { name, batch, px: [height, width], channels_last: false })
        }
        [batch, height, width, Some(3)] => {
            Ok(Input { name, batch, px: [height, width], channels_last: true })
        }
        _ => {
            let axes: Vec<_> = axes.iter().map(|axis| axis.map_or("?".into(), |n| n.to_string())).collect();
            Err(format!("its input `{name}` has the axes [{}], {expected}", axes.join(",")))
        }
    }
}

/// Name of `output`, or of the operand of a node of these operators that makes it; nodes that keep its values
/// are skipped.
fn operand_of_last<'a>(operators: &[&str], nodes: &'a [NodeProto], output: &'a str) -> &'a str {
    let makers: HashMap<&str, &NodeProto> =
        nodes.iter().rev().filter_map(|node| Some((node.output.first()?.as_str(), node))).collect();
    let mut at = output;
    // No value is made twice, so that this ends.
    for _ in 0..nodes.len() {
        let Some((node, from)) = makers.get(at).and_then(|node| Some((node, node.input.first()?))) else {
            break;
        };
        if is_one_of(node, operators) {
            return from;
        }
        if !is_one_of(node, &["Identity", "Flatten", "Reshape", "Squeeze", "Cast"]) {
            break;
        }
        at = from;
    }
    output
}

/// The nodes that a value of these names depends on.
fn keep_what_leads_to(names: impl IntoIterator<Item = String>, nodes: Vec<NodeProto>) -> Vec<NodeProto> {
    let mut needed: HashSet<String> = names.into_iter().collect();
    let mut kept = Vec::with_capacity(nodes.len());
    for node in nodes.into_iter().rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(branches::taken_by(&node).into_iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    kept
}
