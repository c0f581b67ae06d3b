//! What can go wrong in a backend.

use crate::checkpoint::CheckpointError;

/// A backend cannot be made or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Rows that the backend was not made for.
    #[error("{what}: {found}, expected {expected}")]
    Rows {
        /// What does not fit.
        what: &'static str,
        /// What was given.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A saved state does not fit the network.
    #[error(transparent)]
    State(#[from] CheckpointError),
}
