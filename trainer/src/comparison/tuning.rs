//! Which learning rate is the best, and which one trains next: decided from the results of epochs alone.
//!
//! With a target the rates race: each trains an epoch in turn, and the one that gets to the target in the fewest epochs wins.
//! A rate is out of the race once it has trained for as long as the best one took. Without a target each rate trains all
//! epochs. When the best rate is the lowest or the highest that was tried, one more is tried beyond it.

use serde::Serialize;

use super::metric::epochs_to;

/// How often the rates are extended in each direction.
const EXTENSIONS: u32 = 2;
/// Epochs after which a training may count as diverged.
const EARLIEST_DIVERGENCE: usize = 3;
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
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFinite { epoch } => write!(f, "the loss is no finite number in epoch {epoch}"),
            Self::Diverged { epoch, train_loss } => {
                write!(f, "diverged: the training loss is {train_loss:.3} in epoch {epoch}")
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
    pub fn next(&mut self) -> Option<usize> {
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
