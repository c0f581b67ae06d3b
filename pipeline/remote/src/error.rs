//! Why a data set elsewhere cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use fovea_pipeline::DatasetError;

/// A data set elsewhere cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It is not the URL of a data set.
    #[error("{url}: {reason}")]
    Url {
        /// What was given, without secrets.
        url: String,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// A file cannot be fetched or uploaded.
    #[error("{url}: {reason}")]
    Transfer {
        /// Its URL, without secrets.
        url: String,
        /// Why, what was tried, and what helps.
        reason: String,
    },
    /// There is no data set at the URL.
    #[error(
        "{url}: not a prepared data set: it has no dataset.json ({reason}); name the place where one was uploaded, \
         without a file's name"
    )]
    NotPrepared {
        /// The URL, without secrets.
        url: String,
        /// What the server says.
        reason: String,
    },
    /// What is needed at once is larger than the limit.
    #[error("{url}: the cache limit of {limit} bytes is too small; {remedy}")]
    SmallLimit {
        /// The URL, without secrets.
        url: String,
        /// The limit.
        limit: u64,
        /// What suffices, [`Room::remedy`](fovea_pipeline::room::Room::remedy).
        remedy: String,
    },
    /// The file system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// What was waiting has been stopped.
    #[error("{url}: stopped before it was here")]
    Stopped {
        /// What it waited for.
        url: String,
    },
    /// What was fetched is not a data set.
    #[error("{url}: {source}")]
    Dataset {
        /// The URL, without secrets.
        url: String,
        /// What is wrong.
        #[source]
        source: DatasetError,
    },
}

impl RemoteError {
    /// Whether what was given is wrong, and not the network, a server or a disk.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Url { .. } | Self::NotPrepared { .. } | Self::SmallLimit { .. } | Self::Dataset { .. } => {
                true
            }
            Self::Transfer { .. } | Self::Disk { .. } | Self::Stopped { .. } => false,
        }
    }

    /// The error of `action` at `path`.
    pub(crate) fn disk(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), action, source }
    }
}
