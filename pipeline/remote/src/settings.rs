//! How patient a fetch is, and how to end it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How files are fetched.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a server may fail before a fetch does; every 64 KiB that arrive begin it anew.
    pub patience: Duration,
    /// After how long without a byte a connection is given up, and another one tried.
    pub silence: Duration,
    /// Connections that fetch a shard together.
    pub connections: usize,
    /// Bytes of one request.
    pub part_bytes: u64,
    /// Ends everything that waits.
    pub stop: Stop,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(120),
            silence: Duration::from_secs(20),
            connections: 4,
            part_bytes: 8 << 20,
            stop: Stop::default(),
        }
    }
}

impl Settings {
    /// The default settings with this patience.
    #[must_use]
    pub fn with_patience(patience: Duration) -> Self {
        let default = Self::default();
        Self { patience, silence: default.silence.min(patience), ..default }
    }
}

/// Ends what waits for a data set elsewhere, from any thread: a fetch that has not ended fails at once.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_set: bool,
    below: Vec<Weak<Shared>>,
}

impl Stop {
    /// Ends what waits, now and later.
    pub fn set(&self) {
        let below = {
            let mut state = self.0.state();
            state.is_set = true;
            std::mem::take(&mut state.below)
        };
        self.0.changed.notify_all();
        for stop in below.iter().filter_map(Weak::upgrade) {
            Self(stop).set();
        }
    }

    /// Whether it has been set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.state().is_set
    }

    /// One that is set with this one, and can be set without it.
    pub(crate) fn below(&self) -> Self {
        let stop = Self::default();
        let mut state = self.0.state();
        stop.0.state().is_set = state.is_set;
        state.below.retain(|stop| stop.strong_count() > 0);
        state.below.push(Arc::downgrade(&stop.0));
        drop(state);
        stop
    }

    /// Waits; returns whether it has been set meanwhile.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.0.state();
        while !state.is_set {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_sets_those_below_it_and_not_the_other_way_round() {
        let stop = Stop::default();
        let (one, other) = (stop.below(), stop.below());
        one.set();
        assert!(one.is_set() && !other.is_set() && !stop.is_set());
        stop.set();
        assert!(other.is_set() && stop.below().is_set());
        assert!(other.wait(Duration::from_secs(1 << 30)), "it would wait for ages");
    }
}
