//! The optimizer of a recipe.

use serde::{Deserialize, Serialize};

/// Stochastic gradient descent with momentum: v ← momentum·v − ε·(weight_decay·w + g), w ← w + v (section 5
/// of the paper).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Initial learning rate ε.
    pub learning_rate: f64,
    /// Factor of the previous step.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// The biases' learning rate as a multiple of the weights'.
    #[serde(default = "same_rate")]
    pub bias_lr_mult: f64,
    /// Whether biases decay too.
    #[serde(default = "decaying")]
    pub bias_decay: bool,
}

fn same_rate() -> f64 {
    1.0
}

fn decaying() -> bool {
    true
}
