//! The error of a network over a data set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fovea_pipeline::geometry::Size;
use fovea_pipeline::loader::OnBadRecord;
use fovea_pipeline::{Batch, EvalCrops, Loader, LoaderConfig, Records};
use serde::{Deserialize, Serialize};

use super::data::is_ready;
use super::share::agree_with_data;
use super::{BatchTargets, TrainingError};
use crate::backend::{Rows, Targets, TrainingBackend};
use crate::collective::Ranks;
use crate::metrics::{BatchMetrics, number_or_nan};
use crate::recipe::Loss;

/// The error of a network over images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Number of images.
    pub images: u64,
    /// Mean loss, for cross-entropy with the natural logarithm; for several views that of the averaged
    /// probabilities or values.
    #[serde(deserialize_with = "number_or_nan")]
    pub loss: f64,
    /// Share of the images whose class does not have the highest probability, 0..=1; or the first error of
    /// another loss.
    #[serde(deserialize_with = "number_or_nan")]
    pub top1: f64,
    /// Share of the images whose class is not among the five highest probabilities, 0..=1; or the second
    /// error of another loss.
    #[serde(deserialize_with = "number_or_nan")]
    pub top5: f64,
}

impl From<BatchMetrics> for Score {
    fn from(sums: BatchMetrics) -> Self {
        Self { images: sums.rows, loss: sums.mean_loss(), top1: sums.top1_error(), top5: sums.top5_error() }
    }
}

/// An evaluation: the images, and the views of them.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The images.
    pub records: Arc<Records>,
    /// Views of each image; the softmax outputs of several are averaged (section 4.1 of the paper).
    pub views: EvalCrops,
    /// Size of a view.
    pub crop: Size,
    /// Number K of classes or numbers.
    pub classes: usize,
    /// The loss that the network was trained with.
    pub loss: Loss,
    /// The reaction to a record that cannot be used.
    pub on_bad_record: OnBadRecord,
    /// Threads that make batches.
    pub workers: usize,
}

impl Evaluation {
    /// Evaluates every image once; `None` if `stop` was set meanwhile, in any process. The processes share
    /// the batches, whose sums are added in the order of the images. `progress` receives the number of images
    /// done.
    ///
    /// # Errors
    /// [`TrainingError::Loader`], [`TrainingError::Backend`] and [`TrainingError::Collective`].
    pub fn run(
        &self,
        backend: &mut dyn TrainingBackend,
        ranks: &mut Ranks,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<Score>, TrainingError> {
        let samples = (backend.batch_rows() / self.views.count()).max(1);
        let config = LoaderConfig {
            batch_size: samples,
            workers: self.workers,
            on_bad_record: self.on_bad_record,
            rank: ranks.rank(),
            world: ranks.world(),
            ..LoaderConfig::evaluation(self.views, self.crop)
        };
        let mut sums = BatchMetrics::default();
        let mut memory = backend.batch_memory()?;
        let mut loader = Loader::start_with_memory(Arc::clone(&self.records), config, &mut *memory)?;
        let mut slowest = Duration::ZERO;
        loop {
            // If it is not ready, that is said to the other processes with the rest.
            let next = is_ready(&loader, stop).then(|| loader.next());
            let begin = Instant::now();
            let own = match next {
                Some(Some(batch)) => batch.map_err(TrainingError::from).and_then(|b| self.batch(backend, &b)),
                Some(None) => break,
                None => Ok(BatchMetrics::default()),
            };
            slowest = slowest.max(begin.elapsed());
            ranks.wait_for(2 * slowest);
            let [rows, loss, top1, top5, first, second] =
                own.as_ref().copied().unwrap_or_default().to_words();
            let stops = stop.load(Ordering::Relaxed).into();
            let (_, of_all) = agree_with_data(ranks, own, [stops, rows, loss, top1, top5, first, second])?;
            if of_all.iter().any(|&[stops, ..]| stops > 0) {
                return Ok(None);
            }
            for [_, words @ ..] in of_all {
                sums += BatchMetrics::from_words(words);
            }
            progress(sums.rows);
        }
        Ok(Some(sums.into()))
    }

    fn batch(&self, backend: &mut dyn TrainingBackend, batch: &Batch) -> Result<BatchMetrics, TrainingError> {
        if batch.is_empty() {
            // The last images did not suffice for all processes.
            return Ok(BatchMetrics::default());
        }
        let views = self.views.count();
        let (targets, of_rows) = (BatchTargets::new(batch), BatchTargets::of_rows(batch));
        let (predictions, row_sums) =
            predictions(backend, batch.image_bytes(), of_rows.all(), self.crop, self.classes)?;
        if views == 1 {
            return Ok(row_sums);
        }
        let mut sums = BatchMetrics::default();
        for (sample, of_image) in predictions.chunks_exact(views * self.classes).enumerate() {
            let mean = average(of_image, self.classes);
            sums += match targets.of(sample..sample + 1) {
                Targets::Values { values, .. } => element_metrics(&mean, values, self.loss),
                classes => {
                    let label = classes.labels()[0] as usize;
                    BatchMetrics::from_row(loss(mean[label]), &mean, label)
                }
            };
        }
        Ok(sums)
    }
}

/// Metrics of an image with these probabilities or values, averaged over its views.
fn element_metrics(predicted: &[f64], targets: &[f32], loss_kind: Loss) -> BatchMetrics {
    let outputs = predicted.len() as f64;
    let pairs = predicted.iter().zip(targets).map(|(&predicted, &target)| (predicted, f64::from(target)));
    let mean =
        |value: &dyn Fn(f64, f64) -> f64| pairs.clone().map(|(p, t)| value(p, t)).sum::<f64>() / outputs;
    if loss_kind == Loss::MeanSquaredError {
        let squared = mean(&|p, t| (p - t).powi(2));
        return BatchMetrics::from_errors(1, squared, [squared, mean(&|p, t| (p - t).abs())]);
    }
    let wrong = mean(&|p, t| f64::from(u8::from((p > 0.5) != (t > 0.5))));
    let cross_entropy = mean(&|p, t| t * loss(p) + (1.0 - t) * loss(1.0 - p));
    BatchMetrics::from_errors(1, cross_entropy, [f64::from(u8::from(wrong > 0.0)), wrong])
}

/// Probabilities or values `f32 [N,K]` of any number of rows, images `u8 [N,3,H,W]`, and metrics of the rows.
///
/// # Errors
/// [`TrainingError::Backend`].
pub fn predictions(
    backend: &mut dyn TrainingBackend,
    images: &[u8],
    targets: Targets<'_>,
    crop: Size,
    outputs: usize,
) -> Result<(Vec<f32>, BatchMetrics), TrainingError> {
    let (rows, row_bytes) = (backend.batch_rows(), 3 * crop.area());
    let mut predictions = vec![0.0; targets.len() * outputs];
    let mut sums = BatchMetrics::default();
    let starts = (0..targets.len()).step_by(rows);
    let parts = starts.zip(images.chunks(rows * row_bytes));
    for ((start, images), out) in parts.zip(predictions.chunks_mut(rows * outputs)) {
        let targets = targets.rows(start..targets.len().min(start + rows));
        sums += backend.evaluate(Rows { images, color_offsets: &[], targets }, out)?;
    }
    Ok((predictions, sums))
}

/// The mean of V rows of K probabilities.
#[must_use]
pub fn average(rows: &[f32], classes: usize) -> Vec<f64> {
    let mut mean = vec![0.0; classes];
    let views = (rows.len() / classes) as f64;
    for row in rows.chunks_exact(classes) {
        for (mean, &value) in mean.iter_mut().zip(row) {
            *mean += f64::from(value) / views;
        }
    }
    mean
}

/// Cross-entropy of the label's probability, finite where that is 0.
fn loss(probability: f64) -> f64 {
    // `max` would turn NaN into a number.
    if probability.is_nan() { probability } else { -probability.max(f64::MIN_POSITIVE).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_of_a_class_with_probability_0_is_finite_and_that_of_nan_is_not() {
        assert!((loss(0.25) - 4f64.ln()).abs() < 1e-12);
        assert!(loss(0.0) > 700.0 && loss(0.0).is_finite());
        assert!(loss(f64::NAN).is_nan());
    }

    #[test]
    fn metrics_of_averaged_views_are_those_of_their_loss() {
        let marks = element_metrics(&[0.75, 0.5, 0.25], &[1.0, 1.0, 0.0], Loss::BinaryCrossEntropy);
        let expected = (2.0 * (4.0 / 3.0f64).ln() + 2f64.ln()) / 3.0;
        assert!((marks.loss - expected).abs() < 1e-12, "{marks:?}");
        assert_eq!(marks.errors, [1.0, 1.0 / 3.0]);
        let numbers = element_metrics(&[1.0, -2.0], &[3.0, -1.0], Loss::MeanSquaredError);
        assert_eq!((numbers.loss, numbers.errors), (2.5, [2.5, 1.5]));
    }

    #[test]
    fn views_are_averaged_by_their_probabilities() {
        assert_eq!(average(&[0.5, 0.25, 0.25, 0.0, 0.75, 0.25], 3), [0.25, 0.5, 0.25]);
    }
}
