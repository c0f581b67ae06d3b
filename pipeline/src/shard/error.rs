//! Errors of shards.

use std::io;
use std::path::PathBuf;

use fovea_files::FileError;

/// A shard cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is damaged, cut off, or not an Arrow IPC file at all.
    #[error(
        "{}: not a complete Arrow IPC file ({reason}); prepare or copy this shard again (in a cache: delete it)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// An Arrow file without Fovea's header.
    #[error("{}: an Arrow file that is not a Fovea shard: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing or different.
        reason: String,
    },
    /// A shard of another version of the format.
    #[error(
        "{}: shard format version {found}, but this program reads versions 1 to {expected}; \
         prepare the data set again with this version of prepare_imagenet", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// [`FORMAT_VERSION`](super::FORMAT_VERSION).
        expected: u32,
    },
    /// The bytes of an image do not match their checksum.
    #[error(
        "{}: record {index} ({key}): checksum {found:08x}, expected {expected:08x}; the file is damaged: \
         prepare or copy this shard again (in a cache: delete it)", path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Position of the record in the shard.
        index: usize,
        /// Name of the image.
        key: String,
        /// CRC-32 of the bytes as they are.
        found: u32,
        /// CRC-32 in the record.
        expected: u32,
    },
    /// The bytes of an image match their checksum but are no image.
    #[error(
        "{}: record {index} ({key}) cannot be decoded: {reason}; check the data set with prepare_imagenet verify",
        path.display()
    )]
    Decode {
        /// The file.
        path: PathBuf,
        /// Position of the record in the shard.
        index: usize,
        /// Name of the image.
        key: String,
        /// The decoder's reason.
        reason: String,
    },
    /// A record does not fit the shard that it is appended to.
    #[error("{}: record {index} ({key}): {reason}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Position of the record in the shard.
        index: usize,
        /// Name of the image.
        key: String,
        /// What was given and what was expected.
        reason: String,
    },
}

impl From<FileError> for ShardError {
    fn from(error: FileError) -> Self {
        Self::Io { path: error.path, action: error.action, source: error.source }
    }
}
