//! A run in its folder: a new one, or one resumed from its last checkpoint.

use std::sync::atomic::AtomicBool;

use super::run::Run;
use super::{Observer, Outcome, RunFolder, RunOptions, TrainingData, TrainingError};
use crate::backend::{BackendError, Setup, TrainingBackend};
use crate::checkpoint::{self, CheckpointError, Meta};
use crate::recipe::Recipe;
use crate::state::Tensors;

/// A run that is ready to train.
///
/// ```text
/// Session::open(recipe, data, options, folder)? ─► .train(backend, stop, observer)? ─► Outcome
/// ```
#[derive(Debug)]
pub struct Session<'a> {
    recipe: &'a Recipe,
    data: &'a TrainingData,
    options: RunOptions,
    folder: &'a RunFolder,
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
        Ok(Self { recipe, data, options, folder, saved })
    }

    /// The setup of its backend.
    ///
    /// # Errors
    /// Those of [`Setup::new`].
    pub fn setup(&self) -> Result<Setup<'a>, BackendError> {
        let settings = &self.options.settings;
        self.data.setup(self.recipe, settings.micro_batch, settings.seed)
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
        let Self { recipe, data, options, folder, saved } = self;
        let (settings, about) = (options.settings.clone(), backend.describe());
        let mut run = Run::new(recipe, data, backend, folder, options, stop, observer);
        if let Some((meta, state)) = saved {
            run.restore(meta, state)?;
        }
        folder.describe(recipe, &settings, &about)?;
        run.train()
    }
}
