//! Backends: what computes a training step.
//!
//! A [`TrainingBackend`] holds weights and momenta, and does forward, loss, backward and update where its device is. The
//! loop around it ([`crate::training`]) knows nothing of sessions or devices.
//!
//! Letters: N rows of a batch, H and W the side of a view, K classes. A *row* is one view of one image.

#[cfg(test)]
mod conformance;
mod error;
mod layout;
mod masks;
mod null;
mod ort;
mod precision;
mod reference;
mod setup;

use std::ops::AddAssign;

use fovea_graph::ParameterKind;
use fovea_pipeline::memory::{HostMemory, MemoryProvider};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{TensorRef, Tensors};
use crate::recipe::{Optimizer, Recipe};

pub use self::ort::{Inference, OrtBackend, OrtOptions};
pub use error::BackendError;
pub use masks::fill_mask;
pub use null::NullBackend;
pub use precision::Precision;
pub use reference::ReferenceBackend;
use setup::Limits;
pub use setup::{Pass, Rows, Setup};

/// The largest magnitude; NaN if there is one.
fn largest_magnitude(values: &[f32]) -> f32 {
    // The total order has NaN above infinity.
    values.iter().map(|value| value.abs()).max_by(f32::total_cmp).unwrap_or(0.0)
}

/// Name of a parameter's momenta in a saved state.
#[must_use]
pub fn momentum_name(parameter: &str) -> String {
    format!("{parameter}.momentum")
}

/// The update v ← μ·v − ε·(λ·w + g), w ← w + v.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// ε for weights.
    pub learning_rate: f64,
    /// μ.
    pub momentum: f64,
    /// λ.
    pub weight_decay: f64,
    /// ε for biases as a multiple of that for weights.
    pub bias_lr_mult: f64,
    /// Whether biases decay too.
    pub bias_decay: bool,
}

impl Update {
    /// The update that a recipe makes at this rate.
    #[must_use]
    pub fn of_recipe(recipe: &Recipe, learning_rate: f64) -> Self {
        let Optimizer { momentum, weight_decay, bias_lr_mult, bias_decay, .. } = recipe.optimizer;
        Self { learning_rate, momentum, weight_decay, bias_lr_mult, bias_decay }
    }

    /// ε and λ of a parameter of this kind whose layer may have a decay of its own.
    #[must_use]
    pub fn rate_and_decay(&self, kind: ParameterKind, own_decay: Option<f64>) -> (f64, f64) {
        let decay = own_decay.unwrap_or(self.weight_decay);
        match kind {
            ParameterKind::Weight => (self.learning_rate, decay),
            ParameterKind::Bias => {
                (self.learning_rate * self.bias_lr_mult, if self.bias_decay { decay } else { 0.0 })
            }
        }
    }
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub enum Updated {
    /// The weights are new.
    Done,
    /// Half precision could not hold the gradients: weights and momenta are as they were, and the next step is tried with a
    /// smaller loss scale.
    Overflow {
        /// The loss scale from now on.
        loss_scale: f32,
    },
}

/// Sums over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Rows.
    pub rows: u64,
    /// Cross-entropy, natural logarithm.
    pub loss: f64,
    /// Rows whose class is the best answer.
    pub top1: u64,
    /// Rows whose class is among the five best answers.
    pub top5: u64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.loss += other.loss;
        self.top1 += other.top1;
        self.top5 += other.top5;
    }
}

impl Sums {
    /// Those of one row whose K answers are `values`, the greatest the best. Of equal ones the lower class comes first; a
    /// label whose value is not a number is never right.
    #[must_use]
    pub fn of_row(loss: f64, values: &[f64], label: usize) -> Self {
        let own = values[label];
        let ahead = |(class, &other): (usize, &f64)| !(other < own || other == own && class >= label);
        let rank = values.iter().enumerate().filter(|&candidate| ahead(candidate)).count();
        let hit = |best: usize| u64::from(rank < best.min(values.len()));
        Self { rows: 1, loss, top1: hit(1), top5: hit(5) }
    }

    /// Mean loss of a row; not a number without rows.
    #[must_use]
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.rows as f64
    }

    /// Share of the rows whose class is not the best answer, 0..=1; not a number without rows.
    #[must_use]
    pub fn top1_error(&self) -> f64 {
        (self.rows - self.top1) as f64 / self.rows as f64
    }

    /// Share of the rows whose class is not among the five best answers, 0..=1; not a number without rows.
    #[must_use]
    pub fn top5_error(&self) -> f64 {
        (self.rows - self.top5) as f64 / self.rows as f64
    }
}

/// What a backend says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `ort`, `reference` or `null`.
    pub backend: &'static str,
    /// `cpu` or `cuda:0`, say.
    pub device: String,
    /// Library and version, e.g. `ONNX Runtime 1.31`.
    pub library: String,
    /// Threads of the host that compute; as many as there are cores when 0.
    pub threads: usize,
}

/// Size of one layer's tensors, for the report on a run that diverged.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterExtremes {
    /// Name of the parameter.
    pub name: String,
    /// Largest magnitude among its values; not finite if any of them is not.
    pub weight: f32,
    /// Largest magnitude among its gradients of the last pass; not finite if any of them is not.
    pub gradient: f32,
}

/// What takes a state: called once with name, shape and values of every tensor.
pub type Save<'a> = dyn FnMut(&[(&str, TensorRef<'_>)]) + 'a;

/// Computes training steps and evaluations, and holds the state that they change.
///
/// The state are the weights, under the names of the parameters, and the momenta, under `<name>.momentum`; in half
/// precision also the loss scale, which a state from another precision need not have.
pub trait TrainingBackend {
    /// What this backend is.
    fn describe(&self) -> Description;

    /// Rows that a batch can have, in training and in evaluation.
    fn batch_rows(&self) -> usize;

    /// Memory for batches that the device reads fastest, to be filled by a loader's workers.
    ///
    /// # Errors
    /// [`BackendError`] when the device has none to give.
    fn batch_memory(&self) -> Result<Box<dyn MemoryProvider>, BackendError> {
        Ok(Box::new(HostMemory))
    }

    /// Forward, loss and backward over a batch; its gradients are added to those of the step.
    ///
    /// # Errors
    /// [`BackendError`] when the rows do not fit or the device fails.
    fn accumulate(&mut self, rows: Rows<'_>, pass: Pass) -> Result<Sums, BackendError>;

    /// Whether [`accumulate_and_fetch`](Self::accumulate_and_fetch) does more than [`accumulate`](Self::accumulate).
    fn fetches_ahead(&self) -> bool {
        false
    }

    /// As [`accumulate`](Self::accumulate), and meanwhile the images of the rows that come next, or more than those, are
    /// brought to the device. They are known again by their address: until they have come, or
    /// [`discard`](Self::discard) is called, their memory must not get other images.
    ///
    /// # Errors
    /// As [`accumulate`](Self::accumulate).
    fn accumulate_and_fetch(
        &mut self,
        rows: Rows<'_>,
        pass: Pass,
        next: &[u8],
    ) -> Result<Sums, BackendError> {
        let _ = next;
        self.accumulate(rows, pass)
    }

    /// Changes the weights by the gradients of the step, and begins a new one.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails, or the gradients are not finite with any loss scale.
    fn update(&mut self, update: Update) -> Result<Updated, BackendError>;

    /// Forgets the gradients of the step, and the images that were fetched for the next one.
    fn discard(&mut self);

    /// Softmax outputs of a batch, `f32 [N,K]`, written to the front of `probabilities`, and sums over its rows.
    ///
    /// # Errors
    /// [`BackendError`] when the rows do not fit or the device fails.
    fn evaluate(&mut self, rows: Rows<'_>, probabilities: &mut [f32]) -> Result<Sums, BackendError>;

    /// The largest weights and gradients, a parameter each.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn extremes(&mut self) -> Result<Vec<ParameterExtremes>, BackendError>;

    /// Lends the whole state to `save`: name, shape and values of every tensor.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn export(&mut self, save: &mut Save<'_>) -> Result<(), BackendError>;

    /// Replaces the whole state.
    ///
    /// # Errors
    /// [`BackendError`] when a tensor is missing or has another shape; the state is unspecified then.
    fn import(&mut self, state: Tensors) -> Result<(), BackendError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_class_counts_by_its_rank() {
        let probabilities = [0.3, 0.1, 0.25, 0.2, 0.05, 0.1];
        let counts = |label| {
            let sums = Sums::of_row(0.5, &probabilities, label);
            assert_eq!((sums.rows, sums.loss), (1, 0.5));
            (sums.top1, sums.top5)
        };
        assert_eq!([0, 1, 2, 3, 4, 5].map(counts), [(1, 1), (0, 1), (0, 1), (0, 1), (0, 0), (0, 1)]);
    }

    #[test]
    fn of_equal_answers_the_lower_class_comes_first_and_nan_is_never_right() {
        assert_eq!([0, 1].map(|label| Sums::of_row(0.0, &[0.5, 0.5], label).top1), [1, 0]);
        for values in [&[f64::NAN; 8][..], &[f64::NAN; 3]] {
            assert_eq!([0, 1].map(|label| Sums::of_row(0.0, values, label).top5), [0, 0]);
        }
    }

    #[test]
    fn biases_have_a_rate_and_a_decay_of_their_own_and_layers_may_have_a_decay() {
        use ParameterKind::{Bias, Weight};
        let mut update = Update {
            learning_rate: 0.5,
            momentum: 0.0,
            weight_decay: 0.25,
            bias_lr_mult: 2.0,
            bias_decay: false,
        };
        assert_eq!(update.rate_and_decay(Weight, None), (0.5, 0.25));
        assert_eq!(update.rate_and_decay(Weight, Some(3.0)), (0.5, 3.0));
        assert_eq!(update.rate_and_decay(Bias, Some(3.0)), (1.0, 0.0));
        update.bias_decay = true;
        assert_eq!(update.rate_and_decay(Bias, None), (1.0, 0.25));
        assert_eq!(update.rate_and_decay(Bias, Some(3.0)), (1.0, 3.0));
    }

    #[test]
    fn the_largest_magnitude_does_not_pass_over_nan() {
        assert_eq!(largest_magnitude(&[1.0, -3.0, 2.0]), 3.0);
        assert!(largest_magnitude(&[1.0, -f32::NAN, f32::INFINITY]).is_nan());
        assert_eq!(largest_magnitude(&[]), 0.0);
    }
}
