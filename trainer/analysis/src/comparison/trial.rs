//! One trial of a sweep: an ordinary run that can be paused after any epoch.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fovea_pipeline::EvalCrops;
use fovea_trainer::backend::{BackendError, Setup, TrainingBackend};
use fovea_trainer::metrics::{self, Epoch};
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::{
    self, Observer, Outcome, Report, RunFolder, RunOptions, RunSettings, Session, TrainingData,
    TrainingError, Warning,
};

use super::error::ComparisonError;
use super::folders::epochs_done;
use super::tuning::Pruned;

/// Makes the backend of a trial.
pub type MakeBackend<'a> = dyn FnMut(&Setup<'_>) -> Result<Box<dyn TrainingBackend>, BackendError> + 'a;

/// What all trials of a sweep share.
pub struct SweepContext<'a> {
    /// Options of every run; data set and seed are replaced for each trial.
    pub options: RunOptions,
    /// Number of checkpoints kept in addition to the best.
    pub keep: usize,
    /// Makes the backend of a trial.
    pub backend: &'a mut MakeBackend<'a>,
    /// Ends the comparison once it is set.
    pub stop: &'a AtomicBool,
    /// Receives the events of the sweep and of its runs.
    pub observer: &'a mut dyn SweepObserver,
}

/// Identifies a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrialId<'a> {
    /// Name of the recipe.
    pub recipe: &'a str,
    /// Learning rate.
    pub rate: f64,
    /// Seed.
    pub seed: u64,
}

impl fmt::Display for TrialId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, rate {}, seed {}", self.recipe, self.rate, self.seed)
    }
}

/// An event of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A trial starts or resumes training.
    Started {
        /// The trial.
        trial: TrialId<'a>,
    },
    /// A trial finished an epoch.
    Epoch {
        /// The trial.
        trial: TrialId<'a>,
        /// Results of the epoch.
        epoch: &'a Epoch,
    },
    /// A trial was pruned.
    Pruned {
        /// The trial.
        trial: TrialId<'a>,
        /// Why.
        reason: Pruned,
    },
    /// The best rate is an end of the range, so one beyond it is tried.
    Extended {
        /// Name of the recipe.
        recipe: &'a str,
        /// The best rate so far; `None` when all were pruned.
        best: Option<f64>,
        /// The added rate.
        rate: f64,
    },
    /// The best rate is known.
    Tuned {
        /// Name of the recipe.
        recipe: &'a str,
        /// The best rate; `None` when all were pruned.
        rate: Option<f64>,
    },
}

/// Receives the events of a sweep, and those of its runs as an [`Observer`].
pub trait SweepObserver: Observer {
    /// Receives an event of the sweep.
    fn on_event(&mut self, event: &Event<'_>);
}

/// Why a trial pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The sweep asked for no further epoch, or the recipe has none.
    Enough,
    /// The loss is not finite.
    NotFinite,
    /// The comparison was stopped.
    Interrupted,
}

/// One trial.
pub(super) struct Trial<'a> {
    recipe: Recipe,
    data: &'a TrainingData,
    settings: RunSettings,
    folder: PathBuf,
    /// Finished epochs; the first `epochs_seen` of them have been passed to the sweep.
    epochs: Vec<Epoch>,
    epochs_seen: usize,
    /// Made when the trial first trains.
    backend: Option<Box<dyn TrainingBackend>>,
}

impl<'a> Trial<'a> {
    /// The trial in `folder`, with the epochs that are finished there.
    pub fn open(
        recipe: Recipe,
        data: &'a TrainingData,
        settings: RunSettings,
        folder: &Path,
    ) -> Result<Self, ComparisonError> {
        let epochs = epochs_done(folder)?;
        Ok(Self { recipe, data, settings, folder: folder.into(), epochs, epochs_seen: 0, backend: None })
    }

    /// The epochs that were passed to the sweep.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs[..self.epochs_seen]
    }

    /// Passes epochs to `on_epoch` one by one, training those that are not finished, until it returns `false`
    /// or the recipe has no more.
    pub fn resume(
        &mut self,
        context: &mut SweepContext<'_>,
        on_epoch: &mut dyn FnMut(&Epoch) -> bool,
    ) -> Result<Pause, ComparisonError> {
        let trial = TrialId {
            recipe: &self.recipe.name.clone(),
            rate: self.recipe.optimizer.learning_rate,
            seed: self.settings.seed,
        };
        let all = self.recipe.training.epochs as usize;
        while self.epochs_seen < all {
            if context.stop.load(Ordering::Relaxed) {
                return Ok(Pause::Interrupted);
            }
            let Some(epoch) = self.epochs.get(self.epochs_seen) else {
                context.observer.on_event(&Event::Started { trial });
                return self.train(context, trial, on_epoch);
            };
            self.epochs_seen += 1;
            if !on_epoch(epoch) {
                return Ok(Pause::Enough);
            }
        }
        Ok(Pause::Enough)
    }

    /// Trains the epochs that are not finished.
    fn train(
        &mut self,
        context: &mut SweepContext<'_>,
        trial: TrialId<'_>,
        on_epoch: &mut dyn FnMut(&Epoch) -> bool,
    ) -> Result<Pause, ComparisonError> {
        let folder = RunFolder::open(&self.folder, context.keep)?;
        let options = RunOptions { settings: self.settings.clone(), ..context.options.clone() };
        let session = Session::open(&self.recipe, self.data, options, &folder)?;
        let backend = match &mut self.backend {
            Some(backend) => backend,
            none => none.insert((context.backend)(&session.setup()?)?),
        };
        let pause = AtomicBool::new(false);
        let mut observer = TrialObserver {
            sweep: context.observer,
            stop: context.stop,
            pause: &pause,
            trial,
            last: self.recipe.training.epochs,
            epochs: &mut self.epochs,
            on_epoch,
        };
        let outcome = session.train(&mut **backend, &pause, &mut observer);
        self.epochs_seen = self.epochs.len();
        match outcome {
            Ok(Outcome::Finished(_)) => {}
            Ok(Outcome::Interrupted { .. }) if context.stop.load(Ordering::Relaxed) => {
                return Ok(Pause::Interrupted);
            }
            Ok(Outcome::Interrupted { .. }) => return Ok(Pause::Enough),
            Err(TrainingError::NotFinite(_)) => {
                self.backend = None;
                return Ok(Pause::NotFinite);
            }
            Err(error) => return Err(error.into()),
        }
        // Frees the device's memory for the other trials.
        self.backend = None;
        Ok(Pause::Enough)
    }
}

/// Forwards the events of a run to the sweep, and pauses the run when the sweep needs no further epoch.
struct TrialObserver<'a> {
    sweep: &'a mut dyn SweepObserver,
    /// Set to stop the comparison.
    stop: &'a AtomicBool,
    /// Set to stop the run.
    pause: &'a AtomicBool,
    trial: TrialId<'a>,
    /// Number of the recipe's last epoch.
    last: u32,
    epochs: &'a mut Vec<Epoch>,
    on_epoch: &'a mut dyn FnMut(&Epoch) -> bool,
}

impl TrialObserver<'_> {
    fn forward_stop(&self) {
        if self.stop.load(Ordering::Relaxed) {
            self.pause.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for TrialObserver<'_> {
    fn started(&mut self, plan: &training::RunPlan) {
        self.sweep.started(plan);
        self.forward_stop();
    }

    fn step(&mut self, step: &metrics::Step, batch: u64) {
        self.sweep.step(step, batch);
        self.forward_stop();
    }

    fn evaluating(&mut self, views: EvalCrops, images: u64, of: u64) {
        self.sweep.evaluating(views, images, of);
        self.forward_stop();
    }

    fn epoch(&mut self, epoch: &Epoch, next_rate: f64) {
        self.sweep.epoch(epoch, next_rate);
        self.sweep.on_event(&Event::Epoch { trial: self.trial, epoch });
        self.epochs.push(*epoch);
        // After its last epoch a run ends without being paused, and writes its report.
        if !(self.on_epoch)(epoch) && epoch.epoch < self.last {
            self.pause.store(true, Ordering::Relaxed);
        }
        self.forward_stop();
    }

    fn finished(&mut self, report: &Report) {
        self.sweep.finished(report);
    }

    fn saved(&mut self, path: &Path) {
        self.sweep.saved(path);
    }

    fn warn(&mut self, warning: &Warning) {
        self.sweep.warn(warning);
    }
}
