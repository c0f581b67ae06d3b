//! How long a training step takes, and how much memory: one batch of noise, over and over, without a loader; and what the
//! loader costs a step: batches of a data set, against one of them over and over.

use std::fs;
use std::time::Instant;

use fovea_pipeline::Batch;
use fovea_pipeline::loader::OnBadRecord;
use fovea_runtime::Loaded;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::backend::{
    BackendError, MicroBatch, NextImages, OrtBackend, OrtOptions, Rows, RowsId, Setup, TrainingBackend,
};
use crate::metrics::BatchMetrics;
use crate::optimizer::Update;
use crate::recipe::Recipe;
use crate::summary::median;
use crate::training::{Batches, TrainingData, TrainingError};

/// The one batch of noise.
const ID: RowsId = RowsId { epoch: 0, batch: 0, first_row: 0 };
/// Seed of the initial weights, the noise and the dropout masks.
pub const SEED: u64 = 1;

/// What a benchmark found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepBench {
    /// Name of the recipe.
    pub recipe: String,
    /// `cpu` or `cuda:0`, say.
    pub device: String,
    /// Library and version.
    pub library: String,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Seconds from nothing to a backend that is ready: graphs, sessions, initial weights.
    pub startup_s: f64,
    /// Seconds of every step, the first included.
    pub step_s: Vec<f64>,
    /// Processor seconds of every step, all threads together; where the system tells them.
    pub step_cpu_s: Option<Vec<f64>>,
    /// Mean loss of every step.
    pub losses: Vec<f64>,
    /// Seconds of an evaluation of the batch after the steps.
    pub evaluate_s: f64,
    /// Images per second at the median step.
    pub images_per_s: f64,
    /// Most memory that the process ever held, in training and evaluation, in bytes; where the system tells it.
    pub peak_bytes: Option<u64>,
}

/// The one batch of the benchmark: images of noise, classes in turn, no colour offsets.
#[derive(Clone, Debug)]
pub struct NoiseBatch {
    /// `u8 [N,3,H,W]`.
    pub images: Vec<u8>,
    /// `[N]`.
    pub labels: Vec<i64>,
}

impl NoiseBatch {
    /// `rows` rows for `recipe`.
    #[must_use]
    pub fn new(recipe: &Recipe, classes: usize, rows: usize) -> Self {
        let mut images = vec![0; rows * 3 * recipe.input.crop_px * recipe.input.crop_px];
        ChaCha8Rng::seed_from_u64(SEED).fill_bytes(&mut images);
        let labels = (0..rows).map(|row| (row % classes) as i64).collect();
        Self { images, labels }
    }
}

/// A backend as a training run would have it; the mean is 127.5 everywhere.
///
/// # Errors
/// Those of [`OrtBackend::new`].
pub fn backend(
    loaded: &'static Loaded,
    recipe: &Recipe,
    classes: usize,
    batch_rows: usize,
    options: OrtOptions,
) -> Result<OrtBackend, BackendError> {
    let mean = vec![127.5; recipe.input.mean_shape().iter().product()];
    OrtBackend::new(loaded, &Setup::new(recipe, classes, batch_rows, &mean, SEED)?, options)
}

/// Takes `steps` training steps of `recipe` on one batch of noise, and evaluates it.
///
/// # Errors
/// [`BackendError`] when the backend cannot be made or fails.
pub fn bench_step(
    loaded: &'static Loaded,
    recipe: &Recipe,
    classes: usize,
    batch_rows: usize,
    steps: usize,
    options: OrtOptions,
) -> Result<StepBench, BackendError> {
    let batch = NoiseBatch::new(recipe, classes, batch_rows);
    let offsets = vec![[0.0; 3]; batch_rows];
    let started = Instant::now();
    let mut backend = backend(loaded, recipe, classes, batch_rows, options)?;
    let startup_s = started.elapsed().as_secs_f64();
    // Where a loader would have put it.
    let mut memory = backend.batch_memory()?.allocate(batch.images.len()).map_err(|reason| {
        BackendError::Session { doing: "allocate the batch", reason: ort::Error::new(reason.to_string()) }
    })?;
    let images = &mut memory.bytes_mut()[..batch.images.len()];
    images.copy_from_slice(&batch.images);
    let rows = Rows { images, color_offsets: &offsets, labels: &batch.labels };
    let (mut step_s, mut step_cpu_s, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..steps as u64 {
        let (started, cpu_before) = (Instant::now(), processor_seconds());
        let sums = take_step(
            &mut backend,
            recipe,
            (rows, ID),
            Some(NextImages { id: ID, images: rows.images }),
            step,
        )?;
        step_s.push(started.elapsed().as_secs_f64());
        step_cpu_s.push(processor_seconds().zip(cpu_before).map(|(after, before)| after - before));
        losses.push(sums.mean_loss());
    }
    let started = Instant::now();
    backend.evaluate(rows, &mut vec![0.0; batch_rows * classes])?;
    let evaluate_s = started.elapsed().as_secs_f64();
    let description = backend.describe();
    Ok(StepBench {
        recipe: recipe.name.clone(),
        device: description.device,
        library: description.library,
        batch_rows,
        startup_s,
        evaluate_s,
        images_per_s: batch_rows as f64 / median_step(&step_s),
        step_s,
        step_cpu_s: step_cpu_s.into_iter().collect(),
        losses,
        peak_bytes: peak_bytes(),
    })
}

/// One step; `next` are the images of the one that follows, if they are known.
fn take_step(
    backend: &mut dyn TrainingBackend,
    recipe: &Recipe,
    (rows, id): (Rows<'_>, RowsId),
    next: Option<NextImages<'_>>,
    step: u64,
) -> Result<BatchMetrics, BackendError> {
    let gradient_scale = 1.0 / rows.labels.len() as f32;
    let micro_batch = MicroBatch { seed: SEED, step, part: 0, id, gradient_scale };
    let metrics = match next {
        Some(next) => backend.accumulate_and_fetch(rows, micro_batch, next)?,
        None => backend.accumulate(rows, micro_batch)?,
    };
    // An overflow of f16 takes a step's time too.
    let _ = backend.update(Update { learning_rate: recipe.optimizer.learning_rate, step })?;
    Ok(metrics)
}

/// Blocks of steps of each kind: they take turns, as the speed of a machine drifts.
const BLOCKS: u32 = 2;

/// What the loader costs a training step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoaderBench {
    /// Name of the recipe.
    pub recipe: String,
    /// `cpu` or `cuda:0`, say.
    pub device: String,
    /// Library and version.
    pub library: String,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Threads that make batches.
    pub workers: usize,
    /// Seconds of every step on the same batch, with an idle loader.
    pub repeated_step_s: Vec<f64>,
    /// Seconds of every step on a batch of its own, the wait for it included, while the loader makes the next ones.
    pub loaded_step_s: Vec<f64>,
    /// Share of the latter that was spent waiting for the batch.
    pub data_wait: f64,
    /// Speed with the loader as a share of the speed without, at the median steps: 1 if the loader costs nothing.
    pub speed_ratio: f64,
}

/// Takes twice `steps` training steps on one batch of `data` and as many on batches that the loader makes meanwhile.
///
/// # Errors
/// [`TrainingError::Backend`], and [`TrainingError::Loader`] when the data set cannot be read or is smaller than a batch.
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
    // One batch is kept for ever, and one may be fetched ahead.
    let mut batches = Batches::new(data, batch_rows, SEED, workers, OnBadRecord::Stop, None, memory)
        .with_more_buffers(1 + usize::from(fetches_ahead));
    let places = batches.per_epoch();
    let mut places = (0..).flat_map(|epoch| (0..places).map(move |batch| (epoch, batch)));
    let mut next = |batches: &mut Batches| {
        let (epoch, batch) = places.next().expect("epochs do not end");
        batches.at(epoch, batch)
    };

    let kept = next(&mut batches)?;
    // The first step of a session allocates its memory, and a GPU records it.
    take_step(backend, recipe, (rows_of(&kept), id_of(&kept)), None, 0)?;
    let (mut repeated_step_s, mut loaded_step_s, mut waited_s) = (Vec::new(), Vec::new(), 0.0);
    for step in 1..=u64::from(BLOCKS) * steps as u64 {
        let started = Instant::now();
        take_step(backend, recipe, (rows_of(&kept), id_of(&kept)), Some(next_of(&kept)), step)?;
        repeated_step_s.push(started.elapsed().as_secs_f64());
        if !step.is_multiple_of(steps as u64) {
            continue;
        }
        for _ in 0..steps {
            let started = Instant::now();
            let batch = next(&mut batches)?;
            waited_s += started.elapsed().as_secs_f64();
            let coming = if fetches_ahead { batches.ready().map(next_of) } else { None };
            take_step(backend, recipe, (rows_of(&batch), id_of(&batch)), coming, step)?;
            loaded_step_s.push(started.elapsed().as_secs_f64());
        }
    }
    // What was fetched last lies in memory that ends here.
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

fn rows_of(batch: &Batch) -> Rows<'_> {
    Rows { images: batch.image_bytes(), color_offsets: batch.color_offsets(), labels: batch.labels() }
}

fn id_of(batch: &Batch) -> RowsId {
    RowsId { epoch: batch.epoch(), batch: batch.index(), first_row: 0 }
}

fn next_of(batch: &Batch) -> NextImages<'_> {
    NextImages { id: id_of(batch), images: batch.image_bytes() }
}

/// The median step time; NaN without steps.
#[must_use]
pub fn median_step(step_s: &[f64]) -> f64 {
    median(step_s).unwrap_or(f64::NAN)
}

/// The most memory that this process has held, in bytes (Linux: `VmHWM`).
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Processor time of all threads of this process (Linux).
fn processor_seconds() -> Option<f64> {
    // Fields 14 and 15, user and system time in units of 1/100 s; the second field may hold blanks and brackets.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

#[cfg(test)]
mod tests {
    use fovea_runtime::{Device, testing};

    use super::*;

    #[test]
    fn a_benchmark_takes_the_steps_and_measures_each() {
        let recipe = Recipe::load("demo", &[]).unwrap();
        let options = OrtOptions::new(Device::Cpu);
        let found = bench_step(testing::runtime(), &recipe, 10, 4, 3, options).unwrap();
        assert_eq!((found.step_s.len(), found.losses.len(), found.batch_rows), (3, 3, 4));
        assert!(found.step_s.iter().all(|&s| s > 0.0) && found.startup_s > 0.0);
        assert!(found.losses[2] != found.losses[0]);
        #[cfg(target_os = "linux")]
        assert!(found.peak_bytes.unwrap() > 1 << 20 && found.step_cpu_s.is_some());
    }
}
