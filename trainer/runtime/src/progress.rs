//! How a download tells of itself.

use std::path::Path;

/// Hears how fetching goes; every method does nothing unless written.
pub trait Progress {
    /// A download of `total_bytes` begins, of which `have_bytes` lie here from an earlier attempt.
    fn started(&mut self, file: &str, have_bytes: u64, total_bytes: u64) {
        let _ = (file, have_bytes, total_bytes);
    }

    /// The download in progress now has `have_bytes`; fewer than before when it had to start again.
    fn reached(&mut self, have_bytes: u64) {
        let _ = have_bytes;
    }

    /// The download in progress is complete.
    fn finished(&mut self, file: &str) {
        let _ = file;
    }

    /// Another process is fetching the same file and holds this lock.
    fn waiting(&mut self, lock: &Path) {
        let _ = lock;
    }
}

/// Hears nothing.
impl Progress for () {}
