//! The optimizer of a recipe, and its exceptions for some parameters.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The update rule with its settings. A setting belongs to the kinds named with it; one that is left out has
/// its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The update rule; by default sgd.
    #[serde(default, skip_serializing_if = "OptimizerKind::is_sgd")]
    pub kind: OptimizerKind,
    /// Initial learning rate ε.
    pub learning_rate: f64,
    /// sgd, lars, rmsprop: factor of the previous step; by default 0.9 in lars and 0 in rmsprop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// sgd: whether the gradient is taken where the momentum leads (Sutskever et al. 2013).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// adamw, lamb: decay of the means of gradients and of their squares; by default 0.9 and
    /// 0.999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// rmsprop: decay of the mean of squared gradients; by default 0.99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// lars: the learning rate of a layer as a multiple of ‖w‖ / ‖g‖; by default 0.001.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_coefficient: Option<f64>,
    /// adamw, rmsprop, lars, lamb: added to divisors; by default 1e-8, in lamb 1e-6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Weight decay.
    pub weight_decay: f64,
    /// The biases' learning rate as a multiple of the weights'.
    #[serde(default = "same_rate")]
    pub bias_lr_mult: f64,
    /// Whether biases decay too.
    #[serde(default = "decaying")]
    pub bias_decay: bool,
    /// Exceptions for some parameters; where several apply, the last that has a key counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<GroupConfig>,
}

/// Update rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum.
    #[default]
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    AdamW,
    /// Steps over the root of a running mean of squares (Tieleman and Hinton 2012).
    RmsProp,
    /// SGD with a rate for each layer (You et al. 2017).
    Lars,
    /// Adam with a rate for each layer (You et al. 2020).
    Lamb,
}

impl OptimizerKind {
    /// Not serialised, so that recipes written before this key existed keep their hash.
    fn is_sgd(&self) -> bool {
        *self == Self::Sgd
    }
}

impl fmt::Display for OptimizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sgd => "sgd",
            Self::AdamW => "adamw",
            Self::RmsProp => "rmsprop",
            Self::Lars => "lars",
            Self::Lamb => "lamb",
        })
    }
}

/// Learning rate and decay of the parameters that meet all conditions given here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Patterns of names, of which one must match; `*` stands for any characters, `?` for one.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Number of axes; those of one axis are biases and the factors of normalisations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<usize>,
    /// Part of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<NetworkPart>,
    /// Learning rate as a multiple of the schedule's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate_factor: Option<f64>,
    /// Weight decay instead of the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// The two parts of a classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPart {
    /// The last parameter of two or more axes, and those after it: the layer that makes the logits.
    Head,
    /// All before the head.
    Backbone,
}

fn same_rate() -> f64 {
    1.0
}

fn decaying() -> bool {
    true
}
