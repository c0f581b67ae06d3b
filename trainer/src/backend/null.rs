//! A backend that computes nothing, to measure the loader's time.

use super::{
    BackendError, BatchMetrics, Description, Exchange, Limits, MicroBatch, ParameterExtremes, Rows, Save,
    Setup, TrainingBackend, Update, Updated,
};
use crate::collective::Shares;
use crate::state::Tensors;

/// Accepts every batch that fits and returns zeros.
#[derive(Clone, Debug)]
pub struct NullBackend {
    limits: Limits,
    train_limits: Limits,
}

impl NullBackend {
    /// A backend for batches of `setup`.
    #[must_use]
    pub fn new(setup: &Setup<'_>) -> Self {
        Self { limits: setup.limits(), train_limits: setup.limits() }
    }
}

impl TrainingBackend for NullBackend {
    fn describe(&self) -> Description {
        Description {
            backend: "null",
            device: "none".into(),
            library: "none".into(),
            own_kernels: false,
            threads: 1,
        }
    }

    fn batch_rows(&self) -> usize {
        self.limits.rows
    }

    fn set_training_px(&mut self, px: usize) -> Result<(), BackendError> {
        self.train_limits = self.limits.at(px);
        Ok(())
    }

    fn accumulate(&mut self, rows: Rows<'_>, _: MicroBatch) -> Result<BatchMetrics, BackendError> {
        self.train_limits.check_training(&rows)?;
        Ok(BatchMetrics { rows: rows.targets.len() as u64, ..BatchMetrics::default() })
    }

    fn end_part(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn update(&mut self, _: Update) -> Result<Updated, BackendError> {
        Ok(Updated::Done)
    }

    fn lend_gradients(&mut self, _: &mut Exchange<'_>) -> Result<(), BackendError> {
        Ok(())
    }

    fn squares(&mut self) -> Result<Vec<f64>, BackendError> {
        Ok(Vec::new())
    }

    fn lend_weights(&mut self, _: &mut Exchange<'_>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lend_average(&mut self, _: &mut Exchange<'_>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lend_slots(&mut self, _: &mut dyn FnMut(&[f32], &Shares)) -> Result<(), BackendError> {
        Ok(())
    }

    fn reset_gradients(&mut self) {}

    fn evaluate(&mut self, rows: Rows<'_>, probabilities: &mut [f32]) -> Result<BatchMetrics, BackendError> {
        self.limits.check(&rows)?;
        self.limits.check_probabilities(&rows, probabilities.len())?;
        probabilities[..rows.targets.len() * self.limits.classes].fill(0.0);
        Ok(BatchMetrics { rows: rows.targets.len() as u64, ..BatchMetrics::default() })
    }

    fn extremes(&mut self) -> Result<Vec<ParameterExtremes>, BackendError> {
        Ok(Vec::new())
    }

    fn export_with(&mut self, _: &[Vec<f32>], save: &mut Save<'_>) -> Result<(), BackendError> {
        save(&[]);
        Ok(())
    }

    fn import(&mut self, _: Tensors) -> Result<(), BackendError> {
        Err(BackendError::Weightless)
    }
}
