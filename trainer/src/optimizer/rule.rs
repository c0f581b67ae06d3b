//! Rules for the learning rate, as factors of the recipe's.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate changes. The first two change it after epochs, the others after every batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// When the validation error stops improving: the paper's heuristic (section 5), with its terms made
    /// exact.
    ReduceOnPlateau {
        /// Factor of the rate.
        gamma: f64,
        /// Most reductions.
        times: u32,
        /// Epochs in a row without a gain after which the rate is reduced.
        patience: u32,
        /// Gain, as a fraction of all images (0.001 is a tenth of a percentage point), that an error below
        /// the best must exceed to count.
        threshold: f64,
    },
    /// After given epochs.
    MultiStep {
        /// Factor of the rate.
        gamma: f64,
        /// Numbers of epochs, in ascending order; the rate is reduced once that many are done. Empty for a
        /// constant rate.
        milestones: Vec<u32>,
    },
    /// Half a cosine from the rate to `final_factor` of it (Loshchilov and Hutter 2017).
    Cosine {
        /// Last rate as a multiple of the first.
        #[serde(default)]
        final_factor: f64,
    },
    /// Up to the rate and down again, by half a cosine each (Smith and Topin 2018; PyTorch's `OneCycleLR`).
    OneCycle {
        /// Share of the run in which the rate rises.
        #[serde(default = "rise")]
        rise: f64,
        /// The rate over the first one.
        #[serde(default = "start_divisor")]
        start_divisor: f64,
        /// The first rate over the last one.
        #[serde(default = "final_divisor")]
        final_divisor: f64,
    },
    /// (1 − t)^power, where t goes from 0 to 1 over the run, down to `final_factor` of the rate.
    Polynomial {
        /// Exponent; 1 is a straight line.
        #[serde(default = "straight")]
        power: f64,
        /// Last rate as a multiple of the first.
        #[serde(default)]
        final_factor: f64,
    },
    /// By a factor `gamma` in an epoch, a little after every batch.
    Exponential {
        /// Factor of the rate in an epoch.
        gamma: f64,
    },
}

fn rise() -> f64 {
    0.3
}

fn start_divisor() -> f64 {
    25.0
}

fn final_divisor() -> f64 {
    1e4
}

fn straight() -> f64 {
    1.0
}

impl Rule {
    /// How often the rate is reduced at most after an epoch.
    #[must_use]
    pub fn most_reductions(&self) -> usize {
        match self {
            Self::ReduceOnPlateau { times, .. } => *times as usize,
            Self::MultiStep { milestones, .. } => milestones.len(),
            Self::Cosine { .. }
            | Self::OneCycle { .. }
            | Self::Polynomial { .. }
            | Self::Exponential { .. } => 0,
        }
    }

    /// Whether the rate depends on how long the run will be.
    #[must_use]
    pub fn depends_on_length(&self) -> bool {
        match self {
            Self::Cosine { .. } | Self::OneCycle { .. } | Self::Polynomial { .. } => true,
            Self::ReduceOnPlateau { .. } | Self::MultiStep { .. } | Self::Exponential { .. } => false,
        }
    }

    /// Factor of the rate after `done` of `all` batches, which are those after the warm-up; 1 for the rules
    /// that depend on epochs.
    pub(super) fn factor(&self, done: u64, all: u64, per_epoch: u64) -> f64 {
        let t = done as f64 / all.max(1) as f64;
        match *self {
            Self::ReduceOnPlateau { .. } | Self::MultiStep { .. } => 1.0,
            Self::Cosine { final_factor } => between(1.0, final_factor, t),
            Self::Polynomial { power, final_factor } => {
                final_factor + (1.0 - final_factor) * (1.0 - t).max(0.0).powf(power)
            }
            Self::Exponential { gamma } => gamma.powf(done as f64 / per_epoch.max(1) as f64),
            Self::OneCycle { rise, start_divisor, final_divisor } => {
                let (first, last) = (1.0 / start_divisor, 1.0 / start_divisor / final_divisor);
                let (top, end) = (rise * all as f64 - 1.0, all as f64 - 1.0);
                let at = done as f64;
                match at <= top {
                    true => between(first, 1.0, if top > 0.0 { at / top } else { 1.0 }),
                    false => between(1.0, last, if end > top { (at - top) / (end - top) } else { 1.0 }),
                }
            }
        }
    }
}

/// Half a cosine from `from` to `to` as `t` goes from 0 to 1.
fn between(from: f64, to: f64, t: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * t.clamp(0.0, 1.0)).cos()) / 2.0
}

/// A straight rise of the learning rate at the start of a run, before the rule begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// Its length in batches, if not in epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Its length in epochs, also in parts of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// The first rate as a multiple of the recipe's.
    #[serde(default = "start_factor")]
    pub start_factor: f64,
}

fn start_factor() -> f64 {
    0.01
}

impl Warmup {
    /// Its length in batches.
    pub(super) fn batches(&self, per_epoch: u64) -> u64 {
        let of_epochs = self.epochs.map_or(0, |epochs| (epochs * per_epoch as f64).round() as u64);
        self.steps.unwrap_or(of_epochs)
    }

    /// Factor of the rate after `done` batches.
    pub(super) fn factor(&self, done: u64, per_epoch: u64) -> f64 {
        let length = self.batches(per_epoch);
        if done >= length {
            return 1.0;
        }
        self.start_factor + (1.0 - self.start_factor) * done as f64 / length as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &Rule, all: u64, expected: &[(u64, f64)]) {
        for &(done, factor) in expected {
            let found = rule.factor(done, all, 4);
            assert!((found - factor).abs() < 1e-9 * (1.0 + factor), "{rule:?} after {done}: {found}");
        }
    }

    #[test]
    fn the_cosine_is_that_of_pytorch() {
        // CosineAnnealingLR(T_max=10), stepped after every batch.
        let expected = [(0, 1.0), (1, 0.975_528_258_147_576_8), (5, 0.5), (9, 0.024_471_741_852_423_2)];
        check(&Rule::Cosine { final_factor: 0.0 }, 10, &expected);
        check(&Rule::Cosine { final_factor: 0.5 }, 10, &[(0, 1.0), (5, 0.75)]);
    }

    #[test]
    fn one_cycle_is_that_of_pytorch() {
        // OneCycleLR(max_lr=1, total_steps=10).
        let rule = Rule::OneCycle { rise: 0.3, start_divisor: 25.0, final_divisor: 1e4 };
        let expected = [
            (0, 0.04),
            (1, 0.52),
            (2, 1.0),
            (3, 0.950_484_632_013_473_7),
            (6, 0.388_741_978_063_710_75),
            (9, 4e-6),
        ];
        check(&rule, 10, &expected);
        // No division by 0 in the shortest runs.
        for all in [1, 2, 3, 4] {
            assert!((0..all).all(|done| rule.factor(done, all, 1).is_finite()), "{all}");
        }
    }

    #[test]
    fn polynomials_fall_to_their_last_factor_and_exponentials_by_gamma_in_an_epoch() {
        check(&Rule::Polynomial { power: 1.0, final_factor: 0.0 }, 10, &[(0, 1.0), (4, 0.6), (9, 0.1)]);
        check(&Rule::Polynomial { power: 2.0, final_factor: 0.2 }, 10, &[(0, 1.0), (5, 0.4), (10, 0.2)]);
        check(&Rule::Exponential { gamma: 0.25 }, 10, &[(0, 1.0), (2, 0.5), (4, 0.25), (8, 0.0625)]);
    }

    #[test]
    fn a_warm_up_rises_in_a_straight_line_of_steps_or_epochs() {
        let steps = Warmup { steps: Some(4), epochs: None, start_factor: 0.2 };
        let factors: Vec<f64> = (0..6).map(|done| steps.factor(done, 3)).collect();
        let expected = [0.2, 0.4, 0.6, 0.8, 1.0, 1.0];
        assert!(factors.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{factors:?}");
        let epochs = Warmup { steps: None, epochs: Some(1.5), start_factor: 0.0 };
        assert_eq!(epochs.batches(4), 6);
        assert_eq!((epochs.factor(3, 4), epochs.factor(6, 4)), (0.5, 1.0));
    }
}
