//! The loop: batches, updates, evaluations, checkpoints.

mod gradients;
mod size;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fovea_pipeline::{Batch, EvalCrops, Split};

use super::clock::{Clock, Lap, ratio};
use super::data::{Batches, crop_size};
use super::share::{agree_with_data, extremes_of_all, is_out_of_reach, share_state};
use super::stuck::StuckAtChance;
use super::{
    Best, Divergence, Evaluation, Observer, OnNan, Outcome, Report, RunFolder, RunPlan, RunSettings, Score,
    Sharing, TrainingData, TrainingError, Warning,
};
use crate::backend::{TrainingBackend, Updated};
use crate::checkpoint::{self, CheckpointError, Meta, Store};
use crate::collective::Ranks;
use crate::metrics::{self, BatchMetrics, Metrics};
use crate::names;
use crate::optimizer::{self, Position, Schedule, Update};
use crate::recipe::{Loss, Recipe};
use crate::state::{TensorRef, Tensors};

/// How long the other processes wait for the first to read or write a checkpoint.
const TO_SAVE: Duration = Duration::from_secs(300);

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

/// What a run works with.
pub(super) struct Around<'a> {
    pub ranks: &'a mut Ranks,
    pub backend: &'a mut dyn TrainingBackend,
    pub stop: &'a AtomicBool,
    pub observer: &'a mut dyn Observer,
}

/// A training run. [`Run::new`] makes a new one; [`Run::restore`] moves it to the position of a checkpoint.
pub(super) struct Run<'a> {
    recipe: &'a Recipe,
    data: &'a TrainingData,
    ranks: &'a mut Ranks,
    backend: &'a mut dyn TrainingBackend,
    /// `None` in all processes but the first.
    folder: Option<&'a RunFolder>,
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
    /// Side in pixels of the training images that the backend takes.
    training_px: usize,
    /// Time of the slowest step so far, after the one that allocates memory.
    slowest: Duration,
    together: Together,
    /// Whether every process has the whole running average of the weights.
    has_average: bool,
}

impl<'a> Run<'a> {
    /// A new run. It ends early, with a checkpoint, once `stop` is set.
    pub fn new(
        recipe: &'a Recipe,
        data: &'a TrainingData,
        folder: Option<&'a RunFolder>,
        options: RunOptions,
        around: Around<'a>,
    ) -> Self {
        let Around { ranks, backend, stop, observer } = around;
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
        Self {
            recipe,
            data,
            ranks,
            backend,
            folder,
            options,
            stop,
            observer,
            meta,
            saved: None,
            saved_at: Instant::now(),
            slowest: Duration::ZERO,
            together: Together::default(),
            has_average: true,
            per_epoch: 1,
            training_px: recipe.input.crop_px,
        }
    }

    /// The state that the first process has read, in all of them.
    pub fn shared(
        &mut self,
        state: Option<(Meta, Tensors)>,
    ) -> Result<Option<(Meta, Tensors)>, TrainingError> {
        Ok(share_state(self.ranks, state)?)
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
        let mut metrics = match self.folder {
            Some(folder) => {
                let Meta { step, epoch, .. } = self.meta;
                Some(Metrics::open(folder.path(), step, epoch, self.data.split())?)
            }
            None => None,
        };
        self.announce(per_epoch);
        for (path, records) in metrics.iter().flat_map(Metrics::missing) {
            self.observer.warn(&Warning::MissingRecords { path: path.clone(), records: *records });
        }
        let mut detector = match self.recipe.training.loss {
            Loss::CrossEntropy => StuckAtChance::new(self.data.classes().len()),
            Loss::BinaryCrossEntropy | Loss::MeanSquaredError => StuckAtChance::never(),
        };
        let mut last_score = None;
        while self.meta.epoch < self.recipe.training.epochs {
            self.resize()?;
            let mut clock = Clock::start();
            while self.meta.batch < per_epoch {
                let step = self.step(&mut batches, &mut metrics, &mut clock, &mut detector);
                if self.saved_if_out_of_reach(step)?.is_break() {
                    return self.interrupted();
                }
            }
            let score = self.evaluate(self.recipe.evaluation.every_epoch);
            match self.saved_if_out_of_reach(score)? {
                None => return self.interrupted(),
                Some(score) => {
                    self.finish_epoch(&score, &clock, &mut metrics)?;
                    last_score = Some(score);
                }
            }
        }
        self.finish(last_score)
    }

    /// The result; if it is that the data set cannot be reached any more, there is a checkpoint to resume
    /// from.
    fn saved_if_out_of_reach<T>(&mut self, result: Result<T, TrainingError>) -> Result<T, TrainingError> {
        if result.as_ref().is_err_and(is_out_of_reach) {
            self.save()?;
            self.ranks.wait_for(TO_SAVE);
        }
        result
    }

    fn batches(&self) -> Result<Batches, TrainingError> {
        let workers = self.options.workers;
        let settings = &self.options.settings;
        let RunSettings { on_bad_record, limit_batches, .. } = *settings;
        let batch_size = self.recipe.training.batch_size;
        let (seed, memory) = (self.meta.seed, self.backend.batch_memory()?);
        let batches =
            Batches::new(self.data, batch_size, seed, workers, on_bad_record, limit_batches, memory);
        let batches = batches.in_order(settings.order()).shared(self.ranks.rank(), self.ranks.world());
        Ok(batches.with_more_buffers(usize::from(self.backend.fetches_ahead())))
    }

    fn announce(&mut self, batches: u64) {
        self.observer.started(&RunPlan {
            images: self.data.train().len(),
            evaluated_images: self.data.evaluated().len(),
            evaluated: self.data.split(),
            batch_size: self.recipe.training.batch_size / self.recipe.views(),
            views: self.recipe.views(),
            epochs: self.recipe.training.epochs,
            loss: self.recipe.training.loss,
            batches,
            epochs_done: self.meta.epoch,
            batches_done: self.meta.batch,
        });
        if self.data.split() == Split::Train {
            self.observer.warn(&Warning::NoValidation);
        }
    }

    /// One batch and its update, with a checkpoint if it is time for one; breaks if the run is to stop before
    /// it.
    fn step(
        &mut self,
        batches: &mut Batches,
        metrics: &mut Option<Metrics>,
        clock: &mut Clock,
        detector: &mut StuckAtChance,
    ) -> Result<ControlFlow<()>, TrainingError> {
        let begin = Instant::now();
        let batch = batches.at(self.meta.epoch.into(), self.meta.batch, self.stop);
        let waited = begin.elapsed();
        let (batch, agreed) = self.agree(batch)?;
        let (Some(batch), Some(Agreed { rows, saves })) = (batch, agreed) else {
            return Ok(ControlFlow::Break(()));
        };
        self.meta.batch += 1;
        self.meta.is_best = false;
        // Without rows, all records are damaged.
        if rows > 0 {
            let next = if self.backend.fetches_ahead() { batches.ready() } else { None };
            let sums = self.accumulate(&batch, next, rows)?;
            let lap = |sums: &BatchMetrics| Lap { images: sums.rows, waited, total: begin.elapsed() };
            self.apply(&sums, lap, metrics, clock, detector)?;
        }
        if saves {
            self.save()?;
        }
        if self.meta.step > 1 {
            self.slowest = self.slowest.max(begin.elapsed());
        }
        // What the first process does beyond the step, the others may have to wait for.
        let longer = if saves { TO_SAVE } else { Duration::ZERO };
        self.ranks.wait_for(2 * self.slowest + longer);
        Ok(ControlFlow::Continue(()))
    }

    /// What the processes agree on before a step, of which this one has `batch`; `None` if one of them is
    /// asked to stop. If one cannot reach its data any more, that is an error in all.
    fn agree(
        &mut self,
        batch: Result<Option<Batch>, TrainingError>,
    ) -> Result<(Option<Batch>, Option<Agreed>), TrainingError> {
        let rows_of = |batch: &Batch| batch.len() * batch.shape().views;
        let rows = batch.as_ref().ok().and_then(Option::as_ref).map_or(0, rows_of);
        let saves = self.saved_at.elapsed() >= self.options.checkpoint_every;
        let own = [self.stop.load(Ordering::Relaxed).into(), saves.into(), rows as u64];
        let (batch, all) = agree_with_data(self.ranks, batch, own)?;
        if all.iter().any(|&[stops, ..]| stops > 0) {
            return Ok((batch, None));
        }
        let [_, saves, _] = all[0];
        let rows = all.iter().map(|&[.., rows]| rows).sum();
        Ok((batch, Some(Agreed { rows, saves: saves > 0 })))
    }

    /// The update from the gradients of a batch with these metrics, unless its loss is not finite.
    fn apply(
        &mut self,
        sums: &BatchMetrics,
        lap: impl Fn(&BatchMetrics) -> Lap,
        metrics: &mut Option<Metrics>,
        clock: &mut Clock,
        detector: &mut StuckAtChance,
    ) -> Result<(), TrainingError> {
        if !sums.loss.is_finite() {
            return self.not_finite(sums);
        }
        let learning_rate = self.learning_rate();
        let updated = self.update(Update::new(learning_rate, self.meta.step))?;
        if let Updated::Overflow { loss_scale } = updated {
            self.observer.warn(&Warning::Overflow { loss_scale, step: self.meta.step });
            return Ok(());
        }
        self.meta.step += 1;
        self.meta.sums += *sums;

        let lap = lap(sums);
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
        if let Some(metrics) = metrics {
            metrics.step(&step)?;
        }
        self.observer.step(&step, self.meta.batch);
        if self.ranks.world() > 1 {
            let Together { slowest, waited, exchanged } = self.together;
            let share = |time: Duration| ratio(time.as_secs_f64(), lap.total);
            let (exchange, waiting) = (share(exchanged), share(waited));
            self.observer.shared(&Sharing { exchange, waiting, slowest });
        }
        if detector.is_stuck(step.loss) {
            let classes = self.data.classes().len();
            self.observer.warn(&Warning::StuckAtChance { classes, step: step.step });
        }
        Ok(())
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
            extremes: extremes_of_all(self.ranks, self.backend.extremes()?)?,
            checkpoint: self.folder.and_then(|folder| folder.store().latest().ok()),
        })
    }

    fn evaluate(&mut self, views: EvalCrops) -> Result<Option<Score>, TrainingError> {
        self.complete_average()?;
        let evaluation = Evaluation {
            records: self.data.evaluated().clone(),
            views,
            crop: crop_size(self.recipe),
            classes: self.data.classes().len(),
            loss: self.recipe.training.loss,
            on_bad_record: self.options.settings.on_bad_record,
            workers: self.options.workers,
        };
        let (of, observer) = (self.data.evaluated().len() as u64, &mut *self.observer);
        evaluation
            .run(self.backend, self.ranks, self.stop, &mut |images| observer.evaluating(views, images, of))
    }

    fn finish_epoch(
        &mut self,
        score: &Score,
        clock: &Clock,
        metrics: &mut Option<Metrics>,
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
        if let Some(metrics) = metrics {
            metrics.epoch(&epoch)?;
        }
        self.save()?;
        self.ranks.wait_for(TO_SAVE);
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
        if let Some(folder) = self.folder {
            folder.report(&report)?;
        }
        self.observer.finished(&report);
        Ok(Outcome::Finished(report))
    }

    /// Position of the best checkpoint; `None` if no checkpoint was saved as the best.
    fn best_checkpoint(&mut self) -> Result<Option<Meta>, TrainingError> {
        let best = match self.folder.map(|folder| folder.store().best()) {
            Some(Ok(path)) => Some(checkpoint::read_meta(&path)?).filter(|meta| meta.is_best),
            // The null backend has nothing to save.
            Some(Err(CheckpointError::None { .. })) | None => None,
            Some(Err(error)) => return Err(error.into()),
        };
        Ok(self.ranks.share(self.folder.map(|_| best))?)
    }

    /// Evaluates the weights of the best checkpoint; the backend has the last weights again afterwards.
    fn evaluate_saved(&mut self, views: EvalCrops) -> Result<Option<Score>, TrainingError> {
        self.import_saved(Store::best)?;
        let score = self.evaluate(views)?;
        self.import_saved(Store::latest)?;
        Ok(score)
    }

    /// Gives the backend the state of a checkpoint.
    fn import_saved(
        &mut self,
        which: fn(&Store) -> Result<PathBuf, CheckpointError>,
    ) -> Result<(), TrainingError> {
        self.ranks.wait_for(TO_SAVE);
        let state = match self.folder {
            Some(folder) => Some(checkpoint::load(&which(folder.store())?)?),
            None => None,
        };
        match self.shared(state)? {
            Some((_, state)) => self.import(state),
            None => unreachable!("the first process has a folder"),
        }
    }

    fn import(&mut self, mut state: Tensors) -> Result<(), TrainingError> {
        // It equals the data set's mean.
        state.take(names::SAVED_MEAN, &self.recipe.input.mean_shape())?;
        Ok(self.backend.import(state)?)
    }

    fn interrupted(mut self) -> Result<Outcome, TrainingError> {
        self.save()?;
        self.ranks.wait_for(TO_SAVE);
        Ok(Outcome::Interrupted { step: self.meta.step })
    }

    /// Writes a checkpoint unless the last one is the same; all processes take part. A run cannot resume from
    /// weights that are not finite.
    fn save(&mut self) -> Result<(), TrainingError> {
        if self.saved.as_ref() == Some(&self.meta) {
            return Ok(());
        }
        self.complete_average()?;
        let slots = self.slots()?;
        let mut found = None;
        if self.folder.is_some() {
            self.backend.export_with(&slots, &mut |tensors| {
                let is_finite =
                    |(_, tensor): &(_, TensorRef<'_>)| tensor.values.iter().all(|v| v.is_finite());
                found = Some((tensors.is_empty(), tensors.iter().all(is_finite)));
            })?;
        }
        let (is_weightless, is_finite) = self.ranks.share(found)?;
        if is_weightless {
            // The null backend measured the loader, and has no state to resume from.
            return Ok(());
        }
        if !is_finite {
            return Err(TrainingError::NotFinite(Box::new(self.divergence(None)?)));
        }
        if let Some(folder) = self.folder {
            let shape = self.recipe.input.mean_shape();
            let mean = (names::SAVED_MEAN, TensorRef { shape: &shape, values: self.data.mean() });
            let (store, meta) = (folder.store(), &self.meta);
            let mut path = None;
            self.backend.export_with(&slots, &mut |tensors| {
                let all: Vec<_> = tensors.iter().copied().chain([mean]).collect();
                path = Some(store.save(meta, &all));
            })?;
            if let Some(path) = path.transpose()? {
                self.observer.saved(&path);
                folder.check(&path)?;
            }
        }
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
}

/// What the processes agree on before a step.
struct Agreed {
    /// Rows of the batch, in all processes.
    rows: u64,
    /// Whether a checkpoint follows the step.
    saves: bool,
}

/// Times of an update in a run of several processes.
#[derive(Clone, Copy, Debug, Default)]
struct Together {
    /// The process that computed longest.
    slowest: usize,
    /// For the slower processes.
    waited: Duration,
    exchanged: Duration,
}
