//! What can end a comparison.

use std::io;
use std::path::PathBuf;

use fovea_trainer::backend::BackendError;
use fovea_trainer::checkpoint::CheckpointError;
use fovea_trainer::metrics::MetricsError;
use fovea_trainer::training::TrainingError;

use super::Metric;
use crate::figure::FigureError;

/// A comparison cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComparisonError {
    /// A run cannot begin or go on.
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
    /// A single recipe has nothing to be compared with.
    #[error("only recipe `{name}` is given; name at least two")]
    Alone {
        /// Its name.
        name: String,
    },
    /// Two recipes would have the same folder.
    #[error("two of the recipes are called `{name}`; leave one out, or give it another `name` in its file")]
    SameName {
        /// Their name.
        name: String,
    },
    /// Two recipes would train the same.
    #[error(
        "recipes `{first}` and `{second}` differ in nothing but their names (what --set changes is changed in all recipes)"
    )]
    SameRecipe {
        /// Name of the one.
        first: String,
        /// Name of the other.
        second: String,
    },
    /// The name of a recipe cannot be the name of a folder.
    #[error(
        "the recipe's name `{name}` cannot be a folder's; use letters, digits, `-`, `_` and `.` in `name`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The target is reached before the first update, or never.
    #[error(
        "the target {given} of the {metric} is none: expected a number above 0 and below {guessing}, what guessing has"
    )]
    Target {
        /// What was given.
        given: f64,
        /// What is compared.
        metric: Metric,
        /// What guessing has.
        guessing: f64,
    },
    /// A learning rate that none can have.
    #[error("the learning rate {given} is none; expected numbers above 0, each once")]
    Rate {
        /// What was given.
        given: f64,
    },
    /// The folder of a run holds another one.
    #[error(
        "{} holds a run with another {what} ({found}, here {expected}); move it away, or give another --out folder",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What differs, a key of the recipe for instance.
        what: String,
        /// What the run has.
        found: String,
        /// What the comparison needs.
        expected: String,
    },
    /// The table of epochs is not the run's.
    #[error(
        "{} has {found} whole rows, and the run's checkpoint stands after {expected} epochs; move the run away to train it anew",
        path.display()
    )]
    Epochs {
        /// The table.
        path: PathBuf,
        /// Rows found.
        found: usize,
        /// Epochs done.
        expected: u32,
    },
    /// Another comparison works in the folder.
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
        /// What the file system said.
        reason: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        reason: io::Error,
    },
}

impl ComparisonError {
    /// Whether it was asked for in a wrong way, before anything was done.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Alone { .. }
                | Self::SameName { .. }
                | Self::SameRecipe { .. }
                | Self::Name { .. }
                | Self::Target { .. }
                | Self::Rate { .. }
        )
    }
}
