//! How a process waits for the others.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::CollectiveError;

/// While this much time has not passed, nor what a slow copy would take, a waiting process only yields.
const BUSY: Duration = Duration::from_millis(1);
/// Bytes in a second that a slow copy in memory moves.
const SLOW_COPY: f64 = 200e6;
/// How long a process sleeps that has waited for longer.
const NAP: Duration = Duration::from_micros(50);
/// How many deadlines the processes have to join each other: some machines are slower to load their programs.
pub(super) const DEADLINES_TO_BEGIN: u32 = 10;
/// How long a library has to end the other processes.
pub(super) const TO_ABORT: Duration = Duration::from_secs(10);

/// Ends this process with an exit code where a call of a library does not return, or another process has
/// ended the run; prints the error if one is given.
pub type GiveUp = fn(code: i32, error: Option<&CollectiveError>) -> !;

/// A wait of a rank of a world for an operation.
pub(super) struct Wait {
    rank: usize,
    world: usize,
    operation: &'static str,
    began: Instant,
    busy: Duration,
}

impl Wait {
    /// Begins to wait for an operation on a number of bytes.
    pub fn start((rank, world): (usize, usize), operation: &'static str, bytes: usize) -> Self {
        let busy = BUSY + Duration::from_secs_f64(bytes as f64 / SLOW_COPY);
        Self { rank, world, operation, began: Instant::now(), busy }
    }

    /// Lets others compute for a moment.
    ///
    /// # Errors
    /// [`CollectiveError::Deadline`] if it has waited for longer than `deadline`.
    pub fn go_on(&self, deadline: Duration) -> Result<(), CollectiveError> {
        let waited = self.began.elapsed();
        if waited > deadline {
            let Self { rank, world, operation, .. } = *self;
            return Err(CollectiveError::Deadline { rank, world, operation, waited });
        }
        if waited > self.busy {
            thread::sleep(NAP);
        } else {
            thread::yield_now();
        }
        Ok(())
    }
}

/// Gives up when `operation` of rank `rank` of `world` has taken `limit`.
pub(super) fn give_up_after(
    limit: Duration,
    (rank, world): (usize, usize),
    operation: &'static str,
    give_up: GiveUp,
) -> TimeLimit {
    TimeLimit::start(limit, move || {
        give_up(1, Some(&CollectiveError::Deadline { rank, world, operation, waited: limit }))
    })
}

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
        Self { _running: thread::Builder::new().name("limit".into()).spawn(wait).ok().map(|_| running) }
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
