//! Calls that can only be waited for: a limit on their time.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// While this exists, a time runs; when it is over, a function is called on another thread.
#[must_use]
pub(super) struct TimeLimit {
    /// The other thread sees when it is dropped.
    _running: Option<Sender<()>>,
}

impl TimeLimit {
    /// Calls `late` when `limit` is over. Without another thread to do so there is no limit.
    pub fn start(limit: Duration, late: impl FnOnce() + Send + 'static) -> Self {
        let (running, ended) = channel::<()>();
        let wait = move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                late();
            }
        };
        Self { _running: thread::Builder::new().name("mpi-limit".into()).spawn(wait).ok().map(|_| running) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_late_is_ended_and_who_is_not_is_left_alone() {
        let (late, called) = channel();
        let limit = TimeLimit::start(Duration::from_millis(1), move || late.send("late").unwrap());
        assert_eq!(called.recv(), Ok("late"));
        drop(limit);

        let (late, called) = channel();
        drop(TimeLimit::start(Duration::from_secs(3600), move || late.send("late").unwrap()));
        // The sender is dropped with the function, uncalled.
        assert!(called.recv().is_err());
    }
}
