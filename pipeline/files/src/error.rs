//! Why a file cannot be written.

use std::io;
use std::path::{Path, PathBuf};

/// The file system refused a step of writing a file or folder.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {action}: {source}", path.display())]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What was tried, as a verb.
    pub action: &'static str,
    /// The system's reason, a full disk for instance.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// The error of `action` at `path`.
    pub(crate) fn new(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), action, source }
    }
}
