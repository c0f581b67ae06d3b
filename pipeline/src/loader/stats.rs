//! The counters of a running loader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Reads a loader's counters at any time and from any thread, also after it has ended.
#[derive(Clone, Debug)]
pub struct LoaderStats {
    counters: Arc<Counters>,
}

/// The counters of a loader at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StatsSnapshot {
    /// Time since the loader was started.
    pub elapsed: Duration,
    /// Samples written into batches.
    pub images: u64,
    /// Bytes of the records that were read.
    pub bytes_read: u64,
    /// Bytes of the views that were written.
    pub bytes_written: u64,
    /// Records that were skipped because they are damaged.
    pub skipped: u64,
    /// Time that all workers together spent on samples.
    pub workers_busy: Duration,
    /// Time that all workers together waited for a free buffer: the consumer is the slower side.
    pub workers_waiting: Duration,
    /// Time that the consumer waited for a batch: the loader is the slower side.
    pub consumer_waiting: Duration,
}

impl StatsSnapshot {
    /// Samples per second since the loader was started.
    #[must_use]
    pub fn images_per_s(&self) -> f64 {
        self.images as f64 / self.elapsed.as_secs_f64()
    }

    /// Bytes of views per second since the loader was started.
    #[must_use]
    pub fn bytes_per_s(&self) -> f64 {
        self.bytes_written as f64 / self.elapsed.as_secs_f64()
    }

    /// What has been counted since an earlier snapshot.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            elapsed: self.elapsed - earlier.elapsed,
            images: self.images - earlier.images,
            bytes_read: self.bytes_read - earlier.bytes_read,
            bytes_written: self.bytes_written - earlier.bytes_written,
            skipped: self.skipped - earlier.skipped,
            workers_busy: self.workers_busy - earlier.workers_busy,
            workers_waiting: self.workers_waiting - earlier.workers_waiting,
            consumer_waiting: self.consumer_waiting - earlier.consumer_waiting,
        }
    }
}

/// The counters; each is only ever added to.
#[derive(Debug)]
pub(super) struct Counters {
    started: Instant,
    pub images: AtomicU64,
    pub bytes_read: AtomicU64,
    pub bytes_written: AtomicU64,
    pub skipped: AtomicU64,
    pub workers_busy_ns: AtomicU64,
    pub workers_waiting_ns: AtomicU64,
    pub consumer_waiting_ns: AtomicU64,
}

impl Counters {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            images: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            workers_busy_ns: AtomicU64::new(0),
            workers_waiting_ns: AtomicU64::new(0),
            consumer_waiting_ns: AtomicU64::new(0),
        }
    }
}

/// Adds to a counter that guards no other memory.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl LoaderStats {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { counters }
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |counter| Duration::from_nanos(read(counter));
        let counters = &*self.counters;
        StatsSnapshot {
            elapsed: counters.started.elapsed(),
            images: read(&counters.images),
            bytes_read: read(&counters.bytes_read),
            bytes_written: read(&counters.bytes_written),
            skipped: read(&counters.skipped),
            workers_busy: time(&counters.workers_busy_ns),
            workers_waiting: time(&counters.workers_waiting_ns),
            consumer_waiting: time(&counters.consumer_waiting_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_counts_from_the_earlier_snapshot() {
        let snapshot = |factor: u32| StatsSnapshot {
            elapsed: factor * Duration::from_secs(2),
            images: 100 * u64::from(factor),
            bytes_read: 200 * u64::from(factor),
            bytes_written: 300 * u64::from(factor),
            skipped: 4 * u64::from(factor),
            workers_busy: factor * Duration::from_secs(3),
            workers_waiting: factor * Duration::from_secs(4),
            consumer_waiting: factor * Duration::from_secs(5),
        };
        assert_eq!(snapshot(7).since(&snapshot(3)), snapshot(4));
        assert_eq!((snapshot(1).images_per_s(), snapshot(1).bytes_per_s()), (50.0, 150.0));
    }
}
