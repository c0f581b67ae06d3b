//! Files for reading: opened only where that cannot wait for ever, and read by many threads at once.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use fovea_files::kind_of;

use crate::{SourceError, Stamp};

/// An open file without a cursor: every read says where it starts.
#[derive(Debug)]
pub(crate) struct PositionedFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl PositionedFile {
    /// Opens the regular file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        Self::from_file(open_file(path)?, path)
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

/// Size and time of the file at `path`.
pub(crate) fn stamp(path: &Path) -> Result<Stamp, SourceError> {
    let about = fs::metadata(path).map_err(io_error(path, "read its size"))?;
    Ok(Stamp { bytes: about.len(), changed: (about.mtime(), about.mtime_nsec() as u32) })
}

/// Opens a regular file. To open a FIFO would wait for a writer, and a device may have no end.
pub(crate) fn open_file(path: &Path) -> Result<File, SourceError> {
    let kind = fs::metadata(path).map_err(io_error(path, "open"))?.file_type();
    if !kind.is_file() {
        return Err(SourceError::NotAFile { path: path.to_owned(), found: kind_of(kind) });
    }
    File::open(path).map_err(io_error(path, "open"))
}

/// Reads a regular file of at most `limit_bytes`.
pub(crate) fn read_file(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    open_file(path)?.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(io_error(path, "read"))?;
    check_size(path, bytes.len() as u64, limit_bytes)?;
    Ok(bytes)
}

/// Bytes of the file `path` as text.
pub(crate) fn text(path: &Path, bytes: Vec<u8>) -> Result<String, SourceError> {
    String::from_utf8(bytes).map_err(|e| io_error(path, "read")(Error::new(ErrorKind::InvalidData, e)))
}

/// Checks the size of a file that is read into memory.
pub(crate) fn check_size(path: &Path, bytes: u64, limit_bytes: u64) -> Result<(), SourceError> {
    if bytes > limit_bytes {
        return Err(SourceError::FileTooLarge { path: path.to_owned(), limit_bytes });
    }
    Ok(())
}

/// Turns an I/O error into a [`SourceError`] that names `path` and what was tried.
pub(crate) fn io_error(path: &Path, action: &str) -> impl FnOnce(Error) -> SourceError {
    move |source| SourceError::Io { path: path.to_owned(), action: action.to_owned(), source }
}
