//! Errors of checkpoints and their folder.

use std::io;
use std::path::PathBuf;

/// Why a checkpoint cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The file system's message.
        reason: io::Error,
    },
    /// A checkpoint cannot be written, as on a full disk.
    #[error("cannot write {}: {reason}; earlier checkpoints are untouched", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The file system's message.
        reason: io::Error,
    },
    /// There is nothing to resume from.
    #[error(
        "there is no checkpoint in {}: the run must train for an epoch, or for --checkpoint-minutes", path.display()
    )]
    None {
        /// The folder that was searched.
        path: PathBuf,
    },
    /// The file is cut off.
    #[error(
        "{} is truncated: it has {found_bytes} bytes, {expected_bytes} were written; delete its folder to use the \
         checkpoint before it",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size.
        found_bytes: u64,
        /// Its expected size.
        expected_bytes: u64,
    },
    /// The file's bytes are not those that were written.
    #[error(
        "{} is damaged: its sha256 is not the recorded one; delete its folder to use the checkpoint before it",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file is not part of a Fovea checkpoint.
    #[error(
        "{} is not part of a checkpoint: {reason}; delete its folder to use the checkpoint before it",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// It has the format of another version.
    #[error("{} has format {found}, and this version reads {known}; use the version that wrote it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The known format.
        known: u32,
    },
    /// It belongs to another recipe.
    #[error(
        "the checkpoint was trained with another recipe (`{saved}`) than the one in use (`{wanted}`, with its \
         overrides and its network file); leave out what changes the recipe (--set, --batch-size, --epochs where the \
         schedule depends on it), restore files of the run that were changed, or begin a new run"
    )]
    OtherRecipe {
        /// The checkpoint's recipe.
        saved: String,
        /// The recipe in use.
        wanted: String,
    },
    /// Its learning rate was reduced more often than its recipe does.
    #[error(
        "the checkpoint has reduced its learning rate {found} times, but its recipe does so at most {most} times: it is \
         damaged; delete its folder to use the checkpoint before it"
    )]
    Reductions {
        /// The checkpoint's number.
        found: u32,
        /// The recipe's.
        most: usize,
    },
    /// It has another number of classes.
    #[error(
        "the checkpoint has {saved} classes, the data set has {data}; use a data set with the classes of the run's"
    )]
    ClassCount {
        /// The checkpoint's number.
        saved: usize,
        /// The data set's.
        data: usize,
    },
    /// It has other classes, or has them in another order.
    #[error(
        "class {index} is `{saved}` in the checkpoint and `{data}` in the data set; use a data set with the classes of the \
         run's"
    )]
    ClassOrder {
        /// Index of the first class that differs.
        index: usize,
        /// The checkpoint's.
        saved: String,
        /// The data set's.
        data: String,
    },
    /// Another trainer uses the folder.
    #[error("another trainer is using {}; wait for it, or give another --run folder", path.display())]
    InUse {
        /// The run's folder.
        path: PathBuf,
    },
}

impl CheckpointError {
    /// Whether the recipe or the data set is to blame: the checkpoint belongs to another one.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::OtherRecipe { .. } | Self::ClassCount { .. } | Self::ClassOrder { .. })
    }

    pub(super) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |reason| Self::Read { path, reason }
    }

    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |reason| Self::Write { path, reason }
    }
}
