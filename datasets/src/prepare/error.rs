//! Errors of a preparation.

use std::io;
use std::path::{Path, PathBuf};

use fovea_files::FileError;
use fovea_pipeline::DatasetInfo;
use fovea_pipeline::shard::ShardError;

use super::changes::Changes;
use crate::SourceError;

/// A preparation cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// An option is out of its range.
    #[error("{option}: {given}, expected {expected}")]
    Option {
        /// Name of the option on the command line.
        option: &'static str,
        /// What was given.
        given: String,
        /// What was expected.
        expected: String,
    },
    /// There is nothing to prepare.
    #[error("the source `{source_name}` has no images; check the paths and the layout")]
    NoImages {
        /// Name of the source.
        source_name: &'static str,
    },
    /// No image could be decoded.
    #[error("none of the {images} images could be decoded; the reasons are in {}", list.display())]
    AllRejected {
        /// How many were tried.
        images: u64,
        /// The list of rejections.
        list: PathBuf,
    },
    /// The folder holds another preparation.
    #[error(
        "{} already holds a preparation with {field} {there}, but now {field} is {here}; \
         choose another folder, remove this one, or use the same options", directory.display()
    )]
    OtherPreparation {
        /// The folder.
        directory: PathBuf,
        /// The first difference: an option, or the layout of the source.
        field: String,
        /// Its value in the folder.
        there: String,
        /// Its value now.
        here: String,
    },
    /// The folder was prepared from other images.
    #[error(
        "{} was prepared from other images: {changes}; give --update to prepare it again, or choose another \
         folder", directory.display()
    )]
    OtherImages {
        /// The folder.
        directory: PathBuf,
        /// In what they differ.
        changes: Box<Changes>,
    },
    /// The folder holds shards, but not the file with the options that they were prepared with.
    #[error(
        "{} holds shards without the file that describes them ({}, but no {}); choose another folder \
         or remove them", directory.display(), file, DatasetInfo::PREPARATION_FILE_NAME
    )]
    UnknownShards {
        /// The folder.
        directory: PathBuf,
        /// One of the shards.
        file: String,
    },
    /// Another process prepares into the same folder.
    #[error("{}: another preparation is writing here; wait for it, or choose another folder", directory.display())]
    Busy {
        /// The folder.
        directory: PathBuf,
    },
    /// A shard that was finished earlier has been changed since.
    #[error(
        "{}: finished earlier, but now {found}, expected {expected}; remove {} to begin anew", path.display(),
        progress.display()
    )]
    Changed {
        /// The shard.
        path: PathBuf,
        /// Its properties now.
        found: String,
        /// Its properties when it was finished.
        expected: String,
        /// The file that lists what is finished.
        progress: PathBuf,
    },
    /// A file of the preparation is not what was written.
    #[error("{}: {reason}; remove the folder to begin anew", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The disk is full.
    #[error(
        "{}: no space left on the disk; free some and run the same command again: what is finished is kept",
        path.display()
    )]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A shard cannot be written or read.
    #[error(transparent)]
    Shard(ShardError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The run was asked to stop.
    #[error(
        "interrupted; {finished} of {shards} shards are finished: run the same command again to continue"
    )]
    Interrupted {
        /// Shards that are complete.
        finished: usize,
        /// Shards in all.
        shards: usize,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {source}; give fewer --workers, or raise the limit (ulimit -u)")]
    Thread {
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A worker ended without a result, which is a bug in this program.
    #[error("a worker thread ended unexpectedly: {reason}; please report this")]
    Worker {
        /// The panic's message.
        reason: String,
    },
}

impl PrepareError {
    /// An error of the system at `path`; a full disk has a variant of its own.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path: path.into() },
            _ => Self::Io { path: path.into(), action, source },
        }
    }
}

impl From<ShardError> for PrepareError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Io { path, action, source } => Self::io(&path, action)(source),
            other => Self::Shard(other),
        }
    }
}

impl From<FileError> for PrepareError {
    fn from(error: FileError) -> Self {
        Self::io(&error.path, error.action)(error.source)
    }
}
