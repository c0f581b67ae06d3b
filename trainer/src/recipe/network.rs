//! The network as a list of layers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The layers in the order in which an image passes them. A softmax over the last one's outputs gives the probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// `[[network.layer]]` tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer: Vec<Layer>,
    /// An `.onnx` file for inference that takes the place of layers, with its values as the initial ones; its path is taken
    /// from the recipe's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnx: Option<PathBuf>,
}

/// One layer; its name becomes part of the names of its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Unique name: lower-case letters, digits and underscores.
    pub name: String,
    /// What it does.
    #[serde(flatten)]
    pub kind: LayerKind,
}

/// What a layer does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LayerKind {
    /// Convolution.
    Conv(ConvLayer),
    /// Convolution with kernels of its own at every place ("locally connected").
    Local(LocalLayer),
    /// Fully connected layer; what comes in is flattened.
    Linear(LinearLayer),
    /// Element-wise function.
    Activation(ActivationLayer),
    /// Response normalisation across channels (section 3.3 of the paper).
    Lrn(LrnLayer),
    /// Pooling; overlapping where the stride is below the kernel (section 3.4).
    Pool(PoolLayer),
    /// Dropout (section 4.2).
    Dropout(DropoutLayer),
}

impl LayerKind {
    /// The word that stands for it in a recipe.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Conv(_) => "conv",
            Self::Local(_) => "local",
            Self::Linear(_) => "linear",
            Self::Activation(_) => "activation",
            Self::Lrn(_) => "lrn",
            Self::Pool(_) => "pool",
            Self::Dropout(_) => "dropout",
        }
    }

    /// How weights and biases begin and decay, in a layer that has them.
    #[must_use]
    pub fn weights(&self) -> Option<Weights> {
        let (weight_std, init, bias, weight_decay) = match self {
            Self::Conv(layer) => (layer.weight_std, layer.init, layer.bias, layer.weight_decay),
            Self::Local(layer) => (layer.weight_std, layer.init, layer.bias, layer.weight_decay),
            Self::Linear(layer) => (layer.weight_std, layer.init, layer.bias, layer.weight_decay),
            Self::Activation(_) | Self::Lrn(_) | Self::Pool(_) | Self::Dropout(_) => return None,
        };
        Some(Weights { weight_std, init, bias, weight_decay })
    }
}

/// What the layers with weights have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Standard deviation of the initial weights; missing where `init` is not.
    pub weight_std: Option<f64>,
    /// Another way to begin.
    pub init: Option<Initializer>,
    /// Initial value of the biases.
    pub bias: f64,
    /// Weight decay instead of the optimizer's.
    pub weight_decay: Option<f64>,
}

/// Ways to begin that depend on the layer's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initializer {
    /// Weights and biases evenly distributed between −b and b with b = 1/√(inputs of an output): what PyTorch does unless
    /// told otherwise.
    FanInUniform,
}

/// A convolution with square kernels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvLayer {
    /// Output channels.
    pub out: usize,
    /// Side of the kernels in pixels.
    pub kernel: usize,
    /// Distance of neighbouring kernel positions in pixels.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros around the input in pixels, the same on each side.
    #[serde(default)]
    pub pad: usize,
    /// Groups of channels that do not see each other; 2 is the paper's split over two GPUs.
    #[serde(default = "one")]
    pub groups: usize,
    /// Standard deviation of the initial weights, whose mean is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_std: Option<f64>,
    /// Another way to begin, instead of `weight_std` and `bias`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Initializer>,
    /// Initial value of the biases.
    #[serde(default)]
    pub bias: f64,
    /// Weight decay of this layer instead of the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// A locally connected layer with square kernels and one bias per output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalLayer {
    /// Output channels.
    pub out: usize,
    /// Side of the kernels in pixels.
    pub kernel: usize,
    /// Distance of neighbouring kernel positions in pixels.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros around the input in pixels, the same on each side.
    #[serde(default)]
    pub pad: usize,
    /// Standard deviation of the initial weights, whose mean is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_std: Option<f64>,
    /// Another way to begin, instead of `weight_std` and `bias`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Initializer>,
    /// Initial value of the biases.
    #[serde(default)]
    pub bias: f64,
    /// Weight decay of this layer instead of the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// A fully connected layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearLayer {
    /// Outputs; left out in the last layer, which has one for each class of the data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<usize>,
    /// Standard deviation of the initial weights, whose mean is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_std: Option<f64>,
    /// Another way to begin, instead of `weight_std` and `bias`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Initializer>,
    /// Initial value of the biases.
    #[serde(default)]
    pub bias: f64,
    /// Weight decay of this layer instead of the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// An element-wise function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationLayer {
    /// Which one.
    pub function: Function,
}

/// Element-wise functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// max(0, x)
    Relu,
    /// tanh x
    Tanh,
    /// 1 / (1 + e^−x)
    Sigmoid,
}

/// b = a / (k + α·Σ a²)^β over neighbouring channels, or pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrnLayer {
    /// What is summed over.
    #[serde(default, skip_serializing_if = "LrnRegion::is_channels")]
    pub region: LrnRegion,
    /// Channels summed over, or side in pixels of the square; an odd number.
    pub size: usize,
    /// k of the formula.
    pub k: f64,
    /// α of the formula.
    pub alpha: f64,
    /// β of the formula.
    pub beta: f64,
    /// Whether α is used as it stands or divided by the number of values summed up.
    #[serde(default)]
    pub lrn_alpha: LrnAlpha,
}

impl LrnLayer {
    /// α as the printed formula has it, a factor of the plain sum of squares.
    #[must_use]
    pub fn printed_alpha(&self) -> f64 {
        match self.lrn_alpha {
            LrnAlpha::Printed => self.alpha,
            LrnAlpha::Divided => self.alpha / self.summed() as f64,
        }
    }

    /// Number of values in the sum.
    fn summed(&self) -> usize {
        match self.region {
            LrnRegion::Channels => self.size,
            LrnRegion::Pixels => self.size * self.size,
        }
    }
}

/// What response normalisation sums over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrnRegion {
    /// Neighbouring channels: the paper.
    #[default]
    Channels,
    /// A square of pixels in the same channel: the quick CIFAR-10 network of cuda-convnet.
    Pixels,
}

impl LrnRegion {
    /// Not written, so that recipes written before there was a choice keep their hash.
    fn is_channels(&self) -> bool {
        *self == Self::Channels
    }
}

/// Two readings of α.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrnAlpha {
    /// The sum of squares is multiplied by α: the paper.
    #[default]
    Printed,
    /// It is multiplied by α over the number of squares: the authors' code, and ONNX's operator.
    Divided,
}

/// A pooling layer with square windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolLayer {
    /// What is kept of a window.
    #[serde(default)]
    pub mode: PoolMode,
    /// Side of the windows in pixels.
    pub kernel: usize,
    /// Distance of neighbouring windows in pixels.
    pub stride: usize,
    /// Border around the input in pixels that takes no part in the result.
    #[serde(default)]
    pub pad: usize,
    /// Whether there are windows that begin in the input and end beyond it, of which only what is inside counts: Caffe and
    /// cuda-convnet. Otherwise they are left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ceil: bool,
}

/// What a pooling layer keeps of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolMode {
    /// The largest value.
    #[default]
    Max,
    /// The mean.
    Avg,
}

/// Sets outputs to 0 at random while training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropoutLayer {
    /// Probability of being set to 0.
    pub p: f64,
    /// Where the loss of signal is made up for.
    #[serde(default)]
    pub scaling: DropoutScaling,
}

/// Where dropout's loss of signal is made up for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropoutScaling {
    /// At test time, by a factor 1 − p: the paper.
    #[default]
    Printed,
    /// In training, by a factor 1 / (1 − p) on what is kept.
    Inverted,
}

fn one() -> usize {
    1
}

/// For keys that are not written where they are off, so that older recipes keep their hash.
fn is_false(value: &bool) -> bool {
    !value
}
