//! Errors of prepared data sets.

use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::Split;
use crate::shard::ShardError;

/// A prepared data set cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// There is no `dataset.json`.
    #[error(
        "{}: not a prepared data set: it has no dataset.json; name a folder that prepare_imagenet has finished",
        directory.display()
    )]
    NotPrepared {
        /// The directory that was given.
        directory: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: cannot read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file next to the shards does not have the expected content.
    #[error("{}: {reason}; prepare the data set again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The data set has no images in the split.
    #[error("{}: the data set has no {split} images", directory.display())]
    Empty {
        /// The data set.
        directory: PathBuf,
        /// The split that was asked for.
        split: Split,
    },
    /// Images of differing sizes have no mean image.
    #[error(
        "{}: images of differing sizes have no mean image; subtract the mean of each channel, in a recipe by \
         input.mean = \"channel\", or prepare squares",
        directory.display()
    )]
    NoMeanImage {
        /// The data set.
        directory: PathBuf,
    },
    /// A shard does not agree with `dataset.json`.
    #[error(
        "{}: {what} {found}, but dataset.json says {expected}; the file is damaged, or of another preparation: \
         prepare the data set again, or copy this file again", path.display()
    )]
    Disagreement {
        /// The shard.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The shard's value.
        found: String,
        /// The value in `dataset.json`.
        expected: String,
    },
    /// A shard cannot be read.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The file of a shard, or one beside it, cannot be brought here.
    #[error("{file}: {reason}")]
    NotFetched {
        /// Where it is.
        file: String,
        /// Why not, what was tried and what helps.
        reason: String,
    },
    /// The shards that are needed at the same time do not fit where they are brought.
    #[error("the cache limit of {capacity} bytes is too small to train with; {remedy}")]
    NoRoom {
        /// [`ShardFiles::capacity`](crate::shard_files::ShardFiles::capacity).
        capacity: u64,
        /// What suffices, [`Room::remedy`](crate::room::Room::remedy).
        remedy: String,
    },
    /// Two windows of shards do not fit where they are brought.
    #[error(
        "the cache limit of {capacity} bytes is too small to shuffle among {window} shards at a time; give at least \
         {needed_bytes} bytes, or a window of {fits}, for which it suffices"
    )]
    Window {
        /// Shards of a window.
        window: NonZeroU32,
        /// [`Records::window_that_fits`](crate::Records::window_that_fits).
        fits: NonZeroU32,
        /// [`ShardFiles::capacity`](crate::shard_files::ShardFiles::capacity).
        capacity: u64,
        /// Bytes that suffice for the window.
        needed_bytes: u64,
    },
    /// Who waited for a shard does not want it any more.
    #[error("{file}: no longer needed")]
    Unwanted {
        /// Where it is.
        file: String,
    },
}
