//! Times of updates and epochs.

use std::time::{Duration, Instant};

/// Time of one or several updates.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lap {
    pub images: u64,
    /// For data.
    pub waited: Duration,
    pub total: Duration,
}

impl Lap {
    pub fn images_per_s(&self) -> f64 {
        ratio(self.images as f64, self.total)
    }

    pub fn data_wait(&self) -> f64 {
        ratio(self.waited.as_secs_f64(), self.total)
    }
}

/// 0 if no time has passed, as in an epoch that was resumed at its end.
pub(super) fn ratio(amount: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { amount / time.as_secs_f64() }
}

/// Time of an epoch.
pub(super) struct Clock {
    pub started: Instant,
    pub sum: Lap,
}

impl Clock {
    pub fn start() -> Self {
        Self { started: Instant::now(), sum: Lap::default() }
    }

    pub fn add(&mut self, lap: &Lap) {
        self.sum.images += lap.images;
        self.sum.waited += lap.waited;
        self.sum.total += lap.total;
    }
}
