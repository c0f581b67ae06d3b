//! What can go wrong when reading a source of images.

use std::path::PathBuf;

/// A source of images is missing, damaged or not what it was taken for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, as a verb: `open`, `read 512 bytes at byte 1024`.
        action: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}
