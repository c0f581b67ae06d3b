//! One training of a comparison: an ordinary run that is heard epoch by epoch and can be left at each.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fovea_pipeline::EvalCrops;
use fovea_trainer::backend::{BackendError, Setup, TrainingBackend};
use fovea_trainer::metrics::{self, Epoch};
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::{
    self, Observer, Outcome, RunFolder, RunOptions, RunSettings, Score, Session, TrainingData, TrainingError,
    Warning,
};

use super::folders::epochs_done;
use super::{ComparisonError, Dropped};

/// Makes the backend of a run.
pub type MakeBackend<'a> = dyn FnMut(&Setup<'_>) -> Result<Box<dyn TrainingBackend>, BackendError> + 'a;

/// What all trainings of a comparison share.
pub struct Workshop<'a> {
    /// How runs go about their work; each has data and a seed of its own.
    pub options: RunOptions,
    /// Checkpoints that stay besides the best.
    pub keep: usize,
    /// Makes the backend of a run.
    pub backend: &'a mut MakeBackend<'a>,
    /// Ends the comparison once it is set.
    pub stop: &'a AtomicBool,
    /// Whoever watches.
    pub watcher: &'a mut dyn Watcher,
}

/// Which training it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place<'a> {
    /// Name of the recipe.
    pub recipe: &'a str,
    /// Learning rate.
    pub rate: f64,
    /// Seed.
    pub seed: u64,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, rate {}, seed {}", self.recipe, self.rate, self.seed)
    }
}

/// Something that happens in a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A training begins or goes on.
    Trains {
        /// Which one.
        place: Place<'a>,
    },
    /// An epoch is over.
    Epoch {
        /// Of which training.
        place: Place<'a>,
        /// Its results.
        epoch: &'a Epoch,
    },
    /// A training was given up.
    GivenUp {
        /// Which one.
        place: Place<'a>,
        /// Why.
        why: Dropped,
    },
    /// The best rate is an end of those tried, and one beyond it is tried.
    Extended {
        /// Name of the recipe.
        recipe: &'a str,
        /// The best rate so far, unless all were given up.
        best: Option<f64>,
        /// The one that is tried.
        rate: f64,
    },
    /// The best rate is known.
    Tuned {
        /// Name of the recipe.
        recipe: &'a str,
        /// The best rate, unless all were given up.
        rate: Option<f64>,
    },
}

/// Hears how a comparison and each of its runs go.
pub trait Watcher: Observer {
    /// Something happened.
    fn happened(&mut self, event: &Event<'_>);
}

/// Why a training pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Enough epochs were heard, or there are no more.
    Heard,
    /// The loss is no finite number.
    NotFinite,
    /// It was asked to stop.
    Interrupted,
}

/// One training.
pub(super) struct Trial<'a> {
    recipe: Recipe,
    data: &'a TrainingData,
    settings: RunSettings,
    folder: PathBuf,
    /// Epochs that are done, and how many of them have been heard.
    epochs: Vec<Epoch>,
    heard: usize,
    /// There once it was needed.
    backend: Option<Box<dyn TrainingBackend>>,
}

impl<'a> Trial<'a> {
    /// The training in `folder`, as far as it has got there.
    pub fn open(
        recipe: Recipe,
        data: &'a TrainingData,
        settings: RunSettings,
        folder: &Path,
    ) -> Result<Self, ComparisonError> {
        let epochs = epochs_done(folder)?;
        Ok(Self { recipe, data, settings, folder: folder.into(), epochs, heard: 0, backend: None })
    }

    /// The epochs that were heard.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs[..self.heard]
    }

    /// Tells `hear` one epoch after the other, those that are not done yet after training them, until it answers that it
    /// has heard enough, or the recipe's epochs are over.
    pub fn go_on(
        &mut self,
        workshop: &mut Workshop<'_>,
        hear: &mut dyn FnMut(&Epoch) -> bool,
    ) -> Result<Pause, ComparisonError> {
        let place = Place {
            recipe: &self.recipe.name.clone(),
            rate: self.recipe.optimizer.learning_rate,
            seed: self.settings.seed,
        };
        let all = self.recipe.training.epochs as usize;
        while self.heard < all {
            if workshop.stop.load(Ordering::Relaxed) {
                return Ok(Pause::Interrupted);
            }
            let Some(epoch) = self.epochs.get(self.heard) else {
                workshop.watcher.happened(&Event::Trains { place });
                return self.train(workshop, place, hear);
            };
            self.heard += 1;
            if !hear(epoch) {
                return Ok(Pause::Heard);
            }
        }
        Ok(Pause::Heard)
    }

    /// Trains epochs beyond those that are done.
    fn train(
        &mut self,
        workshop: &mut Workshop<'_>,
        place: Place<'_>,
        hear: &mut dyn FnMut(&Epoch) -> bool,
    ) -> Result<Pause, ComparisonError> {
        let folder = RunFolder::open(&self.folder, workshop.keep)?;
        let options = RunOptions { settings: self.settings.clone(), ..workshop.options.clone() };
        let session = Session::open(&self.recipe, self.data, options, &folder)?;
        let backend = match &mut self.backend {
            Some(backend) => backend,
            none => none.insert((workshop.backend)(&session.setup()?)?),
        };
        let pause = AtomicBool::new(false);
        let mut listening = Listening {
            watcher: workshop.watcher,
            stop: workshop.stop,
            pause: &pause,
            place,
            last: self.recipe.training.epochs,
            epochs: &mut self.epochs,
            hear,
        };
        let outcome = session.train(&mut **backend, &pause, &mut listening);
        self.heard = self.epochs.len();
        match outcome {
            Ok(Outcome::Finished(_)) => {}
            Ok(Outcome::Interrupted { .. }) if workshop.stop.load(Ordering::Relaxed) => {
                return Ok(Pause::Interrupted);
            }
            Ok(Outcome::Interrupted { .. }) => return Ok(Pause::Heard),
            Err(TrainingError::NotFinite(_)) => {
                self.backend = None;
                return Ok(Pause::NotFinite);
            }
            Err(error) => return Err(error.into()),
        }
        // A device's memory is not for those who are done.
        self.backend = None;
        Ok(Pause::Heard)
    }
}

/// Hands on what a run tells, and stops the run when enough was heard.
struct Listening<'a> {
    watcher: &'a mut dyn Watcher,
    /// Stops the comparison.
    stop: &'a AtomicBool,
    /// Stops the run.
    pause: &'a AtomicBool,
    place: Place<'a>,
    last: u32,
    epochs: &'a mut Vec<Epoch>,
    hear: &'a mut dyn FnMut(&Epoch) -> bool,
}

impl Listening<'_> {
    fn pass_on_a_stop(&self) {
        if self.stop.load(Ordering::Relaxed) {
            self.pause.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for Listening<'_> {
    fn started(&mut self, plan: &training::Plan) {
        self.watcher.started(plan);
        self.pass_on_a_stop();
    }

    fn step(&mut self, step: &metrics::Step, batch: u64) {
        self.watcher.step(step, batch);
        self.pass_on_a_stop();
    }

    fn evaluating(&mut self, views: EvalCrops, images: u64, of: u64) {
        self.watcher.evaluating(views, images, of);
        self.pass_on_a_stop();
    }

    fn epoch(&mut self, epoch: &Epoch, next_rate: f64) {
        self.watcher.epoch(epoch, next_rate);
        self.watcher.happened(&Event::Epoch { place: self.place, epoch });
        self.epochs.push(*epoch);
        // After its last epoch a run ends by itself, with its report.
        if !(self.hear)(epoch) && epoch.epoch < self.last {
            self.pause.store(true, Ordering::Relaxed);
        }
        self.pass_on_a_stop();
    }

    fn finished(&mut self, views: EvalCrops, score: &Score) {
        self.watcher.finished(views, score);
    }

    fn saved(&mut self, path: &Path) {
        self.watcher.saved(path);
    }

    fn warn(&mut self, warning: &Warning) {
        self.watcher.warn(warning);
    }
}
