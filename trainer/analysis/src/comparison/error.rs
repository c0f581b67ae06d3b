//! Errors of comparisons.

use std::io;
use std::path::PathBuf;

use fovea_trainer::backend::BackendError;
use fovea_trainer::checkpoint::CheckpointError;
use fovea_trainer::metrics::MetricsError;
use fovea_trainer::training::TrainingError;

use super::metric::Metric;
use crate::figure::FigureError;

/// A comparison cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComparisonError {
    /// A run cannot start or continue.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// A backend cannot be made.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A checkpoint of a run cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The records of a run cannot be read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The chart cannot be drawn.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// There is only one recipe.
    #[error("only recipe `{name}` is given; name at least two")]
    Alone {
        /// Its name.
        name: String,
    },
    /// Two recipes have the same name, and so the same folder.
    #[error("two of the recipes are called `{name}`; leave one out, or give it another `name` in its file")]
    SameName {
        /// Their name.
        name: String,
    },
    /// Two recipes train alike.
    #[error(
        "recipes `{first}` and `{second}` differ in nothing but their names (--set applies to all recipes)"
    )]
    SameRecipe {
        /// Name of one.
        first: String,
        /// Name of the other.
        second: String,
    },
    /// The name of a recipe cannot be the name of a folder.
    #[error(
        "the recipe's name `{name}` cannot name a folder; use letters, digits, `-`, `_` and `.` in `name`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The target would be reached before the first update, or never.
    #[error(
        "the target {given} of the {} is out of range; expected a number above 0 and below {guessing}, the value of guessing",
        metric.title()
    )]
    Target {
        /// The given value.
        given: f64,
        /// The metric.
        metric: Metric,
        /// Its value for guessing.
        guessing: f64,
    },
    /// The metric is the validation error, and there are no validation images.
    #[error(
        "{}: no validation images, which --metric val_error is about; compare by train_error or train_loss",
        data.display()
    )]
    NoValidation {
        /// The data set.
        data: PathBuf,
    },
    /// A learning rate is invalid or given twice.
    #[error("invalid learning rate {given}; expected numbers above 0, each given once")]
    Rate {
        /// The given value.
        given: f64,
    },
    /// The folder of a trial holds another run.
    #[error(
        "{} holds a run with another {what} ({found}, here {expected}); move it away, or give another --out folder",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What differs, such as a key of the recipe.
        what: String,
        /// The run's value.
        found: String,
        /// The value that the comparison needs.
        expected: String,
    },
    /// The table of epochs does not match the run's checkpoint.
    #[error(
        "{} has {found} complete rows, but the run's checkpoint is after epoch {expected}; move the run away to train it again",
        path.display()
    )]
    Epochs {
        /// The table.
        path: PathBuf,
        /// Complete rows found.
        found: usize,
        /// Finished epochs.
        expected: u32,
    },
    /// Another comparison is using the folder.
    #[error("another comparison is using {}; wait for it, or give another --out folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A folder cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// Reason given by the file system.
        reason: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Reason given by the file system.
        reason: io::Error,
    },
}

impl ComparisonError {
    /// Whether the arguments are to blame; nothing has been trained then.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Training(error) => error.is_usage(),
            Self::Backend(error) => error.is_usage(),
            Self::Checkpoint(error) => error.is_usage(),
            Self::Alone { .. }
            | Self::SameName { .. }
            | Self::SameRecipe { .. }
            | Self::Name { .. }
            | Self::Target { .. }
            | Self::NoValidation { .. }
            | Self::Rate { .. } => true,
            _ => false,
        }
    }
}
