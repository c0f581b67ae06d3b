//! The builder: every call checks types and shapes, appends ONNX nodes, and records how to differentiate
//! them.
//!
//! It keeps two lists. `nodes` is written to the file; `tape` is what reverse-mode differentiation walks. A
//! plain operator adds one entry to each; a composite function (local response normalisation, cross-entropy)
//! adds many nodes and one tape entry, because its gradient reuses forward values that the rules of the
//! single operators would compute again.
//!
//! Shapes are static, the batch size included: the loader pads a partial batch and adds a Boolean `valid` per
//! row. Graphs that do not depend on the batch size can still be written with a free one, see
//! [`free_batch`](super::free_batch).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::error::{GraphError, Result};
use super::lowering::Lowering;
use super::model::Graph;
use super::node::{Attributes, Node, Origin, Tensor, Value};
use super::onnx::AttributeProto;
use super::operator::{ALL_TYPES, Operator};
use super::types::{ElementType, TensorType};

/// Renames a value. It belongs to the family of `ops/unary.rs`, and is here because the builder emits it for
/// outputs.
pub(crate) static IDENTITY: Operator = Operator::new("Identity", 1).on_cuda(ALL_TYPES);

/// Name of constants.
pub(crate) const CONSTANT: &str = "constant";

/// Whether the last part of `name` is `stem`, or that with a number, as builders and exporters make names
/// differ.
pub(crate) fn is_numbered(name: &str, stem: &str) -> bool {
    let rest = name.rsplit('/').next().and_then(|last| last.strip_prefix(stem));
    let is_number = |rest: &str| rest.strip_prefix('_').is_some_and(|number| number.parse::<u64>().is_ok());
    rest.is_some_and(|rest| rest.is_empty() || is_number(rest))
}

/// Input of a gradient rule: the gradients of the outputs, and which input gradients are needed.
pub struct Upstream {
    /// Gradient of the loss with respect to each output; `None` where the loss does not depend on it.
    pub outputs: Vec<Option<Tensor>>,
    /// Whether the gradient of each input is needed.
    pub wanted: Vec<bool>,
}

impl Upstream {
    /// The gradient of the only output.
    ///
    /// # Panics
    /// If the operator has several outputs and the loss does not depend on the first.
    #[must_use]
    pub fn single(&self) -> Tensor {
        self.outputs[0].expect("rules run only if an output has a gradient, and this operator has one output")
    }
}

/// Emits the gradients of the inputs, one entry per input; entries that are not needed may be `None`.
pub(crate) type Rule = Rc<dyn Fn(&mut Builder, &Upstream) -> Result<Vec<Option<Tensor>>>>;

/// One step of the forward computation, as differentiation needs it.
#[derive(Clone)]
pub(crate) struct TapeEntry {
    pub scope: String,
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    pub rule: Rule,
}

/// Places of nodes by operator and operands.
type Places = HashMap<(&'static str, Vec<Tensor>), Vec<usize>>;

/// Builds a graph with shape and type inference, and records how to differentiate it.
///
/// The methods for operators are in `ops`, in one file per family.
///
/// # Panics
/// Methods may panic if given a [`Tensor`] of another builder.
pub struct Builder {
    name: String,
    lowering: Lowering,
    values: Vec<Value>,
    nodes: Vec<Node>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    tape: Vec<TapeEntry>,
    recording: bool,
    scope: Vec<String>,
    name_uses: HashMap<String, usize>,
    /// Names that only inputs may take.
    reserved: HashSet<String>,
    constants: HashMap<(TensorType, Vec<u8>), Tensor>,
    /// While gradients are appended: where their nodes are.
    in_gradients: Option<Places>,
}

impl Builder {
    /// An empty graph called `name`, whose operators and gradients take the forms in `lowering`.
    pub fn new(name: impl Into<String>, lowering: Lowering) -> Self {
        Self {
            name: name.into(),
            lowering,
            values: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            tape: Vec::new(),
            recording: true,
            scope: Vec::new(),
            name_uses: HashMap::new(),
            reserved: HashSet::new(),
            constants: HashMap::new(),
            in_gradients: None,
        }
    }

    /// The forms of operators and gradients in this graph.
    #[must_use]
    pub fn lowering(&self) -> Lowering {
        self.lowering
    }

    /// Takes other forms for what follows, and for all gradients.
    pub(crate) fn set_lowering(&mut self, lowering: Lowering) {
        self.lowering = lowering;
    }

    /// Type and shape of a value.
    #[must_use]
    pub fn ty(&self, tensor: Tensor) -> &TensorType {
        &self.values[tensor.index()].ty
    }

    /// Shape of a value.
    #[must_use]
    pub fn shape(&self, tensor: Tensor) -> &[usize] {
        &self.ty(tensor).shape
    }

    /// Element type of a value.
    #[must_use]
    pub fn element(&self, tensor: Tensor) -> ElementType {
        self.ty(tensor).element
    }

    /// Name of a value in the file.
    #[must_use]
    pub fn name(&self, tensor: Tensor) -> &str {
        &self.values[tensor.index()].name
    }

    /// Declares a graph input.
    ///
    /// # Errors
    /// The name is already in use.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Result<Tensor> {
        self.claim(name)?;
        let tensor = self.value(name.to_owned(), ty, Origin::Input);
        self.inputs.push(tensor);
        Ok(tensor)
    }

    /// Keeps `name` free for an input that is declared later.
    pub(crate) fn reserve(&mut self, name: &str) {
        self.reserved.insert(name.to_owned());
    }

    /// Makes `tensor` a graph output called `name`.
    ///
    /// # Errors
    /// The name is already in use.
    pub fn output(&mut self, name: &str, tensor: Tensor) -> Result<()> {
        self.claim(name)?;
        let made_here = self.values[tensor.index()].origin == Origin::Node;
        let tensor = if made_here && !self.outputs.contains(&tensor) {
            tensor
        } else {
            self.emit(&IDENTITY, &[tensor], vec![], self.ty(tensor).clone())
        };
        self.values[tensor.index()].name = name.to_owned();
        self.outputs.push(tensor);
        Ok(())
    }

    /// Runs `build` with `name` prepended to the names of its nodes.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn scope<T>(&mut self, name: &str, build: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.scope.push(name.to_owned());
        let result = build(self);
        self.scope.pop();
        result
    }

    /// A constant of little-endian `bytes`; equal constants are stored once.
    pub(crate) fn constant(&mut self, ty: TensorType, bytes: Vec<u8>) -> Tensor {
        debug_assert_eq!(ty.len() * ty.element.size_bytes(), bytes.len());
        let key = (ty, bytes);
        if let Some(&tensor) = self.constants.get(&key) {
            return tensor;
        }
        let name = self.unique(CONSTANT);
        let tensor = self.value(name, key.0.clone(), Origin::Constant(key.1.clone()));
        self.constants.insert(key, tensor);
        tensor
    }

    /// A scalar constant of the given element type.
    pub fn scalar(&mut self, element: ElementType, value: f64) -> Tensor {
        self.constant(TensorType::new(element, []), element.encode(value))
    }

    /// A constant i64 vector, the form of shapes and axes.
    pub fn integers(&mut self, values: &[i64]) -> Tensor {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(TensorType::new(ElementType::I64, [values.len()]), bytes)
    }

    /// A constant i64 vector of sizes.
    pub(crate) fn sizes(&mut self, values: &[usize]) -> Tensor {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        self.integers(&values)
    }

    /// The values of an i64 constant of this builder; `None` for other tensors.
    pub(crate) fn known_integers(&self, tensor: Tensor) -> Option<Vec<i64>> {
        match &self.values[tensor.index()] {
            Value { ty, origin: Origin::Constant(bytes), .. } if ty.element == ElementType::I64 => {
                Some(bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
            }
            _ => None,
        }
    }

    /// The single value of an f32 constant of this builder; `None` for other tensors.
    pub(crate) fn known_number(&self, tensor: Tensor) -> Option<f32> {
        match &self.values[tensor.index()] {
            Value { ty, origin: Origin::Constant(bytes), .. } if ty.element == ElementType::F32 => {
                <[u8; 4]>::try_from(bytes.as_slice()).ok().map(f32::from_le_bytes)
            }
            _ => None,
        }
    }

    /// The operator and the operands of the node that made `tensor`, if it is one of the last `count`.
    pub(crate) fn maker(&self, tensor: Tensor, count: usize) -> Option<(&'static Operator, &[Tensor])> {
        let node = self.nodes.iter().rev().take(count).find(|node| node.makes(tensor))?;
        Some((node.operator, &node.inputs))
    }

    /// The node that made `tensor` as its first output.
    pub(crate) fn node_of(&self, tensor: Tensor) -> Option<&Node> {
        self.nodes.iter().rev().find(|node| node.makes(tensor))
    }

    /// A constant floating-point tensor.
    pub fn floats(&mut self, ty: TensorType, values: &[f64]) -> Tensor {
        let bytes = values.iter().flat_map(|&v| ty.element.encode(v)).collect();
        self.constant(ty, bytes)
    }

    /// Appends a node with one output; [`record`](Self::record) gives it a gradient rule.
    pub fn emit(
        &mut self,
        operator: &'static Operator,
        inputs: &[Tensor],
        attributes: Attributes,
        ty: TensorType,
    ) -> Tensor {
        self.emit_many(operator, inputs, attributes, vec![ty])[0]
    }

    /// Appends a node with several outputs.
    pub fn emit_many(
        &mut self,
        operator: &'static Operator,
        inputs: &[Tensor],
        attributes: Attributes,
        types: Vec<TensorType>,
    ) -> Vec<Tensor> {
        let key = (operator.name, inputs.to_vec());
        let alike = self.in_gradients.as_ref().and_then(|places| places.get(&key));
        let is_same = |node: &&Node| node.operator == operator && node.attributes == attributes;
        if let Some(node) = alike.into_iter().flatten().map(|&place| &self.nodes[place]).find(is_same) {
            return node.outputs.clone();
        }
        let outputs = self.append(operator, inputs, types, |node| node.attributes = attributes);
        if let Some(places) = &mut self.in_gradients {
            places.entry(key).or_default().push(self.nodes.len() - 1);
        }
        outputs
    }

    /// Runs `build`, which appends gradients, without recording rules; nodes that are the same are one.
    ///
    /// # Errors
    /// Those of `build`.
    pub(crate) fn gradients<T>(&mut self, build: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.in_gradients = Some(HashMap::new());
        let result = self.unrecorded(|g| g.scope("gradient", build));
        self.in_gradients = None;
        result
    }

    /// Appends a node of a file as it is, without a gradient rule.
    pub(crate) fn copy(
        &mut self,
        operator: &'static Operator,
        inputs: &[Tensor],
        attributes: Vec<AttributeProto>,
        types: Vec<TensorType>,
    ) -> Vec<Tensor> {
        self.append(operator, inputs, types, |node| node.copied = Some(attributes))
    }

    /// An operand that a node does not have.
    pub(crate) fn absent(&mut self) -> Tensor {
        self.value(String::new(), TensorType::f32([]), Origin::Input)
    }

    fn append(
        &mut self,
        operator: &'static Operator,
        inputs: &[Tensor],
        types: Vec<TensorType>,
        change: impl FnOnce(&mut Node),
    ) -> Vec<Tensor> {
        let name = self.unique(operator.name);
        let outputs: Vec<Tensor> = types
            .into_iter()
            .enumerate()
            .map(|(i, ty)| {
                let value = if i == 0 { name.clone() } else { format!("{name}:{i}") };
                self.value(value, ty, Origin::Node)
            })
            .collect();
        let (inputs, attributes) = (inputs.to_vec(), Attributes::new());
        let mut node = Node {
            name,
            operator,
            inputs,
            outputs: outputs.clone(),
            attributes,
            copied: None,
            covered: false,
        };
        change(&mut node);
        self.nodes.push(node);
        outputs
    }

    /// Records the gradient rule of the last emitted node.
    pub fn record(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        rule: impl Fn(&mut Self, &Upstream) -> Result<Vec<Option<Tensor>>> + 'static,
    ) {
        self.record_since(self.nodes.len() - 1, inputs, outputs, rule);
    }

    /// Runs `build` without recording the rules of its operators, then records the rule that it returns for
    /// all of them together.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn composite<R>(
        &mut self,
        inputs: &[Tensor],
        build: impl FnOnce(&mut Self) -> Result<(Vec<Tensor>, R)>,
    ) -> Result<Vec<Tensor>>
    where
        R: Fn(&mut Self, &Upstream) -> Result<Vec<Option<Tensor>>> + 'static,
    {
        let first = self.nodes.len();
        let (outputs, rule) = self.unrecorded(build)?;
        self.record_since(first, inputs, &outputs, rule);
        Ok(outputs)
    }

    /// Runs `build` without recording gradient rules.
    pub fn unrecorded<T>(&mut self, build: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.recording, false);
        let result = build(self);
        self.recording = outer;
        result
    }

    fn record_since(
        &mut self,
        first: usize,
        inputs: &[Tensor],
        outputs: &[Tensor],
        rule: impl Fn(&mut Self, &Upstream) -> Result<Vec<Option<Tensor>>> + 'static,
    ) {
        if !self.recording {
            return;
        }
        for node in &mut self.nodes[first..] {
            node.covered = true;
        }
        let (scope, rule) = (self.scope.join("/"), Rc::new(rule));
        self.tape.push(TapeEntry { scope, inputs: inputs.to_vec(), outputs: outputs.to_vec(), rule });
    }

    /// The error for `operator` on the operands `given`, with the name that the node would have.
    pub fn mismatch(
        &self,
        operator: &'static str,
        given: &[Tensor],
        reason: impl Into<String>,
    ) -> GraphError {
        let mut node = self.scope.join("/");
        if !node.is_empty() {
            node.push('/');
        }
        node.push_str(operator);
        let given = given.iter().map(|&t| self.ty(t).clone()).collect();
        GraphError::Operands { node, operator, reason: reason.into(), given }
    }

    /// Finishes the graph; nodes that no output depends on are removed.
    #[must_use]
    pub fn finish(self) -> Graph {
        Graph::assemble(self.name, self.values, self.nodes, self.inputs, self.outputs)
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn tape(&self) -> &[TapeEntry] {
        &self.tape
    }

    pub(crate) fn value_count(&self) -> usize {
        self.values.len()
    }

    fn value(&mut self, name: String, ty: TensorType, origin: Origin) -> Tensor {
        let tensor = Tensor(u32::try_from(self.values.len()).expect("a graph has fewer than 2³² values"));
        self.values.push(Value { name, ty, origin });
        tensor
    }

    fn claim(&mut self, name: &str) -> Result<()> {
        if self.reserved.remove(name) {
            self.name_uses.entry(name.to_owned()).or_insert(1);
            return Ok(());
        }
        match self.name_uses.insert(name.to_owned(), 1) {
            None => Ok(()),
            Some(_) => Err(GraphError::DuplicateName { name: name.to_owned() }),
        }
    }

    fn unique(&mut self, stem: &str) -> String {
        let mut base = self.scope.join("/");
        if !base.is_empty() {
            base.push('/');
        }
        base.push_str(stem);
        loop {
            let uses = self.name_uses.entry(base.clone()).or_insert(0);
            *uses += 1;
            let name = if *uses == 1 { base.clone() } else { format!("{base}_{uses}") };
            let is_free = name == base || !self.name_uses.contains_key(&name);
            if is_free && !self.reserved.contains(&name) {
                return name;
            }
        }
    }
}
