//! Benchmarks of training steps.
//!
//! [`bench_step`] repeats a step on one batch of noise, without a loader, and measures time and memory.
//! [`bench_ranks`] does so in several processes. [`bench_loader`] compares steps on the batches of a data set
//! with repeated steps on one of them.

mod loader;
mod ranks;
mod step;

use fovea_pipeline::summary::median;

pub use self::loader::{LoaderBench, bench_loader};
pub use self::ranks::{RanksBench, bench_ranks};
pub use self::step::{NoiseBatch, StepBench, backend, bench_step, peak_bytes};
use crate::backend::{BackendError, MicroBatch, NextImages, Rows, RowsId, TrainingBackend};
use crate::metrics::BatchMetrics;
use crate::optimizer::Update;
use crate::recipe::Recipe;

/// Seed of the initial weights, the noise and the dropout masks.
pub const SEED: u64 = 1;

/// One step on a whole batch; `next` are the images of the following step, if they are known.
fn take_step(
    backend: &mut dyn TrainingBackend,
    recipe: &Recipe,
    (rows, id): (Rows<'_>, RowsId),
    next: Option<NextImages<'_>>,
    step: u64,
) -> Result<BatchMetrics, BackendError> {
    let batch_rows = rows.targets.len();
    let metrics = add_gradients(backend, batch_rows, (rows, id), next, step)?;
    update(backend, recipe, step)?;
    Ok(metrics)
}

/// Adds the gradients of some rows of a batch of `batch_rows`; `next` are the images of the rows after them,
/// if they are known.
fn add_gradients(
    backend: &mut dyn TrainingBackend,
    batch_rows: usize,
    (rows, id): (Rows<'_>, RowsId),
    next: Option<NextImages<'_>>,
    step: u64,
) -> Result<BatchMetrics, BackendError> {
    let micro_batch = MicroBatch { seed: SEED, step, id, gradient_scale: 1.0 / batch_rows as f32 };
    match next {
        Some(next) => backend.accumulate_and_fetch(rows, micro_batch, next),
        None => backend.accumulate(rows, micro_batch),
    }
}

fn update(backend: &mut dyn TrainingBackend, recipe: &Recipe, step: u64) -> Result<(), BackendError> {
    // A step that overflows in f16 takes as long as any other.
    let _ = backend.update(Update::new(recipe.optimizer.learning_rate, step))?;
    Ok(())
}

/// The median step time; NaN without steps.
#[must_use]
pub fn median_step(step_s: &[f64]) -> f64 {
    median(step_s).unwrap_or(f64::NAN)
}
