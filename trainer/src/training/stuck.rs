//! Detection of a loss that stays at ln K, where a network has not begun to distinguish the classes.

/// Largest distance of the smoothed loss from ln K, as a share of it, that counts as stuck.
const TOLERANCE: f64 = 0.01;
/// Updates before the warning.
const PATIENCE: u32 = 200;
/// Weight of a new loss in the smoothed one.
const FRESH: f64 = 0.02;

/// Detects whether the loss stays at ln K, the loss of a network that gives all K classes the same
/// probability.
#[derive(Clone, Debug)]
pub(super) struct StuckAtChance {
    level: f64,
    smoothed: f64,
    updates: u32,
}

impl StuckAtChance {
    pub fn new(classes: usize) -> Self {
        let level = (classes as f64).ln();
        Self { level, smoothed: level, updates: 0 }
    }

    /// For losses that have no such level.
    pub fn never() -> Self {
        Self { level: f64::NAN, smoothed: f64::NAN, updates: 0 }
    }

    /// Takes the loss of an update; true once, after the loss has been there for `PATIENCE` updates.
    pub fn is_stuck(&mut self, loss: f64) -> bool {
        self.smoothed += FRESH * (loss - self.smoothed);
        let near = (self.smoothed - self.level).abs() <= TOLERANCE * self.level;
        self.updates = if near { self.updates + 1 } else { 0 };
        let is_stuck = self.updates == PATIENCE;
        if is_stuck || !near && self.smoothed < self.level {
            // Reported once, or the network has learnt something: no further warning.
            self.level = f64::NAN;
        }
        is_stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_stays_at_ln_k_is_reported_once() {
        let mut detector = StuckAtChance::new(1000);
        let reported: Vec<u32> =
            (1..=1000).filter(|i| detector.is_stuck(6.907 + if i % 2 == 0 { 0.05 } else { -0.04 })).collect();
        assert_eq!(reported, [PATIENCE]);
    }

    #[test]
    fn a_loss_that_falls_to_ln_k_and_stays_there_is_reported() {
        let mut detector = StuckAtChance::new(1000);
        assert!(!(0..300).any(|_| detector.is_stuck(7.3)));
        assert!((0..600).any(|_| detector.is_stuck(6.9)));
    }

    #[test]
    fn a_network_that_has_learnt_something_and_forgets_it_is_not_reported() {
        let mut detector = StuckAtChance::new(1000);
        assert!(!(0..300).any(|_| detector.is_stuck(6.0)));
        assert!(!(0..1000).any(|_| detector.is_stuck(6.907)));
    }

    #[test]
    fn a_loss_that_falls_is_not_reported() {
        let mut detector = StuckAtChance::new(10);
        assert!(!(0..1000).any(|i| detector.is_stuck(2.302 * 0.99_f64.powi(i))));
    }
}
