//! What can go wrong with the records of a run.

use std::io;
use std::path::{Path, PathBuf};

/// A file of metrics cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the metrics file {}: {reason}", path.display())]
pub struct MetricsError {
    /// The file.
    pub path: PathBuf,
    /// The file system's message.
    pub reason: io::Error,
}

impl MetricsError {
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self { path, reason }
    }
}
