//! The plateau at ln K, where a network has not begun to tell images apart.

/// How near to ln K, as a share of it, the smoothed loss is when it counts as lying there.
const TOLERANCE: f64 = 0.01;
/// Updates after which it is worth a word.
const PATIENCE: u32 = 200;
/// Weight of a new loss in the smoothed one.
const FRESH: f64 = 0.02;

/// Watches whether the loss lies at ln K, the loss of a network that gives all K classes the same probability.
#[derive(Clone, Debug)]
pub(super) struct Plateau {
    level: f64,
    smoothed: f64,
    updates: u32,
}

impl Plateau {
    pub fn new(classes: usize) -> Self {
        let level = (classes as f64).ln();
        Self { level, smoothed: level, updates: 0 }
    }

    /// Takes in the loss of an update; true once, when it has been there for long.
    pub fn lies_there(&mut self, loss: f64) -> bool {
        self.smoothed += FRESH * (loss - self.smoothed);
        let near = (self.smoothed - self.level).abs() <= TOLERANCE * self.level;
        self.updates = if near { self.updates + 1 } else { 0 };
        let told = self.updates == PATIENCE;
        if told || !near && self.smoothed < self.level {
            // Said once, or it has learnt something: there is nothing to explain any more.
            self.level = f64::NAN;
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_stays_at_ln_k_is_told_once() {
        let mut plateau = Plateau::new(1000);
        let told: Vec<u32> = (1..=1000)
            .filter(|i| plateau.lies_there(6.907 + if i % 2 == 0 { 0.05 } else { -0.04 }))
            .collect();
        assert_eq!(told, [PATIENCE]);
    }

    #[test]
    fn a_loss_that_begins_above_ln_k_is_told_once_it_lies_there() {
        let mut plateau = Plateau::new(1000);
        assert!(!(0..300).any(|_| plateau.lies_there(7.3)));
        assert!((0..600).any(|_| plateau.lies_there(6.9)));
    }

    #[test]
    fn a_network_that_has_learnt_something_and_forgets_it_is_not_told() {
        let mut plateau = Plateau::new(1000);
        assert!(!(0..300).any(|_| plateau.lies_there(6.0)));
        assert!(!(0..1000).any(|_| plateau.lies_there(6.907)));
    }

    #[test]
    fn a_loss_that_falls_is_not_told() {
        let mut plateau = Plateau::new(10);
        assert!(!(0..1000).any(|i| plateau.lies_there(2.302 * 0.99_f64.powi(i))));
    }
}
