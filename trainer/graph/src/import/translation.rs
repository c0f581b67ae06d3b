//! Translation of a file into a builder, node by node. How each operator is imported is in its file of `ops`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bound::{Bound, Found, Random};
use super::constant::{Constant, Values};
use super::declarations::Declarations;
use super::file::{Imported, NodeAttributes};
use super::fold::{self, fold, one_along};
use super::limits::{COMPUTED, check, check_made};
use super::node::{is_choice, is_of_sequences};
use crate::init::Init;
use crate::module::{Buffer, BufferUse, Forward, Mode, Parameter, ParameterKind};
use crate::onnx::NodeProto;
use crate::onnx::tensor_proto::DataType;
use crate::{Builder, ElementType, GraphError, Operator, Result, Tensor, TensorType};

/// Imports a node of a file; returns its first output, and has [`define`](Translation::define)d the others.
pub(crate) type Import = for<'a> fn(&mut Translation<'a>, &'a NodeProto) -> Result<Tensor>;

/// The operators of a file of `ops`, each with its import; `None` where files may not hold it.
pub(crate) type Family = &'static [(&'static Operator, Option<Import>)];

/// The state of a translation.
pub(crate) struct Translation<'a> {
    pub(super) file: &'a Imported,
    pub g: &'a mut Builder,
    mode: Mode,
    pub(super) values: HashMap<&'a str, Bound>,
    /// Parameters that are declared, in the type that the network computes in.
    declared: HashMap<&'a str, Tensor>,
    /// The images, and what is computed from them without a parameter.
    unlearned: HashSet<Tensor>,
    /// What the host draws, and what is computed from that alone.
    pub(super) drawn: HashSet<Tensor>,
    /// Names of values that stand for random numbers in evaluation.
    pub(super) expected: Vec<&'a str>,
    /// Number of values that have been computed.
    computed: usize,
    /// Shapes for the batch of the file, by name; empty where that is the batch of the graph.
    traced: HashMap<String, Vec<usize>>,
    element: ElementType,
    pub batch: usize,
    pub(super) forward: Forward,
}

impl<'a> Translation<'a> {
    /// A translation for `inputs`, by name, of which the first floating-point one has the type that the
    /// network computes in and the batch as its first axis; `traced` are the shapes for the batch of the
    /// file, where that is another.
    pub fn new(
        file: &'a Imported,
        g: &'a mut Builder,
        inputs: &[(&'a str, Tensor)],
        mode: Mode,
        traced: HashMap<String, Vec<usize>>,
    ) -> Self {
        let float = inputs.iter().map(|&(_, input)| input).find(|&input| g.element(input).is_float());
        let x = float.unwrap_or(inputs[0].1);
        let element = float.map_or(ElementType::F32, |x| g.element(x));
        let batch = g.shape(x).first().copied().unwrap_or(1);
        for name in &file.initializers {
            g.reserve(&file.name_here(name));
        }
        let forward = Forward::new(x);
        let values = inputs.iter().map(|&(name, tensor)| (name, Bound::Tensor(tensor))).collect();
        let unlearned = inputs.iter().map(|&(_, tensor)| tensor).collect();
        Self {
            file,
            g,
            mode,
            values,
            declared: HashMap::new(),
            unlearned,
            drawn: HashSet::new(),
            expected: Vec::new(),
            computed: 0,
            traced,
            element,
            batch,
            forward,
        }
    }

    /// Shapes of the values that are computed when the graph runs, by name.
    pub(super) fn shapes(&self) -> HashMap<String, Vec<usize>> {
        let shape = |name: &&str| Some(((*name).to_owned(), self.shape_here(name)?.to_vec()));
        self.values.keys().filter_map(shape).collect()
    }

    /// The shape of `name` for the batch of the file, where that is not the batch of the graph.
    pub(super) fn traced_shape(&self, name: &str) -> Option<&Vec<usize>> {
        self.traced.get(name)
    }

    /// The value of `name`, if it was computed from constants or shapes.
    pub(super) fn known(&self, name: &str) -> Option<&Constant> {
        match self.values.get(name)? {
            Bound::Known { constant, .. } => Some(constant),
            Bound::Tensor(_) | Bound::Random(_) | Bound::Sequence(_) => None,
        }
    }

    /// The shape of `name`, if it is computed when the graph runs.
    pub(super) fn shape_here(&self, name: &str) -> Option<&[usize]> {
        match self.values.get(name)? {
            Bound::Tensor(tensor) => Some(self.g.shape(*tensor)),
            Bound::Known { .. } | Bound::Random(_) | Bound::Sequence(_) => None,
        }
    }

    /// Binds `name` to `value`.
    pub fn define(&mut self, name: &'a str, value: Tensor) {
        self.bind(name, Bound::Tensor(value));
    }

    pub(super) fn bind(&mut self, name: &'a str, bound: Bound) {
        // An output that is left out has no name.
        if !name.is_empty() {
            self.values.insert(name, bound);
        }
    }

    /// The random numbers that `name` stands for.
    pub(super) fn random(&self, name: &str) -> Option<&Random> {
        match self.values.get(name) {
            Some(Bound::Random(random)) => Some(random),
            _ => None,
        }
    }

    /// What `name`, which `node` takes, stands for.
    pub(super) fn bound(&mut self, node: &'a NodeProto, name: &'a str) -> Result<Bound> {
        match (self.values.get(name), self.file.constants.get(name)) {
            (Some(bound), _) => Ok(bound.clone()),
            (None, Some(constant)) if !self.file.is_trained(name) => {
                Ok(Bound::Known { constant: constant.clone(), of_shape: false })
            }
            (None, _) => self.value_for(node, name, None).map(Bound::Tensor),
        }
    }

    /// Appends `node` by `import`, or computes it at once if its operands are known.
    pub fn append(&mut self, node: &'a NodeProto, import: impl FnOnce() -> Result<Import>) -> Result<()> {
        if is_choice(node) {
            return self.choose(node);
        }
        if is_of_sequences(node) {
            return self.append_sequence(node);
        }
        let Some(output) = node.output.first() else { return Err(self.at_node(node, "has no output")) };
        if self.folded(node)? || self.appended_random(node)? {
            return Ok(());
        }
        check(node, |at| self.constant(node, at)).map_err(|reason| self.at_node(node, reason))?;
        let parameters = self.forward.parameters.len();
        let y = import()?(self, node).map_err(|error| match error {
            GraphError::Operands { reason, given, .. } => {
                let given = given.iter().map(TensorType::to_string).collect::<Vec<_>>().join(", ");
                self.at_node(node, format!("takes {given}: {reason}{}", self.batch_remedy()))
            }
            error => error,
        })?;
        check_made(self.g.ty(y)).map_err(|reason| self.at_node(node, reason))?;
        self.define(output, y);
        let tensor = |name: &String| match self.values.get(name.as_str()) {
            Some(Bound::Tensor(tensor)) => Some(*tensor),
            _ => None,
        };
        let inputs: Vec<Tensor> = node.input.iter().filter_map(tensor).collect();
        let outputs: Vec<Tensor> = node.output.iter().filter_map(tensor).collect();
        let is_drawn = |input: &Tensor| self.drawn.contains(input);
        let is_unlearned = |input: &Tensor| is_drawn(input) || self.unlearned.contains(input);
        let is_constant = self.forward.parameters.len() == parameters;
        if is_constant && !inputs.is_empty() && inputs.iter().all(is_drawn) {
            self.drawn.extend(outputs);
        } else if is_constant && inputs.iter().all(is_unlearned) {
            self.unlearned.extend(outputs);
        }
        self.check_batch(node)
    }

    /// Binds the outputs of `node` if its values are known now.
    fn folded(&mut self, node: &'a NodeProto) -> Result<bool> {
        let shape = match node.op_type() {
            "Shape" | "Size" => self.shape_of(node, 0),
            "EyeLike" => {
                self.shape_here(node.input.first().map_or("", String::as_str)).map(<[usize]>::to_vec)
            }
            _ => None,
        };
        let (constants, of_shape) = if let Some(shape) = shape {
            let attributes = NodeAttributes(node);
            let constant = match node.op_type() {
                "Size" => Constant::new([], Values::Integers(vec![TensorType::f32(shape).len() as i64])),
                "EyeLike" => fold::diagonal_of(&attributes, &shape, DataType::Float)
                    .map_err(|reason| self.at_node(node, reason))?,
                _ => fold::shape_between(&attributes, &shape),
            };
            (vec![constant], true)
        } else {
            let mut operands = Vec::with_capacity(node.input.len());
            let mut of_shape = false;
            for at in 0..node.input.len() {
                if !given(node, at) {
                    operands.push(None);
                    continue;
                }
                let name = node.input[at].as_str();
                let Some(constant) = self.constant(node, at).filter(|_| !self.file.is_trained(name)) else {
                    return Ok(false);
                };
                of_shape |= self.is_of_shape(name);
                operands.push(Some(constant));
            }
            let repeated = operands.first().copied().flatten().filter(|_| node.op_type() == "Expand");
            let of_one_image = repeated.and_then(|x| self.of_one_image(node, x));
            if let Some(x) = &of_one_image {
                operands[0] = Some(x);
            }
            match fold(node, &operands, self.file.opset) {
                None => return Ok(false),
                Some(Ok(constants)) => (constants, of_shape),
                Some(Err(reason)) => return Err(self.at_node(node, reason)),
            }
        };
        self.computed += constants.iter().map(|constant| constant.values.len()).sum::<usize>();
        if self.computed > COMPUTED {
            return Err(
                self.at_node(node, format!("brings the computed constants to more than {COMPUTED} values"))
            );
        }
        for (name, constant) in node.output.iter().zip(constants) {
            self.values.insert(name, Bound::Known { constant, of_shape });
        }
        Ok(true)
    }

    /// Shape of an operand.
    pub fn shape_of(&self, node: &NodeProto, at: usize) -> Option<Vec<usize>> {
        let name = node.input.get(at)?;
        match self.values.get(name.as_str()) {
            Some(Bound::Tensor(tensor)) => Some(self.g.shape(*tensor).to_vec()),
            _ => self.constant(node, at).map(|constant| constant.shape.clone()),
        }
    }

    /// Shape of the first output of a node, if it is computed when the graph runs.
    pub fn computed_shape(&self, node: &NodeProto) -> Option<Vec<usize>> {
        self.shape_here(node.output.first()?).map(<[usize]>::to_vec)
    }

    /// Number of values of all parameters so far.
    pub fn parameter_values(&self) -> usize {
        self.forward.parameters.iter().map(|(parameter, _)| parameter.len()).sum()
    }

    /// First output of a node that has been appended.
    pub fn value_of(&mut self, node: &'a NodeProto) -> Result<Tensor> {
        match node.output.first() {
            Some(output) => self.value_for(node, output, None),
            None => Err(self.at_node(node, "has no output")),
        }
    }

    /// The batch size in the file, where it is fixed.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.file.input.batch
    }

    /// What to do about a shape that does not fit, if it may be due to the batch that the file fixes.
    pub fn batch_remedy(&self) -> String {
        match self.fixed_batch() {
            Some(batch) if batch != self.batch => format!(
                "; the network was exported for a batch of {batch}, not {}: export it with a dynamic batch",
                self.batch
            ),
            _ => String::new(),
        }
    }

    /// Whether the graph is for training.
    pub fn is_training(&self) -> bool {
        self.mode == Mode::Train
    }

    /// Whether training leaves running statistics as they are, and normalises by them.
    pub fn has_frozen_statistics(&self) -> bool {
        self.file.frozen_statistics
    }

    /// An error at `node`.
    pub fn at_node(&self, node: &NodeProto, reason: impl Into<String>) -> GraphError {
        self.file.at_node(node, reason)
    }

    /// The value called `name`: computed, a constant, or `None` if it is neither.
    pub(super) fn found(&mut self, name: &str) -> Option<Found> {
        let constant = match self.values.get(name) {
            Some(&Bound::Tensor(tensor)) => return Some(Found { tensor, is_computed: true }),
            Some(Bound::Known { constant, .. }) => constant,
            Some(Bound::Random(_) | Bound::Sequence(_)) => return None,
            None => match self.declared.get(name) {
                Some(&tensor) => return Some(Found { tensor, is_computed: true }),
                None => self.file.constants.get(name)?,
            },
        };
        let constant = constant.clone();
        Some(Found { tensor: self.embed(&constant), is_computed: false })
    }

    /// What has been declared, with the input of the graph in place of logits.
    pub(super) fn into_forward(self) -> Forward {
        self.forward
    }

    pub fn finish(mut self) -> Result<Forward> {
        let Some(Bound::Tensor(mut logits)) = self.values.remove(self.file.logits.as_str()) else {
            let name = &self.file.logits;
            return Err(self.file.failed(format!("no node computes its output `{name}` from the images")));
        };
        let shape = self.g.shape(logits).to_vec();
        if shape.len() > 2 && shape[2..].iter().all(|&length| length == 1) {
            logits = self.g.flatten(logits, 1)?;
        }
        let shape = self.g.shape(logits);
        if shape.len() != 2 || shape[0] != self.batch {
            let (name, batch) = (&self.file.logits, self.batch);
            return Err(self.file.failed(format!(
                "its output `{name}` has the shape {shape:?} for {batch} images, expected [{batch},K], one \
                 logit for each class"
            )));
        }
        self.forward.logits = logits;
        Ok(self.forward)
    }

    pub fn unary(
        &mut self,
        node: &'a NodeProto,
        emit: fn(&mut Builder, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let x = self.operand(node, 0)?;
        emit(self.g, x)
    }

    pub fn binary(
        &mut self,
        node: &'a NodeProto,
        emit: fn(&mut Builder, Tensor, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        emit(self.g, a, b)
    }

    /// The type that the network computes in.
    pub fn element(&self) -> ElementType {
        self.element
    }

    pub(super) fn declarations(&self) -> &'a Declarations {
        &self.file.declarations
    }

    /// The operator set of the file.
    pub fn opset(&self) -> i64 {
        self.file.opset
    }

    /// Whether the values of `name` were computed from a shape of the network, so that they fit its batch.
    fn is_of_shape(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Bound::Known { of_shape: true, .. }))
    }

    /// The target of a node that makes `count` values in a new shape; a batch size of the file's trace at its
    /// beginning becomes that of the network.
    pub fn target_shape(&self, node: &NodeProto, at: usize, target: Vec<i64>, count: usize) -> Vec<i64> {
        let is_traced = node.input.get(at).is_none_or(|name| !self.is_of_shape(name));
        let Some(traced) = self.fixed_batch().filter(|_| is_traced).map(|batch| batch as i64) else {
            return target;
        };
        let (Some(&first), batch) = (target.first(), self.batch as i64) else { return target };
        if first <= 0 || first % traced != 0 || batch == traced {
            return target;
        }
        let product = target.iter().try_fold(1i64, |product, &length| product.checked_mul(length));
        let is_whole = target.iter().all(|&length| length > 0);
        if is_whole && product == i64::try_from(count).ok() {
            return target;
        }
        [&[first / traced * batch], &target[1..]].concat()
    }

    /// An operand: a value of the network, a parameter, or a constant.
    ///
    /// An initialiser of several values is a parameter, unless it is a mask or normalises the images.
    pub fn operand(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        let name = node.input.get(at).map_or("", String::as_str);
        self.value_for(node, name, Some(at))
    }

    /// The value called `name`, which may be operand `at` of `node`.
    fn value_for(&mut self, node: &'a NodeProto, name: &'a str, at: Option<usize>) -> Result<Tensor> {
        let constant = match self.values.get(name) {
            Some(Bound::Tensor(tensor)) => return Ok(*tensor),
            Some(Bound::Known { constant, of_shape: true }) => {
                let constant = constant.clone();
                return self.embed_for_batch(&constant);
            }
            Some(Bound::Known { constant, .. }) => constant.clone(),
            Some(Bound::Random(_)) => {
                return Err(self.at_node(node, format!("takes the random numbers `{name}`")));
            }
            Some(Bound::Sequence(_)) => {
                return Err(self.at_node(node, format!("takes `{name}`, a sequence, expected a tensor")));
            }
            None => match self.file.constants.get(name) {
                Some(constant)
                    if self.file.asked.contains(name)
                        || self.file.is_trained(name) && !at.is_some_and(|at| self.normalises(node, at))
                        || self.file.is_bias_of_layer(node, name) =>
                {
                    let kind = match constant.is_list() {
                        true => self.file.kind_of_list(node),
                        false => ParameterKind::Weight,
                    };
                    return self.parameter(node, name, constant, kind);
                }
                Some(constant) => constant.clone(),
                None => return Err(self.at_node(node, self.file.why_missing(name, at))),
            },
        };
        Ok(self.embed(&constant))
    }

    /// A constant of the graph.
    pub fn embed(&mut self, constant: &Constant) -> Tensor {
        let ty = |element| TensorType::new(element, constant.shape.clone());
        match &constant.values {
            Values::Floats(values) => {
                let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
                self.g.floats(ty(self.element), &values)
            }
            Values::Integers(values) => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.g.constant(ty(ElementType::I64), bytes)
            }
            Values::Booleans(values) => {
                let bytes = values.iter().map(|&value| value.into()).collect();
                self.g.constant(ty(ElementType::Bool), bytes)
            }
        }
    }

    /// A constant of the graph that was computed from shapes: what it repeats for each image is there once,
    /// so that the batch may be free.
    fn embed_for_batch(&mut self, constant: &Constant) -> Result<Tensor> {
        let is_of_batch = self.batch > 1 && constant.shape.len() > 1 && constant.shape[0] == self.batch;
        match is_of_batch.then(|| one_along(constant, 0)).flatten() {
            Some(one) => {
                let one = self.embed(&one);
                self.g.expand(one, &constant.shape)
            }
            None => Ok(self.embed(constant)),
        }
    }

    /// Whether operand `at` is combined, value by value, with images that no parameter has changed.
    fn normalises(&self, node: &NodeProto, at: usize) -> bool {
        let is_unlearned = |name: &String| match self.values.get(name.as_str()) {
            Some(Bound::Tensor(tensor)) => self.unlearned.contains(tensor),
            _ => false,
        };
        matches!(node.op_type(), "Add" | "Sub" | "Mul" | "Div")
            && node.input.iter().enumerate().any(|(other, name)| other != at && is_unlearned(name))
    }

    /// An operand that is weights of a layer if it is a constant of the file.
    pub fn weight(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        self.trained(node, at, ParameterKind::Weight)
    }

    /// An operand that is factors of the channels if it is a constant of the file.
    pub fn scale(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        self.trained(node, at, ParameterKind::Scale)
    }

    /// An operand that is the bias of a layer if it is a constant of the file.
    pub fn bias(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        self.trained(node, at, ParameterKind::Bias)
    }

    fn trained(&mut self, node: &'a NodeProto, at: usize, kind: ParameterKind) -> Result<Tensor> {
        let name = node.input.get(at).map_or("", String::as_str);
        let is_trained = |constant: &Constant| {
            let is_held = constant.is_mask() || self.file.held.contains_key(name);
            self.file.asked.contains(name) || matches!(constant.values, Values::Floats(_)) && !is_held
        };
        match self.file.constants.get(name) {
            Some(constant) if is_trained(constant) => self.parameter(node, name, constant, kind),
            _ => self.operand(node, at),
        }
    }

    fn parameter(
        &mut self,
        node: &'a NodeProto,
        name: &'a str,
        constant: &'a Constant,
        kind: ParameterKind,
    ) -> Result<Tensor> {
        if let Some(&tensor) = self.declared.get(name) {
            return Ok(tensor);
        }
        let Values::Floats(values) = &constant.values else {
            return Err(self.at_node(node, format!("takes integers from `{name}`, expected numbers")));
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let value = values[at];
            return Err(self.at_node(
                node,
                format!(
                    "takes the weights `{name}`, of which number {} is {value}, expected finite ones",
                    at + 1
                ),
            ));
        }
        let shape = constant.shape.clone();
        let here = self.file.name_here(name);
        let input = self.g.input(&here, TensorType::f32(shape.clone()))?;
        let given = || Init::Values(Arc::clone(values));
        let init = self.file.initial.get(name).cloned().unwrap_or_else(given);
        let parameter = Parameter { name: here, shape, kind, init, weight_decay: None };
        self.forward.parameters.push((parameter, input));
        let tensor = self.g.cast(input, self.element)?;
        self.declared.insert(name, tensor);
        Ok(tensor)
    }

    /// An operand that training updates without a gradient, `f32`; its new value is
    /// [`set_buffer`](Self::set_buffer).
    pub fn buffer(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        let name = node.input.get(at).map_or("", String::as_str);
        let here = self.file.name_here(name);
        if let Some(used) = self.forward.buffers.iter().find(|used| used.buffer.name == here) {
            return Ok(used.value);
        }
        let Some(Constant { shape, values: Values::Floats(values) }) = self.constant(node, at) else {
            return Err(self.at_node(node, format!("takes statistics from `{name}`, expected constants")));
        };
        let buffer = Buffer { name: here, shape: shape.clone(), init: Init::Values(Arc::clone(values)) };
        let value = self.g.input(&buffer.name, TensorType::f32(buffer.shape.clone()))?;
        self.forward.buffers.push(BufferUse { buffer, value, new: None });
        Ok(value)
    }

    /// Gives a buffer its value after the batch.
    pub fn set_buffer(&mut self, value: Tensor, new: Tensor) {
        if let Some(used) = self.forward.buffers.iter_mut().find(|used| used.value == value) {
            used.new = Some(new);
        }
    }
}

/// Whether a node has an operand at this position.
pub(crate) fn given(node: &NodeProto, at: usize) -> bool {
    node.input.get(at).is_some_and(|name| !name.is_empty())
}
