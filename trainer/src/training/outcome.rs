//! What a run ends with.

use fovea_pipeline::EvalCrops;
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
    /// Views of the last evaluation.
    pub views: EvalCrops,
    /// The last evaluation, over these views.
    pub score: Score,
}
