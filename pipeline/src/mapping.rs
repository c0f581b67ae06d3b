//! Whose turn it is to map a shard.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{process, thread};

/// The right to map a shard.
pub struct Mapping<'a>(&'a AtomicU32);

impl<'a> Mapping<'a> {
    /// Waits until no other thread of this process has it; `None` when it is not wanted any more.
    pub fn of(mapping: &'a AtomicU32, is_wanted: &dyn Fn() -> bool) -> Option<Self> {
        const LONGEST: Duration = Duration::from_millis(5);
        let process = process::id();
        let mut pause = Duration::from_micros(20);
        loop {
            let by = mapping.load(Ordering::Relaxed);
            if by != process {
                if mapping.compare_exchange(by, process, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return Some(Self(mapping));
                }
            } else if is_wanted() {
                thread::sleep(pause);
                pause = (2 * pause).min(LONGEST);
            } else {
                return None;
            }
        }
    }
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}
