//! The time of a training step that several processes share: computing, waiting for the slowest, exchange.

use std::time::Instant;

use serde::Serialize;

use super::step::{NoiseBatch, peak_bytes};
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
    /// Seconds of exchanging gradients and weights.
    pub exchange_s: f64,
    /// Seconds of the update of the first process's share.
    pub update_s: f64,
    /// Bytes of gradients and weights that each process sends in a step.
    pub sent_bytes: u64,
    /// Values that are exchanged.
    pub values: usize,
    /// Seconds of an exchange of them by itself: sums of the gradients, then new weights.
    pub exchange_alone_s: f64,
    /// Seconds of the library's own all-reduce of as many values; `None` if there is none.
    pub allreduce_s: Option<f64>,
    /// Peak memory of the first process in bytes; `None` where the system does not provide it.
    pub peak_bytes: Option<u64>,
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
        values = sum(backend, ranks)?;
        moments.push(Instant::now());
        share.update(backend, step)?;
        moments.push(Instant::now());
        gather(backend, ranks)?;
        moments.push(Instant::now());
        let span = |at: usize| (moments[at] - moments[at - 1]).as_secs_f64();
        let whole = (moments[5] - moments[0]).as_secs_f64();
        let spans = [span(1), span(2), span(3) + span(5), span(4), whole];
        times.iter_mut().zip(spans).for_each(|(times, span)| times.push(span));
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
    // Before the comparison, which needs memory of its own.
    let peak_bytes = peak_bytes();
    let (exchange_alone_s, allreduce_s) = compare_exchange(backend, ranks, steps)?;
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
        // Gradients of the others' shares, then weights of its own share to each.
        sent_bytes: 2 * (values * size_of::<f32>() * (world - 1) / world) as u64,
        values,
        exchange_alone_s,
        allreduce_s,
        peak_bytes,
        images_per_s: batch_rows as f64 / step_s,
        alone_s,
        efficiency: alone_s / step_s,
        step_s: times[4].clone(),
    })
}

/// Sums of the gradients in their owners; the number of values.
fn sum(backend: &mut dyn TrainingBackend, ranks: &mut Ranks) -> Result<usize, TrainingError> {
    let (mut done, mut values) = (Ok(()), 0);
    backend.lend_gradients(&mut |gradients, shares| {
        values = gradients.len();
        done = ranks.sum_share(gradients, shares);
    })?;
    Ok(done.map(|()| values)?)
}

/// The owners' weights in all processes.
fn gather(backend: &mut dyn TrainingBackend, ranks: &mut Ranks) -> Result<(), TrainingError> {
    let mut done = Ok(());
    backend.lend_weights(&mut |weights, shares| done = ranks.gather_shares(weights, shares))?;
    Ok(done?)
}

/// Median times of the exchange of a step and of the library's own all-reduce, in turns.
fn compare_exchange(
    backend: &mut dyn TrainingBackend,
    ranks: &mut Ranks,
    times: usize,
) -> Result<(f64, Option<f64>), TrainingError> {
    let (mut own, mut library) = (Vec::new(), Vec::new());
    let mut sums = Vec::new();
    // The first time allocates memory.
    for time in 0..=times {
        ranks.gather_words([0])?;
        let begin = Instant::now();
        sum(backend, ranks)?;
        gather(backend, ranks)?;
        let of_own = begin.elapsed().as_secs_f64();
        ranks.gather_words([0])?;
        let (mut of_library, mut done) = (0.0, Ok(false));
        backend.lend_gradients(&mut |gradients, _| {
            sums.resize(gradients.len(), 0.0);
            let begin = Instant::now();
            done = ranks.library_sum(gradients, &mut sums);
            of_library = begin.elapsed().as_secs_f64();
        })?;
        if time > 0 {
            own.push(of_own);
            library.extend(done?.then_some(of_library));
        }
    }
    Ok((median_step(&own), (!library.is_empty()).then(|| median_step(&library))))
}
