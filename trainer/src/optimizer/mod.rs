//! Optimizers: their state for each parameter, and their update of the weights.
//!
//! An [`Optimizer`] declares slots (buffers as large as the weights, such as momentum) and hyperparameters
//! (scalars, with values for each group of parameters), and defines the update twice: as nodes of a graph,
//! which [`update_graph`] completes, and for a single weight, which the reference backend computes with.

mod schedule;
mod sgd;

use std::fmt;
use std::sync::Arc;

use fovea_graph::{
    Builder, Graph, Lowering, Parameter, ParameterKind, Result, Target, Tensor, TensorType, free_batch,
};

pub use self::schedule::{Rule, Schedule, State};
pub use self::sgd::Sgd;
use crate::names;
use crate::recipe::Recipe;

/// An update rule.
pub trait Optimizer: fmt::Debug + Send + Sync {
    /// Names of the slots of each parameter; they begin with zeros.
    fn slots(&self) -> &'static [&'static str];

    /// Names of the hyperparameters, scalars of the update.
    fn hyperparameters(&self) -> &'static [&'static str];

    /// Values of the hyperparameters for the parameters of `group`, in their order.
    fn values(&self, group: &ParameterGroup, update: &Update) -> Vec<f64>;

    /// Appends the update to `g`, element by element.
    ///
    /// # Errors
    /// None for operands of one shape.
    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState<Tensor>>;

    /// The update of one weight.
    fn step(&self, hyperparameters: &[f64], weight: f32, slots: &[f32], gradient: f64) -> NewState<f32>;
}

/// The optimizer of `recipe`.
#[must_use]
pub fn from_recipe(recipe: &Recipe) -> Arc<dyn Optimizer> {
    Arc::new(Sgd::new(&recipe.optimizer))
}

/// The position in training of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate ε of the schedule.
    pub learning_rate: f64,
    /// Updates done before this one.
    pub step: u64,
}

/// Parameters with the same hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Weights or biases.
    pub kind: ParameterKind,
    /// Weight decay instead of the optimizer's.
    pub weight_decay: Option<f64>,
}

impl From<&Parameter> for ParameterGroup {
    fn from(parameter: &Parameter) -> Self {
        Self { kind: parameter.kind, weight_decay: parameter.weight_decay }
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
pub struct NewState<T> {
    /// The new weight.
    pub weight: T,
    /// The new values of the slots in their order.
    pub slots: Vec<T>,
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

#[cfg(test)]
mod tests {
    use fovea_runtime::testing::{self, Data};

    use super::*;

    #[test]
    fn gradients_of_several_micro_batches_are_added_up() {
        let inputs: [(&str, &[usize], Data); 2] = [
            (names::SUM, &[2], Data::F32(vec![1.0, 2.0])),
            (names::GRADIENTS, &[2], Data::F32(vec![3.0, 5.0])),
        ];
        let graph = accumulate_graph().unwrap();
        let sum = testing::run(&mut testing::session(&graph.to_bytes()), &inputs);
        assert_eq!(sum[names::NEW_SUM], [4.0, 7.0]);
    }
}
