//! Training runs: the loop over a backend, evaluation, and what lies in a run's folder.
//!
//! ```text
//! TrainingData ─ batches ─► Run ─ rows ─► TrainingBackend
//!   (shards, as the          │ ◄─ sums ──
//!    recipe wants them)      ├─► Metrics, checkpoints      in the RunFolder
//!                            └─► Observer                  whoever watches
//! ```
//!
//! A run is a function of its recipe, its seed and its data: order, augmentation and dropout depend on the place in the run
//! alone, and everything else is in the checkpoint. So a run that was stopped anywhere goes on to the same bits.

mod data;
mod divergence;
mod error;
mod evaluate;
mod folder;
mod observer;
mod plateau;
mod run;
mod session;
#[cfg(test)]
mod tests;
mod trained;

pub(crate) use data::Batches;
pub use data::{TrainingData, crop_size, open_dataset};
pub use divergence::{Divergence, OnNan};
pub use error::TrainingError;
pub use evaluate::{Evaluation, Part, Score, average, default_workers, probabilities};
pub use folder::{
    Environment, RunFolder, RunSettings, read_environment, read_recipe, read_report, read_settings,
};
pub use observer::{Observer, Plan, Warning};
pub use run::{Outcome, Report, RunOptions};
pub use session::Session;
pub use trained::{Trained, Which};
