//! Errors of reports.

use std::io;
use std::path::PathBuf;

use fovea_trainer::training::TrainingError;

use crate::figure::FigureError;

/// A report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder is not that of a run.
    #[error(transparent)]
    Run(#[from] TrainingError),
    /// A figure cannot be drawn.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Reason given by the file system.
        reason: io::Error,
    },
}
