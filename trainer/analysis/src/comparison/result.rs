//! What a comparison came to, and its files.
//!
//! | file | what |
//! | --- | --- |
//! | `comparison.json` | [`Comparison`] |
//! | `comparison.csv` | a row for each epoch of each training |
//! | `comparison.svg`, `comparison.png` | [`Comparison::chart`] |

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fovea_files::write_atomically;
use fovea_trainer::metrics::Epoch;
use serde::Serialize;

use super::{Border, ComparisonError, Dropped, Metric, Plan};
use crate::figure;

/// One training.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Learning rate.
    pub rate: f64,
    /// Seed.
    pub seed: u64,
    /// Folder of the run within the comparison's.
    pub folder: PathBuf,
    /// Epochs that it took to the target, if it got there.
    pub epochs_to_target: Option<f64>,
    /// The lowest value of the metric.
    pub lowest: Option<f64>,
    /// Why it was given up, if it was.
    pub dropped: Option<Dropped>,
    /// The metric of each epoch that counts.
    pub values: Vec<f64>,
    /// All else that is known of these epochs.
    #[serde(skip)]
    pub epochs: Vec<Epoch>,
}

/// Mean and sample standard deviation over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation; `None` for a single value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of these values, if there are any.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        (!values.is_empty()).then_some(Self { mean, deviation })
    }
}

/// What a recipe came to.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Name of the recipe.
    pub recipe: String,
    /// Epochs that a training had at most.
    pub epochs: u32,
    /// The best learning rate; `None` when all were given up.
    pub rate: Option<f64>,
    /// The end of the rates tried that the best one is at, where several were tried.
    pub border: Option<Border>,
    /// Epochs to the target over seeds; `None` when a seed did not get there.
    pub epochs_to_target: Option<Spread>,
    /// Training error of the last epoch over seeds, 0..=1.
    pub train_error: Option<Spread>,
    /// Validation error of the last epoch over seeds, 0..=1.
    pub val_error: Option<Spread>,
    /// Training loss of the last epoch over seeds.
    pub train_loss: Option<Spread>,
    /// Epochs to the target, or the last value of the metric where there is no target, as a multiple of the first recipe's.
    pub ratio_to_first: Option<f64>,
    /// Median time of an epoch with its evaluation.
    pub seconds_per_epoch: Option<f64>,
    /// The trainings with the best rate, one a seed.
    pub runs: Vec<Trained>,
    /// The trainings that the rate was tuned by, all of the first seed.
    pub tried: Vec<Trained>,
}

impl Compared {
    pub(super) fn new(
        recipe: &str,
        epochs: u32,
        border: Option<Border>,
        tried: Vec<Trained>,
        runs: Vec<Trained>,
    ) -> Self {
        let to_target: Option<Vec<f64>> = runs.iter().map(|run| run.epochs_to_target).collect();
        let over = |of: fn(&Epoch) -> f64| {
            Spread::of(&runs.iter().filter_map(|run| run.epochs.last().map(of)).collect::<Vec<_>>())
        };
        let seconds = runs.iter().flat_map(|run| &run.epochs).map(|epoch| epoch.seconds).collect();
        Self {
            recipe: recipe.to_owned(),
            epochs,
            rate: runs.first().map(|run| run.rate),
            border,
            epochs_to_target: to_target.and_then(|values| Spread::of(&values)),
            train_error: over(|epoch| epoch.train_top1),
            val_error: over(|epoch| epoch.val_top1),
            train_loss: over(|epoch| epoch.train_loss),
            ratio_to_first: None,
            seconds_per_epoch: median(seconds),
            runs,
            tried,
        }
    }

    /// The last value of the metric over seeds.
    #[must_use]
    pub fn last(&self, metric: Metric) -> Option<Spread> {
        match metric {
            Metric::TrainError => self.train_error,
            Metric::ValError => self.val_error,
            Metric::TrainLoss => self.train_loss,
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What a comparison came to.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What was compared.
    pub metric: Metric,
    /// The value of it at which a training was over.
    pub until: Option<f64>,
    /// Seeds: 0 and on.
    pub seeds: u64,
    /// The recipes in the order in which they were given.
    pub recipes: Vec<Compared>,
}

impl Comparison {
    pub(super) fn new(plan: &Plan, mut recipes: Vec<Compared>) -> Self {
        let &Plan { metric, until, seeds, .. } = plan;
        let measure = |compared: &Compared| match until {
            Some(_) => compared.epochs_to_target,
            None => compared.last(metric),
        };
        let first = recipes.first().and_then(measure);
        for compared in &mut recipes {
            compared.ratio_to_first =
                measure(compared).zip(first).map(|(this, first)| this.mean / first.mean);
        }
        Self { metric, until, seeds, recipes }
    }

    /// Writes the files of the comparison into `folder`.
    ///
    /// # Errors
    /// [`ComparisonError::Write`], [`ComparisonError::Figure`].
    pub fn write(&self, folder: &Path) -> Result<(), ComparisonError> {
        let file = |name: &str, write: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
            let path = folder.join(name);
            write_atomically(&path, |out| write(out))
                .map_err(|reason| ComparisonError::Write { path, reason })
        };
        file("comparison.json", &|out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            writeln!(out)
        })?;
        file("comparison.csv", &|out| self.write_rows(out))?;
        let svg = self.chart().svg();
        let png = figure::png(&svg)?;
        file("comparison.svg", &|out| out.write_all(figure::standalone(&svg).as_bytes()))?;
        file("comparison.png", &|out| out.write_all(&png))
    }

    fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "recipe,rate,seed,epoch,train_loss,train_error,val_loss,val_error,seconds")?;
        for compared in &self.recipes {
            // The first of the runs is among those tried.
            for run in compared.tried.iter().chain(compared.runs.iter().skip(1)) {
                for epoch in &run.epochs {
                    let Epoch { train_loss, train_top1, val_loss, val_top1, seconds, .. } = epoch;
                    let (recipe, Trained { rate, seed, .. }) = (&compared.recipe, run);
                    write!(out, "{recipe},{rate},{seed},{},", epoch.epoch)?;
                    writeln!(out, "{train_loss},{train_top1},{val_loss},{val_top1},{seconds}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_sample_standard_deviation() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0]), Some(Spread { mean: 3.0, deviation: None }));
        assert_eq!(Spread::of(&[1.0, 3.0, 5.0]), Some(Spread { mean: 3.0, deviation: Some(2.0) }));
    }

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
