//! The kernels as operators of ONNX Runtime.

use std::thread;

use ort::Error;
use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
    ShapeInferenceContext,
};
use ort::value::{ValueRef, ValueRefMut};

use crate::activations::Activation;
use crate::batch_norm::{BatchNorm, Parameters, Statistics};
use crate::conv::Conv;
use crate::depthwise::Depthwise;
use crate::layer_norm::{LayerNorm, sum_rows};
use crate::limits;
use crate::matmul::MatMul;
use crate::node::{Like, Signature, Windows, channel_sizes, lrn_of, pair, shape_of, sizes};
use crate::threads::Threads;

/// The domain of the operators.
pub const DOMAIN: &str = "fovea";

/// The operators for so many threads of ONNX Runtime, 0 for one per core; ONNX Runtime must be loaded.
///
/// # Errors
/// ONNX Runtime refuses them.
pub fn operators(threads: usize) -> ort::Result<OperatorDomain> {
    let threads = match threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        _ => threads,
    };
    let operators = OWN.map(|own| Own { threads, ..own });
    operators.into_iter().try_fold(OperatorDomain::new(DOMAIN)?, OperatorDomain::add)
}

const OWN: [Own; 17] = [
    own("Conv", [2, 1], &[Like::Attribute], conv),
    own("ConvData", [2, 0], &[Like::Attribute], conv_data),
    own("ConvWeight", [2, 0], &[Like::Attribute], conv_weight),
    own("MatMul", [2, 1], &[Like::Attribute], matmul),
    own("BatchNormTraining", [3, 0], &[Like::Input(0), Like::Input(1), Like::Input(1)], batch_norm),
    own("BatchNormGradient", [5, 0], &[Like::Input(1), Like::Input(2), Like::Input(2)], batch_norm_gradient),
    own("LayerNormGradient", [5, 0], &[Like::Input(1), Like::Input(2), Like::Input(2)], layer_norm_gradient),
    own("SumRows", [1, 0], &[Like::Attribute], |_| Ok(Box::new(sum_of_rows))),
    own("MaxPool", [1, 0], &[Like::Attribute], max_pool),
    own("MaxPoolGradient", [2, 0], &[Like::Input(1)], max_pool_gradient),
    own("Lrn", [1, 0], &[Like::Input(0)], lrn),
    own("LrnGradient", [2, 0], &[Like::Input(1)], lrn_gradient),
    own("Gelu", [1, 1], &[Like::Input(0)], |_| activation(Activation::Gelu)),
    own("GeluGradient", [2, 1], &[Like::Input(1)], |_| activation_gradient(Activation::Gelu)),
    own("Silu", [1, 1], &[Like::Input(0)], |_| activation(Activation::Silu)),
    own("SiluGradient", [2, 1], &[Like::Input(1)], |_| activation_gradient(Activation::Silu)),
    own("ClipGradient", [2, 0], &[Like::Input(0)], clip_gradient),
];

/// An operator with so many inputs that must be there, and that may be.
const fn own(
    name: &'static str,
    [inputs, optional]: [usize; 2],
    outputs: &'static [Like],
    kernel: fn(&KernelContext<'_>) -> ort::Result<Run>,
) -> Own {
    Own { signature: Signature { name, inputs, optional, outputs }, kernel, threads: 1 }
}

/// An operator over tensors of f32.
#[derive(Clone, Copy)]
struct Own {
    signature: Signature,
    kernel: fn(&KernelContext<'_>) -> ort::Result<Run>,
    /// Threads of the sessions that it is for.
    threads: usize,
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
        self.signature.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        self.signature.operator_inputs()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        self.signature.operator_outputs()
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        let run = (self.kernel)(context)?;
        let shape: Vec<i64> = context.get("shape").unwrap_or_default();
        let Signature { inputs, optional, outputs, .. } = self.signature;
        let (operands, threads) = (inputs + optional, self.threads);
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
            run(&inputs, &mut outputs, &Pool { context, threads })
        }))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        self.signature.infer_shape(context)
    }
}

impl<'a> Operand<'a> {
    fn of(value: &'a ValueRef<'_>) -> ort::Result<Self> {
        let (shape, values) = value.try_extract_tensor::<f32>()?;
        Ok(Self { shape, values })
    }

    /// N, C and the number of values of a channel of an image.
    fn sizes(&self) -> ort::Result<[usize; 3]> {
        channel_sizes(self.shape)
    }
}

/// ONNX Runtime's threads.
struct Pool<'a> {
    context: &'a ComputeContext,
    threads: usize,
}

impl Threads for Pool<'_> {
    fn count(&self) -> usize {
        self.threads
    }

    fn run(&self, count: usize, part: &(dyn Fn(usize) + Send + Sync)) {
        // It fails only where there is no context.
        let _ = self.context.par_for(count, 0, part);
    }
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

fn matmul(context: &KernelContext<'_>) -> ort::Result<Run> {
    let transposed = ["transA", "transB"].map(|name| context.get::<i64>(name).unwrap_or(0) != 0);
    Ok(Box::new(move |inputs, outputs, threads| {
        let [a, b] = [&inputs[0], &inputs[1]];
        let &[first, second] = b.shape else { return Err(Error::new("expected a matrix")) };
        let (inner, columns) = if transposed[1] { (second, first) } else { (first, second) };
        let [inner, columns] = [inner, columns].map(|size| size as usize);
        let rows = a.shape.iter().product::<i64>() as usize / inner.max(1);
        let bias = inputs.get(2).map(|bias| bias.values);
        let product = MatMul { rows, inner, columns, transposed };
        product.compute([a.values, b.values], bias, outputs[0], threads);
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

fn layer_norm_gradient(_: &KernelContext<'_>) -> ort::Result<Run> {
    Ok(Box::new(move |inputs, outputs, threads| {
        let [dy, x, scale, mean, inverse] = [0, 1, 2, 3, 4].map(|at| inputs[at].values);
        let [dx, dscale, dbias] = outputs else { return Err(Error::new("expected three outputs")) };
        LayerNorm { dy, x, scale, mean, inverse }.gradients(dx, dscale, dbias, threads);
        Ok(())
    }))
}

fn sum_of_rows(inputs: &[Operand<'_>], outputs: &mut [&mut [f32]], threads: &dyn Threads) -> ort::Result<()> {
    sum_rows(inputs[0].values, outputs[0], threads);
    Ok(())
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
        activation.forward(inputs[0].values, inputs.get(1).map(|bias| bias.values), outputs[0], threads);
        Ok(())
    }))
}

fn activation_gradient(activation: Activation) -> ort::Result<Run> {
    Ok(Box::new(move |inputs, outputs, threads| {
        let bias = inputs.get(2).map(|bias| bias.values);
        activation.gradient([inputs[0].values, inputs[1].values], bias, outputs[0], threads);
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
