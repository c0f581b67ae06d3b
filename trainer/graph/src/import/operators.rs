//! Operators of a file, translated one by one.

use std::collections::HashMap;

use super::file::{Attributes, Constant, Values};
use super::{Imported, is_constant};
use crate::init::Init;
use crate::module::{DropoutMask, Forward, Mode, Parameter, ParameterKind};
use crate::onnx::NodeProto;
use crate::ops::{Conv, DropoutScaling, Lrn, LrnRegion, Pool};
use crate::{Builder, ElementType, Result, Tensor, TensorType};

/// Operators that files may hold.
pub(super) const SUPPORTED: &[&str] = &[
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "Div",
    "Dropout",
    "Exp",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "LRN",
    "MatMul",
    "MaxPool",
    "Mul",
    "Neg",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax (at the end)",
    "Sqrt",
    "Sub",
    "Tanh",
    "Transpose",
];

/// A network on its way from a file into a builder.
pub(super) struct Translation<'a> {
    file: &'a Imported,
    g: &'a mut Builder,
    mode: Mode,
    values: HashMap<&'a str, Tensor>,
    /// Parameters that are declared, in the type that the network computes in.
    declared: HashMap<&'a str, Tensor>,
    element: ElementType,
    batch: usize,
    forward: Forward,
}

impl<'a> Translation<'a> {
    pub fn new(file: &'a Imported, g: &'a mut Builder, x: Tensor, mode: Mode) -> Self {
        let (element, batch) = (g.element(x), g.shape(x)[0]);
        let forward = Forward { logits: x, parameters: Vec::new(), masks: Vec::new() };
        let (values, declared) = (HashMap::new(), HashMap::new());
        Self { file, g, mode, values, declared, element, batch, forward }
    }

    /// `name` is `value` from now on.
    pub fn define(&mut self, name: &'a str, value: Tensor) {
        self.values.insert(name, value);
    }

    /// What a node that has been appended makes.
    pub fn value_of(&self, node: &NodeProto) -> Result<Tensor> {
        let value = node.output.first().and_then(|output| self.values.get(output.as_str()));
        value.copied().ok_or_else(|| self.file.at_node(node, "has no output"))
    }

    pub fn finish(mut self) -> Result<Forward> {
        let logits = self.values.get(self.file.logits.as_str()).copied();
        self.forward.logits = logits
            .ok_or_else(|| self.file.failed(format!("no node makes its output `{}`", self.file.logits)))?;
        Ok(self.forward)
    }

    /// Appends a node of the file.
    pub fn append(&mut self, node: &'a NodeProto) -> Result<()> {
        if is_constant(node) {
            return Ok(());
        }
        let Some(output) = node.output.first() else {
            return Err(self.file.at_node(node, "has no output"));
        };
        let y = self.translate(node)?;
        self.define(output, y);
        Ok(())
    }

    fn translate(&mut self, node: &'a NodeProto) -> Result<Tensor> {
        let attributes = Attributes(node);
        match node.op_type() {
            "Conv" => self.conv(node),
            "Gemm" => self.gemm(node),
            "MatMul" => {
                let (a, b) = (self.operand(node, 0)?, self.weight(node, 1)?);
                self.g.matmul(a, b)
            }
            "Add" => {
                let (a, b) = (self.addend(node, 0)?, self.addend(node, 1)?);
                self.g.add(a, b)
            }
            "Sub" => self.binary(node, Builder::sub),
            "Mul" => self.binary(node, Builder::mul),
            "Div" => self.binary(node, Builder::div),
            "Relu" => self.unary(node, Builder::relu),
            "Tanh" => self.unary(node, Builder::tanh),
            "Sigmoid" => self.unary(node, Builder::sigmoid),
            "Exp" => self.unary(node, Builder::exp),
            "Sqrt" => self.unary(node, Builder::sqrt),
            "Neg" => self.unary(node, Builder::neg),
            "GlobalAveragePool" => self.unary(node, Builder::global_average_pool),
            "Identity" => self.operand(node, 0),
            "Clip" => {
                let x = self.operand(node, 0)?;
                let low = self.scalar(node, 1, "min", f32::MIN)?;
                let high = self.scalar(node, 2, "max", f32::MAX)?;
                self.g.clip(x, low, high)
            }
            "MaxPool" | "AveragePool" => self.pool(node),
            "LRN" => {
                let x = self.operand(node, 0)?;
                let size = usize::try_from(attributes.int("size", 0)).unwrap_or(0);
                let (alpha, beta) = (attributes.float("alpha", 1e-4), attributes.float("beta", 0.75));
                let (alpha, k) = (alpha / size.max(1) as f64, attributes.float("bias", 1.0));
                let lrn = Lrn { size, alpha, beta, k, region: LrnRegion::Channels };
                self.g.lrn(x, lrn)
            }
            "Dropout" => self.dropout(node),
            "Flatten" => {
                let x = self.operand(node, 0)?;
                let axis = self.axis(x, attributes.int("axis", 1));
                self.g.flatten(x, axis)
            }
            "Reshape" => self.reshape(node),
            "Transpose" => {
                let x = self.operand(node, 0)?;
                let reversed = (0..self.g.shape(x).len()).rev().collect();
                let order = attributes.sizes("perm").unwrap_or(reversed);
                self.g.transpose(x, &order)
            }
            "Concat" => {
                let parts: Vec<Tensor> =
                    (0..node.input.len()).map(|at| self.operand(node, at)).collect::<Result<_>>()?;
                let axis = parts.first().map_or(0, |&first| self.axis(first, attributes.int("axis", 1)));
                self.g.concat(&parts, axis)
            }
            _ => Err(self.file.not_supported(node)),
        }
    }

    fn unary(
        &mut self,
        node: &'a NodeProto,
        emit: fn(&mut Builder, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let x = self.operand(node, 0)?;
        emit(self.g, x)
    }

    fn binary(
        &mut self,
        node: &'a NodeProto,
        emit: fn(&mut Builder, Tensor, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        emit(self.g, a, b)
    }

    fn conv(&mut self, node: &'a NodeProto) -> Result<Tensor> {
        let attributes = Attributes(node);
        let (x, w) = (self.operand(node, 0)?, self.weight(node, 1)?);
        let b = if given(node, 2) { Some(self.bias(node, 2)?) } else { None };
        let pads = self.pads(node)?;
        let pair = |name| match attributes.sizes(name).as_deref() {
            None => Ok([1; 2]),
            Some(&[height, width]) => Ok([height, width]),
            Some(list) => Err(self.file.at_node(node, format!("has {name} {list:?}, expected two numbers"))),
        };
        let conv = Conv {
            strides: pair("strides")?,
            pads_before: [pads[0], pads[1]],
            pads_after: [pads[2], pads[3]],
            dilations: pair("dilations")?,
            groups: usize::try_from(attributes.int("group", 1)).unwrap_or(0),
        };
        self.g.conv(x, w, b, conv)
    }

    fn gemm(&mut self, node: &'a NodeProto) -> Result<Tensor> {
        let attributes = Attributes(node);
        if attributes.float("alpha", 1.0) != 1.0 || attributes.float("beta", 1.0) != 1.0 {
            return Err(self.file.at_node(node, "has an alpha or beta, expected 1"));
        }
        let (a, b) = (self.operand(node, 0)?, self.weight(node, 1)?);
        let c = if given(node, 2) { Some(self.bias(node, 2)?) } else { None };
        let transposed = |name| attributes.int(name, 0) != 0;
        self.g.gemm(a, b, c, transposed("transA"), transposed("transB"))
    }

    fn pool(&mut self, node: &'a NodeProto) -> Result<Tensor> {
        let attributes = Attributes(node);
        let x = self.operand(node, 0)?;
        let refuse = |reason: &str| Err(self.file.at_node(node, reason));
        let pads = self.pads(node)?;
        let kernel = attributes.sizes("kernel_shape").unwrap_or_default();
        let strides = attributes.sizes("strides").unwrap_or(vec![1; 2]);
        let square = |list: &[usize]| list.len() == 2 && list[0] == list[1];
        if !square(&kernel) || !square(&strides) || pads.iter().any(|&pad| pad != pads[0]) {
            return refuse("has a window that is not square, or other padding on one side than on another");
        }
        let ceil = attributes.int("ceil_mode", 0) != 0;
        if (ceil && pads[0] > 0) || attributes.sizes("dilations").is_some_and(|d| d != [1, 1]) {
            return refuse("has dilations, or a ceil_mode and padding, which is not supported");
        }
        let pool = Pool { kernel: kernel[0], stride: strides[0], padding: pads[0], ceil };
        if node.op_type() == "MaxPool" {
            return self.g.max_pool(x, pool);
        }
        if pool.padding > 0 && attributes.int("count_include_pad", 0) != 0 {
            return refuse("counts its padding, which is not supported");
        }
        self.g.average_pool(x, pool)
    }

    fn dropout(&mut self, node: &'a NodeProto) -> Result<Tensor> {
        let x = self.operand(node, 0)?;
        let keep = 1.0 - self.scalar(node, 1, "ratio", 0.5)?;
        if self.mode == Mode::Evaluate || keep == 1.0 {
            return self.g.dropout_expectation(x, keep, DropoutScaling::InTraining);
        }
        let name = format!("{}.mask", node.output[0]);
        let mask = self.g.input(&name, self.g.ty(x).of(ElementType::Bool))?;
        self.forward.masks.push(DropoutMask { name, shape: self.g.shape(x).to_vec(), keep });
        self.g.dropout(x, mask, keep, DropoutScaling::InTraining)
    }

    fn reshape(&mut self, node: &'a NodeProto) -> Result<Tensor> {
        let x = self.operand(node, 0)?;
        let target = match self.constant(node, 1).map(|constant| &constant.values) {
            Some(Values::Integers(target)) => target.clone(),
            _ => match Attributes(node).ints("shape") {
                Some(target) => target,
                None => {
                    return Err(self.file.at_node(node, "has a shape that is computed, expected a constant"));
                }
            },
        };
        let from = self.g.shape(x).to_vec();
        let mut shape: Vec<usize> = Vec::with_capacity(target.len());
        for (at, &length) in target.iter().enumerate() {
            shape.push(match length {
                0 => from.get(at).copied().unwrap_or(0),
                // To be found out below.
                -1 => 1,
                // Written for the batch of the file.
                length if at == 0 && usize::try_from(length).ok() == self.file.input.1[0] => self.batch,
                length => usize::try_from(length).unwrap_or(0),
            });
        }
        if let Some(open) = target.iter().position(|&length| length == -1) {
            shape[open] = from.iter().product::<usize>() / shape.iter().product::<usize>().max(1);
        }
        // Says the same for every batch size.
        if shape.len() == 2 && shape[0] == from[0] { self.g.flatten(x, 1) } else { self.g.reshape(x, &shape) }
    }

    /// Padding at the top, left, bottom and right.
    fn pads(&self, node: &NodeProto) -> Result<[usize; 4]> {
        let attributes = Attributes(node);
        if !matches!(attributes.text("auto_pad").as_str(), "" | "NOTSET" | "VALID") {
            return Err(self.file.at_node(node, "has an auto_pad, expected pads in numbers"));
        }
        match attributes.sizes("pads").as_deref() {
            None => Ok([0; 4]),
            Some(&[top, left, bottom, right]) => Ok([top, left, bottom, right]),
            Some(list) => Err(self.file.at_node(node, format!("has pads {list:?}, expected four"))),
        }
    }

    /// An axis counted from the end if negative; one past the last if there is none such.
    fn axis(&self, x: Tensor, axis: i64) -> usize {
        let rank = self.g.shape(x).len();
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(axis).unwrap_or(rank + 1)
    }

    /// The number that an operand or, in older operator sets, an attribute holds.
    fn scalar(&self, node: &NodeProto, at: usize, attribute: &str, default: f32) -> Result<f64> {
        if !given(node, at) {
            return Ok(Attributes(node).float(attribute, default));
        }
        match self.constant(node, at).map(|constant| &constant.values) {
            Some(Values::Floats(values)) if values.len() == 1 => Ok(values[0].into()),
            _ => Err(self
                .file
                .at_node(node, format!("has a {attribute} that is computed, expected a constant"))),
        }
    }

    fn constant(&self, node: &NodeProto, at: usize) -> Option<&'a Constant> {
        let file = self.file;
        file.constants.get(node.input.get(at)?)
    }

    /// A value of the network, or a constant that stays as it is.
    fn operand(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        let name = node.input.get(at).map_or("", String::as_str);
        if let Some(&tensor) = self.values.get(name) {
            return Ok(tensor);
        }
        match self.constant(node, at) {
            Some(Constant { shape, values: Values::Floats(values) }) => {
                let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
                Ok(self.g.floats(TensorType::new(self.element, shape.clone()), &values))
            }
            Some(_) => {
                Err(self.file.at_node(node, format!("takes whole numbers from `{name}`, expected f32")))
            }
            None => Err(self.file.at_node(node, format!("takes `{name}`, which nothing before it makes"))),
        }
    }

    fn weight(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        self.trained(node, at, ParameterKind::Weight)
    }

    fn bias(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        self.trained(node, at, ParameterKind::Bias)
    }

    /// What is added: a list of numbers is a bias, a single number is not.
    fn addend(&mut self, node: &'a NodeProto, at: usize) -> Result<Tensor> {
        let is_list =
            self.constant(node, at).is_some_and(|constant| constant.shape.iter().product::<usize>() > 1);
        if is_list { self.bias(node, at) } else { self.operand(node, at) }
    }

    /// An operand that is trained if it is a constant of the file.
    fn trained(&mut self, node: &'a NodeProto, at: usize, kind: ParameterKind) -> Result<Tensor> {
        let Some(Constant { shape, values: Values::Floats(values) }) = self.constant(node, at) else {
            return self.operand(node, at);
        };
        let name = node.input[at].as_str();
        if let Some(&tensor) = self.declared.get(name) {
            return Ok(tensor);
        }
        let input = self.g.input(name, TensorType::f32(shape.clone()))?;
        let init = Init::Values(values.as_slice().into());
        let (name_of, shape) = (name.to_owned(), shape.clone());
        self.forward
            .parameters
            .push((Parameter { name: name_of, shape, kind, init, weight_decay: None }, input));
        let tensor = self.g.cast(input, self.element)?;
        self.declared.insert(name, tensor);
        Ok(tensor)
    }
}

/// Whether a node has an operand at this place.
fn given(node: &NodeProto, at: usize) -> bool {
    node.input.get(at).is_some_and(|name| !name.is_empty())
}
