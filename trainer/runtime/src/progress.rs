//! Progress events of downloads.

use std::path::Path;

/// Receives the progress of downloads; by default every method does nothing.
pub trait Progress {
    /// A download of `total_bytes` starts, of which `have_bytes` are there from an earlier attempt.
    fn started(&mut self, file: &str, have_bytes: u64, total_bytes: u64) {
        let _ = (file, have_bytes, total_bytes);
    }

    /// The current download has `have_bytes`; fewer than before if it had to start again.
    fn reached(&mut self, have_bytes: u64) {
        let _ = have_bytes;
    }

    /// The current download is complete.
    fn finished(&mut self, file: &str) {
        let _ = file;
    }

    /// Another process is fetching the same file and holds this lock.
    fn waiting(&mut self, lock: &Path) {
        let _ = lock;
    }
}

/// Ignores all events.
impl Progress for () {}
