//! The records: one of each update and one of each epoch.

use fovea_pipeline::Split;
use serde::{Deserialize, Deserializer, Serialize};

/// One update. In JSON a loss that is not finite is `null`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Updates done, including this one.
    pub step: u64,
    /// The epoch it belongs to, counted from 1.
    pub epoch: u32,
    /// Mean loss over the batch.
    #[serde(deserialize_with = "number_or_nan")]
    pub loss: f64,
    /// Top-1 error over the batch, 0..=1.
    #[serde(deserialize_with = "number_or_nan")]
    pub top1: f64,
    /// Top-5 error over the batch, 0..=1.
    #[serde(deserialize_with = "number_or_nan")]
    pub top5: f64,
    /// Learning rate.
    #[serde(deserialize_with = "number_or_nan")]
    pub lr: f64,
    /// Images trained on per second.
    #[serde(deserialize_with = "number_or_nan")]
    pub images_per_s: f64,
    /// Share of the time spent waiting for data, 0..=1.
    #[serde(deserialize_with = "number_or_nan")]
    pub data_wait: f64,
}

pub(crate) fn number_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// What columns of evaluations on validation images begin with.
const VALIDATION: &str = ",val_";
/// What columns of evaluations on training images begin with.
const TRAINING_IMAGES: &str = ",train_images_";

/// One epoch with its evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u32,
    /// Updates done at its end.
    pub step: u64,
    /// Learning rate during it.
    pub lr: f64,
    /// Mean loss over the training images.
    pub train_loss: f64,
    /// Top-1 error over the training images as they were trained on, 0..=1.
    pub train_top1: f64,
    /// Top-5 error over the training images as they were trained on, 0..=1.
    pub train_top5: f64,
    /// Mean loss after it over the validation images, or over the training images if there are no others.
    pub val_loss: f64,
    /// Top-1 error after it over the same images, 0..=1.
    pub val_top1: f64,
    /// Top-5 error after it over the same images, 0..=1.
    pub val_top5: f64,
    /// Images trained on per second.
    pub images_per_s: f64,
    /// Share of the time spent waiting for data, 0..=1.
    pub data_wait: f64,
    /// Duration in seconds, evaluation included.
    pub seconds: f64,
}

impl Epoch {
    /// The heading of `epochs.csv` of a run that measures its error on `split`.
    pub(super) fn heading(split: Split) -> String {
        let heading = Self::default().csv(true).lines().next().unwrap_or_default().to_owned();
        match split {
            Split::Val => heading,
            Split::Train => heading.replace(VALIDATION, TRAINING_IMAGES),
        }
    }

    /// The split that the errors below this heading of `epochs.csv` are of. Earlier versions did not tell.
    pub(super) fn split_of(heading: &str) -> Option<Split> {
        heading.contains(TRAINING_IMAGES).then_some(Split::Train)
    }

    /// Its line in `epochs.csv`.
    pub(super) fn row(&self) -> String {
        self.csv(false).trim_end().to_owned()
    }

    fn csv(&self, has_heading: bool) -> String {
        let mut writer = csv::WriterBuilder::new().has_headers(has_heading).from_writer(Vec::new());
        writer.serialize(self).expect("numbers can be written as CSV");
        let text = writer.into_inner().expect("memory can be written to");
        String::from_utf8(text).expect("numbers are ASCII")
    }

    pub(super) fn parse(row: &str) -> Option<Self> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(row.as_bytes());
        reader.deserialize().next()?.ok()
    }
}
