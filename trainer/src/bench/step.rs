//! The time and memory of a training step, without a loader: one batch of noise, repeated.

use std::fs;
use std::time::Instant;

use fovea_runtime::OnnxRuntime;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::{SEED, add_gradients, median_step, update};
use crate::backend::{
    BackendError, NextImages, OrtBackend, OrtOptions, Rows, RowsId, Setup, Targets, TrainingBackend,
};
use crate::metrics::BatchMetrics;
use crate::recipe::Recipe;

/// Result of [`bench_step`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepBench {
    /// Name of the recipe.
    pub recipe: String,
    /// For example `cpu` or `cuda:0`.
    pub device: String,
    /// Library and version.
    pub library: String,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Rows of a micro-batch: those that are computed at once.
    pub micro_batch_rows: usize,
    /// Seconds to set up the backend: graphs, sessions, initial weights.
    pub startup_s: f64,
    /// Seconds of every step, the first included.
    pub step_s: Vec<f64>,
    /// Processor seconds of every step, all threads together; `None` where the system does not provide them.
    pub step_cpu_s: Option<Vec<f64>>,
    /// Mean loss of every step.
    pub losses: Vec<f64>,
    /// Seconds of an evaluation of a micro-batch after the steps.
    pub evaluate_s: f64,
    /// Images per second at the median step.
    pub images_per_s: f64,
    /// Peak memory of the process in bytes; `None` where the system does not provide it.
    pub peak_bytes: Option<u64>,
}

/// The batch of the benchmark: images of noise, labels cycling through the classes, no colour offsets.
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

/// A backend set up as for a training run, of process `place` (its number, and how many there are); the mean
/// is 127.5 everywhere.
///
/// # Errors
/// Those of [`OrtBackend::new`].
pub fn backend(
    loaded: &'static OnnxRuntime,
    recipe: &Recipe,
    classes: usize,
    batch_rows: usize,
    options: OrtOptions,
    (rank, world): (usize, usize),
) -> Result<OrtBackend, BackendError> {
    let mean = vec![127.5; recipe.input.mean_shape().iter().product()];
    let setup = Setup::new(recipe, classes, batch_rows, &mean, SEED)?.of_rank(rank, world);
    OrtBackend::new(loaded, &setup, options)
}

/// Takes `steps` training steps of `recipe` on one batch of noise, `micro_batch_rows` rows at once, and
/// evaluates the first of those.
///
/// # Errors
/// [`BackendError`] when the backend cannot be made or fails.
pub fn bench_step(
    loaded: &'static OnnxRuntime,
    recipe: &Recipe,
    classes: usize,
    micro_batch_rows: usize,
    steps: usize,
    options: OrtOptions,
) -> Result<StepBench, BackendError> {
    let started = Instant::now();
    let mut backend = backend(loaded, recipe, classes, micro_batch_rows, options, (0, 1))?;
    let startup_s = started.elapsed().as_secs_f64();
    let batch_rows = recipe.training.batch_size;
    let batch = NoiseBatch::new(recipe, classes, batch_rows);
    let offsets = vec![[0.0; 3]; batch_rows];
    // The memory that a loader would use.
    let mut memory = backend.batch_memory()?.allocate(batch.images.len()).map_err(|reason| {
        BackendError::Session { doing: "allocate the batch", reason: ort::Error::new(reason.to_string()) }
    })?;
    let images = &mut memory.bytes_mut()[..batch.images.len()];
    images.copy_from_slice(&batch.images);
    let image = batch.images.len() / batch_rows;
    let micro_batches: Vec<(Rows<'_>, RowsId)> = (0..batch_rows)
        .step_by(micro_batch_rows)
        .map(|first| {
            let samples = first..(first + micro_batch_rows).min(batch_rows);
            let rows = Rows {
                images: &images[samples.start * image..samples.end * image],
                color_offsets: &offsets[samples.clone()],
                targets: Targets::Classes(&batch.labels[samples]),
            };
            (rows, RowsId { epoch: 0, batch: 0, first_row: first as u64 })
        })
        .collect();
    let (mut step_s, mut step_cpu_s, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..steps as u64 {
        let (started, cpu_before) = (Instant::now(), processor_seconds());
        let mut sums = BatchMetrics::default();
        for (at, &rows) in micro_batches.iter().enumerate() {
            let (next, id) = micro_batches[(at + 1) % micro_batches.len()];
            let next = NextImages { id, images: next.images };
            sums += add_gradients(&mut backend, batch_rows, rows, Some(next), step)?;
        }
        update(&mut backend, recipe, step)?;
        step_s.push(started.elapsed().as_secs_f64());
        step_cpu_s.push(processor_seconds().zip(cpu_before).map(|(after, before)| after - before));
        losses.push(sums.mean_loss());
    }
    let started = Instant::now();
    let (rows, _) = micro_batches[0];
    backend.evaluate(rows, &mut vec![0.0; rows.targets.len() * classes])?;
    let evaluate_s = started.elapsed().as_secs_f64();
    let description = backend.describe();
    Ok(StepBench {
        recipe: recipe.name.clone(),
        device: description.device,
        library: description.library,
        batch_rows,
        micro_batch_rows,
        startup_s,
        evaluate_s,
        images_per_s: batch_rows as f64 / median_step(&step_s),
        step_s,
        step_cpu_s: step_cpu_s.into_iter().collect(),
        losses,
        peak_bytes: peak_bytes(),
    })
}

/// Peak memory of this process, in bytes (Linux: `VmHWM`).
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Processor time of all threads of this process (Linux).
fn processor_seconds() -> Option<f64> {
    // Fields 14 and 15, user and system time in units of 1/100 s; the second field may hold blanks and
    // brackets.
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
        let recipe = Recipe::load("demo", &["training.batch_size=4".into()]).unwrap();
        let options = OrtOptions::new(Device::Cpu);
        let bench = |micro_batch_rows| {
            bench_step(testing::runtime(), &recipe, 10, micro_batch_rows, 3, options).unwrap()
        };
        let found = bench(4);
        assert_eq!((found.step_s.len(), found.losses.len(), found.batch_rows), (3, 3, 4));
        // The last of two is smaller.
        let losses = bench(3).losses;
        assert!(
            losses.iter().zip(&found.losses).all(|(one, other)| (one - other).abs() < 1e-5),
            "{losses:?}, but at once {:?}",
            found.losses
        );
        assert!(found.step_s.iter().all(|&s| s > 0.0) && found.startup_s > 0.0);
        assert!(found.losses[2] != found.losses[0]);
        #[cfg(target_os = "linux")]
        assert!(found.peak_bytes.unwrap() > 1 << 20 && found.step_cpu_s.is_some());
    }
}
