//! The learning rate over a run: a rule from the recipe, and a state that is saved with every checkpoint.

use serde::{Deserialize, Serialize};

use super::{Rule, Warmup};

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

/// A place in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Batches before it.
    pub batch: u64,
    /// Batches of an epoch.
    pub per_epoch: u64,
    /// Epochs of the run.
    pub epochs: u32,
}

/// A rule with its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    rule: Rule,
    warmup: Option<Warmup>,
    first_rate: f64,
    state: State,
}

impl Schedule {
    /// A schedule of `first_rate`.
    #[must_use]
    pub fn new(rule: Rule, warmup: Option<Warmup>, first_rate: f64) -> Self {
        Self::resume(rule, warmup, first_rate, State::default())
    }

    /// A schedule that resumes from a saved state.
    #[must_use]
    pub fn resume(rule: Rule, warmup: Option<Warmup>, first_rate: f64, state: State) -> Self {
        Self { rule, warmup, first_rate, state }
    }

    /// The state to save.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The learning rate of the batch at `position`.
    #[must_use]
    pub fn rate(&self, position: Position) -> f64 {
        let Position { batch, per_epoch, epochs } = position;
        let (warming, rising) = match &self.warmup {
            Some(warmup) => (warmup.batches(per_epoch), warmup.factor(batch, per_epoch)),
            None => (0, 1.0),
        };
        let all = (per_epoch * u64::from(epochs)).saturating_sub(warming);
        let rate = match &self.rule {
            // A division, as in earlier versions, so that their runs continue to the same bits.
            Rule::ReduceOnPlateau { gamma, .. } | Rule::MultiStep { gamma, .. } => {
                (0..self.state.reductions).fold(self.first_rate, |rate, _| rate / (1.0 / gamma))
            }
            rule => self.first_rate * rule.factor(batch.saturating_sub(warming), all, per_epoch),
        };
        rate * rising
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
            Rule::Cosine { .. }
            | Rule::OneCycle { .. }
            | Rule::Polynomial { .. }
            | Rule::Exponential { .. } => false,
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

    const START: Position = Position { batch: 0, per_epoch: 10, epochs: 5 };

    fn plateau(patience: u32, times: u32) -> Schedule {
        Schedule::new(Rule::ReduceOnPlateau { gamma: 0.1, times, patience, threshold: 0.001 }, None, 0.01)
    }

    /// The epochs, counted from 1, after which the rate was reduced.
    fn reductions(schedule: &mut Schedule, errors: &[f64]) -> Vec<usize> {
        (1..).zip(errors).filter_map(|(epoch, error)| schedule.epoch_done(*error).then_some(epoch)).collect()
    }

    #[test]
    fn a_plateau_reduces_the_rate_after_patience_epochs_without_a_gain() {
        let mut schedule = plateau(2, 3);
        assert_eq!(reductions(&mut schedule, &[0.9, 0.8, 0.8, 0.7, 0.71, 0.70, 0.6, 0.65, 0.66]), [6, 9]);
        let rate = schedule.rate(START);
        assert!((rate - 1e-4).abs() < 1e-18, "{rate}");
    }

    #[test]
    fn a_gain_below_the_threshold_does_not_count_against_patience() {
        let errors = [0.5, 0.4995, 0.4990];
        assert_eq!(reductions(&mut plateau(2, 3), &errors), [3]);
        let eager = Rule::ReduceOnPlateau { gamma: 0.1, times: 3, patience: 2, threshold: 0.0 };
        assert_eq!(reductions(&mut Schedule::new(eager, None, 0.01), &errors), [0; 0]);
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
        let mut schedule = Schedule::new(Rule::MultiStep { gamma: 0.1, milestones: vec![2, 3] }, None, 0.1);
        let mut rates = Vec::new();
        for _ in 0..4 {
            rates.push(schedule.rate(START));
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
            let mut second = Schedule::resume(first.rule, None, 0.01, serde_json::from_str(&saved).unwrap());
            all.extend(reductions(&mut second, &errors[cut..]).iter().map(|epoch| epoch + cut));
            assert_eq!(all, whole, "cut after {cut} epochs");
        }
    }

    #[test]
    fn a_rule_begins_after_the_warm_up_and_ends_with_the_run() {
        let warmup = Warmup { steps: None, epochs: Some(1.0), start_factor: 0.5 };
        let at = |schedule: &Schedule, batch| schedule.rate(Position { batch, ..START });
        let cosine = Schedule::new(Rule::Cosine { final_factor: 0.0 }, Some(warmup.clone()), 0.4);
        for (batch, expected) in [(0, 0.2), (5, 0.3), (10, 0.4), (30, 0.2), (50, 0.0)] {
            let rate = at(&cosine, batch);
            assert!((rate - expected).abs() < 1e-12, "batch {batch}: {rate}");
        }
        let steps = Rule::MultiStep { gamma: 0.1, milestones: vec![1] };
        let mut steps = Schedule::new(steps, Some(warmup), 0.4);
        assert_eq!(at(&steps, 0), 0.2);
        steps.epoch_done(0.5);
        assert!((at(&steps, 10) - 0.04).abs() < 1e-12);
    }
}
