//! Optimizers: their state for each parameter, and their update of the weights.
//!
//! An [`Optimizer`] declares slots (buffers as large as the weights, such as momentum) and hyperparameters
//! (scalars, with values for each group of parameters), and defines the update twice: as nodes of a graph,
//! which [`update_graph`] completes, and in plain Rust, which the reference backend computes with.

mod adam;
mod averaged;
mod clipped;
mod groups;
mod lars;
mod nesterov;
mod rmsprop;
mod rule;
mod schedule;
mod sgd;
#[cfg(test)]
mod tests;
mod trust;

use std::fmt;
use std::sync::Arc;

use fovea_graph::{Builder, Graph, Lowering, Result, Target, Tensor, TensorType, free_batch};

pub use self::adam::{AdamW, Lamb};
pub use self::averaged::Averaged;
pub use self::clipped::{Clipped, clip_factor};
pub use self::groups::{ParameterGroup, groups};
pub use self::lars::Lars;
pub use self::nesterov::Nesterov;
pub use self::rmsprop::RmsProp;
pub use self::rule::{Rule, Warmup};
pub use self::schedule::{Position, Schedule, State};
pub use self::sgd::Sgd;
use crate::names;
use crate::recipe::{OptimizerConfig, OptimizerKind, Recipe};

/// An update rule.
pub trait Optimizer: fmt::Debug + Send + Sync {
    /// Names of the slots of each parameter; they begin with zeros, but for the [`average`](Self::average).
    fn slots(&self) -> &[&'static str];

    /// Names of the hyperparameters, scalars of the update; by default, rate and decay.
    fn hyperparameters(&self) -> &[&'static str] {
        &["learning_rate", "weight_decay"]
    }

    /// Values of the hyperparameters for the parameters of `group`, in their order.
    fn values(&self, group: &ParameterGroup, update: &Update) -> Vec<f64> {
        vec![update.learning_rate * group.learning_rate_factor, group.weight_decay]
    }

    /// Whether the update of a weight depends on the others of its parameter: each parameter is then updated
    /// by itself and as a whole. Otherwise any piece of the flat buffers may be.
    fn is_layerwise(&self) -> bool {
        false
    }

    /// The slot that is a running average of the weights: it begins as a copy of them, and evaluation and
    /// export use it.
    fn average(&self) -> Option<usize> {
        None
    }

    /// Limit of the norm of the gradients of all parameters. [`Update::gradient_factor`] follows from it.
    fn clip_norm(&self) -> Option<f64> {
        None
    }

    /// Appends the update to `g`. A slot or the weights are not read once their new values are known: these
    /// are written in place.
    ///
    /// # Errors
    /// None for operands of one shape.
    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState>;

    /// The update of one parameter, in place; as many values in each slot and gradients as there are weights.
    fn step(&self, hyperparameters: &[f64], weights: &mut [f32], slots: &mut [Vec<f32>], gradients: &[f64]);
}

/// The optimizer of `recipe`.
#[must_use]
pub fn from_recipe(recipe: &Recipe) -> Arc<dyn Optimizer> {
    let mut optimizer = of_kind(&recipe.optimizer);
    if let Some(limit) = recipe.training.clip_norm {
        optimizer = Arc::new(Clipped::new(optimizer, limit));
    }
    if let Some(decay) = recipe.training.ema {
        optimizer = Arc::new(Averaged::new(optimizer, decay));
    }
    optimizer
}

fn of_kind(config: &OptimizerConfig) -> Arc<dyn Optimizer> {
    let momentum = |default: f64| config.momentum.unwrap_or(default);
    let epsilon = |default: f64| config.epsilon.unwrap_or(default);
    let betas = config.betas.unwrap_or([0.9, 0.999]);
    match config.kind {
        OptimizerKind::Sgd if config.nesterov == Some(true) => Arc::new(Nesterov { momentum: momentum(0.0) }),
        OptimizerKind::Sgd => Arc::new(Sgd { momentum: momentum(0.0) }),
        OptimizerKind::AdamW => Arc::new(AdamW::new(betas, epsilon(1e-8))),
        OptimizerKind::RmsProp => {
            let alpha = config.alpha.unwrap_or(0.99);
            Arc::new(RmsProp { momentum: momentum(0.0), alpha, epsilon: epsilon(1e-8) })
        }
        OptimizerKind::Lars => {
            let trust_coefficient = config.trust_coefficient.unwrap_or(0.001);
            Arc::new(Lars { momentum: momentum(0.9), trust_coefficient, epsilon: epsilon(1e-8) })
        }
        OptimizerKind::Lamb => Arc::new(Lamb::new(betas, epsilon(1e-6))),
    }
}

/// The position in training of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate ε of the schedule.
    pub learning_rate: f64,
    /// Updates done before this one.
    pub step: u64,
    /// Factor of the gradients, which keeps their norm under its limit. `None` if there is no limit, or for a
    /// process by itself, whose backend finds it.
    pub gradient_factor: Option<f64>,
}

impl Update {
    /// The update after `step` others.
    #[must_use]
    pub const fn new(learning_rate: f64, step: u64) -> Self {
        Self { learning_rate, step, gradient_factor: None }
    }
}

/// Inputs of an update in a graph.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// Weights w, `f32 [L]`.
    pub weight: Tensor,
    /// Gradients g, `f32 [L]`.
    pub gradient: Tensor,
    /// The slots in their order, `f32 [L]` each.
    pub slots: &'a [Tensor],
    /// The hyperparameters in their order, f32 scalars.
    pub hyperparameters: &'a [Tensor],
}

/// Result of an update.
#[derive(Clone, Debug, PartialEq)]
pub struct NewState {
    /// The new weights.
    pub weight: Tensor,
    /// The new values of the slots in their order.
    pub slots: Vec<Tensor>,
}

/// The update of a flat piece of any length L: weights, gradients, slots and hyperparameters in, weights and
/// slots out, under the names of [`names`].
///
/// # Errors
/// Those of [`Optimizer::emit`].
pub fn update_graph(optimizer: &dyn Optimizer) -> Result<Graph> {
    free_batch(|length| {
        let mut g = Builder::new("update", Lowering::evaluation(Target::Cpu));
        let list = TensorType::f32([length]);
        let weight = g.input(names::WEIGHTS, list.clone())?;
        let slots = optimizer.slots().iter().map(|slot| g.input(&names::slot_input(slot), list.clone()));
        let slots = slots.collect::<Result<Vec<_>>>()?;
        let gradient = g.input(names::GRADIENTS, list)?;
        let hyperparameters =
            optimizer.hyperparameters().iter().map(|name| g.input(name, TensorType::f32([])));
        let hyperparameters = hyperparameters.collect::<Result<Vec<_>>>()?;
        let operands = Operands { weight, gradient, slots: &slots, hyperparameters: &hyperparameters };
        let new = optimizer.emit(&mut g, operands)?;
        for (slot, values) in optimizer.slots().iter().zip(new.slots) {
            g.output(&names::slot_output(slot), values)?;
        }
        g.output(names::NEW_WEIGHTS, new.weight)?;
        Ok(g.finish())
    })
}

/// The sum of the squares of a flat piece of gradients of any length L.
///
/// # Errors
/// None.
pub fn squares_graph() -> Result<Graph> {
    free_batch(|length| {
        let mut g = Builder::new("squares", Lowering::evaluation(Target::Cpu));
        let gradient = g.input(names::GRADIENTS, TensorType::f32([length]))?;
        let squares = g.mul(gradient, gradient)?;
        let sum = g.sum(squares)?;
        g.output(names::SQUARES, sum)?;
        Ok(g.finish())
    })
}

/// sum ← sum + g over flat pieces of any length L, for steps over several micro-batches.
///
/// # Errors
/// None.
pub fn accumulate_graph() -> Result<Graph> {
    free_batch(|length| {
        let mut g = Builder::new("accumulate", Lowering::evaluation(Target::Cpu));
        let sum = g.input(names::SUM, TensorType::f32([length]))?;
        let gradient = g.input(names::GRADIENTS, TensorType::f32([length]))?;
        let sum = g.add(sum, gradient)?;
        g.output(names::NEW_SUM, sum)?;
        Ok(g.finish())
    })
}
