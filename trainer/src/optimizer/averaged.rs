//! A running average of the weights: a ← a + (1 − d)·(w − a) after every update (Polyak and Juditsky 1992, in
//! the exponential form of Szegedy et al. 2016).

use std::sync::Arc;

use fovea_graph::{Builder, Result};

use super::{NewState, Operands, Optimizer, ParameterGroup, Update};

/// An optimizer whose weights are averaged in an additional slot.
#[derive(Clone, Debug)]
pub struct Averaged {
    inner: Arc<dyn Optimizer>,
    decay: f64,
    slots: Vec<&'static str>,
}

impl Averaged {
    /// Name of the slot of the average.
    pub const SLOT: &str = "ema";

    /// `inner` with an average of this decay d.
    #[must_use]
    pub fn new(inner: Arc<dyn Optimizer>, decay: f64) -> Self {
        let slots = [inner.slots(), &[Self::SLOT]].concat();
        Self { inner, decay, slots }
    }
}

impl Optimizer for Averaged {
    fn slots(&self) -> &[&'static str] {
        &self.slots
    }

    fn hyperparameters(&self) -> &[&'static str] {
        self.inner.hyperparameters()
    }

    fn values(&self, group: &ParameterGroup, update: &Update) -> Vec<f64> {
        self.inner.values(group, update)
    }

    fn is_layerwise(&self) -> bool {
        self.inner.is_layerwise()
    }

    fn average(&self) -> Option<usize> {
        Some(self.slots.len() - 1)
    }

    fn clip_norm(&self) -> Option<f64> {
        self.inner.clip_norm()
    }

    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState> {
        let Some((&average, slots)) = operands.slots.split_last() else {
            unreachable!("as many slots as this optimizer declares")
        };
        let mut new = self.inner.emit(g, Operands { slots, ..operands })?;
        let distance = g.sub(new.weight, average)?;
        let step = g.scale(distance, 1.0 - self.decay)?;
        new.slots.push(g.add(average, step)?);
        Ok(new)
    }

    fn step(&self, hyperparameters: &[f64], weights: &mut [f32], slots: &mut [Vec<f32>], gradients: &[f64]) {
        let Some((averages, slots)) = slots.split_last_mut() else {
            unreachable!("as many slots as this optimizer declares")
        };
        self.inner.step(hyperparameters, weights, slots, gradients);
        for (average, weight) in averages.iter_mut().zip(weights) {
            let distance = f64::from(*weight) - f64::from(*average);
            *average = (f64::from(*average) + (1.0 - self.decay) * distance) as f32;
        }
    }
}
