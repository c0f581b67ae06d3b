//! The time of a training step that several processes share: computing, waiting for the slowest, exchange.

use std::time::Instant;

use serde::Serialize;

use super::step::NoiseBatch;
use super::{SEED, median_step};
use crate::backend::{MicroBatch, Rows, RowsId, Targets, TrainingBackend};
use crate::collective::Ranks;
use crate::optimizer::Update;
use crate::recipe::Recipe;
use crate::training::TrainingError;

/// Result of [`bench_ranks`]: medians over the steps after the first, in the first process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RanksBench {
    /// Name of the recipe.
    pub recipe: String,
    /// For example `cpu` or `cuda:0`.
    pub device: String,
    /// Library and version.
    pub library: String,
    /// Threads of each process; 0 for as many as there are cores.
    pub threads: usize,
    /// Processes.
    pub ranks: usize,
    /// Equal parts of the batch.
    pub parts: usize,
    /// Images of the batch of all processes.
    pub batch_rows: usize,
    /// Seconds of every step, the first included.
    pub step_s: Vec<f64>,
    /// Seconds of computing gradients.
    pub computing_s: f64,
    /// Seconds of waiting for the slowest process.
    pub waiting_s: f64,
    /// Seconds of exchanging gradients.
    pub exchange_s: f64,
    /// Seconds of the update.
    pub update_s: f64,
    /// Bytes of gradients that each process sends in a step.
    pub sent_bytes: u64,
    /// Images per second of all processes.
    pub images_per_s: f64,
    /// Seconds of a step of the first process's share, while the others do nothing.
    pub alone_s: f64,
    /// `alone_s` divided by the step's time: 1 if the processes did not cost each other anything.
    pub efficiency: f64,
}

/// What a process does of a step.
struct Share<'a> {
    batch: NoiseBatch,
    recipe: &'a Recipe,
    parts: usize,
    first_row: usize,
    gradient_scale: f32,
}

impl Share<'_> {
    /// Adds up the gradients of all parts.
    fn compute(&self, backend: &mut dyn TrainingBackend, step: u64) -> Result<(), TrainingError> {
        let rows_of_part = self.batch.labels.len() / self.parts;
        let image = self.batch.images.len() / self.batch.labels.len();
        for part in 0..self.parts {
            let samples = part * rows_of_part..(part + 1) * rows_of_part;
            let rows = Rows {
                images: &self.batch.images[samples.start * image..samples.end * image],
                color_offsets: &vec![[0.0; 3]; rows_of_part],
                targets: Targets::Classes(&self.batch.labels[samples.clone()]),
            };
            let id = RowsId { epoch: 0, batch: 0, first_row: (self.first_row + samples.start) as u64 };
            let micro_batch = MicroBatch { seed: SEED, step, id, gradient_scale: self.gradient_scale };
            let _ = backend.accumulate(rows, micro_batch)?;
            backend.end_part()?;
        }
        Ok(())
    }

    fn update(&self, backend: &mut dyn TrainingBackend, step: u64) -> Result<(), TrainingError> {
        // A step that overflows in f16 takes as long as any other.
        let _ = backend.update(Update::new(self.recipe.optimizer.learning_rate, step))?;
        Ok(())
    }
}

/// Takes `steps` training steps of `recipe` on noise in the processes `ranks`, with a batch of `parts` parts,
/// and as many in the first process alone. The backend takes the images of a part at once.
///
/// # Errors
/// [`TrainingError::Backend`] and [`TrainingError::Collective`].
pub fn bench_ranks(
    backend: &mut dyn TrainingBackend,
    recipe: &Recipe,
    classes: usize,
    ranks: &mut Ranks,
    parts: usize,
    steps: usize,
) -> Result<RanksBench, TrainingError> {
    let (batch_rows, world) = (recipe.training.batch_size, ranks.world());
    let own_rows = batch_rows / world;
    let share = Share {
        batch: NoiseBatch::new(recipe, classes, own_rows),
        recipe,
        parts: parts / world,
        first_row: ranks.rank() * own_rows,
        gradient_scale: 1.0 / batch_rows as f32,
    };
    let mut values = 0;
    let mut times: [Vec<f64>; 5] = Default::default();
    ranks.gather_words([0])?;
    for step in 0..steps as u64 {
        let mut moments = vec![Instant::now()];
        share.compute(backend, step)?;
        moments.push(Instant::now());
        ranks.gather_words([0])?;
        moments.push(Instant::now());
        let mut summed = Ok(());
        backend.lend_gradients(&mut |gradients| {
            values = gradients.len();
            summed = ranks.sum(gradients);
        })?;
        summed?;
        moments.push(Instant::now());
        share.update(backend, step)?;
        moments.push(Instant::now());
        let spans = moments.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
        let whole = (moments[4] - moments[0]).as_secs_f64();
        times.iter_mut().zip(spans.chain([whole])).for_each(|(times, span)| times.push(span));
    }
    ranks.gather_words([0])?;
    let mut alone = Vec::new();
    if ranks.is_first() {
        for step in 0..steps as u64 {
            let started = Instant::now();
            share.compute(backend, steps as u64 + step)?;
            share.update(backend, steps as u64 + step)?;
            alone.push(started.elapsed().as_secs_f64());
        }
    }
    ranks.gather_words([0])?;
    // The first step allocates memory.
    let median = |times: &[f64]| median_step(if times.len() > 1 { &times[1..] } else { times });
    let [computing_s, waiting_s, exchange_s, update_s, step_s] = times.each_ref().map(|times| median(times));
    let (description, alone_s) = (backend.describe(), median(&alone));
    Ok(RanksBench {
        recipe: recipe.name.clone(),
        device: description.device,
        library: description.library,
        threads: description.threads,
        ranks: world,
        parts,
        batch_rows,
        computing_s,
        waiting_s,
        exchange_s,
        update_s,
        // Pieces to the others, then its own sum to the others.
        sent_bytes: 2 * (values * size_of::<f32>() * (world - 1) / world) as u64,
        images_per_s: batch_rows as f64 / step_s,
        alone_s,
        efficiency: alone_s / step_s,
        step_s: times[4].clone(),
    })
}
