//! A file that many threads read at once, each at its own place.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::SourceError;

/// An open file without a cursor: every read says where it starts.
#[derive(Debug)]
pub(crate) struct PositionedFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl PositionedFile {
    /// Opens the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(io_error(path, "open"))?;
        Self::from_file(file, path)
    }

    /// Wraps an open file; errors name it `path`.
    pub(crate) fn from_file(file: File, path: &Path) -> Result<Self, SourceError> {
        let len = file.metadata().map_err(io_error(path, "read its size"))?.len();
        Ok(Self { path: path.to_owned(), file, len })
    }

    /// The path that errors name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from the bytes at `offset`.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.file.read_exact_at(buffer, offset).map_err(|source| SourceError::Io {
            path: self.path.clone(),
            action: format!("read {} bytes at byte {offset}", buffer.len()),
            source,
        })
    }
}

/// Turns an I/O error into a [`SourceError`] that names `path` and what was tried.
pub(crate) fn io_error(path: &Path, action: &str) -> impl FnOnce(std::io::Error) -> SourceError {
    move |source| SourceError::Io { path: path.to_owned(), action: action.to_owned(), source }
}
