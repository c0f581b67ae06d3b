//! The loader's share of a training step: batches of a data set against one of them, repeated.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use fovea_pipeline::Batch;
use fovea_pipeline::loader::OnBadRecord;
use serde::Serialize;

use super::{SEED, median_step, take_step};
use crate::backend::{NextImages, Rows, RowsId, TrainingBackend};
use crate::recipe::Recipe;
use crate::training::{BatchTargets, Batches, TrainingData, TrainingError};

/// Blocks of steps of each kind: they alternate, as the speed of a machine drifts.
const BLOCKS: u32 = 2;

/// Result of [`bench_loader`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoaderBench {
    /// Name of the recipe.
    pub recipe: String,
    /// For example `cpu` or `cuda:0`.
    pub device: String,
    /// Library and version.
    pub library: String,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Threads that make batches.
    pub workers: usize,
    /// Seconds of every step on the same batch, with an idle loader.
    pub repeated_step_s: Vec<f64>,
    /// Seconds of every step on a new batch, including the wait for it, while the loader makes the next ones.
    pub loaded_step_s: Vec<f64>,
    /// Share of the latter spent waiting for the batch.
    pub data_wait: f64,
    /// Speed with the loader as a share of the speed without, at the median steps: 1 if the loader costs
    /// nothing.
    pub speed_ratio: f64,
}

/// Takes twice `steps` training steps on one batch of `data` and as many on batches that the loader makes
/// meanwhile.
///
/// # Errors
/// [`TrainingError::Backend`], and [`TrainingError::Loader`] when the data set cannot be read or is smaller
/// than a batch.
pub fn bench_loader(
    backend: &mut dyn TrainingBackend,
    recipe: &Recipe,
    data: &TrainingData,
    workers: usize,
    steps: usize,
) -> Result<LoaderBench, TrainingError> {
    let batch_rows = recipe.training.batch_size;
    let memory = backend.batch_memory()?;
    let fetches_ahead = backend.fetches_ahead();
    // One batch is kept throughout, and one may be fetched ahead.
    let mut batches = Batches::new(data, batch_rows, SEED, workers, OnBadRecord::Stop, None, memory)
        .with_more_buffers(1 + usize::from(fetches_ahead));
    let places = batches.per_epoch();
    let mut places = (0..).flat_map(|epoch| (0..places).map(move |batch| (epoch, batch)));
    let mut next = |batches: &mut Batches| {
        let (epoch, batch) = places.next().expect("epochs do not end");
        let made = batches.at(epoch, batch, &AtomicBool::new(false))?;
        Ok::<Batch, TrainingError>(made.expect("nothing asks it to stop"))
    };

    let kept = next(&mut batches)?;
    let targets = BatchTargets::of_rows(&kept);
    // The first step of a session allocates its memory, and a GPU records it.
    take_step(backend, recipe, (rows_of(&kept, &targets), id_of(&kept)), None, 0)?;
    let (mut repeated_step_s, mut loaded_step_s, mut waited_s) = (Vec::new(), Vec::new(), 0.0);
    for step in 1..=u64::from(BLOCKS) * steps as u64 {
        let started = Instant::now();
        take_step(backend, recipe, (rows_of(&kept, &targets), id_of(&kept)), Some(next_of(&kept)), step)?;
        repeated_step_s.push(started.elapsed().as_secs_f64());
        if !step.is_multiple_of(steps as u64) {
            continue;
        }
        for _ in 0..steps {
            let started = Instant::now();
            let batch = next(&mut batches)?;
            waited_s += started.elapsed().as_secs_f64();
            let coming = if fetches_ahead { batches.ready().map(next_of) } else { None };
            take_step(
                backend,
                recipe,
                (rows_of(&batch, &BatchTargets::of_rows(&batch)), id_of(&batch)),
                coming,
                step,
            )?;
            loaded_step_s.push(started.elapsed().as_secs_f64());
        }
    }
    // The memory of the images fetched last is freed here.
    backend.reset_gradients();
    let description = backend.describe();
    Ok(LoaderBench {
        recipe: recipe.name.clone(),
        device: description.device,
        library: description.library,
        batch_rows,
        workers,
        data_wait: waited_s / loaded_step_s.iter().sum::<f64>(),
        speed_ratio: median_step(&repeated_step_s) / median_step(&loaded_step_s),
        repeated_step_s,
        loaded_step_s,
    })
}

fn rows_of<'a>(batch: &'a Batch, targets: &'a BatchTargets) -> Rows<'a> {
    let targets = targets.all();
    Rows { images: batch.image_bytes(), color_offsets: batch.color_offsets(), targets }
}

fn id_of(batch: &Batch) -> RowsId {
    RowsId { epoch: batch.epoch(), batch: batch.index(), first_row: 0 }
}

fn next_of(batch: &Batch) -> NextImages<'_> {
    NextImages { id: id_of(batch), images: batch.image_bytes() }
}
