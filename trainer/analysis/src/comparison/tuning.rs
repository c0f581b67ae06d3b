//! Tunes the learning rate of one candidate, from the results of its epochs alone: which rate trains next,
//! and which is the best.
//!
//! With a target, the rates train one epoch each in turn, and the one that reaches the target in the fewest
//! epochs wins. A rate stops once it has trained for as many epochs as the best one needed. Every 4 epochs a
//! rate is pruned if another reached its metric in 3/4 of the epochs. Without a target, each rate trains all
//! epochs. When the best rate is the lowest or the highest of those tried, one beyond it is added, at most
//! twice in each direction.

use std::fmt;

use serde::Serialize;

use super::metric::epochs_to;

/// How often the range of rates is extended in each direction.
const EXTENSIONS: u32 = 2;
/// First epoch in which a rate can count as diverged.
const EARLIEST_DIVERGENCE: usize = 3;
/// Epochs between two comparisons of a rate with the others; each compares with one epoch in so many less.
const PRUNE_EVERY: usize = 4;
/// Loss above which a rate counts as diverged, in units of ln K: an untrained network has ln K itself.
const DIVERGED: f64 = 1.01;
/// Ratio of neighbouring rates around a recipe's own.
const STEP: f64 = 3.0;

/// The aim of the tuning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// Metric to reach in as few epochs as possible; without it, the metric of the last epoch is minimised.
    pub target: Option<f64>,
    /// The metric before the first update.
    pub start: f64,
    /// Most epochs of a rate.
    pub epochs: u32,
    /// Number of classes K.
    pub classes: usize,
}

/// The result of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochResult {
    /// Mean loss over the training images.
    pub train_loss: f64,
    /// The metric that is compared.
    pub metric: f64,
}

/// Why a rate was pruned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Pruned {
    /// The loss was not finite.
    NotFinite {
        /// The epoch, counted from 1.
        epoch: u32,
    },
    /// The training loss was above ln K and not below that of the first epoch.
    Diverged {
        /// The epoch, counted from 1.
        epoch: u32,
        /// Its training loss.
        train_loss: f64,
    },
    /// Another rate had a lower metric after 3/4 of the epochs.
    Behind {
        /// The epoch, counted from 1.
        epoch: u32,
        /// The other rate.
        other: f64,
    },
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { epoch } => write!(f, "the loss is not finite in epoch {epoch}"),
            Self::Diverged { epoch, train_loss } => {
                write!(f, "diverged: the training loss is {train_loss:.3} in epoch {epoch}")
            }
            Self::Behind { epoch, other } => {
                write!(f, "behind in epoch {epoch}: rate {other} was better after 3/4 of the epochs")
            }
        }
    }
}

/// An end of the range of rates tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeEnd {
    /// The lowest rate.
    Lowest,
    /// The highest rate.
    Highest,
}

impl fmt::Display for RangeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lowest => "lowest",
            Self::Highest => "highest",
        })
    }
}

/// A rate and its results so far.
#[derive(Clone, Debug)]
struct RateCurve {
    rate: f64,
    results: Vec<EpochResult>,
    pruned: Option<Pruned>,
}

impl RateCurve {
    fn new(rate: f64) -> Self {
        Self { rate, results: Vec::new(), pruned: None }
    }

    fn metrics(&self) -> impl Iterator<Item = f64> {
        self.results.iter().map(|result| result.metric)
    }
}

/// The rates of a candidate and their results. A rate is identified by its index, in the order in which they
/// were added.
#[derive(Clone, Debug)]
pub struct Tuning {
    goal: Goal,
    rates: Vec<RateCurve>,
    /// How often the range was extended below and above.
    extended: [u32; 2],
}

impl Tuning {
    /// Starts with these rates, all different; the range of a single one is never extended.
    #[must_use]
    pub fn new(goal: Goal, rates: &[f64]) -> Self {
        Self { goal, rates: rates.iter().copied().map(RateCurve::new).collect(), extended: [0; 2] }
    }

    /// The rates, including added ones.
    #[must_use]
    pub fn rates(&self) -> Vec<f64> {
        self.rates.iter().map(|curve| curve.rate).collect()
    }

    /// Index of the rate that trains an epoch next; `None` when the best is known. It can be a rate that is
    /// added now.
    pub fn next_to_train(&mut self) -> Option<usize> {
        loop {
            if let Some(index) = self.next_in_range() {
                return Some(index);
            }
            let rate = self.beyond_the_range()?;
            self.rates.push(RateCurve::new(rate));
        }
    }

    /// Records the next epoch of a rate, and prunes the rate if it diverged or fell behind.
    pub fn record(&mut self, index: usize, result: EpochResult) {
        let curve = &mut self.rates[index];
        curve.results.push(result);
        let (epoch, train_loss) = (curve.results.len(), result.train_loss);
        let number = epoch as u32;
        if !train_loss.is_finite() || !result.metric.is_finite() {
            curve.pruned = Some(Pruned::NotFinite { epoch: number });
        } else if epoch >= EARLIEST_DIVERGENCE
            && train_loss > DIVERGED * (self.goal.classes as f64).ln()
            && train_loss >= curve.results[0].train_loss
        {
            curve.pruned = Some(Pruned::Diverged { epoch: number, train_loss });
        } else if self.goal.target.is_some() && epoch.is_multiple_of(PRUNE_EVERY) {
            let earlier = epoch - epoch / PRUNE_EVERY;
            let mut others = self.rates.iter().enumerate().filter(|(other, _)| *other != index);
            let better = others.find(|(_, other)| {
                other.pruned.is_none()
                    && other.results.get(earlier - 1).is_some_and(|then| then.metric < result.metric)
            });
            let behind = better.map(|(_, other)| Pruned::Behind { epoch: number, other: other.rate });
            self.rates[index].pruned = behind;
        }
    }

    /// Records that the loss of a rate was not finite in its next epoch.
    pub fn record_not_finite(&mut self, index: usize) {
        let curve = &mut self.rates[index];
        curve.pruned = Some(Pruned::NotFinite { epoch: curve.results.len() as u32 + 1 });
    }

    /// Why a rate was pruned; `None` if it was not.
    #[must_use]
    pub fn pruned(&self, index: usize) -> Option<Pruned> {
        self.rates[index].pruned
    }

    /// Epochs that a rate needed to reach the target; `None` if it did not.
    #[must_use]
    pub fn epochs_to_target(&self, index: usize) -> Option<f64> {
        let curve = &self.rates[index];
        let target = self.goal.target.filter(|_| curve.pruned.is_none())?;
        epochs_to(target, self.goal.start, curve.metrics())
    }

    /// The lowest metric of a rate so far.
    #[must_use]
    pub fn lowest(&self, index: usize) -> Option<f64> {
        self.rates[index].metrics().min_by(f64::total_cmp)
    }

    /// The best rate so far; among equals the lowest. `None` when all were pruned.
    #[must_use]
    pub fn best(&self) -> Option<usize> {
        // Rates that reached the target rank before all others.
        let score = |index: &usize| {
            let curve = &self.rates[*index];
            let otherwise = match self.goal.target {
                Some(_) => self.lowest(*index),
                None => curve.metrics().last(),
            };
            match self.epochs_to_target(*index) {
                Some(epochs) => (false, epochs, curve.rate),
                None => (true, otherwise.unwrap_or(f64::INFINITY), curve.rate),
            }
        };
        (0..self.rates.len()).filter(|index| self.pruned(*index).is_none()).min_by(|a, b| {
            let (a, b) = (score(a), score(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
        })
    }

    /// The end of the range that the best rate is at; `None` if it is inside, or the only one.
    #[must_use]
    pub fn range_end(&self) -> Option<RangeEnd> {
        let sorted = self.sorted();
        let rate = self.rates[self.best()?].rate;
        match sorted.as_slice() {
            [] | [_] => None,
            [first, ..] if *first == rate => Some(RangeEnd::Lowest),
            [.., last] if *last == rate => Some(RangeEnd::Highest),
            _ => None,
        }
    }

    /// The rate that trains next among those that can still win.
    fn next_in_range(&self) -> Option<usize> {
        let all = 0..self.rates.len();
        let fewest = all.clone().filter_map(|index| self.epochs_to_target(index)).min_by(f64::total_cmp);
        let done = |index: &usize| self.rates[*index].results.len();
        let mut open = all.filter(|index| {
            let epochs = done(index) as u32;
            self.pruned(*index).is_none()
                && epochs < self.goal.epochs
                && self.epochs_to_target(*index).is_none()
                && fewest.is_none_or(|fewest| f64::from(epochs) < fewest)
        });
        match self.goal.target {
            Some(_) => open.min_by_key(done),
            None => open.next(),
        }
    }

    /// A rate one step beyond the best one, if that is an end of the range; below the lowest if all were
    /// pruned.
    fn beyond_the_range(&mut self) -> Option<f64> {
        let end_reached = match self.best() {
            Some(_) => self.range_end()?,
            None => RangeEnd::Lowest,
        };
        let sorted = self.sorted();
        let (end, neighbour) = match (end_reached, sorted.as_slice()) {
            (RangeEnd::Lowest, [end, neighbour, ..]) | (RangeEnd::Highest, [.., neighbour, end]) => {
                (end, neighbour)
            }
            _ => return None,
        };
        let extended = &mut self.extended[end_reached as usize];
        if *extended == EXTENSIONS {
            return None;
        }
        *extended += 1;
        Some(rounded(end * end / neighbour))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut rates = self.rates();
        rates.sort_by(f64::total_cmp);
        rates
    }
}

/// A third of the rate, the rate, and three times the rate.
pub(super) fn around(rate: f64) -> Vec<f64> {
    vec![rounded(rate / STEP), rate, rounded(rate * STEP)]
}

/// Three digits keep the names of folders and command lines short.
fn rounded(rate: f64) -> f64 {
    format!("{rate:.2e}").parse().expect("a number that was just formatted")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSS: f64 = 1.0;

    fn goal(target: Option<f64>) -> Goal {
        Goal { target, start: 0.9, epochs: 8, classes: 10 }
    }

    /// Runs a tuning in which `curve` gives loss and metric of a rate in an epoch, counted from 1. Returns it
    /// with the rates and epochs in the order in which they were trained.
    fn run(goal: Goal, rates: &[f64], curve: impl Fn(f64, u32) -> (f64, f64)) -> (Tuning, Vec<(f64, u32)>) {
        let mut tuning = Tuning::new(goal, rates);
        let mut trained = Vec::new();
        while let Some(index) = tuning.next_to_train() {
            assert_eq!(tuning.next_to_train(), Some(index), "asking twice changes nothing");
            let rate = tuning.rates()[index];
            let epoch = 1 + trained.iter().filter(|(other, _)| *other == rate).count() as u32;
            let (train_loss, metric) = curve(rate, epoch);
            tuning.record(index, EpochResult { train_loss, metric });
            trained.push((rate, epoch));
        }
        (tuning, trained)
    }

    /// A metric that falls from 0.9 by the same each epoch.
    fn falling(by: f64, epoch: u32) -> (f64, f64) {
        (LOSS, 0.9 - by * f64::from(epoch))
    }

    fn best_rate(tuning: &Tuning) -> Option<f64> {
        Some(tuning.rates()[tuning.best()?])
    }

    fn epochs_of(rate: f64, trained: &[(f64, u32)]) -> usize {
        trained.iter().filter(|(other, _)| *other == rate).count()
    }

    #[test]
    fn rates_take_turns_and_the_fastest_to_the_target_wins_even_by_a_part_of_an_epoch() {
        // Both 0.2 and 0.3 reach it in the second epoch, 0.2 earlier in it.
        let fall =
            |rate: f64, epoch| falling([0.1, 0.25, 0.21, 0.05][(rate * 10.0).round() as usize - 1], epoch);
        let (tuning, trained) = run(goal(Some(0.5)), &[0.1, 0.3, 0.2, 0.4], fall);
        assert_eq!(best_rate(&tuning), Some(0.2));
        assert!((tuning.epochs_to_target(2).unwrap() - 1.6).abs() < 1e-9);
        let turns = [0.1, 0.3, 0.2, 0.4].map(|rate| (rate, 1)).into_iter();
        let expected: Vec<_> = turns.clone().chain(turns.map(|(rate, _)| (rate, 2))).collect();
        assert_eq!(trained, expected);
    }

    #[test]
    fn a_rate_added_trains_only_until_it_cannot_win() {
        let fall = |rate, epoch| falling(if rate == 0.3 { 0.1 } else { 0.08 }, epoch);
        let (tuning, trained) = run(goal(Some(0.45)), &[0.1, 0.3], fall);
        assert_eq!((best_rate(&tuning), tuning.epochs_to_target(1)), (Some(0.3), Some(4.5)));
        assert_eq!((epochs_of(0.1, &trained), epochs_of(0.9, &trained)), (5, 5));
        // At exactly 5.0 epochs, a fifth epoch of another rate cannot be faster.
        let (_, trained) = run(goal(Some(0.4)), &[0.1, 0.3], |rate, epoch| {
            let (loss, _) = fall(rate, epoch);
            (loss, if rate == 0.3 { [0.8, 0.7, 0.6, 0.5, 0.4][epoch as usize - 1] } else { 0.55 })
        });
        assert_eq!((epochs_of(0.1, &trained), epochs_of(0.9, &trained)), (5, 5));
    }

    #[test]
    fn without_a_target_every_rate_trains_all_epochs_and_the_lowest_last_value_wins() {
        // 0.3 was lower in between.
        let curve = |rate: f64, epoch| match (rate, epoch) {
            (0.3, 4) => (LOSS, 0.1),
            (0.2, _) => falling(0.05, epoch),
            _ => falling(0.04, epoch),
        };
        let (tuning, trained) = run(goal(None), &[0.3, 0.1, 0.2], curve);
        assert_eq!(best_rate(&tuning), Some(0.2));
        let expected: Vec<_> = [0.3, 0.1, 0.2].iter().flat_map(|r| (1..=8).map(|e| (*r, e))).collect();
        assert_eq!(trained, expected);
    }

    #[test]
    fn a_target_that_is_not_reached_leaves_the_rate_with_the_lowest_value() {
        let curve = |rate: f64, epoch| match (rate, epoch) {
            (0.2, 2) => (LOSS, 0.3),
            _ => falling(0.05, epoch),
        };
        let (tuning, trained) = run(goal(Some(0.25)), &[0.1, 0.2, 0.4], curve);
        assert_eq!((best_rate(&tuning), tuning.epochs_to_target(1)), (Some(0.2), None));
        assert_eq!((tuning.lowest(1), trained.len()), (Some(0.3), 3 * 8));
    }

    #[test]
    fn of_equal_rates_the_lowest_wins() {
        for target in [None, Some(0.5), Some(0.01)] {
            let (tuning, _) = run(goal(target), &[0.4, 0.2, 0.8], |_, epoch| falling(0.1, epoch));
            // The range is extended downwards twice.
            assert_eq!(best_rate(&tuning), Some(0.05), "{target:?}");
        }
    }

    #[test]
    fn the_range_is_extended_at_most_twice_in_each_direction() {
        let higher = |rate: f64, epoch| falling(0.01 * rate.sqrt(), epoch);
        let (tuning, _) = run(goal(None), &around(0.01), higher);
        assert_eq!(tuning.rates(), [0.00333, 0.01, 0.03, 0.09, 0.27]);
        assert_eq!((best_rate(&tuning), tuning.range_end()), (Some(0.27), Some(RangeEnd::Highest)));
        let lower = |rate: f64, epoch| falling(0.01 / rate.sqrt() / 100.0, epoch);
        let (tuning, _) = run(goal(None), &[0.1, 0.2], lower);
        assert_eq!(tuning.rates(), [0.1, 0.2, 0.05, 0.025]);
        assert_eq!((best_rate(&tuning), tuning.range_end()), (Some(0.025), Some(RangeEnd::Lowest)));
        let (tuning, _) = run(goal(Some(0.5)), &[0.1], lower);
        assert_eq!((tuning.rates(), tuning.range_end()), (vec![0.1], None));
    }

    #[test]
    fn a_best_rate_inside_the_range_ends_the_tuning() {
        // 0.09 is the best, which is known only after 0.27 was tried.
        let curve = |rate: f64, epoch| falling(0.09 - (rate - 0.09).abs() / 10.0, epoch);
        let (tuning, _) = run(goal(Some(0.5)), &around(0.01), curve);
        assert_eq!(tuning.rates().len(), 5);
        assert_eq!((best_rate(&tuning), tuning.range_end()), (Some(0.09), None));
    }

    #[test]
    fn a_rate_that_diverges_is_pruned_and_is_no_end_of_the_range() {
        let curve = |rate: f64, epoch| match rate {
            0.4 => (2.5, 0.9),
            0.2 => falling(0.05, epoch),
            _ => falling(0.04, epoch),
        };
        let (tuning, trained) = run(goal(Some(0.6)), &[0.1, 0.2, 0.4], curve);
        assert_eq!(tuning.pruned(2), Some(Pruned::Diverged { epoch: 3, train_loss: 2.5 }));
        assert_eq!((epochs_of(0.4, &trained), tuning.rates().len()), (3, 3));
        assert_eq!((best_rate(&tuning), tuning.range_end()), (Some(0.2), None));
    }

    #[test]
    fn a_rate_is_pruned_if_another_reached_its_metric_in_three_quarters_of_the_epochs() {
        // After 4 epochs 0.1 has the metric that 0.2 had after 3; after 8 it is above that of 0.2 after 6.
        let curve = |rate: f64, epoch: u32| match (rate, epoch) {
            (0.2, _) => falling(0.04, epoch),
            (0.1, 8) => (LOSS, 0.67),
            (0.1, _) => falling(0.03, epoch),
            _ => falling(0.029, epoch),
        };
        let long = Goal { epochs: 12, ..goal(Some(0.45)) };
        let (tuning, trained) = run(long, &[0.1, 0.2, 0.4], curve);
        assert_eq!(tuning.pruned(0), Some(Pruned::Behind { epoch: 8, other: 0.2 }));
        assert_eq!(tuning.pruned(2), Some(Pruned::Behind { epoch: 4, other: 0.2 }));
        assert_eq!([0.1, 0.2, 0.4].map(|rate| epochs_of(rate, &trained)), [8, 12, 4]);
        // Without a target, the last epoch decides.
        let (tuning, _) = run(Goal { target: None, ..long }, &[0.1, 0.2, 0.4], curve);
        assert_eq!(tuning.pruned(2), None);
    }

    #[test]
    fn a_rate_whose_metric_goes_up_again_is_not_behind_itself() {
        let curve = |_, epoch| if epoch == 4 { (LOSS, 0.8) } else { falling(0.1, epoch) };
        let (tuning, _) = run(goal(Some(0.25)), &[0.1], curve);
        assert_eq!((tuning.pruned(0), tuning.epochs_to_target(0).is_some()), (None, true));
    }

    #[test]
    fn a_loss_at_ln_k_or_falling_to_it_has_not_diverged() {
        for losses in [[2.303, 2.3031, 2.3032, 2.3033], [9.0, 5.0, 4.0, 3.0], [1.0, 2.0, 2.2, 2.3]] {
            let curve = |_, epoch: u32| (losses[epoch as usize - 1], 0.9);
            let (tuning, trained) = run(Goal { epochs: 4, ..goal(None) }, &[0.1], curve);
            assert_eq!((tuning.pruned(0), trained.len()), (None, 4), "{losses:?}");
        }
    }

    #[test]
    fn a_rate_with_a_loss_that_is_not_finite_is_pruned_and_lower_ones_are_tried_when_none_is_left() {
        let (tuning, trained) = run(goal(Some(0.5)), &around(1.0), |_, _| (f64::NAN, 0.5));
        assert_eq!(tuning.rates(), [0.333, 1.0, 3.0, 0.111, 0.037]);
        assert_eq!((best_rate(&tuning), trained.len()), (None, 5));
        assert_eq!(tuning.pruned(4), Some(Pruned::NotFinite { epoch: 1 }));

        let mut tuning = Tuning::new(goal(Some(0.5)), &[0.1]);
        tuning.record(0, EpochResult { train_loss: 1.0, metric: 0.6 });
        tuning.record_not_finite(0);
        assert_eq!((tuning.pruned(0), tuning.next_to_train()), (Some(Pruned::NotFinite { epoch: 2 }), None));
    }
}
