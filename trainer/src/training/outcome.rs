//! What a run ends with.

use fovea_pipeline::{EvalCrops, Split};
use serde::{Deserialize, Serialize};

use super::Score;

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done.
    Finished(Report),
    /// It was asked to stop; it can resume from its last checkpoint.
    Interrupted {
        /// Updates done.
        step: u64,
    },
}

/// The result of a run, as in `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Epochs done.
    pub epochs: u32,
    /// Updates done.
    pub step: u64,
    /// Batches that were skipped because their loss was not finite.
    pub discarded: u64,
    /// Lowest top-1 error after an epoch, 0..=1.
    pub best_top1: Option<f64>,
    /// Views of the evaluations at the end.
    pub views: EvalCrops,
    /// The error of the last weights, over these views.
    pub score: Score,
    /// The best weights: those of the epoch with the lowest top-1 error. `None` if no epoch had an error that
    /// is a number, or no checkpoint was written; also in reports of earlier versions.
    #[serde(default)]
    pub best: Option<Best>,
    /// The images that errors are measured on: `Train` if the data set has no others.
    #[serde(default = "validation")]
    pub split: Split,
}

/// The weights of the epoch with the lowest top-1 error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch, counted from 1.
    pub epoch: u32,
    /// Updates done at its end.
    pub step: u64,
    /// Their error over the views of the report.
    pub score: Score,
}

/// What reports of earlier versions were about.
fn validation() -> Split {
    Split::Val
}
