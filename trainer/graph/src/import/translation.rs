//! Translation of a file into a builder, node by node. How each operator is imported is in its file of `ops`.

use std::collections::HashMap;
use std::sync::Arc;

use super::file::{Constant, Imported, NodeAttributes, Values};
use crate::init::Init;
use crate::module::{DropoutMask, Forward, Mode, Parameter, ParameterKind, mask_name};
use crate::onnx::NodeProto;
use crate::{Builder, ElementType, GraphError, Operator, Result, Tensor, TensorType};

/// Imports a node of a file; returns its first output.
pub(crate) type Import = for<'a> fn(&mut Translation<'a>, &'a NodeProto) -> Result<Tensor>;

/// The operators of a file of `ops`, each with its import; `None` where files may not hold it.
pub(crate) type Family = &'static [(&'static Operator, Option<Import>)];

/// The state of a translation.
pub(crate) struct Translation<'a> {
    file: &'a Imported,
    pub g: &'a mut Builder,
    mode: Mode,
    values: HashMap<&'a str, Tensor>,
    /// Parameters that are declared, in the type that the network computes in.
    declared: HashMap<&'a str, Tensor>,
    element: ElementType,
    pub batch: usize,
    forward: Forward,
}

impl<'a> Translation<'a> {
    pub fn new(file: &'a Imported, g: &'a mut Builder, x: Tensor, mode: Mode) -> Self {
        let (element, batch) = (g.element(x), g.shape(x)[0]);
        let forward = Forward::new(x);
        let (values, declared) = (HashMap::new(), HashMap::new());
        Self { file, g, mode, values, declared, element, batch, forward }
    }

    /// Binds `name` to `value`.
    pub fn define(&mut self, name: &'a str, value: Tensor) {
        self.values.insert(name, value);
    }

    /// First output of a node that has been appended.
    pub fn value_of(&self, node: &NodeProto) -> Result<Tensor> {
        let value = node.output.first().and_then(|output| self.values.get(output.as_str()));
        value.copied().ok_or_else(|| self.file.at_node(node, "has no output"))
    }

    /// The batch size in the file, where it is fixed.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.file.input.1[0]
    }

    /// An error at `node`.
    pub fn at_node(&self, node: &NodeProto, reason: impl Into<String>) -> GraphError {
        self.file.at_node(node, reason)
    }

    pub fn finish(mut self) -> Result<Forward> {
        let logits = self.values.get(self.file.logits.as_str()).copied();
        self.forward.logits = logits
            .ok_or_else(|| self.file.failed(format!("no node produces its output `{}`", self.file.logits)))?;
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

    /// The mask, drawn by the host, of a dropout that keeps a fraction `keep` of `x`; `None` in evaluation.
    pub fn mask(&mut self, node: &'a NodeProto, x: Tensor, keep: f64) -> Result<Option<Tensor>> {
        if self.mode == Mode::Evaluate {
            return Ok(None);
        }
        let name = mask_name(&node.output[0]);
        let mask = self.g.input(&name, self.g.ty(x).with_element(ElementType::Bool))?;
        self.forward.masks.push(DropoutMask { name, shape: self.g.shape(x).to_vec(), keep });
        Ok(Some(mask))
    }

    /// Padding at the top, left, bottom and right.
    pub fn pads(&self, node: &NodeProto) -> Result<[usize; 4]> {
        let attributes = NodeAttributes(node);
        if !matches!(attributes.text("auto_pad").as_str(), "" | "NOTSET" | "VALID") {
            return Err(self.file.at_node(node, "has an auto_pad, expected pads in numbers"));
        }
        match attributes.sizes("pads").as_deref() {
            None => Ok([0; 4]),
            Some(&[top, left, bottom, right]) => Ok([top, left, bottom, right]),
            Some(list) => Err(self.file.at_node(node, format!("has pads {list:?}, expected four"))),
        }
    }

    /// Index of an axis, which counts from the end if negative; `rank + 1`, which the builder refuses, if
    /// that is before the first.
    pub fn axis(&self, x: Tensor, axis: i64) -> usize {
        let rank = self.g.shape(x).len();
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(axis).unwrap_or(rank + 1)
    }

    /// The scalar in an operand or, in older operator sets, in an attribute.
    pub fn scalar(&self, node: &NodeProto, at: usize, attribute: &str, default: f32) -> Result<f64> {
        if !given(node, at) {
            return Ok(NodeAttributes(node).float(attribute, default));
        }
        match self.constant(node, at).map(|constant| &constant.values) {
            Some(Values::Floats(values)) if values.len() == 1 => Ok(values[0].into()),
            _ => Err(self
                .file
                .at_node(node, format!("has a {attribute} that is computed, expected a constant"))),
        }
    }

    pub fn constant(&self, node: &NodeProto, at: usize) -> Option<&'a Constant> {
        let file = self.file;
        file.constants.get(node.input.get(at)?)
    }

    /// An operand: a value of the network, or a constant that is not trained.
    pub fn operand(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        let name = node.input.get(at).map_or("", String::as_str);
        if let Some(&tensor) = self.values.get(name) {
            return Ok(tensor);
        }
        match self.constant(node, at) {
            Some(Constant { shape, values: Values::Floats(values) }) => {
                let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
                Ok(self.g.floats(TensorType::new(self.element, shape.clone()), &values))
            }
            Some(_) => Err(self.file.at_node(node, format!("takes integers from `{name}`, expected f32"))),
            None => Err(self.file.at_node(node, format!("takes `{name}`, which no node before it produces"))),
        }
    }

    pub fn weight(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        self.trained(node, at, ParameterKind::Weight)
    }

    pub fn bias(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        self.trained(node, at, ParameterKind::Bias)
    }

    /// An operand of an addition: a constant vector is a bias, a constant scalar is not.
    pub fn addend(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        let is_list =
            self.constant(node, at).is_some_and(|constant| constant.shape.iter().product::<usize>() > 1);
        if is_list { self.bias(node, at) } else { self.operand(node, at) }
    }

    /// An operand that becomes a parameter if it is a constant of the file.
    fn trained(&mut self, node: &'a NodeProto, at: usize, kind: ParameterKind) -> Result<Tensor> {
        let Some(Constant { shape, values: Values::Floats(values) }) = self.constant(node, at) else {
            return self.operand(node, at);
        };
        let name = node.input[at].as_str();
        if let Some(&tensor) = self.declared.get(name) {
            return Ok(tensor);
        }
        let input = self.g.input(name, TensorType::f32(shape.clone()))?;
        let init = Init::Values(Arc::clone(values));
        let (name_of, shape) = (name.to_owned(), shape.clone());
        self.forward
            .parameters
            .push((Parameter { name: name_of, shape, kind, init, weight_decay: None }, input));
        let tensor = self.g.cast(input, self.element)?;
        self.declared.insert(name, tensor);
        Ok(tensor)
    }
}

/// Whether a node has an operand at this position.
pub(crate) fn given(node: &NodeProto, at: usize) -> bool {
    node.input.get(at).is_some_and(|name| !name.is_empty())
}
