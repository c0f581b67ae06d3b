//! Errors of the loader.

use std::io;
use std::time::Duration;

use crate::augment::AugmentError;
use crate::dataset_error::DatasetError;
use crate::shard::ShardError;

/// A loader cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// The configuration makes no sense.
    #[error("the loader cannot work with {reason}")]
    Config {
        /// What was given and what was expected.
        reason: String,
    },
    /// An augmentation or an evaluation crop does not fit the images.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// A shard cannot be read, or is of another data set.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A record is damaged or no image.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// There is no memory for the batches.
    #[error(
        "no memory for {buffers} batches of {bytes} bytes: {reason}; use smaller batches or fewer buffers"
    )]
    Memory {
        /// Batches to allocate.
        buffers: usize,
        /// Bytes of each.
        bytes: usize,
        /// The provider's reason.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start a loader thread: {source}; use fewer workers, or raise the limit (ulimit -u)")]
    Thread {
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A worker panicked.
    #[error("a loader worker panicked: {message}")]
    WorkerPanicked {
        /// The panic's message.
        message: String,
    },
    /// The consumer waits for a batch while it holds all buffers.
    #[error(
        "all {buffers} buffers have been held by the consumer for {waited:?}; drop batches, or set `buffers` higher"
    )]
    AllBuffersHeld {
        /// Buffers of the loader.
        buffers: usize,
        /// How long the consumer waited for one to be freed.
        waited: Duration,
    },
}
