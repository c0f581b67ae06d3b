//! The form of a node: its operator's inputs and outputs, and its attributes.

use ort::Error;
use ort::operator::{KernelContext, OperatorInput, OperatorOutput, ShapeInferenceContext};
use ort::value::{SymbolicDimensions, TensorElementType, ValueType};

use crate::lrn::Lrn;
use crate::pool::MaxPool;

/// Name, inputs and outputs of an operator over tensors of f32.
#[derive(Clone, Copy)]
pub(crate) struct Signature {
    pub name: &'static str,
    pub inputs: usize,
    /// Inputs after these that may be missing.
    pub optional: usize,
    pub outputs: &'static [Like],
}

/// The shape of an output.
#[derive(Clone, Copy)]
pub(crate) enum Like {
    /// That of an input.
    Input(usize),
    /// The attribute `shape`.
    Attribute,
}

impl Signature {
    pub fn operator_inputs(&self) -> Vec<OperatorInput> {
        let input = |at| match at < self.inputs {
            true => OperatorInput::required(TensorElementType::Float32),
            false => OperatorInput::optional(TensorElementType::Float32),
        };
        (0..self.inputs + self.optional).map(input).collect()
    }

    pub fn operator_outputs(&self) -> Vec<OperatorOutput> {
        self.outputs.iter().map(|_| OperatorOutput::required(TensorElementType::Float32)).collect()
    }

    pub fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let inputs = context.inputs();
        for (at, like) in self.outputs.iter().enumerate() {
            let ty = match like {
                Like::Input(at) => inputs.get(*at).cloned(),
                Like::Attribute => {
                    let shape: Vec<i64> = context.attr("shape")?;
                    let dimension_symbols = SymbolicDimensions::empty(shape.len());
                    let (ty, shape) = (TensorElementType::Float32, shape.into());
                    Some(ValueType::Tensor { ty, shape, dimension_symbols })
                }
            };
            if let Some(ty) = ty {
                context.set_output(at, &ty)?;
            }
        }
        Ok(())
    }
}

/// The windows of a node, from its attributes.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub pads: [usize; 2],
}

/// The attribute `shape`.
pub(crate) fn shape_of(context: &KernelContext<'_>) -> ort::Result<Vec<i64>> {
    context.get("shape").ok_or_else(|| Error::new("`shape` is missing"))
}

/// The attribute `name`, two lengths.
pub(crate) fn pair(context: &KernelContext<'_>, name: &str) -> ort::Result<[usize; 2]> {
    let values: Vec<i64> = context.get(name).unwrap_or_default();
    match values[..] {
        [a, b] if a >= 0 && b >= 0 => Ok([a as usize, b as usize]),
        _ => Err(Error::new(format!("`{name}` is {values:?}, expected two lengths"))),
    }
}

/// The four sizes of an operand.
pub(crate) fn sizes(shape: &[i64]) -> ort::Result<[usize; 4]> {
    match *shape {
        [images, channels, rows, columns] => Ok([images, channels, rows, columns].map(|size| size as usize)),
        _ => Err(Error::new(format!("an operand has the shape {shape:?}, expected [N,C,H,W]"))),
    }
}

impl Windows {
    pub fn of(context: &KernelContext<'_>) -> ort::Result<Self> {
        Ok(Self {
            kernel: pair(context, "kernel_shape")?,
            strides: pair(context, "strides")?,
            pads: pair(context, "pads")?,
        })
    }

    /// The pooling from `[N,C,H,W]` to `[N,C,P,Q]`.
    pub fn pool(&self, input: &[i64], output: &[i64]) -> ort::Result<MaxPool> {
        let ([images, channels, height, width], [.., rows, columns]) = (sizes(input)?, sizes(output)?);
        let Self { kernel, strides, pads } = *self;
        Ok(MaxPool {
            images,
            channels,
            input: [height, width],
            output: [rows, columns],
            kernel,
            strides,
            pads,
        })
    }
}

/// N, C and the number of values of a channel of an image.
pub(crate) fn channel_sizes(shape: &[i64]) -> ort::Result<[usize; 3]> {
    match shape {
        [images, channels, sides @ ..] => {
            let plane: i64 = sides.iter().product();
            Ok([*images, *channels, plane].map(|size| size as usize))
        }
        _ => Err(Error::new(format!("an operand has the shape {shape:?}, expected [N,C,…]"))),
    }
}

/// A normalisation of a batch of so many images, channels and values of a plane, by a node's attributes.
pub(crate) fn lrn_of(context: &KernelContext<'_>) -> ort::Result<impl Fn([usize; 3]) -> Lrn + use<>> {
    let missing = |name: &str| Error::new(format!("`{name}` is missing"));
    let size = context.get::<i64>("size").ok_or_else(|| missing("size"))? as usize;
    let alpha = context.get("alpha").ok_or_else(|| missing("alpha"))?;
    let k = context.get("k").ok_or_else(|| missing("k"))?;
    Ok(move |[images, channels, plane]: [usize; 3]| Lrn { images, channels, plane, size, alpha, k })
}
