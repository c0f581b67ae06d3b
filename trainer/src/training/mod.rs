//! Training runs: the loop over a backend, evaluation, and the content of a run's folder.
//!
//! ```text
//! TrainingData ─ batches ─► Run ─ rows ─► TrainingBackend
//!   (shards, as the          │ ◄─ sums ──
//!    recipe needs them)      ├─► Metrics, checkpoints      in the RunFolder
//!                            └─► Observer                  receives events
//! ```
//!
//! A run is a function of its recipe, its seed and its data: order, augmentation and dropout depend only on
//! the position in the run, and everything else is in the checkpoint. So a run that was stopped at any point
//! resumes to the same bits.

mod clock;
mod data;
mod divergence;
mod error;
mod evaluate;
mod folder;
mod observer;
mod outcome;
mod pieces;
mod run;
mod session;
mod share;
mod stuck;
mod targets;
#[cfg(test)]
mod tests;
mod trained;

pub(crate) use data::Batches;
pub use data::{TrainingData, check_images, check_labels, crop_size, evaluated_split, open_dataset};
pub use divergence::{Divergence, OnNan};
pub use error::TrainingError;
pub use evaluate::{Evaluation, Score, average, predictions};
pub use folder::{
    Environment, RunFolder, RunSettings, read_environment, read_recipe, read_report, read_settings,
};
pub use observer::{Observer, RunPlan, Sharing, Warning};
pub use outcome::{Best, Outcome, Report};
pub use run::RunOptions;
pub use session::Session;
pub(crate) use targets::BatchTargets;
pub use trained::{CheckpointChoice, StoredImages, TrainedModel};
