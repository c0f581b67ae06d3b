//! Which learning rate is the best, and which one trains next: decided from the results of epochs alone.
//!
//! With a target the rates race: each trains an epoch in turn, and the one that gets to the target in the fewest epochs wins.
//! A rate is out of the race once it has trained for as long as the best one took, or when after four epochs (or eight, or
//! twelve, …) it is not where another was a quarter sooner. Without a target each rate trains all epochs. When the best rate
//! is the lowest or the highest that was tried, one more is tried beyond it.

use serde::Serialize;

use super::metric::epochs_to;

/// How often the rates are extended in each direction.
const EXTENSIONS: u32 = 2;
/// Epochs after which a training may count as diverged.
const EARLIEST_DIVERGENCE: usize = 3;
/// A rate is compared with the others after each so many epochs: it must be where they were one epoch in so many sooner.
const LAP: usize = 4;
/// Loss, as a multiple of ln K, above which it may: a network that has not begun to learn lies at ln K itself.
const DIVERGED: f64 = 1.01;
/// Ratio of the recipe's own rate and its neighbours where none are given.
const STEP: f64 = 3.0;

/// What the rates are tuned for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The metric to get to in as few epochs as possible; without it, the last epoch's is to be as low as possible.
    pub target: Option<f64>,
    /// The metric before the first update.
    pub start: f64,
    /// Epochs that a rate trains at most.
    pub epochs: u32,
    /// Number of classes K.
    pub classes: usize,
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochResult {
    /// Mean loss over the training images.
    pub train_loss: f64,
    /// What is compared.
    pub metric: f64,
}

/// Why a rate was given up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Dropped {
    /// The loss was no finite number.
    NotFinite {
        /// The epoch, counted from 1.
        epoch: u32,
    },
    /// The training loss lay above ln K and was no better than that of the first epoch.
    Diverged {
        /// The epoch, counted from 1.
        epoch: u32,
        /// Its training loss.
        train_loss: f64,
    },
    /// Another rate had been further after three quarters of the epochs.
    Behind {
        /// The epoch, counted from 1.
        epoch: u32,
        /// The other rate.
        other: f64,
    },
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFinite { epoch } => write!(f, "the loss is no finite number in epoch {epoch}"),
            Self::Diverged { epoch, train_loss } => {
                write!(f, "diverged: the training loss is {train_loss:.3} in epoch {epoch}")
            }
            Self::Behind { epoch, other } => {
                write!(f, "behind in epoch {epoch}: rate {other} was further a quarter sooner")
            }
        }
    }
}

/// An end of the rates tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Border {
    /// The lowest rate.
    Lowest,
    /// The highest rate.
    Highest,
}

impl std::fmt::Display for Border {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lowest => "lowest",
            Self::Highest => "highest",
        })
    }
}

#[derive(Clone, Debug)]
struct Candidate {
    rate: f64,
    results: Vec<EpochResult>,
    dropped: Option<Dropped>,
}

impl Candidate {
    fn new(rate: f64) -> Self {
        Self { rate, results: Vec::new(), dropped: None }
    }

    fn metrics(&self) -> impl Iterator<Item = f64> {
        self.results.iter().map(|result| result.metric)
    }
}

/// The rates of a recipe in their contest. Rates are known by their index, in the order in which they were added.
#[derive(Clone, Debug)]
pub struct Tuning {
    goal: Goal,
    candidates: Vec<Candidate>,
    /// How often rates were added below and above.
    extended: [u32; 2],
}

impl Tuning {
    /// A contest of these rates, which differ; a single one is trained and never extended.
    #[must_use]
    pub fn new(goal: Goal, rates: &[f64]) -> Self {
        Self { goal, candidates: rates.iter().copied().map(Candidate::new).collect(), extended: [0; 2] }
    }

    /// The rates, those added included.
    #[must_use]
    pub fn rates(&self) -> Vec<f64> {
        self.candidates.iter().map(|candidate| candidate.rate).collect()
    }

    /// The rate that trains an epoch next, by its index; `None` when the best is known. It may be one that was not there
    /// before.
    pub fn next_to_train(&mut self) -> Option<usize> {
        loop {
            if let Some(index) = self.turn() {
                return Some(index);
            }
            let rate = self.beyond_the_border()?;
            self.candidates.push(Candidate::new(rate));
        }
    }

    /// Takes in what the next epoch of a rate came to.
    pub fn record(&mut self, index: usize, result: EpochResult) {
        let candidate = &mut self.candidates[index];
        candidate.results.push(result);
        let (epoch, train_loss) = (candidate.results.len(), result.train_loss);
        let number = epoch as u32;
        if !train_loss.is_finite() || !result.metric.is_finite() {
            candidate.dropped = Some(Dropped::NotFinite { epoch: number });
        } else if epoch >= EARLIEST_DIVERGENCE
            && train_loss > DIVERGED * (self.goal.classes as f64).ln()
            && train_loss >= candidate.results[0].train_loss
        {
            candidate.dropped = Some(Dropped::Diverged { epoch: number, train_loss });
        } else if self.goal.target.is_some() && epoch.is_multiple_of(LAP) {
            let sooner = epoch - epoch / LAP;
            let mut others = self.candidates.iter().enumerate().filter(|(other, _)| *other != index);
            let further = others.find(|(_, other)| {
                other.dropped.is_none()
                    && other.results.get(sooner - 1).is_some_and(|then| then.metric < result.metric)
            });
            let behind = further.map(|(_, other)| Dropped::Behind { epoch: number, other: other.rate });
            self.candidates[index].dropped = behind;
        }
    }

    /// Takes in that the loss of a rate was no finite number in its next epoch.
    pub fn not_finite(&mut self, index: usize) {
        let candidate = &mut self.candidates[index];
        candidate.dropped = Some(Dropped::NotFinite { epoch: candidate.results.len() as u32 + 1 });
    }

    /// Why a rate was given up, if it was.
    #[must_use]
    pub fn dropped(&self, index: usize) -> Option<Dropped> {
        self.candidates[index].dropped
    }

    /// Epochs that a rate took to the target, if it got there.
    #[must_use]
    pub fn epochs_to_target(&self, index: usize) -> Option<f64> {
        let candidate = &self.candidates[index];
        let target = self.goal.target.filter(|_| candidate.dropped.is_none())?;
        epochs_to(target, self.goal.start, candidate.metrics())
    }

    /// The lowest metric of a rate so far.
    #[must_use]
    pub fn lowest(&self, index: usize) -> Option<f64> {
        self.candidates[index].metrics().min_by(f64::total_cmp)
    }

    /// The best rate so far; of equals the lowest. `None` when all were given up.
    #[must_use]
    pub fn best(&self) -> Option<usize> {
        // Those that got to the target come before all that did not.
        let score = |index: &usize| {
            let candidate = &self.candidates[*index];
            let otherwise = match self.goal.target {
                Some(_) => self.lowest(*index),
                None => candidate.metrics().last(),
            };
            match self.epochs_to_target(*index) {
                Some(epochs) => (false, epochs, candidate.rate),
                None => (true, otherwise.unwrap_or(f64::INFINITY), candidate.rate),
            }
        };
        (0..self.candidates.len()).filter(|index| self.dropped(*index).is_none()).min_by(|a, b| {
            let (a, b) = (score(a), score(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
        })
    }

    /// The end of the rates tried that the best one is at; `None` for a single rate.
    #[must_use]
    pub fn border(&self) -> Option<Border> {
        let sorted = self.sorted();
        let rate = self.candidates[self.best()?].rate;
        match sorted.as_slice() {
            [] | [_] => None,
            [first, ..] if *first == rate => Some(Border::Lowest),
            [.., last] if *last == rate => Some(Border::Highest),
            _ => None,
        }
    }

    /// Whose turn it is among the rates that can still win.
    fn turn(&self) -> Option<usize> {
        let all = 0..self.candidates.len();
        let fewest = all.clone().filter_map(|index| self.epochs_to_target(index)).min_by(f64::total_cmp);
        let done = |index: &usize| self.candidates[*index].results.len();
        let mut open = all.filter(|index| {
            let epochs = done(index) as u32;
            self.dropped(*index).is_none()
                && epochs < self.goal.epochs
                && self.epochs_to_target(*index).is_none()
                && fewest.is_none_or(|fewest| f64::from(epochs) < fewest)
        });
        match self.goal.target {
            Some(_) => open.min_by_key(done),
            None => open.next(),
        }
    }

    /// A rate one step beyond the best one, where that is at an end; below the lowest where all were given up.
    fn beyond_the_border(&mut self) -> Option<f64> {
        let border = match self.best() {
            Some(_) => self.border()?,
            None => Border::Lowest,
        };
        let sorted = self.sorted();
        let (end, neighbour) = match (border, sorted.as_slice()) {
            (Border::Lowest, [end, neighbour, ..]) | (Border::Highest, [.., neighbour, end]) => {
                (end, neighbour)
            }
            _ => return None,
        };
        let extended = &mut self.extended[border as usize];
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

/// Three digits do for a rate that is written into names and command lines.
fn rounded(rate: f64) -> f64 {
    format!("{rate:.2e}").parse().expect("a number that was just written")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSS: f64 = 1.0;

    fn goal(target: Option<f64>) -> Goal {
        Goal { target, start: 0.9, epochs: 8, classes: 10 }
    }

    /// Plays a contest in which `curve` tells loss and metric of a rate in an epoch, counted from 1. Returns it with the
    /// rates and epochs in the order in which they were trained.
    fn play(goal: Goal, rates: &[f64], curve: impl Fn(f64, u32) -> (f64, f64)) -> (Tuning, Vec<(f64, u32)>) {
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
    fn rates_take_turns_and_the_fastest_to_the_target_wins_to_a_part_of_an_epoch() {
        // Both 0.2 and 0.3 get there in the second epoch, 0.2 earlier in it.
        let fall =
            |rate: f64, epoch| falling([0.1, 0.25, 0.21, 0.05][(rate * 10.0).round() as usize - 1], epoch);
        let (tuning, trained) = play(goal(Some(0.5)), &[0.1, 0.3, 0.2, 0.4], fall);
        assert_eq!(best_rate(&tuning), Some(0.2));
        assert!((tuning.epochs_to_target(2).unwrap() - 1.6).abs() < 1e-9);
        let turns = [0.1, 0.3, 0.2, 0.4].map(|rate| (rate, 1)).into_iter();
        let expected: Vec<_> = turns.clone().chain(turns.map(|(rate, _)| (rate, 2))).collect();
        assert_eq!(trained, expected);
    }

    #[test]
    fn a_rate_added_trains_only_until_it_cannot_win() {
        let fall = |rate, epoch| falling(if rate == 0.3 { 0.1 } else { 0.08 }, epoch);
        let (tuning, trained) = play(goal(Some(0.45)), &[0.1, 0.3], fall);
        assert_eq!((best_rate(&tuning), tuning.epochs_to_target(1)), (Some(0.3), Some(4.5)));
        assert_eq!((epochs_of(0.1, &trained), epochs_of(0.9, &trained)), (5, 5));
        // At 5.0 epochs exactly, a fifth epoch of another rate cannot come before.
        let (_, trained) = play(goal(Some(0.4)), &[0.1, 0.3], |rate, epoch| {
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
        let (tuning, trained) = play(goal(None), &[0.3, 0.1, 0.2], curve);
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
        let (tuning, trained) = play(goal(Some(0.25)), &[0.1, 0.2, 0.4], curve);
        assert_eq!((best_rate(&tuning), tuning.epochs_to_target(1)), (Some(0.2), None));
        assert_eq!((tuning.lowest(1), trained.len()), (Some(0.3), 3 * 8));
    }

    #[test]
    fn of_equal_rates_the_lowest_wins() {
        for target in [None, Some(0.5), Some(0.01)] {
            let (tuning, _) = play(goal(target), &[0.4, 0.2, 0.8], |_, epoch| falling(0.1, epoch));
            // Going below stops after two steps.
            assert_eq!(best_rate(&tuning), Some(0.05), "{target:?}");
        }
    }

    #[test]
    fn the_grid_grows_beyond_its_border_at_most_twice_each_way() {
        let higher = |rate: f64, epoch| falling(0.01 * rate.sqrt(), epoch);
        let (tuning, _) = play(goal(None), &around(0.01), higher);
        assert_eq!(tuning.rates(), [0.00333, 0.01, 0.03, 0.09, 0.27]);
        assert_eq!((best_rate(&tuning), tuning.border()), (Some(0.27), Some(Border::Highest)));
        let lower = |rate: f64, epoch| falling(0.01 / rate.sqrt() / 100.0, epoch);
        let (tuning, _) = play(goal(None), &[0.1, 0.2], lower);
        assert_eq!(tuning.rates(), [0.1, 0.2, 0.05, 0.025]);
        assert_eq!((best_rate(&tuning), tuning.border()), (Some(0.025), Some(Border::Lowest)));
        let (tuning, _) = play(goal(Some(0.5)), &[0.1], lower);
        assert_eq!((tuning.rates(), tuning.border()), (vec![0.1], None));
    }

    #[test]
    fn a_rate_inside_the_grid_ends_the_tuning() {
        // 0.09 is the best; 0.27 has to be tried to know it.
        let curve = |rate: f64, epoch| falling(0.09 - (rate - 0.09).abs() / 10.0, epoch);
        let (tuning, _) = play(goal(Some(0.5)), &around(0.01), curve);
        assert_eq!(tuning.rates().len(), 5);
        assert_eq!((best_rate(&tuning), tuning.border()), (Some(0.09), None));
    }

    #[test]
    fn a_rate_that_diverges_is_given_up_and_is_no_border() {
        let curve = |rate: f64, epoch| match rate {
            0.4 => (2.5, 0.9),
            0.2 => falling(0.05, epoch),
            _ => falling(0.04, epoch),
        };
        let (tuning, trained) = play(goal(Some(0.6)), &[0.1, 0.2, 0.4], curve);
        assert_eq!(tuning.dropped(2), Some(Dropped::Diverged { epoch: 3, train_loss: 2.5 }));
        assert_eq!((epochs_of(0.4, &trained), tuning.rates().len()), (3, 3));
        assert_eq!((best_rate(&tuning), tuning.border()), (Some(0.2), None));
    }

    #[test]
    fn a_rate_that_is_not_where_another_was_a_quarter_sooner_is_given_up() {
        // After 4 epochs 0.1 is just where 0.2 was after 3; after 8 it is not where 0.2 was after 6.
        let curve = |rate: f64, epoch: u32| match (rate, epoch) {
            (0.2, _) => falling(0.04, epoch),
            (0.1, 8) => (LOSS, 0.67),
            (0.1, _) => falling(0.03, epoch),
            _ => falling(0.029, epoch),
        };
        let long = Goal { epochs: 12, ..goal(Some(0.45)) };
        let (tuning, trained) = play(long, &[0.1, 0.2, 0.4], curve);
        assert_eq!(tuning.dropped(0), Some(Dropped::Behind { epoch: 8, other: 0.2 }));
        assert_eq!(tuning.dropped(2), Some(Dropped::Behind { epoch: 4, other: 0.2 }));
        assert_eq!([0.1, 0.2, 0.4].map(|rate| epochs_of(rate, &trained)), [8, 12, 4]);
        // Without a target, the last epoch decides.
        let (tuning, _) = play(Goal { target: None, ..long }, &[0.1, 0.2, 0.4], curve);
        assert_eq!(tuning.dropped(2), None);
    }

    #[test]
    fn a_rate_whose_metric_goes_up_again_is_not_behind_itself() {
        let curve = |_, epoch| if epoch == 4 { (LOSS, 0.8) } else { falling(0.1, epoch) };
        let (tuning, _) = play(goal(Some(0.25)), &[0.1], curve);
        assert_eq!((tuning.dropped(0), tuning.epochs_to_target(0).is_some()), (None, true));
    }

    #[test]
    fn what_lies_at_ln_k_or_comes_down_to_it_has_not_diverged() {
        for losses in [[2.303, 2.3031, 2.3032, 2.3033], [9.0, 5.0, 4.0, 3.0], [1.0, 2.0, 2.2, 2.3]] {
            let curve = |_, epoch: u32| (losses[epoch as usize - 1], 0.9);
            let (tuning, trained) = play(Goal { epochs: 4, ..goal(None) }, &[0.1], curve);
            assert_eq!((tuning.dropped(0), trained.len()), (None, 4), "{losses:?}");
        }
    }

    #[test]
    fn a_loss_that_is_not_finite_ends_a_rate_and_lower_ones_are_tried_when_none_is_left() {
        let (tuning, trained) = play(goal(Some(0.5)), &around(1.0), |_, _| (f64::NAN, 0.5));
        assert_eq!(tuning.rates(), [0.333, 1.0, 3.0, 0.111, 0.037]);
        assert_eq!((best_rate(&tuning), trained.len()), (None, 5));
        assert_eq!(tuning.dropped(4), Some(Dropped::NotFinite { epoch: 1 }));

        let mut tuning = Tuning::new(goal(Some(0.5)), &[0.1]);
        tuning.record(0, EpochResult { train_loss: 1.0, metric: 0.6 });
        tuning.not_finite(0);
        assert_eq!(
            (tuning.dropped(0), tuning.next_to_train()),
            (Some(Dropped::NotFinite { epoch: 2 }), None)
        );
    }
}
