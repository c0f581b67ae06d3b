//! Backends: the computation of training steps.
//!
//! A [`TrainingBackend`] holds parameters, optimizer slots and buffers, and does forward, loss, backward and
//! update on its device. The loop around it ([`crate::training`]) knows neither sessions nor devices.
//!
//! Letters: N rows of a batch, H and W the side of a view, K classes. A *row* is one view of one image.

#[cfg(test)]
pub(crate) mod conformance;
mod drawn;
mod error;
mod layout;
mod null;
mod ort;
mod precision;
mod reference;
mod setup;
#[cfg(test)]
mod sizes_tests;

use fovea_pipeline::memory::{HostMemory, MemoryProvider};

pub use self::ort::{Inference, OrtBackend, OrtOptions};
use crate::collective::Shares;
use crate::metrics::BatchMetrics;
use crate::optimizer::Update;
use crate::state::{TensorRef, Tensors};
pub use drawn::{fill_mask, fill_noise};
pub use error::BackendError;
pub use null::NullBackend;
pub use precision::Precision;
pub use reference::ReferenceBackend;
use setup::Limits;
pub use setup::{MicroBatch, NextImages, Rows, RowsId, Setup, Targets};

/// The largest magnitude; NaN if there is one.
fn largest_magnitude(values: &[f32]) -> f32 {
    // The total order has NaN above infinity.
    values.iter().map(|value| value.abs()).max_by(f32::total_cmp).unwrap_or(0.0)
}

/// Result of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub enum Updated {
    /// The weights were updated.
    Done,
    /// Half precision could not hold the gradients: the state is unchanged, and the next step uses a smaller
    /// loss scale.
    Overflow {
        /// The new loss scale.
        loss_scale: f32,
    },
}

/// A backend's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `ort`, `reference` or `null`.
    pub backend: &'static str,
    /// For example `cpu` or `cuda:0`.
    pub device: String,
    /// Library and version, e.g. `ONNX Runtime 1.31`.
    pub library: String,
    /// Whether operators have kernels of Fovea's own, whose values differ in their last bits.
    pub own_kernels: bool,
    /// Threads of the host that compute; 0 for as many as there are cores.
    pub threads: usize,
}

/// Largest values of one parameter, for the report on a run that diverged.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterExtremes {
    /// Name of the parameter.
    pub name: String,
    /// Largest magnitude of its values; not finite if any of them is not.
    pub weight: f32,
    /// Largest magnitude of its gradients in the current step; not finite if any of them is not.
    pub gradient: f32,
}

/// An exchange of values between processes, which own a share of them each.
pub type Exchange<'a> = dyn FnMut(&mut [f32], &Shares) + 'a;

/// Receives a state: called once with name, shape and values of every tensor.
pub type Save<'a> = dyn FnMut(&[(&str, TensorRef<'_>)]) + 'a;

/// Computes training steps and evaluations, and holds the state that they change.
///
/// The state consists of the parameters and buffers under their names, the optimizer's slots of parameters
/// that are trained under `<parameter>.<slot>`, and in half precision the loss scale, which a state saved in
/// another precision need not have. See [`crate::names`].
///
/// Of several processes, each updates its share of the weights and buffers, and has the slots of that share
/// only. A step is then: gradients of the own parts, sums of the own share's gradients from all processes
/// ([`lend_gradients`](Self::lend_gradients)), [`update`](Self::update), and the other shares' weights from
/// their owners ([`lend_weights`](Self::lend_weights)). By itself a process owns everything.
pub trait TrainingBackend {
    /// Description of the backend.
    fn describe(&self) -> Description;

    /// Most rows of a batch, in training and in evaluation.
    fn batch_rows(&self) -> usize;

    /// Memory for batches that the device reads fastest, to be filled by a loader's workers.
    ///
    /// # Errors
    /// [`BackendError`] when the device cannot allocate it.
    fn batch_memory(&self) -> Result<Box<dyn MemoryProvider>, BackendError> {
        Ok(Box::new(HostMemory))
    }

    /// Makes training images have `px` pixels along a side from now on; at first they have `input.crop_px`,
    /// as those of evaluation always have. Called between steps: gradients are dropped, the state stays.
    ///
    /// # Errors
    /// [`BackendError`] when the network has other parameters for such images, or the device fails.
    fn set_training_px(&mut self, px: usize) -> Result<(), BackendError>;

    /// Forward, loss and backward over a micro-batch; its gradients are added to those of the step.
    ///
    /// # Errors
    /// [`BackendError`] when the rows do not fit or the device fails.
    fn accumulate(&mut self, rows: Rows<'_>, micro_batch: MicroBatch) -> Result<BatchMetrics, BackendError>;

    /// Whether [`accumulate_and_fetch`](Self::accumulate_and_fetch) does more than
    /// [`accumulate`](Self::accumulate).
    fn fetches_ahead(&self) -> bool {
        false
    }

    /// Like [`accumulate`](Self::accumulate); meanwhile copies the images of the next micro-batch to the
    /// device, where they are used if the next call is for that micro-batch.
    ///
    /// # Errors
    /// As [`accumulate`](Self::accumulate).
    fn accumulate_and_fetch(
        &mut self,
        rows: Rows<'_>,
        micro_batch: MicroBatch,
        next: NextImages<'_>,
    ) -> Result<BatchMetrics, BackendError> {
        let _ = next;
        self.accumulate(rows, micro_batch)
    }

    /// Ends a part of the step: what is accumulated from now on belongs to the next one. The gradients of
    /// parts are added in a binary tree, neighbours first ([`crate::collective::sum_in_tree`]), those within
    /// a part one after the other. A part without rows counts as zeros.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn end_part(&mut self) -> Result<(), BackendError>;

    /// Whether half precision cannot hold the gradients of the step, so that there will be no update.
    fn overflows(&self) -> bool {
        false
    }

    /// Makes the step one that overflows, as it does in another process.
    fn set_overflow(&mut self) {}

    /// Lends the gradients of the step, and its changes of buffers, as one slice of f32, to replace those of
    /// this process's share by the sums over all processes. The order and the shares are the same in every
    /// backend of this kind made from the same setup; values between the tensors are 0.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn lend_gradients(&mut self, sum: &mut Exchange<'_>) -> Result<(), BackendError>;

    /// Sums of the squares of the gradients in this process's share, of piece after piece. Those of all
    /// processes, in the order of their ranks, are the same for any number of processes.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn squares(&mut self) -> Result<Vec<f64>, BackendError>;

    /// Applies the gradients of the step to this process's share of the state, and begins a new step.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails, or the gradients are not finite with any loss scale.
    fn update(&mut self, update: Update) -> Result<Updated, BackendError>;

    /// Lends weights and buffers, in the order of the gradients, to replace the values of other shares.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn lend_weights(&mut self, gather: &mut Exchange<'_>) -> Result<(), BackendError>;

    /// Lends the running average of the weights, if there is one, to replace the values of other shares,
    /// which are needed for an evaluation or a saved state.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn lend_average(&mut self, gather: &mut Exchange<'_>) -> Result<(), BackendError>;

    /// Lends this process's share of each slot except the average, one after the other; of nothing if
    /// there is no other process.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn lend_slots(&mut self, lend: &mut dyn FnMut(&[f32], &Shares)) -> Result<(), BackendError>;

    /// Sets the gradients of the step to 0, and drops images fetched for the next one.
    fn reset_gradients(&mut self);

    /// Softmax outputs of a batch, `f32 [N,K]`, written to the front of `probabilities`, and metrics of its
    /// rows.
    ///
    /// # Errors
    /// [`BackendError`] when the rows do not fit or the device fails.
    fn evaluate(&mut self, rows: Rows<'_>, probabilities: &mut [f32]) -> Result<BatchMetrics, BackendError>;

    /// The largest weights and gradients of each parameter that is trained; once gradients were
    /// [lent](Self::lend_gradients), only of those that are summed.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn extremes(&mut self) -> Result<Vec<ParameterExtremes>, BackendError>;

    /// Lends the whole state to `save`: name, shape and values of every tensor. `slots` are the whole slots,
    /// in the order of [`lend_slots`](Self::lend_slots), which a process by itself need not give.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn export_with(&mut self, slots: &[Vec<f32>], save: &mut Save<'_>) -> Result<(), BackendError>;

    /// Lends the whole state of a process by itself.
    ///
    /// # Errors
    /// Those of [`export_with`](Self::export_with).
    fn export(&mut self, save: &mut Save<'_>) -> Result<(), BackendError> {
        self.export_with(&[], save)
    }

    /// Replaces the state by a whole one, of which a process keeps what it owns.
    ///
    /// # Errors
    /// [`BackendError`] when a tensor is missing or has another shape; the state is unspecified then.
    fn import(&mut self, state: Tensors) -> Result<(), BackendError>;
}
