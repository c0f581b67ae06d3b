//! The kernels as operators of ONNX Runtime.

use ort::Error;
use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
    ShapeInferenceContext,
};
use ort::value::{SymbolicDimensions, TensorElementType, ValueRef, ValueRefMut, ValueType};

use crate::activations::Activation;
use crate::batch_norm::{BatchNorm, Parameters, Statistics};
use crate::conv::Conv;
use crate::depthwise::Depthwise;
use crate::limits;
use crate::lrn::Lrn;
use crate::pool::MaxPool;
use crate::threads::Threads;

/// The domain of the operators.
pub const DOMAIN: &str = "fovea";

/// The operators; ONNX Runtime must be loaded.
///
/// # Errors
/// ONNX Runtime refuses them.
pub fn operators() -> ort::Result<OperatorDomain> {
    OWN.into_iter().try_fold(OperatorDomain::new(DOMAIN)?, OperatorDomain::add)
}

const OWN: [Own; 14] = [
    Own { name: "Conv", inputs: 2, optional: 1, outputs: &[Like::Attribute], kernel: conv },
    Own { name: "ConvData", inputs: 2, optional: 0, outputs: &[Like::Attribute], kernel: conv_data },
    Own { name: "ConvWeight", inputs: 2, optional: 0, outputs: &[Like::Attribute], kernel: conv_weight },
    Own {
        name: "BatchNormTraining",
        inputs: 3,
        optional: 0,
        outputs: &[Like::Input(0), Like::Input(1), Like::Input(1)],
        kernel: batch_norm,
    },
    Own {
        name: "BatchNormGradient",
        inputs: 5,
        optional: 0,
        outputs: &[Like::Input(1), Like::Input(2), Like::Input(2)],
        kernel: batch_norm_gradient,
    },
    Own { name: "MaxPool", inputs: 1, optional: 0, outputs: &[Like::Attribute], kernel: max_pool },
    Own {
        name: "MaxPoolGradient",
        inputs: 2,
        optional: 0,
        outputs: &[Like::Input(1)],
        kernel: max_pool_gradient,
    },
    Own { name: "Lrn", inputs: 1, optional: 0, outputs: &[Like::Input(0)], kernel: lrn },
    Own { name: "LrnGradient", inputs: 2, optional: 0, outputs: &[Like::Input(1)], kernel: lrn_gradient },
    Own {
        name: "Gelu",
        inputs: 1,
        optional: 0,
        outputs: &[Like::Input(0)],
        kernel: |_| activation(Activation::Gelu),
    },
    Own {
        name: "GeluGradient",
        inputs: 2,
        optional: 0,
        outputs: &[Like::Input(1)],
        kernel: |_| activation_gradient(Activation::Gelu),
    },
    Own {
        name: "Silu",
        inputs: 1,
        optional: 0,
        outputs: &[Like::Input(0)],
        kernel: |_| activation(Activation::Silu),
    },
    Own {
        name: "SiluGradient",
        inputs: 2,
        optional: 0,
        outputs: &[Like::Input(1)],
        kernel: |_| activation_gradient(Activation::Silu),
    },
    Own { name: "ClipGradient", inputs: 2, optional: 0, outputs: &[Like::Input(0)], kernel: clip_gradient },
];

/// An operator over tensors of f32.
#[derive(Clone, Copy)]
struct Own {
    name: &'static str,
    inputs: usize,
    /// Inputs after these that may be missing.
    optional: usize,
    outputs: &'static [Like],
    kernel: fn(&KernelContext<'_>) -> ort::Result<Run>,
}

/// The shape of an output.
#[derive(Clone, Copy)]
enum Like {
    /// That of an input.
    Input(usize),
    /// The attribute `shape`.
    Attribute,
}

/// Computes the outputs of a node.
type Run = Box<dyn Fn(&[Operand<'_>], &mut [&mut [f32]], &dyn Threads) -> ort::Result<()> + Send>;

/// An input of a node.
struct Operand<'a> {
    shape: &'a [i64],
    values: &'a [f32],
}

impl Operator for Own {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        self.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let input = |at| match at < self.inputs {
            true => OperatorInput::required(TensorElementType::Float32),
            false => OperatorInput::optional(TensorElementType::Float32),
        };
        (0..self.inputs + self.optional).map(input).collect::<Vec<_>>()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        self.outputs.iter().map(|_| OperatorOutput::required(TensorElementType::Float32)).collect::<Vec<_>>()
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        let run = (self.kernel)(context)?;
        let shape: Vec<i64> = context.get("shape").unwrap_or_default();
        let (operands, outputs) = (self.inputs + self.optional, self.outputs);
        Ok(Box::new(move |context: &ComputeContext| {
            let inputs: Vec<ValueRef<'_>> =
                (0..operands).filter_map(|at| context.input(at).transpose()).collect::<ort::Result<_>>()?;
            let inputs: Vec<Operand<'_>> = inputs.iter().map(Operand::of).collect::<ort::Result<_>>()?;
            let shape_of = |like: &Like| match like {
                Like::Input(at) => inputs[*at].shape.to_vec(),
                Like::Attribute => shape.clone(),
            };
            let missing = || Error::new("an output is missing");
            let mut values: Vec<ValueRefMut<'_>> = outputs
                .iter()
                .enumerate()
                .map(|(at, like)| context.output(at, shape_of(like))?.ok_or_else(missing))
                .collect::<ort::Result<_>>()?;
            let mut outputs: Vec<&mut [f32]> = values
                .iter_mut()
                .map(|value| Ok(value.try_extract_tensor_mut::<f32>()?.1))
                .collect::<ort::Result<_>>()?;
            run(&inputs, &mut outputs, context)
        }))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
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

impl<'a> Operand<'a> {
    fn of(value: &'a ValueRef<'_>) -> ort::Result<Self> {
        let (shape, values) = value.try_extract_tensor::<f32>()?;
        Ok(Self { shape, values })
    }

    /// N, C and the number of values of a channel of an image.
    fn sizes(&self) -> ort::Result<[usize; 3]> {
        match self.shape {
            [images, channels, sides @ ..] => {
                let plane: i64 = sides.iter().product();
                Ok([*images, *channels, plane].map(|size| size as usize))
            }
            _ => Err(Error::new(format!("an operand has the shape {:?}, expected [N,C,…]", self.shape))),
        }
    }
}

impl Threads for ComputeContext {
    fn run(&self, count: usize, part: &(dyn Fn(usize) + Send + Sync)) {
        // It fails only where there is no context.
        let _ = self.par_for(count, 0, part);
    }
}

/// The windows of a node, from its attributes.
#[derive(Clone, Copy)]
struct Windows {
    kernel: [usize; 2],
    strides: [usize; 2],
    pads: [usize; 2],
}

/// The geometry of a convolution, from a node's attributes.
struct Geometry {
    windows: Windows,
    dilations: [usize; 2],
    groups: usize,
    /// Of the node's output.
    shape: Vec<i64>,
}

/// A convolution by the kernel for it.
enum AnyConv {
    Depthwise(Depthwise),
    Conv(Conv),
}

/// The attribute `shape`.
fn shape_of(context: &KernelContext<'_>) -> ort::Result<Vec<i64>> {
    context.get("shape").ok_or_else(|| Error::new("`shape` is missing"))
}

/// The attribute `name`, two lengths.
fn pair(context: &KernelContext<'_>, name: &str) -> ort::Result<[usize; 2]> {
    let values: Vec<i64> = context.get(name).unwrap_or_default();
    match values[..] {
        [a, b] if a >= 0 && b >= 0 => Ok([a as usize, b as usize]),
        _ => Err(Error::new(format!("`{name}` is {values:?}, expected two lengths"))),
    }
}

/// The four sizes of an operand.
fn sizes(shape: &[i64]) -> ort::Result<[usize; 4]> {
    match *shape {
        [images, channels, rows, columns] => Ok([images, channels, rows, columns].map(|size| size as usize)),
        _ => Err(Error::new(format!("an operand has the shape {shape:?}, expected [N,C,H,W]"))),
    }
}

impl Windows {
    fn of(context: &KernelContext<'_>) -> ort::Result<Self> {
        Ok(Self {
            kernel: pair(context, "kernel_shape")?,
            strides: pair(context, "strides")?,
            pads: pair(context, "pads")?,
        })
    }

    /// The pooling from `[N,C,H,W]` to `[N,C,P,Q]`.
    fn pool(&self, input: &[i64], output: &[i64]) -> ort::Result<MaxPool> {
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

impl Geometry {
    fn of(context: &KernelContext<'_>) -> ort::Result<Self> {
        Ok(Self {
            windows: Windows::of(context)?,
            dilations: pair(context, "dilations")?,
            groups: context.get::<i64>("group").unwrap_or(1) as usize,
            shape: shape_of(context)?,
        })
    }

    /// The convolution from `[N,C,H,W]` to `[N,O,P,Q]`.
    fn between(&self, input: &[i64], output: &[i64]) -> ort::Result<AnyConv> {
        let ([images, channels, height, width], [_, filters, rows, columns]) =
            (sizes(input)?, sizes(output)?);
        let (input, output) = ([height, width], [rows, columns]);
        let Self { windows: Windows { kernel, strides, pads }, dilations, groups, .. } = *self;
        Ok(match groups > 1 && groups == channels && groups == filters {
            true => AnyConv::Depthwise(Depthwise {
                images,
                channels,
                input,
                output,
                kernel,
                strides,
                pads,
                dilations,
            }),
            false => AnyConv::Conv(Conv {
                images,
                channels,
                filters,
                groups,
                input,
                output,
                kernel,
                strides,
                pads,
                dilations,
            }),
        })
    }
}

fn conv(context: &KernelContext<'_>) -> ort::Result<Run> {
    let geometry = Geometry::of(context)?;
    Ok(Box::new(move |inputs, outputs, threads| {
        let (x, w, bias) = (inputs[0].values, inputs[1].values, inputs.get(2).map(|bias| bias.values));
        match geometry.between(inputs[0].shape, &geometry.shape)? {
            AnyConv::Depthwise(conv) => conv.forward(x, w, bias, outputs[0], threads),
            AnyConv::Conv(conv) => conv.forward(x, w, bias, outputs[0], threads),
        }
        Ok(())
    }))
}

fn conv_data(context: &KernelContext<'_>) -> ort::Result<Run> {
    let geometry = Geometry::of(context)?;
    Ok(Box::new(move |inputs, outputs, threads| {
        let (dy, w) = (inputs[0].values, inputs[1].values);
        match geometry.between(&geometry.shape, inputs[0].shape)? {
            AnyConv::Depthwise(conv) => conv.data_gradient(dy, w, outputs[0], threads),
            AnyConv::Conv(conv) => conv.data_gradient(dy, w, outputs[0], threads),
        }
        Ok(())
    }))
}

fn conv_weight(context: &KernelContext<'_>) -> ort::Result<Run> {
    let geometry = Geometry::of(context)?;
    Ok(Box::new(move |inputs, outputs, threads| {
        let (x, dy) = (inputs[0].values, inputs[1].values);
        match geometry.between(inputs[0].shape, inputs[1].shape)? {
            AnyConv::Depthwise(conv) => conv.weight_gradient(x, dy, outputs[0], threads),
            AnyConv::Conv(conv) => conv.weight_gradient(x, dy, outputs[0], threads),
        }
        Ok(())
    }))
}

fn max_pool(context: &KernelContext<'_>) -> ort::Result<Run> {
    let (windows, shape) = (Windows::of(context)?, shape_of(context)?);
    Ok(Box::new(move |inputs, outputs, threads| {
        windows.pool(inputs[0].shape, &shape)?.forward(inputs[0].values, outputs[0], threads);
        Ok(())
    }))
}

fn max_pool_gradient(context: &KernelContext<'_>) -> ort::Result<Run> {
    let windows = Windows::of(context)?;
    Ok(Box::new(move |inputs, outputs, threads| {
        let [dy, x] = [&inputs[0], &inputs[1]];
        windows.pool(x.shape, dy.shape)?.gradient([dy.values, x.values], outputs[0], threads);
        Ok(())
    }))
}

fn epsilon_of(context: &KernelContext<'_>) -> f64 {
    f64::from(context.get::<f32>("epsilon").unwrap_or(1e-5))
}

fn batch_norm(context: &KernelContext<'_>) -> ort::Result<Run> {
    let epsilon = epsilon_of(context);
    Ok(Box::new(move |inputs, outputs, threads| {
        let [images, channels, plane] = inputs[0].sizes()?;
        let [y, mean, variance] = outputs else { return Err(Error::new("expected three outputs")) };
        BatchNorm { images, channels, plane, epsilon }.forward(
            inputs[0].values,
            inputs[1].values,
            inputs[2].values,
            y,
            Statistics { mean, variance },
            threads,
        );
        Ok(())
    }))
}

fn batch_norm_gradient(context: &KernelContext<'_>) -> ort::Result<Run> {
    let epsilon = epsilon_of(context);
    Ok(Box::new(move |inputs, outputs, threads| {
        let [images, channels, plane] = inputs[1].sizes()?;
        let [dx, scale, bias] = outputs else { return Err(Error::new("expected three outputs")) };
        BatchNorm { images, channels, plane, epsilon }.gradients(
            [inputs[0].values, inputs[1].values],
            inputs[2].values,
            [inputs[3].values, inputs[4].values],
            dx,
            Parameters { scale, bias },
            threads,
        );
        Ok(())
    }))
}

/// A normalisation of a batch of so many images, channels and values of a plane, by a node's attributes.
fn lrn_of(context: &KernelContext<'_>) -> ort::Result<impl Fn([usize; 3]) -> Lrn + use<>> {
    let missing = |name: &str| Error::new(format!("`{name}` is missing"));
    let size = context.get::<i64>("size").ok_or_else(|| missing("size"))? as usize;
    let alpha = context.get("alpha").ok_or_else(|| missing("alpha"))?;
    let k = context.get("k").ok_or_else(|| missing("k"))?;
    Ok(move |[images, channels, plane]: [usize; 3]| Lrn { images, channels, plane, size, alpha, k })
}

fn lrn(context: &KernelContext<'_>) -> ort::Result<Run> {
    let lrn = lrn_of(context)?;
    Ok(Box::new(move |inputs, outputs, threads| {
        lrn(inputs[0].sizes()?).forward(inputs[0].values, outputs[0], threads);
        Ok(())
    }))
}

fn lrn_gradient(context: &KernelContext<'_>) -> ort::Result<Run> {
    let lrn = lrn_of(context)?;
    Ok(Box::new(move |inputs, outputs, threads| {
        let [dy, x] = [&inputs[0], &inputs[1]];
        lrn(x.sizes()?).gradient([dy.values, x.values], outputs[0], threads);
        Ok(())
    }))
}

fn activation(activation: Activation) -> ort::Result<Run> {
    Ok(Box::new(move |inputs, outputs, threads| {
        activation.forward(inputs[0].values, outputs[0], threads);
        Ok(())
    }))
}

fn activation_gradient(activation: Activation) -> ort::Result<Run> {
    Ok(Box::new(move |inputs, outputs, threads| {
        activation.gradient([inputs[0].values, inputs[1].values], outputs[0], threads);
        Ok(())
    }))
}

fn clip_gradient(context: &KernelContext<'_>) -> ort::Result<Run> {
    let low = context.get("low").unwrap_or(f32::NEG_INFINITY);
    let high = context.get("high").unwrap_or(f32::INFINITY);
    Ok(Box::new(move |inputs, outputs, threads| {
        limits::gradient([inputs[0].values, inputs[1].values], [low, high], outputs[0], threads);
        Ok(())
    }))
}
