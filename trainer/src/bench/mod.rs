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

/// One step; `next` are the images of the following step, if they are known.
fn take_step(
    backend: &mut dyn TrainingBackend,
    recipe: &Recipe,
    (rows, id): (Rows<'_>, RowsId),
    next: Option<NextImages<'_>>,
    step: u64,
) -> Result<BatchMetrics, BackendError> {
    let gradient_scale = 1.0 / rows.targets.len() as f32;
    let micro_batch = MicroBatch { seed: SEED, step, id, gradient_scale };
    let metrics = match next {
        Some(next) => backend.accumulate_and_fetch(rows, micro_batch, next)?,
        None => backend.accumulate(rows, micro_batch)?,
    };
    // A step that overflows in f16 takes as long as any other.
    let _ = backend.update(Update::new(recipe.optimizer.learning_rate, step))?;
    Ok(metrics)
}

/// The median step time; NaN without steps.
#[must_use]
pub fn median_step(step_s: &[f64]) -> f64 {
    median(step_s).unwrap_or(f64::NAN)
}
