//! A run in its folder: a new one, or one resumed from its last checkpoint.

use std::sync::atomic::AtomicBool;

use super::run::{Around, Run};
use super::{Observer, Outcome, RunFolder, RunOptions, TrainingData, TrainingError};
use crate::backend::{BackendError, Setup, TrainingBackend};
use crate::checkpoint::{self, CheckpointError, Meta};
use crate::collective::{Fingerprint, Ranks};
use crate::recipe::Recipe;
use crate::state::Tensors;

/// A run that is ready to train.
///
/// ```text
/// Session::open(recipe, data, options, folder)? ─► .train(backend, stop, observer)? ─► Outcome
/// ```
///
/// Of several processes, the first opens the run and the others [`follow`](Self::follow); each calls
/// [`train_with`](Self::train_with).
#[derive(Debug)]
pub struct Session<'a> {
    recipe: &'a Recipe,
    data: &'a TrainingData,
    options: RunOptions,
    /// `None` in a process that follows.
    folder: Option<&'a RunFolder>,
    /// The last checkpoint.
    saved: Option<(Meta, Tensors)>,
}

impl<'a> Session<'a> {
    /// The run in `folder`, from its last checkpoint if it has one.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when the checkpoint is damaged, or of another recipe or of other
    /// classes.
    pub fn open(
        recipe: &'a Recipe,
        data: &'a TrainingData,
        options: RunOptions,
        folder: &'a RunFolder,
    ) -> Result<Self, TrainingError> {
        let saved = match folder.store().latest() {
            Ok(latest) => Some(checkpoint::load(&latest)?),
            // A run that was killed before its first checkpoint begins anew.
            Err(CheckpointError::None { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some((meta, _)) = &saved {
            meta.check_recipe(&recipe.name, &recipe.hash())?;
            let classes: Vec<&str> = data.classes().iter().map(|class| class.wnid.as_str()).collect();
            meta.check_classes(&classes)?;
        }
        Ok(Self { recipe, data, options, folder: Some(folder), saved })
    }

    /// The part that this process takes in a run that another one opens.
    #[must_use]
    pub fn follow(recipe: &'a Recipe, data: &'a TrainingData, options: RunOptions) -> Self {
        Self { recipe, data, options, folder: None, saved: None }
    }

    /// The setup of its backend; of one of several processes, see [`Setup::of_rank`].
    ///
    /// # Errors
    /// Those of [`Setup::new`].
    pub fn setup(&self) -> Result<Setup<'a>, BackendError> {
        let settings = &self.options.settings;
        let rows = settings.rows_at_once(self.recipe.training.batch_size);
        self.data.setup(self.recipe, rows, settings.seed)
    }

    /// What must be the same in all processes of the run.
    #[must_use]
    pub fn fingerprint(&self, backend: &dyn TrainingBackend) -> Fingerprint {
        let (settings, about) = (&self.options.settings, backend.describe());
        let number = |value: Option<u64>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        Fingerprint {
            fields: vec![
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("recipe", format!("{} ({})", self.recipe.name, self.recipe.hash())),
                // The hash leaves it out, unless the schedule depends on it.
                ("--epochs", self.recipe.training.epochs.to_string()),
                ("data set", self.data.digest().to_owned()),
                ("images to evaluate", self.data.evaluated().len().to_string()),
                ("--seed", settings.seed.to_string()),
                ("--parts", settings.parts.to_string()),
                ("--window", settings.window.map_or("all shards".into(), |window| window.to_string())),
                ("--micro-batch", number(settings.micro_batch.map(|rows| rows as u64))),
                ("--limit-batches", number(settings.limit_batches)),
                ("--precision", settings.precision.to_string()),
                ("--on-nan", settings.on_nan.to_string()),
                ("--on-bad-record", settings.on_bad_record.to_string()),
                ("--backend", about.backend.to_owned()),
                ("device", about.device.split(':').next().unwrap_or_default().to_owned()),
                ("library", about.library),
                (
                    "kernels",
                    if about.own_kernels { "own and the library's" } else { "the library's" }.to_owned(),
                ),
            ],
        }
    }

    /// Trains until all epochs of the recipe are done, or until `stop` is set, and then saves a checkpoint.
    ///
    /// # Errors
    /// [`TrainingError`]; the checkpoints that were written stay. A run that cannot resume leaves its folder
    /// unchanged.
    pub fn train(
        self,
        backend: &mut dyn TrainingBackend,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainingError> {
        self.train_with(&mut Ranks::default(), backend, stop, observer)
    }

    /// Trains as one of several processes; `stop` set in any of them ends the run in all.
    ///
    /// # Errors
    /// As [`train`](Self::train), and [`TrainingError::Collective`].
    pub fn train_with(
        self,
        ranks: &mut Ranks,
        backend: &mut dyn TrainingBackend,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainingError> {
        let Self { recipe, data, options, folder, saved } = self;
        let (settings, about) = (options.settings.clone(), backend.describe());
        let mut run = Run::new(recipe, data, folder, options, Around { ranks, backend, stop, observer });
        if let Some((meta, state)) = run.shared(saved)? {
            run.restore(meta, state)?;
        }
        if let Some(folder) = folder {
            folder.describe(recipe, data.directory(), &settings, &about)?;
        }
        run.train()
    }
}
