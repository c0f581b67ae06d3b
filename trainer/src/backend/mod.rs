//! Backends: what computes a training step.
//!
//! A [`TrainingBackend`] holds weights and momenta, and does forward, loss, backward and update where its device is. The
//! loop around it ([`crate::training`]) knows nothing of sessions or devices.
//!
//! Letters: N rows of a batch, H and W the side of a view, K classes. A *row* is one view of one image.

mod error;

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{TensorRef, Tensors};

pub use error::BackendError;

/// Rows for a step or an evaluation, at most as many as the backend was made for.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// u8 [N,3,H,W] 0..=255; at least as many images as labels.
    pub images: &'a [u8],
    /// What colour augmentation adds to R, G and B, f32 [N,3] in units of 0..=255.
    pub color_offsets: &'a [[f32; 3]],
    /// Position of the class of each row, [N]; as many rows count as there are labels.
    pub labels: &'a [i64],
}

/// One batch of a step: where it stands, for what must be drawn, and how much it weighs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pass {
    /// Determines the dropout masks, together with the two numbers that follow.
    pub seed: u64,
    /// Updates done before this step.
    pub step: u64,
    /// Number of the batch within the step, where one step takes several.
    pub part: u32,
    /// Factor of the gradients: 1 / (rows of all batches of the step).
    pub gradient_scale: f32,
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

/// Computes training steps and evaluations, and holds the state that they change.
///
/// The state are the weights, under the names of the parameters, and the momenta, under `<name>.momentum`.
pub trait TrainingBackend {
    /// What this backend is.
    fn describe(&self) -> Description;

    /// Rows that a batch can have, in training and in evaluation.
    fn batch_rows(&self) -> usize;

    /// Forward, loss and backward over a batch; its gradients are added to those of the step.
    ///
    /// # Errors
    /// [`BackendError`] when the rows do not fit or the device fails.
    fn accumulate(&mut self, rows: Rows<'_>, pass: Pass) -> Result<Sums, BackendError>;

    /// Changes the weights by the gradients of the step, and begins a new one.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn update(&mut self, update: Update) -> Result<(), BackendError>;

    /// Forgets the gradients of the step.
    fn discard(&mut self);

    /// Softmax outputs of a batch, f32 [N,K], written to the front of `probabilities`, and sums over its rows.
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
    fn export(&mut self, save: &mut dyn FnMut(&[(&str, TensorRef<'_>)])) -> Result<(), BackendError>;

    /// Replaces the whole state.
    ///
    /// # Errors
    /// [`BackendError`] when a tensor is missing or has another shape; the state is unspecified then.
    fn import(&mut self, state: Tensors) -> Result<(), BackendError>;
}
