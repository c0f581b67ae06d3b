//! The error of a network over a data set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fovea_pipeline::geometry::Size;
use fovea_pipeline::loader::OnBadRecord;
use fovea_pipeline::{Batch, EvalCrops, Loader, LoaderConfig, Records};
use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::data::is_ready;
use crate::backend::{Rows, Targets, TrainingBackend};
use crate::collective::Ranks;
use crate::metrics::{BatchMetrics, number_or_nan};

/// The error of a network over images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Number of images.
    pub images: u64,
    /// Mean cross-entropy, natural logarithm; for several views that of the averaged probabilities.
    #[serde(deserialize_with = "number_or_nan")]
    pub loss: f64,
    /// Share of the images whose class does not have the highest probability, 0..=1.
    #[serde(deserialize_with = "number_or_nan")]
    pub top1: f64,
    /// Share of the images whose class is not among the five highest probabilities, 0..=1.
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
    /// Number of classes K.
    pub classes: usize,
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
                Some(Some(batch)) => self.batch(backend, &batch?)?,
                Some(None) => break,
                None => BatchMetrics::default(),
            };
            slowest = slowest.max(begin.elapsed());
            ranks.wait_for(2 * slowest);
            let of_all = ranks.gather_words([
                stop.load(Ordering::Relaxed).into(),
                own.rows,
                own.loss.to_bits(),
                own.top1,
                own.top5,
            ])?;
            if of_all.iter().any(|&[stops, ..]| stops > 0) {
                return Ok(None);
            }
            for [_, rows, loss, top1, top5] in of_all {
                sums += BatchMetrics { rows, loss: f64::from_bits(loss), top1, top5 };
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
        let labels = &batch.labels()[..batch.len()];
        let row_labels: Vec<i64> = labels.iter().flat_map(|&label| vec![label; views]).collect();
        let (probabilities, row_sums) =
            probabilities(backend, batch.image_bytes(), &row_labels, self.crop, self.classes)?;
        if views == 1 {
            return Ok(row_sums);
        }
        let mut sums = BatchMetrics::default();
        for (of_image, &label) in probabilities.chunks_exact(views * self.classes).zip(labels) {
            let mean = average(of_image, self.classes);
            sums += BatchMetrics::from_row(loss(mean[label as usize]), &mean, label as usize);
        }
        Ok(sums)
    }
}

/// Softmax outputs `f32 [N,K]` of any number of rows, images `u8 [N,3,H,W]`, and metrics of the rows.
///
/// # Errors
/// [`TrainingError::Backend`].
pub fn probabilities(
    backend: &mut dyn TrainingBackend,
    images: &[u8],
    labels: &[i64],
    crop: Size,
    classes: usize,
) -> Result<(Vec<f32>, BatchMetrics), TrainingError> {
    let (rows, row_bytes) = (backend.batch_rows(), 3 * crop.area());
    let mut probabilities = vec![0.0; labels.len() * classes];
    let mut sums = BatchMetrics::default();
    let parts = labels.chunks(rows).zip(images.chunks(rows * row_bytes));
    for ((labels, images), out) in parts.zip(probabilities.chunks_mut(rows * classes)) {
        sums +=
            backend.evaluate(Rows { images, color_offsets: &[], targets: Targets::Classes(labels) }, out)?;
    }
    Ok((probabilities, sums))
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
    fn views_are_averaged_by_their_probabilities() {
        assert_eq!(average(&[0.5, 0.25, 0.25, 0.0, 0.75, 0.25], 3), [0.25, 0.5, 0.25]);
    }
}
