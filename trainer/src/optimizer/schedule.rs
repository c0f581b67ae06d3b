//! The learning rate over the epochs: a rule from the recipe, and a state that is saved with every
//! checkpoint.

use serde::{Deserialize, Serialize};

/// When the learning rate is multiplied by gamma.
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
}

impl Rule {
    /// How often the rate is reduced at most.
    #[must_use]
    pub fn most_reductions(&self) -> usize {
        match self {
            Self::ReduceOnPlateau { times, .. } => *times as usize,
            Self::MultiStep { milestones, .. } => milestones.len(),
        }
    }
}

/// State of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Epochs reported so far.
    pub epochs: u32,
    /// Number of reductions.
    #[serde(rename = "divisions")]
    pub reductions: u32,
    /// Lowest error reported so far.
    pub best_error: Option<f64>,
    /// Epochs since the last gain or reduction.
    pub epochs_without_gain: u32,
}

/// A rule with its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    rule: Rule,
    first_rate: f64,
    state: State,
}

impl Schedule {
    /// A schedule that begins at `first_rate`.
    #[must_use]
    pub fn new(rule: Rule, first_rate: f64) -> Self {
        Self::resume(rule, first_rate, State::default())
    }

    /// A schedule that resumes from a saved state.
    #[must_use]
    pub fn resume(rule: Rule, first_rate: f64, state: State) -> Self {
        Self { rule, first_rate, state }
    }

    /// The state to save.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The learning rate of the next epoch.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let (Rule::ReduceOnPlateau { gamma, .. } | Rule::MultiStep { gamma, .. }) = self.rule;
        // A division, as in earlier versions, so that their runs continue to the same bits.
        (0..self.state.reductions).fold(self.first_rate, |rate, _| rate / (1.0 / gamma))
    }

    /// Reports the validation error of an epoch, as a fraction of all images; returns whether the rate is
    /// reduced now. NaN is no gain.
    pub fn epoch_done(&mut self, error: f64) -> bool {
        let state = &mut self.state;
        state.epochs += 1;
        let best = state.best_error.unwrap_or(f64::INFINITY);
        let falls = match &self.rule {
            Rule::ReduceOnPlateau { times, patience, threshold, .. } => {
                let gained = error < best - threshold;
                state.epochs_without_gain = if gained { 0 } else { state.epochs_without_gain + 1 };
                state.epochs_without_gain >= *patience && state.reductions < *times
            }
            Rule::MultiStep { milestones, .. } => milestones.contains(&state.epochs),
        };
        if error < best {
            state.best_error = Some(error);
        }
        if falls {
            state.reductions += 1;
            state.epochs_without_gain = 0;
        }
        falls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plateau(patience: u32, times: u32) -> Schedule {
        Schedule::new(Rule::ReduceOnPlateau { gamma: 0.1, times, patience, threshold: 0.001 }, 0.01)
    }

    /// The epochs, counted from 1, after which the rate was reduced.
    fn reductions(schedule: &mut Schedule, errors: &[f64]) -> Vec<usize> {
        (1..).zip(errors).filter_map(|(epoch, error)| schedule.epoch_done(*error).then_some(epoch)).collect()
    }

    #[test]
    fn a_plateau_reduces_the_rate_after_patience_epochs_without_a_gain() {
        let mut schedule = plateau(2, 3);
        assert_eq!(reductions(&mut schedule, &[0.9, 0.8, 0.8, 0.7, 0.71, 0.70, 0.6, 0.65, 0.66]), [6, 9]);
        assert!((schedule.rate() - 1e-4).abs() < 1e-18, "{}", schedule.rate());
    }

    #[test]
    fn a_gain_below_the_threshold_does_not_count_against_patience() {
        let errors = [0.5, 0.4995, 0.4990];
        assert_eq!(reductions(&mut plateau(2, 3), &errors), [3]);
        let eager = Rule::ReduceOnPlateau { gamma: 0.1, times: 3, patience: 2, threshold: 0.0 };
        assert_eq!(reductions(&mut Schedule::new(eager, 0.01), &errors), [0; 0]);
    }

    #[test]
    fn a_plateau_reduces_the_rate_no_more_often_than_it_may() {
        assert_eq!(reductions(&mut plateau(1, 3), &[0.5; 10]), [2, 3, 4]);
    }

    #[test]
    fn an_error_that_is_not_a_number_is_no_gain() {
        assert_eq!(reductions(&mut plateau(2, 1), &[f64::NAN, f64::NAN]), [2]);
        assert_eq!(reductions(&mut plateau(2, 1), &[0.5, f64::NAN, 0.4]), [0; 0]);
    }

    #[test]
    fn multi_step_reduces_the_rate_after_the_given_epochs_for_any_error() {
        let mut schedule = Schedule::new(Rule::MultiStep { gamma: 0.1, milestones: vec![2, 3] }, 0.1);
        let mut rates = Vec::new();
        for _ in 0..4 {
            rates.push(schedule.rate());
            schedule.epoch_done(0.5);
        }
        assert_eq!(rates, [0.1, 0.1, 0.01, 0.001]);
    }

    #[test]
    fn a_schedule_resumed_at_any_epoch_continues_identically() {
        let errors = [0.9, 0.7, 0.71, 0.72, 0.5, 0.51, 0.52, 0.53, 0.54, 0.4];
        let whole = reductions(&mut plateau(2, 3), &errors);
        for cut in 0..errors.len() {
            let mut first = plateau(2, 3);
            let mut all = reductions(&mut first, &errors[..cut]);
            let saved = serde_json::to_string(first.state()).unwrap();
            let mut second = Schedule::resume(first.rule, 0.01, serde_json::from_str(&saved).unwrap());
            all.extend(reductions(&mut second, &errors[cut..]).iter().map(|epoch| epoch + cut));
            assert_eq!(all, whole, "cut after {cut} epochs");
        }
    }
}
