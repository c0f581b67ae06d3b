//! When to try again, and when no more.

use std::time::{Duration, Instant, SystemTime};

use fovea_pipeline::summary::count;

use crate::fault::{Fault, Kind};
use crate::settings::Settings;

/// The wait after the first failure; it doubles with each one.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(8);

/// The attempts at one thing.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    settings: &'a Settings,
    since: Instant,
    wait: Duration,
    failed: u32,
    has_looked_again: bool,
}

impl<'a> Attempts<'a> {
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, since: Instant::now(), wait: FIRST, failed: 0, has_looked_again: false }
    }

    /// Something has arrived.
    pub fn progress(&mut self) {
        (self.since, self.wait, self.failed) = (Instant::now(), FIRST, 0);
        self.has_looked_again = false;
    }

    /// Waits before the next attempt, unless there is none.
    ///
    /// `look_again` takes credentials from where they come from once more.
    ///
    /// # Errors
    /// The fault, when it is final, or there were enough attempts.
    pub fn after(&mut self, fault: Fault, look_again: impl FnOnce()) -> Result<(), Fault> {
        match fault.kind {
            Kind::Passing | Kind::Ranges => {}
            // They may have been replaced meanwhile.
            Kind::Refused if !self.has_looked_again => {
                self.has_looked_again = true;
                look_again();
            }
            Kind::Expired => look_again(),
            _ => return Err(fault),
        }
        self.failed += 1;
        let past = self.since.elapsed();
        if past >= self.settings.patience {
            let (seconds, attempts) = (past.as_secs_f32().ceil(), count(self.failed.into(), "attempt"));
            return Err(Fault { text: format!("{fault}; {attempts} in {seconds} s"), ..fault });
        }
        // Many that fail at the same moment do not come back at the same moment.
        let jitter = 0.5 + f64::from(subsecond() % 1000) / 1000.0;
        let left = self.settings.patience.saturating_sub(past);
        if self.settings.stop.wait(self.wait.mul_f64(jitter).min(left)) {
            return Err(Fault::stopped());
        }
        self.wait = (self.wait * 2).min(LONGEST);
        Ok(())
    }
}

/// Nanoseconds, of which the last digits are as good as random.
fn subsecond() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos())
}
