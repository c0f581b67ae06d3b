//! The result of a comparison, as written to `comparison.json`.

use std::path::PathBuf;

use fovea_pipeline::Split;
use fovea_pipeline::summary::median;
use fovea_trainer::metrics::Epoch;
use serde::Serialize;

use super::metric::Metric;
use super::plan::Plan;
use super::tuning::{Pruned, RangeEnd};

/// The result of a trial.
#[derive(Clone, Debug, Serialize)]
pub struct TrialResult {
    /// Learning rate.
    pub rate: f64,
    /// Seed.
    pub seed: u64,
    /// Folder of the run, relative to that of the comparison.
    pub folder: PathBuf,
    /// Epochs needed to reach the target; `None` if it was not reached.
    pub epochs_to_target: Option<f64>,
    /// The lowest value of the metric.
    pub lowest: Option<f64>,
    /// Why it was pruned; `None` if it was not.
    #[serde(rename = "dropped")]
    pub pruned: Option<Pruned>,
    /// The metric of each epoch.
    pub values: Vec<f64>,
    /// All results of these epochs.
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
    /// The spread of `values`; `None` if there are none.
    #[must_use]
    pub fn new(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        (!values.is_empty()).then_some(Self { mean, deviation })
    }
}

/// The result of a recipe.
#[derive(Clone, Debug, Serialize)]
pub struct RecipeResult {
    /// Name of the recipe.
    pub recipe: String,
    /// Most epochs of a trial.
    pub epochs: u32,
    /// The best learning rate; `None` when all were pruned.
    pub rate: Option<f64>,
    /// The end of the range that the best rate is at; `None` if it is inside, or the only one.
    #[serde(rename = "border")]
    pub range_end: Option<RangeEnd>,
    /// Epochs to the target over seeds; `None` when a seed did not reach it.
    pub epochs_to_target: Option<Spread>,
    /// Training error of the last epoch over seeds, 0..=1.
    pub train_error: Option<Spread>,
    /// Validation error after the last epoch over seeds, 0..=1; `None` without validation images.
    pub val_error: Option<Spread>,
    /// Error of the training images after the last epoch over seeds, 0..=1, without augmentation and dropout;
    /// `None` with validation images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_images_error: Option<Spread>,
    /// Training loss of the last epoch over seeds.
    pub train_loss: Option<Spread>,
    /// Epochs to the target (the last value of the metric if there is no target), divided by those of the
    /// first recipe.
    pub ratio_to_first: Option<f64>,
    /// Median time of an epoch including its evaluation, in seconds.
    pub seconds_per_epoch: Option<f64>,
    /// The trials with the best rate, one per seed.
    pub runs: Vec<TrialResult>,
    /// The trials of the tuning, all with the first seed.
    pub tried: Vec<TrialResult>,
}

impl RecipeResult {
    pub(super) fn new(
        recipe: &str,
        epochs: u32,
        range_end: Option<RangeEnd>,
        tried: Vec<TrialResult>,
        runs: Vec<TrialResult>,
    ) -> Self {
        let to_target: Option<Vec<f64>> = runs.iter().map(|run| run.epochs_to_target).collect();
        let over = |of: fn(&Epoch) -> f64| {
            Spread::new(&runs.iter().filter_map(|run| run.epochs.last().map(of)).collect::<Vec<_>>())
        };
        let seconds: Vec<f64> = runs.iter().flat_map(|run| &run.epochs).map(|epoch| epoch.seconds).collect();
        Self {
            recipe: recipe.to_owned(),
            epochs,
            rate: runs.first().map(|run| run.rate),
            range_end,
            epochs_to_target: to_target.and_then(|values| Spread::new(&values)),
            train_error: over(|epoch| epoch.train_top1),
            val_error: over(|epoch| epoch.val_top1),
            train_images_error: None,
            train_loss: over(|epoch| epoch.train_loss),
            ratio_to_first: None,
            seconds_per_epoch: median(&seconds),
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

/// The result of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The metric that was result.
    pub metric: Metric,
    /// The target of the metric.
    pub until: Option<f64>,
    /// Number of seeds, counted from 0.
    pub seeds: u64,
    /// The images that errors after an epoch are of: the training images if there are no others.
    pub split: Split,
    /// The recipes in the given order.
    pub recipes: Vec<RecipeResult>,
}

impl Comparison {
    pub(super) fn new(plan: &Plan, split: Split, mut recipes: Vec<RecipeResult>) -> Self {
        let &Plan { metric, until, seeds, .. } = plan;
        let measure = |result: &RecipeResult| match until {
            Some(_) => result.epochs_to_target,
            None => result.last(metric),
        };
        let first = recipes.first().and_then(measure);
        for result in &mut recipes {
            result.ratio_to_first = measure(result).zip(first).map(|(this, first)| this.mean / first.mean);
            if split == Split::Train {
                result.train_images_error = result.val_error.take();
            }
        }
        Self { metric, until, seeds, split, recipes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_sample_standard_deviation() {
        assert_eq!(Spread::new(&[]), None);
        assert_eq!(Spread::new(&[3.0]), Some(Spread { mean: 3.0, deviation: None }));
        assert_eq!(Spread::new(&[1.0, 3.0, 5.0]), Some(Spread { mean: 3.0, deviation: Some(2.0) }));
    }

    #[test]
    fn the_json_keeps_the_keys_of_older_versions() {
        let (pruned, range_end) = (Some(Pruned::NotFinite { epoch: 2 }), Some(RangeEnd::Lowest));
        let trial = TrialResult {
            rate: 0.1,
            seed: 0,
            folder: PathBuf::new(),
            epochs_to_target: None,
            lowest: None,
            pruned,
            values: Vec::new(),
            epochs: Vec::new(),
        };
        let result = RecipeResult::new("relu", 3, range_end, vec![trial], Vec::new());
        let json = serde_json::to_value(result).unwrap();
        assert_eq!(json["border"], "lowest");
        assert_eq!(json["tried"][0]["dropped"], serde_json::json!({ "why": "not_finite", "epoch": 2 }));
    }
}
