//! Gradients scaled down so that their norm over all parameters has a limit (Pascanu et al. 2013).

use std::sync::Arc;

use fovea_graph::{Builder, Result};

use super::{NewState, Operands, Optimizer, ParameterGroup, Update};

/// An optimizer of gradients whose norm has a limit.
#[derive(Clone, Debug)]
pub struct Clipped {
    inner: Arc<dyn Optimizer>,
    limit: f64,
    hyperparameters: Vec<&'static str>,
}

impl Clipped {
    /// `inner` with gradients of norm `limit` or less.
    #[must_use]
    pub fn new(inner: Arc<dyn Optimizer>, limit: f64) -> Self {
        let hyperparameters = [inner.hyperparameters(), &["gradient_factor"]].concat();
        Self { inner, limit, hyperparameters }
    }
}

/// The factor of gradients under a limit of their norm, as in PyTorch's `clip_grad_norm_`; `squares` are the
/// sums of squares of all pieces of them, added in this order.
#[must_use]
pub fn clip_factor(limit: f64, squares: impl IntoIterator<Item = f64>) -> f64 {
    let norm = squares.into_iter().sum::<f64>().sqrt();
    (limit / (norm + 1e-6)).min(1.0)
}

impl Optimizer for Clipped {
    fn slots(&self) -> &[&'static str] {
        self.inner.slots()
    }

    fn hyperparameters(&self) -> &[&'static str] {
        &self.hyperparameters
    }

    fn values(&self, group: &ParameterGroup, update: &Update) -> Vec<f64> {
        let mut values = self.inner.values(group, update);
        values.push(update.gradient_factor.unwrap_or(1.0));
        values
    }

    fn is_layerwise(&self) -> bool {
        self.inner.is_layerwise()
    }

    fn clip_norm(&self) -> Option<f64> {
        Some(self.limit)
    }

    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState> {
        let Some((&factor, hyperparameters)) = operands.hyperparameters.split_last() else {
            unreachable!("as many hyperparameters as this optimizer declares")
        };
        let gradient = g.mul(operands.gradient, factor)?;
        self.inner.emit(g, Operands { gradient, hyperparameters, ..operands })
    }

    fn step(&self, hyperparameters: &[f64], weights: &mut [f32], slots: &mut [Vec<f32>], gradients: &[f64]) {
        let Some((factor, hyperparameters)) = hyperparameters.split_last() else {
            unreachable!("as many hyperparameters as this optimizer declares")
        };
        let gradients: Vec<f64> = gradients.iter().map(|gradient| gradient * factor).collect();
        self.inner.step(hyperparameters, weights, slots, &gradients);
    }
}
