//! What the user of a source should know about it, though nothing needs to stop.

use std::path::PathBuf;

/// Something about a source that is told, not refused: what was passed over, what differs from what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// A word for programs: `duplicates`, `counts`.
    pub kind: &'static str,
    /// The folder, archive or table.
    pub path: PathBuf,
    /// How many files, members or classes it is about.
    pub count: u64,
    /// One sentence without a full stop, in which the number stands.
    pub message: String,
}
