//! The loop: batches, updates, evaluations, checkpoints.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fovea_pipeline::{Batch, EvalCrops, Split};

use super::data::{Batches, crop_size};
use super::stuck::StuckAtChance;
use super::{
    Best, Divergence, Evaluation, Observer, OnNan, Outcome, Part, Report, RunFolder, RunPlan, RunSettings,
    Score, TrainingData, TrainingError, Warning,
};
use crate::backend::{MicroBatch, NextImages, Rows, RowsId, TrainingBackend, Updated};
use crate::checkpoint::{self, CheckpointError, Meta};
use crate::metrics::{self, BatchMetrics, Metrics};
use crate::names;
use crate::optimizer::{self, Position, Schedule, Update};
use crate::recipe::Recipe;
use crate::state::{TensorRef, Tensors};

/// Options of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOptions {
    /// The settings that are stored in the run's folder.
    pub settings: RunSettings,
    /// Threads that make batches.
    pub workers: usize,
    /// Time between checkpoints within an epoch.
    pub checkpoint_every: Duration,
}

/// A training run. [`Run::new`] makes a new one; [`Run::restore`] moves it to the position of a checkpoint.
pub(super) struct Run<'a> {
    recipe: &'a Recipe,
    data: &'a TrainingData,
    backend: &'a mut dyn TrainingBackend,
    folder: &'a RunFolder,
    options: RunOptions,
    stop: &'a AtomicBool,
    observer: &'a mut dyn Observer,
    /// All state except the backend's.
    meta: Meta,
    /// The state of the last checkpoint.
    saved: Option<Meta>,
    saved_at: Instant,
    /// Batches of an epoch.
    per_epoch: u64,
}

impl<'a> Run<'a> {
    /// A new run. It ends early, with a checkpoint, once `stop` is set.
    pub fn new(
        recipe: &'a Recipe,
        data: &'a TrainingData,
        backend: &'a mut dyn TrainingBackend,
        folder: &'a RunFolder,
        options: RunOptions,
        stop: &'a AtomicBool,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let meta = Meta {
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            recipe: recipe.name.clone(),
            recipe_hash: recipe.hash(),
            classes: data.classes().iter().map(|class| class.wnid.clone()).collect(),
            class_names: data.classes().iter().map(|class| class.name.clone()).collect(),
            data: data.digest().to_owned(),
            is_best: false,
            seed: options.settings.seed,
            step: 0,
            epoch: 0,
            batch: 0,
            sums: BatchMetrics::default(),
            discarded: 0,
            schedule: optimizer::State::default(),
        };
        let (saved, saved_at) = (None, Instant::now());
        let per_epoch = 1;
        Self { recipe, data, backend, folder, options, stop, observer, meta, saved, saved_at, per_epoch }
    }

    /// Moves the run to the position of a checkpoint, whose seed replaces that of the options.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when recipe or classes differ, [`TrainingError::OtherData`] when the
    /// data set differs, [`TrainingError::Position`] and [`TrainingError::Over`] when its position is beyond
    /// the end, [`TrainingError::Backend`] when the tensors do not fit.
    pub fn restore(&mut self, meta: Meta, state: Tensors) -> Result<(), TrainingError> {
        meta.check_recipe(&self.recipe.name, &self.meta.recipe_hash)?;
        meta.check_classes(&self.meta.classes)?;
        let (found, most) = (meta.schedule.reductions, self.recipe.schedule.most_reductions());
        if found as usize > most {
            return Err(CheckpointError::Reductions { found, most }.into());
        }
        let batches = self.batches()?.per_epoch();
        if meta.batch > batches {
            return Err(TrainingError::Position { batch: meta.batch, batches });
        }
        let (epochs, wanted) =
            (meta.epoch.saturating_add(u32::from(meta.batch > 0)), self.recipe.training.epochs);
        if epochs > wanted {
            return Err(TrainingError::Over { epochs, wanted });
        }
        if meta.data != self.meta.data {
            return Err(TrainingError::OtherData { saved: meta.data, found: self.meta.data.clone() });
        }
        self.import(state)?;
        self.meta = Meta { written_by: self.meta.written_by.clone(), ..meta };
        self.saved = Some(self.meta.clone());
        Ok(())
    }

    /// Trains until all epochs of the recipe are done, then evaluates the last and the best weights.
    ///
    /// # Errors
    /// [`TrainingError`]; the checkpoints that were written stay.
    pub fn train(mut self) -> Result<Outcome, TrainingError> {
        // Gradients of another run must not enter the first step of this one.
        self.backend.reset_gradients();
        let mut batches = self.batches()?;
        let per_epoch = batches.per_epoch();
        self.per_epoch = per_epoch;
        let mut metrics =
            Metrics::open(self.folder.path(), self.meta.step, self.meta.epoch, self.data.split())?;
        self.announce(per_epoch);
        for (path, records) in metrics.missing() {
            self.observer.warn(&Warning::MissingRecords { path: path.clone(), records: *records });
        }
        let mut detector = StuckAtChance::new(self.data.classes().len());
        let mut last_score = None;
        while self.meta.epoch < self.recipe.training.epochs {
            let mut clock = Clock::start();
            while self.meta.batch < per_epoch {
                if self.is_stopped() {
                    return self.interrupted();
                }
                self.step(&mut batches, &mut metrics, &mut clock, &mut detector)?;
                if self.saved_at.elapsed() >= self.options.checkpoint_every {
                    self.save()?;
                }
            }
            match self.evaluate(self.recipe.evaluation.every_epoch)? {
                None => return self.interrupted(),
                Some(score) => {
                    self.finish_epoch(&score, &clock, &mut metrics)?;
                    last_score = Some(score);
                }
            }
        }
        self.finish(last_score)
    }

    fn batches(&self) -> Result<Batches, TrainingError> {
        let workers = self.options.workers;
        let RunSettings { on_bad_record, limit_batches, .. } = self.options.settings;
        let batch_size = self.recipe.training.batch_size;
        let (seed, memory) = (self.meta.seed, self.backend.batch_memory()?);
        let batches =
            Batches::new(self.data, batch_size, seed, workers, on_bad_record, limit_batches, memory);
        Ok(batches.with_more_buffers(usize::from(self.backend.fetches_ahead())))
    }

    fn announce(&mut self, batches: u64) {
        self.observer.started(&RunPlan {
            images: self.data.train().len(),
            evaluated_images: self.data.evaluated().len(),
            evaluated: self.data.split(),
            batch_size: self.recipe.training.batch_size,
            epochs: self.recipe.training.epochs,
            batches,
            epochs_done: self.meta.epoch,
            batches_done: self.meta.batch,
        });
        if self.data.split() == Split::Train {
            self.observer.warn(&Warning::NoValidation);
        }
    }

    /// One batch and its update.
    fn step(
        &mut self,
        batches: &mut Batches,
        metrics: &mut Metrics,
        clock: &mut Clock,
        detector: &mut StuckAtChance,
    ) -> Result<(), TrainingError> {
        let begin = Instant::now();
        let batch = batches.at(self.meta.epoch.into(), self.meta.batch)?;
        let waited = begin.elapsed();
        self.meta.batch += 1;
        self.meta.is_best = false;
        if batch.is_empty() {
            // All its records are damaged.
            return Ok(());
        }
        let next = if self.backend.fetches_ahead() { batches.ready() } else { None };
        let sums = self.accumulate(&batch, next)?;
        if !sums.loss.is_finite() {
            return self.not_finite(&sums);
        }
        let learning_rate = self.learning_rate();
        let updated = self.backend.update(Update::new(learning_rate, self.meta.step))?;
        if let Updated::Overflow { loss_scale } = updated {
            self.observer.warn(&Warning::Overflow { loss_scale, step: self.meta.step });
            return Ok(());
        }
        self.meta.step += 1;
        self.meta.sums += sums;

        let lap = Lap { images: sums.rows, waited, total: begin.elapsed() };
        clock.add(&lap);
        let step = metrics::Step {
            step: self.meta.step,
            epoch: self.meta.epoch + 1,
            loss: sums.mean_loss(),
            top1: sums.top1_error(),
            top5: sums.top5_error(),
            lr: learning_rate,
            images_per_s: lap.images_per_s(),
            data_wait: lap.data_wait(),
        };
        metrics.step(&step)?;
        self.observer.step(&step, self.meta.batch);
        if detector.is_stuck(step.loss) {
            let classes = self.data.classes().len();
            self.observer.warn(&Warning::StuckAtChance { classes, step: step.step });
        }
        Ok(())
    }

    /// Gradients over a batch, in as many micro-batches as the backend needs; ends at the first whose loss is
    /// not finite. `next` is the following batch, if it is known.
    fn accumulate(&mut self, batch: &Batch, next: Option<&Batch>) -> Result<BatchMetrics, TrainingError> {
        let rows = self.backend.batch_rows();
        let row_bytes = batch.shape().view_values();
        let labels = &batch.labels()[..batch.len()];
        let parts = labels.chunks(rows).zip(batch.color_offsets().chunks(rows));
        let id = |batch: &Batch, part: usize| RowsId {
            epoch: batch.epoch(),
            batch: batch.index(),
            first_row: (part * rows) as u64,
        };
        let images: Vec<_> = batch.image_bytes().chunks(rows * row_bytes).take(parts.len()).collect();
        let of_next = next.filter(|next| !next.is_empty());
        let of_next = of_next.map(|next| NextImages { id: id(next, 0), images: next.image_bytes() });
        let mut metrics = BatchMetrics::default();
        for (part, (labels, color_offsets)) in parts.enumerate() {
            let within = images.get(part + 1).map(|images| NextImages { id: id(batch, part + 1), images });
            let micro_batch = MicroBatch {
                seed: self.meta.seed,
                step: self.meta.step,
                id: id(batch, part),
                gradient_scale: 1.0 / batch.len() as f32,
            };
            let rows = Rows { images: images[part], color_offsets, labels };
            metrics += match within.or(of_next) {
                Some(next) => self.backend.accumulate_and_fetch(rows, micro_batch, next)?,
                None => self.backend.accumulate(rows, micro_batch)?,
            };
            if !metrics.loss.is_finite() {
                break;
            }
        }
        Ok(metrics)
    }

    fn not_finite(&mut self, sums: &BatchMetrics) -> Result<(), TrainingError> {
        let loss = sums.mean_loss();
        let divergence = self.divergence(Some(loss))?;
        if self.options.settings.on_nan == OnNan::Stop || divergence.weights_are_lost() {
            return Err(TrainingError::NotFinite(Box::new(divergence)));
        }
        self.backend.reset_gradients();
        self.meta.discarded += 1;
        let (step, total) = (self.meta.step, self.meta.discarded);
        self.observer.warn(&Warning::Discarded { loss, step, total });
        Ok(())
    }

    fn divergence(&mut self, loss: Option<f64>) -> Result<Divergence, TrainingError> {
        Ok(Divergence {
            step: self.meta.step,
            epoch: self.meta.epoch + u32::from(self.meta.batch > 0),
            loss,
            learning_rate: self.learning_rate(),
            extremes: self.backend.extremes()?,
            checkpoint: self.folder.store().latest().ok(),
        })
    }

    fn evaluate(&mut self, views: EvalCrops) -> Result<Option<Score>, TrainingError> {
        let evaluation = Evaluation {
            records: self.data.evaluated().clone(),
            views,
            crop: crop_size(self.recipe),
            classes: self.data.classes().len(),
            on_bad_record: self.options.settings.on_bad_record,
            workers: self.options.workers,
            part: Part::WHOLE,
        };
        let (of, observer) = (self.data.evaluated().len() as u64, &mut *self.observer);
        evaluation.run(self.backend, self.stop, &mut |images| observer.evaluating(views, images, of))
    }

    fn finish_epoch(
        &mut self,
        score: &Score,
        clock: &Clock,
        metrics: &mut Metrics,
    ) -> Result<(), TrainingError> {
        let mut schedule = self.schedule();
        let epoch = metrics::Epoch {
            epoch: self.meta.epoch + 1,
            step: self.meta.step,
            lr: self.learning_rate(),
            train_loss: self.meta.sums.mean_loss(),
            train_top1: self.meta.sums.top1_error(),
            train_top5: self.meta.sums.top5_error(),
            val_loss: score.loss,
            val_top1: score.top1,
            val_top5: score.top5,
            images_per_s: clock.sum.images_per_s(),
            data_wait: clock.sum.data_wait(),
            seconds: clock.started.elapsed().as_secs_f64(),
        };
        self.meta.is_best =
            score.loss.is_finite() && score.top1 < self.meta.schedule.best_error.unwrap_or(f64::INFINITY);
        schedule.epoch_done(score.top1);
        self.meta.schedule = schedule.state().clone();
        self.meta.epoch += 1;
        self.meta.batch = 0;
        self.meta.sums = BatchMetrics::default();
        metrics.epoch(&epoch)?;
        self.save()?;
        let next_rate = self.learning_rate();
        self.observer.epoch(&epoch, next_rate);
        Ok(())
    }

    fn finish(mut self, last_score: Option<Score>) -> Result<Outcome, TrainingError> {
        let views = self.recipe.evaluation.at_end;
        let known = last_score.filter(|_| views == self.recipe.evaluation.every_epoch);
        let score = match known {
            Some(score) => Some(score),
            None => self.evaluate(views)?,
        };
        let Some(score) = score else { return self.interrupted() };
        let best = match self.best_checkpoint()? {
            // The last weights are the best.
            Some(meta) if meta.step == self.meta.step && meta.epoch == self.meta.epoch => {
                Some(Best { epoch: meta.epoch, step: meta.step, score })
            }
            Some(meta) => match self.evaluate_saved(views)? {
                Some(score) => Some(Best { epoch: meta.epoch, step: meta.step, score }),
                None => return self.interrupted(),
            },
            None => None,
        };
        let report = Report {
            epochs: self.meta.epoch,
            step: self.meta.step,
            discarded: self.meta.discarded,
            best_top1: self.meta.schedule.best_error,
            views,
            score,
            best,
            split: self.data.split(),
        };
        self.folder.report(&report)?;
        self.observer.finished(&report);
        Ok(Outcome::Finished(report))
    }

    /// Position of the best checkpoint; `None` if no checkpoint was saved as the best.
    fn best_checkpoint(&self) -> Result<Option<Meta>, TrainingError> {
        match self.folder.store().best() {
            Ok(path) => Ok(Some(checkpoint::read_meta(&path)?).filter(|meta| meta.is_best)),
            // The null backend has nothing to save.
            Err(CheckpointError::None { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Evaluates the weights of the best checkpoint; the backend has the last weights again afterwards.
    fn evaluate_saved(&mut self, views: EvalCrops) -> Result<Option<Score>, TrainingError> {
        let store = self.folder.store();
        self.import(checkpoint::load(&store.best()?)?.1)?;
        let score = self.evaluate(views)?;
        self.import(checkpoint::load(&store.latest()?)?.1)?;
        Ok(score)
    }

    fn import(&mut self, mut state: Tensors) -> Result<(), TrainingError> {
        // It equals the data set's mean.
        state.take(names::SAVED_MEAN, &self.recipe.input.mean_shape())?;
        Ok(self.backend.import(state)?)
    }

    fn interrupted(mut self) -> Result<Outcome, TrainingError> {
        self.save()?;
        Ok(Outcome::Interrupted { step: self.meta.step })
    }

    /// Writes a checkpoint unless the last one is the same. A run cannot resume from weights that are not
    /// finite.
    fn save(&mut self) -> Result<(), TrainingError> {
        if self.saved.as_ref() == Some(&self.meta) {
            return Ok(());
        }
        let shape = self.recipe.input.mean_shape();
        let mean = (names::SAVED_MEAN, TensorRef { shape: &shape, values: self.data.mean() });
        let (store, meta) = (self.folder.store(), &self.meta);
        let mut path = None;
        let mut is_weightless = false;
        self.backend.export(&mut |tensors| {
            is_weightless = tensors.is_empty();
            let all: Vec<_> = tensors.iter().copied().chain([mean]).collect();
            if !is_weightless
                && all.iter().all(|(_, tensor)| tensor.values.iter().all(|value| value.is_finite()))
            {
                path = Some(store.save(meta, &all));
            }
        })?;
        if is_weightless {
            // The null backend measured the loader, and has no state to resume from.
            return Ok(());
        }
        let Some(path) = path.transpose()? else {
            return Err(TrainingError::NotFinite(Box::new(self.divergence(None)?)));
        };
        self.observer.saved(&path);
        self.saved = Some(self.meta.clone());
        self.saved_at = Instant::now();
        Ok(())
    }

    fn schedule(&self) -> Schedule {
        let (recipe, state) = (self.recipe, self.meta.schedule.clone());
        let rate = recipe.optimizer.learning_rate;
        Schedule::resume(recipe.schedule.clone(), recipe.warmup.clone(), rate, state)
    }

    /// The rate of the last batch of this epoch, or of the first if there was none.
    fn learning_rate(&self) -> f64 {
        let (per_epoch, epochs) = (self.per_epoch, self.recipe.training.epochs);
        let batch = u64::from(self.meta.epoch) * per_epoch + self.meta.batch.saturating_sub(1);
        self.schedule().rate(Position { batch, per_epoch, epochs })
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Time of one or several updates.
#[derive(Clone, Copy, Debug, Default)]
struct Lap {
    images: u64,
    waited: Duration,
    total: Duration,
}

impl Lap {
    fn images_per_s(&self) -> f64 {
        ratio(self.images as f64, self.total)
    }

    fn data_wait(&self) -> f64 {
        ratio(self.waited.as_secs_f64(), self.total)
    }
}

/// 0 if no time has passed, as in an epoch that was resumed at its end.
fn ratio(amount: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { amount / time.as_secs_f64() }
}

/// Time of an epoch.
struct Clock {
    started: Instant,
    sum: Lap,
}

impl Clock {
    fn start() -> Self {
        Self { started: Instant::now(), sum: Lap::default() }
    }

    fn add(&mut self, lap: &Lap) {
        self.sum.images += lap.images;
        self.sum.waited += lap.waited;
        self.sum.total += lap.total;
    }
}
