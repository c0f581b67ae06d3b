//! A network put together from named modules, with the names, shapes and initial values of PyTorch's.

use fovea_graph::ops::Conv;
use fovea_graph::{
    Buffer, BufferUse, Builder, DropoutMask, ElementType, Forward, Init, Mode, Parameter, ParameterKind,
    Result, Tensor, TensorType, mask_name,
};

use crate::recipe::BatchNormStatistics;

/// Modules being appended to a builder.
pub(super) struct Assembly<'a> {
    pub g: &'a mut Builder,
    mode: Mode,
    statistics: BatchNormStatistics,
    /// The type that the network computes in.
    element: ElementType,
    forward: Forward,
    taps: Vec<(String, Tensor)>,
}

/// A normalisation of batches.
#[derive(Clone, Copy)]
pub(super) struct Normalisation {
    pub epsilon: f64,
    /// Share of the old running statistics that stays with each batch.
    pub momentum: f64,
    /// Initial factor.
    pub gain: f32,
}

/// A convolution.
#[derive(Clone)]
pub(super) struct Convolution {
    pub out: usize,
    pub kernel: usize,
    pub geometry: Conv,
    pub weight: Init,
    /// Initial values of the bias, if it has one.
    pub bias: Option<Init>,
}

impl Convolution {
    /// A convolution without bias that keeps the side of its images, but for the stride. Weights have the
    /// variance 2 over the number of inputs of the gradient (He et al. 2015, "fan out").
    pub fn new(out: usize, kernel: usize, stride: usize) -> Self {
        let std = (2.0 / (out * kernel * kernel) as f64).sqrt();
        let geometry = Conv::new(stride, (kernel - 1) / 2);
        Self { out, kernel, geometry, weight: Init::Normal { std }, bias: None }
    }

    /// As [`new`](Self::new), each channel by itself.
    pub fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        let plain = Self::new(channels, kernel, stride);
        Self { geometry: plain.geometry.groups(channels), ..plain }
    }
}

impl<'a> Assembly<'a> {
    pub fn new(g: &'a mut Builder, x: Tensor, mode: Mode, statistics: BatchNormStatistics) -> Self {
        let element = g.element(x);
        Self { g, mode, statistics, element, forward: Forward::new(x), taps: Vec::new() }
    }

    /// Ends the network with `logits`.
    pub fn finish(mut self, logits: Tensor) -> (Forward, Vec<(String, Tensor)>) {
        self.forward.logits = logits;
        (self.forward, self.taps)
    }

    /// Names an activation.
    pub fn tap(&mut self, name: &str, x: Tensor) -> Tensor {
        self.taps.push((name.to_owned(), x));
        x
    }

    /// Declares a parameter, f32.
    pub fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let kind = if name.ends_with("bias") { ParameterKind::Bias } else { ParameterKind::Weight };
        let tensor = self.g.input(name, TensorType::f32(shape))?;
        let parameter =
            Parameter { name: name.to_owned(), shape: shape.to_vec(), kind, init, weight_decay: None };
        self.forward.parameters.push((parameter, tensor));
        Ok(tensor)
    }

    /// Declares a parameter in the type that the network computes in.
    pub fn weight(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let tensor = self.parameter(name, shape, init)?;
        self.g.cast(tensor, self.element)
    }

    pub fn conv(&mut self, name: &str, x: Tensor, conv: Convolution) -> Result<Tensor> {
        let channels = self.g.shape(x)[1] / conv.geometry.groups;
        let shape = [conv.out, channels, conv.kernel, conv.kernel];
        let w = self.weight(&format!("{name}.weight"), &shape, conv.weight)?;
        let b = conv.bias.map(|init| self.weight(&format!("{name}.bias"), &[conv.out], init)).transpose()?;
        self.g.scope(name, |g| g.conv(x, w, b, conv.geometry))
    }

    /// Batch normalisation, whose statistics move in training unless they are frozen.
    pub fn batch_norm(&mut self, name: &str, x: Tensor, norm: Normalisation) -> Result<Tensor> {
        let shape = [self.g.shape(x)[1]];
        let scale = self.parameter(&format!("{name}.weight"), &shape, Init::Constant(norm.gain))?;
        let bias = self.parameter(&format!("{name}.bias"), &shape, Init::Constant(0.0))?;
        let mut running = |part: &str, value: f32| -> Result<(Buffer, Tensor)> {
            let name = format!("{name}.{part}");
            let tensor = self.g.input(&name, TensorType::f32(shape))?;
            Ok((Buffer { name, shape: shape.to_vec(), init: Init::Constant(value) }, tensor))
        };
        let [mean, variance] = [running("running_mean", 0.0)?, running("running_var", 1.0)?];
        let statistics = [mean.1, variance.1];
        let (output, new) = match (self.mode, self.statistics) {
            (Mode::Train, BatchNormStatistics::Batch) => {
                let moved = self.g.scope(name, |g| {
                    g.batch_norm_moving(x, scale, bias, statistics, norm.epsilon, norm.momentum)
                })?;
                (moved.output, Some([moved.mean, moved.variance]))
            }
            (mode, _) => {
                let epsilon = norm.epsilon as f32;
                let y = self.g.scope(name, |g| g.batch_norm(x, scale, bias, mean.1, variance.1, epsilon))?;
                (y, (mode == Mode::Train).then_some(statistics))
            }
        };
        for (at, (buffer, value)) in [mean, variance].into_iter().enumerate() {
            self.forward.buffers.push(BufferUse { buffer, value, new: new.map(|new| new[at]) });
        }
        Ok(output)
    }

    /// Normalises the last axis.
    pub fn layer_norm(&mut self, name: &str, x: Tensor, epsilon: f64) -> Result<Tensor> {
        let axis = self.g.shape(x).len() - 1;
        let shape = [self.g.shape(x)[axis]];
        let scale = self.weight(&format!("{name}.weight"), &shape, Init::Constant(1.0))?;
        let bias = self.weight(&format!("{name}.bias"), &shape, Init::Constant(0.0))?;
        self.g.scope(name, |g| g.layer_norm(x, scale, Some(bias), axis, epsilon))
    }

    /// A linear layer over the last axis, with these initial values of weights and bias.
    pub fn linear(&mut self, name: &str, x: Tensor, out: usize, init: [Init; 2]) -> Result<Tensor> {
        let inputs = self.g.shape(x)[self.g.shape(x).len() - 1];
        let [weight, bias] = init;
        let w = self.weight(&format!("{name}.weight"), &[out, inputs], weight)?;
        let b = self.weight(&format!("{name}.bias"), &[out], bias)?;
        self.g.scope(name, |g| {
            if g.shape(x).len() == 2 {
                return g.linear(x, w, b);
            }
            let transposed = g.transpose(w, &[1, 0])?;
            let product = g.matmul(x, transposed)?;
            g.add(product, b)
        })
    }

    /// PyTorch's initial values of a linear layer of `inputs` inputs: uniform between ±1/√inputs.
    pub fn uniform(inputs: usize) -> [Init; 2] {
        let init = Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() };
        [init.clone(), init]
    }

    /// The mean of each channel, `[N,C]`.
    pub fn pooled(&mut self, x: Tensor) -> Result<Tensor> {
        self.g.scope("avgpool", |g| {
            let means = g.global_average_pool(x)?;
            g.flatten(means, 1)
        })
    }

    /// Dropout of a share `p` of the values.
    pub fn dropout(&mut self, name: &str, x: Tensor, p: f64) -> Result<Tensor> {
        let shape = self.g.shape(x).to_vec();
        self.masked(name, x, shape, p)
    }

    /// Stochastic depth (Huang et al. 2016): the branch `x` is 0 for a share `p` of the images.
    pub fn dropped_path(&mut self, name: &str, x: Tensor, p: f64) -> Result<Tensor> {
        let shape = self.g.shape(x).iter().enumerate().map(|(axis, &n)| if axis == 0 { n } else { 1 });
        let shape = shape.collect();
        self.masked(name, x, shape, p)
    }

    /// `x` where a mask of this shape is true, over 1 − p; `x` in evaluation.
    fn masked(&mut self, name: &str, x: Tensor, shape: Vec<usize>, p: f64) -> Result<Tensor> {
        if p == 0.0 || self.mode == Mode::Evaluate {
            return Ok(x);
        }
        let (name, keep) = (mask_name(name), 1.0 - p);
        let mask = self.g.input(&name, TensorType::new(ElementType::Bool, shape.clone()))?;
        self.forward.drawn.masks.push(DropoutMask { name, shape, keep });
        let zero = self.g.scalar(self.element, 0.0);
        let kept = self.g.select(mask, x, zero)?;
        self.g.scale(kept, 1.0 / keep)
    }
}
