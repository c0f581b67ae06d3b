//! Why a JPEG file cannot be decoded.

/// A JPEG file cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// The file ends before its image does.
    #[error("truncated JPEG: the file ends after {bytes} bytes, before its image does")]
    Truncated {
        /// Size of the file.
        bytes: usize,
    },
    /// The decoder gave up.
    #[error("damaged JPEG: {reason}")]
    Damaged {
        /// The decoder's message.
        reason: String,
    },
    /// A kind of JPEG that no decoder reads.
    #[error("unsupported JPEG: {reason}")]
    Unsupported {
        /// What is not supported.
        reason: String,
    },
}
