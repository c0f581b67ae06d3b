//! Whose turn it is: of the windows whose shards come and go, the first two that are not over are read.
//!
//! Without turns, workers that are ahead would hold the room that the worker with the earliest sample needs.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Windows that are read at the same time.
const AT_A_TIME: usize = 2;

/// How often a worker that waits asks whether it still should.
const LOOK: Duration = Duration::from_millis(50);

/// The windows of a loader that are not over.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    open: BTreeSet<u64>,
}

/// The turn of a window, which is over when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turns {
    /// The turn after those that were given before.
    pub fn give(self: &Arc<Self>) -> Turn {
        let mut state = self.state();
        let number = state.begun;
        state.begun += 1;
        state.open.insert(number);
        Turn { turns: Arc::clone(self), number }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Waits for it, while `is_wanted`.
    pub fn wait(&self, is_wanted: &dyn Fn() -> bool) {
        let mut state = self.turns.state();
        while !state.open.iter().take(AT_A_TIME).any(|&number| number == self.number) && is_wanted() {
            state = self.turns.ended.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.state().open.remove(&self.number);
        self.turns.ended.notify_all();
    }
}
