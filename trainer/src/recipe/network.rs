//! The network as a list of layers.

use std::path::PathBuf;
use std::str::FromStr;

use fovea_pipeline::UnknownName;
use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::pattern::matches;

/// The layers in the order of the forward pass. A softmax over the last one's outputs gives the
/// probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// `[[network.layer]]` tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer: Vec<Layer>,
    /// An `.onnx` file for inference that replaces the layers, with its values as the initial ones; the path
    /// is relative to the recipe's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnx: Option<PathBuf>,
    /// Whether the file's last layer is kept or made new for the classes of the data set.
    #[serde(default, skip_serializing_if = "is_default")]
    pub classes: Head,
    /// Sizes of a network with branches, in place of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// A `.safetensors` file with the initial values of all parameters and buffers, by name; the path is
    /// relative to the recipe's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// By which statistics batches are normalised in training.
    #[serde(default, skip_serializing_if = "BatchNormStatistics::is_batch")]
    pub batch_norm: BatchNormStatistics,
    /// Patterns of the names of parameters that keep their values; `*` stands for any characters, `?` for
    /// one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Patterns of the names of parameters that are trained although `freeze` names them. Without `freeze`,
    /// all others keep their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub train: Vec<String>,
}

impl NetworkConfig {
    /// The parameters that are trained.
    #[must_use]
    pub fn trained(&self) -> TrainedNames {
        TrainedNames { freeze: self.freeze.clone(), train: self.train.clone() }
    }
}

/// The names of the parameters that are trained, by [`NetworkConfig::freeze`] and [`NetworkConfig::train`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainedNames {
    freeze: Vec<String>,
    train: Vec<String>,
}

impl TrainedNames {
    /// Whether the parameter `name` is trained.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        let frozen = if self.freeze.is_empty() { !self.train.is_empty() } else { any(&self.freeze) };
        !frozen || any(&self.train)
    }
}

/// Statistics that batch normalisation uses in training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormStatistics {
    /// Those of the batch, which move the running ones.
    #[default]
    Batch,
    /// The running ones, which keep their values.
    Frozen,
}

impl BatchNormStatistics {
    fn is_batch(&self) -> bool {
        *self == Self::Batch
    }
}

/// What becomes of the last layer of a network from a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// It is kept, and must have a logit for each class.
    #[default]
    File,
    /// It is made new, with a logit for each class of the data set.
    Auto,
}

impl Head {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::File, Self::Auto];

    /// The name in recipes and on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Auto => "auto",
        }
    }
}

impl FromStr for Head {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("treatment of classes", name, &Self::ALL, Self::name)
    }
}

fn is_default(head: &Head) -> bool {
    *head == Head::default()
}

/// One layer; its name becomes part of the names of its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Unique name: lower-case letters, digits and underscores.
    pub name: String,
    /// Kind and parameters.
    #[serde(flatten)]
    pub kind: LayerKind,
}

/// The kind of a layer, with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LayerKind {
    /// Convolution.
    Conv(ConvLayer),
    /// Convolution with its own kernels at every position ("locally connected").
    Local(LocalLayer),
    /// Fully connected layer; its input is flattened.
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
    /// The name of the kind in a recipe.
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

    /// Initialisers and decay of weights and biases, in a layer that has them.
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

/// Common parameters of the layers with weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Standard deviation of the initial weights; missing if there is `init`.
    pub weight_std: Option<f64>,
    /// Initialiser instead of `weight_std`.
    pub init: Option<Initializer>,
    /// Initial value of the biases.
    pub bias: f64,
    /// Weight decay instead of the optimizer's.
    pub weight_decay: Option<f64>,
}

/// Initialisers scaled by fan-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initializer {
    /// Weights and biases uniformly distributed between −b and b with b = 1/√(inputs of an output), PyTorch's
    /// default.
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
    /// Distance between neighbouring kernel positions in pixels.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros around the input in pixels, the same on each side.
    #[serde(default)]
    pub pad: usize,
    /// Groups of channels without connections to each other; 2 is the paper's split over two GPUs.
    #[serde(default = "one")]
    pub groups: usize,
    /// Standard deviation of the initial weights, whose mean is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_std: Option<f64>,
    /// Initialiser instead of `weight_std` and `bias`.
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
    /// Distance between neighbouring kernel positions in pixels.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros around the input in pixels, the same on each side.
    #[serde(default)]
    pub pad: usize,
    /// Standard deviation of the initial weights, whose mean is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_std: Option<f64>,
    /// Initialiser instead of `weight_std` and `bias`.
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
    /// Initialiser instead of `weight_std` and `bias`.
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
    /// The function.
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
    /// Region of the sum.
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
    /// Whether α is used as given or divided by the number of values in the sum.
    #[serde(default)]
    pub lrn_alpha: LrnAlpha,
}

impl LrnLayer {
    /// α of the printed formula, a factor of the plain sum of squares.
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

/// Region that response normalisation sums over.
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
    /// Not serialised, so that recipes written before this key existed keep their hash.
    fn is_channels(&self) -> bool {
        *self == Self::Channels
    }
}

/// Two definitions of α.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrnAlpha {
    /// The sum of squares is multiplied by α: the paper.
    #[default]
    Printed,
    /// The sum is multiplied by α over the number of squares: the authors' code, and ONNX's operator.
    Divided,
}

/// A pooling layer with square windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolLayer {
    /// Reduction of a window.
    #[serde(default)]
    pub mode: PoolMode,
    /// Side of the windows in pixels.
    pub kernel: usize,
    /// Distance between neighbouring windows in pixels.
    pub stride: usize,
    /// Padding around the input in pixels, which does not affect the result.
    #[serde(default)]
    pub pad: usize,
    /// Whether there are windows that begin in the input and end beyond it, of which only the part inside
    /// counts: Caffe and cuda-convnet. Otherwise they are left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ceil: bool,
}

/// Reduction of a window in a pooling layer.
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
    /// Compensation of the dropped outputs.
    #[serde(default)]
    pub scaling: DropoutScaling,
}

/// Compensation of the outputs that dropout sets to 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropoutScaling {
    /// In evaluation, by a factor 1 − p: the paper.
    #[default]
    Printed,
    /// In training, by a factor 1 / (1 − p) of the kept outputs.
    Inverted,
}

fn one() -> usize {
    1
}

/// For keys that are not serialised when false, so that older recipes keep their hash.
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frozen_keeps_its_values_unless_it_is_trained_by_name() {
        let trains = |freeze: &[&str], train: &[&str]| {
            let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
            let names = TrainedNames { freeze: list(freeze), train: list(train) };
            ["stem.weight", "layer1.weight", "fc.bias"].map(|name| names.contains(name))
        };
        assert_eq!(trains(&[], &[]), [true, true, true]);
        assert_eq!(trains(&["layer*", "stem.*"], &[]), [false, false, true]);
        assert_eq!(trains(&[], &["fc.*"]), [false, false, true]);
        assert_eq!(trains(&["stem.*"], &["fc.*"]), [false, true, true]);
        assert_eq!(trains(&["*"], &["layer1.*"]), [false, true, false]);
    }
}
