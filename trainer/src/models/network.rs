//! A network as a list of layers, and its forward direction.

use serde::{Deserialize, Serialize};

use super::init::Init;
use crate::graph::ops::{Conv, DropoutScaling, Lrn, Pool};
use crate::graph::{Builder, ElementType, GraphError, Result, Tensor, TensorType};

/// A point-wise function between layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
}

/// Where the factor of dropout goes; see [`DropoutScaling`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Mask in training, multiply by the share kept in evaluation: as printed.
    #[default]
    AtEvaluation,
    /// Divide by the share kept in training: "inverted" dropout.
    InTraining,
}

impl From<Scaling> for DropoutScaling {
    fn from(scaling: Scaling) -> Self {
        match scaling {
            Scaling::AtEvaluation => Self::AtEvaluation,
            Scaling::InTraining => Self::InTraining,
        }
    }
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// Convolution with a bias per filter.
    Conv {
        /// Name of the layer; its parameters are `name.weight` [O,C/g,k,k] and `name.bias` [O].
        name: String,
        /// Number of filters.
        filters: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Distance between kernel positions.
        stride: usize,
        /// Zeros on every side.
        padding: usize,
        /// Number of channel groups.
        groups: usize,
        /// Standard deviation of the initial weights; √(2 / inputs of a unit) where absent (He et al. 2015).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight_std: Option<f64>,
        /// Initial bias.
        bias: f32,
    },
    /// Fully connected layer; images are flattened first.
    Linear {
        /// Name of the layer; its parameters are `name.weight` [O,I] and `name.bias` [O].
        name: String,
        /// Number of outputs.
        units: usize,
        /// Standard deviation of the initial weights; √(2 / inputs of a unit) where absent (He et al. 2015).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight_std: Option<f64>,
        /// Initial bias.
        bias: f32,
    },
    /// Point-wise function.
    Activation {
        /// Which one.
        function: Activation,
    },
    /// Local response normalisation.
    Lrn {
        /// Number of channels in the sum, odd.
        size: usize,
        /// Factor of the sum of squares, not divided by `size`.
        alpha: f64,
        /// Exponent.
        beta: f64,
        /// Constant of the denominator.
        k: f64,
    },
    /// Maximum over windows.
    MaxPool {
        /// Side of the window.
        kernel: usize,
        /// Distance between windows.
        stride: usize,
        /// Padding on every side.
        padding: usize,
    },
    /// Mean over windows.
    AveragePool {
        /// Side of the window.
        kernel: usize,
        /// Distance between windows.
        stride: usize,
        /// Padding on every side.
        padding: usize,
    },
    /// Dropout by a mask from the host.
    Dropout {
        /// Name of the layer; its mask is the graph input `name.mask`.
        name: String,
        /// Share of units dropped, in [0, 1).
        rate: f64,
        /// Where the factor goes.
        #[serde(default)]
        scaling: Scaling,
    },
}

/// A classifier of square images: layers that end in one logit per class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Name in files and messages.
    pub name: String,
    /// Side of the input images in pixels.
    pub input_px: usize,
    /// Number of classes K.
    pub classes: usize,
    /// Layers from input to logits.
    pub layers: Vec<Layer>,
}

/// Whether a graph is for training or for evaluation; dropout differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout masks are inputs.
    Train,
    /// No masks.
    Evaluate,
}

/// What role a parameter plays; learning rates and decay may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Weights of a layer.
    Weight,
    /// Bias of a layer.
    Bias,
}

/// A trained tensor of f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name of the graph input, `layer.weight` or `layer.bias`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Role.
    pub kind: ParameterKind,
    /// Initial values.
    pub init: Init,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The initial values in a run with `seed`; `index` is the parameter's place in the network.
    pub fn initial(&self, seed: u64, index: usize) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.init.fill(seed, index, &mut values);
        values
    }
}

/// A Boolean input that the host draws anew for every step.
#[derive(Clone, Debug, PartialEq)]
pub struct DropoutMask {
    /// Name of the graph input.
    pub name: String,
    /// Shape, the batch first.
    pub shape: Vec<usize>,
    /// Probability of true.
    pub keep: f64,
}

/// The forward direction of a network in a builder.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Logits [N,K].
    pub logits: Tensor,
    /// Parameters in order with their graph inputs.
    pub parameters: Vec<(Parameter, Tensor)>,
    /// Masks in order; empty in evaluation.
    pub masks: Vec<DropoutMask>,
}

impl Network {
    /// Appends the network to `g`, from `x` f32 [N,3,H,W]; parameters and masks become graph inputs.
    ///
    /// # Errors
    /// A layer does not fit the one before it, a name is taken twice, or the last layer does not give `classes`
    /// values.
    pub fn forward(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward> {
        let mut forward = Forward { logits: x, parameters: Vec::new(), masks: Vec::new() };
        for layer in &self.layers {
            forward.logits = forward.append(g, layer, mode)?;
        }
        let shape = g.shape(forward.logits);
        if shape != [g.shape(x)[0], self.classes] {
            let reason = format!(
                "the last layer gives {shape:?}, expected one value for each of {} classes",
                self.classes
            );
            return Err(GraphError::Network { network: self.name.clone(), reason });
        }
        Ok(forward)
    }

    /// The parameters in order.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut g = Builder::new(&self.name, crate::graph::Lowering::evaluation(Default::default()));
        let x = g.input("x", TensorType::f32([1, 3, self.input_px, self.input_px]))?;
        let forward = self.forward(&mut g, x, Mode::Evaluate)?;
        Ok(forward.parameters.into_iter().map(|(parameter, _)| parameter).collect())
    }
}

impl Forward {
    fn append(&mut self, g: &mut Builder, layer: &Layer, mode: Mode) -> Result<Tensor> {
        let x = self.logits;
        match layer {
            Layer::Conv { name, filters, kernel, stride, padding, groups, weight_std, bias } => {
                let channels = g.shape(x).get(1).copied().unwrap_or(0);
                let shape = [*filters, channels / (*groups).max(1), *kernel, *kernel];
                let (w, b) = self.weights(g, name, &shape, *weight_std, *bias)?;
                g.scope(name, |g| g.conv(x, w, Some(b), Conv::new(*stride, *padding).groups(*groups)))
            }
            Layer::Linear { name, units, weight_std, bias } => {
                let x = g.scope(name, |g| if g.shape(x).len() == 2 { Ok(x) } else { g.flatten(x, 1) })?;
                let (w, b) = self.weights(g, name, &[*units, g.shape(x)[1]], *weight_std, *bias)?;
                g.scope(name, |g| g.linear(x, w, b))
            }
            Layer::Activation { function } => match function {
                Activation::Relu => g.relu(x),
                Activation::Tanh => g.tanh(x),
                Activation::Sigmoid => g.sigmoid(x),
            },
            Layer::Lrn { size, alpha, beta, k } => {
                g.lrn(x, Lrn { size: *size, alpha: *alpha, beta: *beta, k: *k })
            }
            Layer::MaxPool { kernel, stride, padding } => {
                g.max_pool(x, Pool { kernel: *kernel, stride: *stride, padding: *padding })
            }
            Layer::AveragePool { kernel, stride, padding } => {
                g.average_pool(x, Pool { kernel: *kernel, stride: *stride, padding: *padding })
            }
            Layer::Dropout { name, rate, scaling } => {
                let (keep, scaling) = (1.0 - rate, (*scaling).into());
                match mode {
                    Mode::Evaluate => g.scope(name, |g| g.dropout_expectation(x, keep, scaling)),
                    Mode::Train if *rate == 0.0 => Ok(x),
                    Mode::Train => {
                        let mask_name = format!("{name}.mask");
                        let mask = g.input(&mask_name, g.ty(x).of(ElementType::Bool))?;
                        self.masks.push(DropoutMask { name: mask_name, shape: g.shape(x).to_vec(), keep });
                        g.scope(name, |g| g.dropout(x, mask, keep, scaling))
                    }
                }
            }
        }
    }

    fn weights(
        &mut self,
        g: &mut Builder,
        layer: &str,
        shape: &[usize],
        std: Option<f64>,
        bias: f32,
    ) -> Result<(Tensor, Tensor)> {
        let inputs: usize = shape[1..].iter().product();
        let std = std.unwrap_or_else(|| (2.0 / inputs.max(1) as f64).sqrt());
        let weight =
            self.parameter(g, format!("{layer}.weight"), shape, ParameterKind::Weight, Init::Normal { std })?;
        let bias = self.parameter(
            g,
            format!("{layer}.bias"),
            &shape[..1],
            ParameterKind::Bias,
            Init::Constant(bias),
        )?;
        Ok((weight, bias))
    }

    fn parameter(
        &mut self,
        g: &mut Builder,
        name: String,
        shape: &[usize],
        kind: ParameterKind,
        init: Init,
    ) -> Result<Tensor> {
        let tensor = g.input(&name, TensorType::f32(shape))?;
        self.parameters.push((Parameter { name, shape: shape.to_vec(), kind, init }, tensor));
        Ok(tensor)
    }
}
