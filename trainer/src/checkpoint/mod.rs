//! Checkpoints: tensors as safetensors, everything else as JSON, in a folder that is complete or absent.
//!
//! ```text
//! RUN/lock                                      held by the trainer at work
//! RUN/checkpoints/step-000000120/state.safetensors
//! RUN/checkpoints/step-000000120/checkpoint.json  with the size and the hash of the tensors, and its own
//! ```
//!
//! A checkpoint is written under a hidden name, synced and renamed, so a trainer that is killed at any moment
//! leaves the earlier ones as they were.

mod error;
mod folder;
mod store;

use serde::{Deserialize, Serialize};

pub use error::CheckpointError;
pub use folder::{load, read_meta, save};
pub use store::{LOCK, RunLock, Store};

use crate::metrics::BatchMetrics;
use crate::optimizer;

/// The version of the layout.
const FORMAT: u32 = 2;

/// More than any run counts, and so little that counting on does not overflow.
const MOST: u64 = 1 << 48;

/// All of a training run's state that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of the program that wrote it.
    pub written_by: String,
    /// Name of the recipe.
    pub recipe: String,
    /// [`crate::recipe::Recipe::hash`] of the recipe.
    pub recipe_hash: String,
    /// Identifiers of the classes in the order of the outputs.
    pub classes: Vec<String>,
    /// Readable names of the classes, in the same order.
    pub class_names: Vec<String>,
    /// [`fovea_pipeline::DatasetInfo::digest`] of the training images.
    pub data: String,
    /// Whether the validation error was the lowest so far when it was saved.
    pub is_best: bool,
    /// Seed of the run.
    pub seed: u64,
    /// Updates done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u32,
    /// Batches done in the epoch that is in progress.
    pub batch: u64,
    /// Metrics over these batches.
    pub sums: BatchMetrics,
    /// Batches of the run that were skipped because their loss was not finite.
    pub discarded: u64,
    /// State of the schedule.
    pub schedule: optimizer::State,
}

impl Meta {
    /// Checks that the checkpoint belongs to this recipe.
    ///
    /// # Errors
    /// [`CheckpointError::OtherRecipe`].
    pub fn check_recipe(&self, name: &str, hash: &str) -> Result<(), CheckpointError> {
        if self.recipe_hash == hash {
            return Ok(());
        }
        Err(CheckpointError::OtherRecipe { saved: self.recipe.clone(), wanted: name.to_owned() })
    }

    /// Checks that the numbers can be those of one run: no run reduces its rate more often than it has
    /// epochs. Files of earlier versions have no hash that would tell.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check_counts(&self) -> Result<(), String> {
        let (classes, names) = (self.classes.len(), self.class_names.len());
        if classes != names {
            return Err(format!("there are {names} class_names for {classes} classes"));
        }
        let schedule = &self.schedule;
        for (name, count) in [
            ("schedule.epochs", schedule.epochs),
            ("schedule.divisions", schedule.reductions),
            ("schedule.epochs_without_gain", schedule.epochs_without_gain),
        ] {
            if count > self.epoch {
                return Err(format!("{name} is {count} after {} epochs", self.epoch));
            }
        }
        let rows = self.sums.rows;
        for (name, count) in [("sums.top1", self.sums.top1), ("sums.top5", self.sums.top5)] {
            if count > rows {
                return Err(format!("{name} is {count} of {rows} images"));
            }
        }
        let counts = [
            ("step", self.step),
            ("batch", self.batch),
            ("discarded", self.discarded),
            ("epoch", self.epoch.into()),
            ("sums.rows", rows),
        ];
        match counts.into_iter().find(|(_, count)| *count > MOST) {
            Some((name, count)) => Err(format!("{name} is {count}, expected at most {MOST}")),
            None => Ok(()),
        }
    }

    /// Checks that the data set has the classes that the checkpoint was trained on, in the same order.
    ///
    /// # Errors
    /// [`CheckpointError::ClassCount`], or [`CheckpointError::ClassOrder`] with the first class that differs.
    pub fn check_classes(&self, classes: &[impl AsRef<str>]) -> Result<(), CheckpointError> {
        if self.classes.len() != classes.len() {
            return Err(CheckpointError::ClassCount { saved: self.classes.len(), data: classes.len() });
        }
        let differs =
            (0..).zip(&self.classes).zip(classes).find(|((_, saved), data)| *saved != data.as_ref());
        match differs {
            None => Ok(()),
            Some(((index, saved), data)) => Err(CheckpointError::ClassOrder {
                index,
                saved: saved.clone(),
                data: data.as_ref().to_owned(),
            }),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn meta(step: u64) -> Meta {
        Meta {
            written_by: "0.1.0".to_owned(),
            recipe: "demo".to_owned(),
            recipe_hash: "ab12".to_owned(),
            classes: vec!["n01".to_owned(), "n02".to_owned()],
            class_names: vec!["crane".to_owned(), "crane".to_owned()],
            data: "ef56".to_owned(),
            is_best: false,
            seed: u64::MAX,
            step,
            epoch: 3,
            batch: 7,
            sums: BatchMetrics { rows: 448, loss: 0.1 + 0.7, top1: 12, top5: 99, errors: [0.0; 2] },
            discarded: 1,
            schedule: optimizer::State { epochs: 3, best_error: Some(0.1 + 0.2), ..Default::default() },
        }
    }

    #[test]
    fn a_checkpoint_of_another_recipe_is_an_error_with_both_names() {
        meta(1).check_recipe("demo", "ab12").unwrap();
        let error = meta(1).check_recipe("alexnet", "cd34").unwrap_err().to_string();
        assert!(error.contains("`demo`") && error.contains("`alexnet`"), "{error}");
    }

    #[test]
    fn other_classes_are_an_error_with_their_number_or_the_first_difference() {
        meta(1).check_classes(&["n01", "n02"]).unwrap();
        let error = meta(1).check_classes(&["n01"]).unwrap_err();
        assert!(matches!(error, CheckpointError::ClassCount { saved: 2, data: 1 }), "{error}");
        let error = meta(1).check_classes(&["n01", "n03"]).unwrap_err();
        assert!(matches!(error, CheckpointError::ClassOrder { index: 1, .. }), "{error}");
    }
}
