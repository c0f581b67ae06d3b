//! Events of a run, for observers.

use std::path::{Path, PathBuf};

use fovea_pipeline::summary::count;
use fovea_pipeline::{EvalCrops, Split};

use super::Report;
use crate::metrics;
use crate::recipe::Loss;

/// The extent of a run, known at its start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunPlan {
    /// Training images.
    pub images: usize,
    /// Images for evaluation.
    pub evaluated_images: usize,
    /// The split that they are of: `Train` if the data set has no validation images.
    pub evaluated: Split,
    /// Photos of a batch.
    pub batch_size: usize,
    /// Images of each photo in a batch.
    pub views: usize,
    /// Epochs of the whole run.
    pub epochs: u32,
    /// The loss, which says what errors are.
    pub loss: Loss,
    /// Batches of an epoch.
    pub batches: u64,
    /// Epochs done before the run was resumed.
    pub epochs_done: u32,
    /// Batches of the next epoch done before the run was resumed.
    pub batches_done: u64,
}

impl RunPlan {
    /// Training images that no batch of an epoch has, other ones in each epoch: those that do not fill a
    /// batch, and those beyond the limit of batches.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        (self.images as u64).saturating_sub(self.batches.saturating_mul(self.batch_size as u64))
    }
}

/// How the processes of a run spent an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sharing {
    /// Share of the time in which gradients were exchanged, 0..=1.
    pub exchange: f64,
    /// Share of the time in which this process waited for slower ones, 0..=1.
    pub waiting: f64,
    /// The process that computed longest.
    pub slowest: usize,
}

/// A message for the user; each ends with a remedy where there is one.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// The data set has no validation images.
    NoValidation,
    /// Records of earlier steps or epochs are missing.
    MissingRecords {
        /// The file.
        path: PathBuf,
        /// Number of missing records.
        records: u64,
    },
    /// The loss stays at ln K, the loss of chance.
    StuckAtChance {
        /// Number of classes K.
        classes: usize,
        /// Updates done.
        step: u64,
    },
    /// A batch was skipped.
    Discarded {
        /// Its loss.
        loss: f64,
        /// Updates done before it.
        step: u64,
        /// Batches skipped so far.
        total: u64,
    },
    /// A batch's gradients were too large for half precision, so that there was no update.
    Overflow {
        /// The new loss scale.
        loss_scale: f32,
        /// Updates done before it.
        step: u64,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoValidation => write!(
                f,
                "the data set has no validation images: losses and errors after an epoch are of the training images, without \
                 augmentation and dropout"
            ),
            Self::MissingRecords { path, records } => write!(
                f,
                "{} lacks {} of earlier steps or epochs: it was damaged or edited; the run continues without \
                 them",
                path.display(),
                count(*records, "record")
            ),
            Self::StuckAtChance { classes, step } => write!(
                f,
                "after {step} updates the loss is still ln {classes} = {:.3}, the loss of a network that does not \
                 distinguish the classes. With small initial weights and biases of 1 this can last for thousands of updates before the \
                 loss falls: wait, or start with smaller biases, as recipe alexnet-bias-0.1 does, or larger weights",
                (*classes as f64).ln()
            ),
            Self::Discarded { loss, step, total } => write!(
                f,
                "left out a batch after step {step}: its loss is {loss} ({total} left out so far); if this continues, lower \
                 optimizer.learning_rate"
            ),
            Self::Overflow { loss_scale, step } => write!(
                f,
                "no update from the batch after step {step}: its gradients were too large for f16, so the loss scale is \
                 {loss_scale} from now on; if this continues, use --precision f32"
            ),
        }
    }
}

/// Receives progress events of a run; by default every method does nothing.
pub trait Observer {
    /// The run begins or resumes.
    fn started(&mut self, plan: &RunPlan) {
        let _ = plan;
    }

    /// Epoch number `epoch` begins, or goes on, with training images of `px` pixels along a side; only where
    /// the recipe has several sizes.
    fn training_on(&mut self, epoch: u32, px: usize) {
        let _ = (epoch, px);
    }

    /// An update was done. `batch` counts from 1 within its epoch, the one of `step.epoch`.
    fn step(&mut self, step: &metrics::Step, batch: u64) {
        let _ = (step, batch);
    }

    /// How the processes spent the update, in a run of several.
    fn shared(&mut self, sharing: &Sharing) {
        let _ = sharing;
    }

    /// An evaluation has done `images` of `of` images.
    fn evaluating(&mut self, views: EvalCrops, images: u64, of: u64) {
        let _ = (views, images, of);
    }

    /// An epoch with its evaluation is done; `next_rate` is the learning rate of the next one.
    fn epoch(&mut self, epoch: &metrics::Epoch, next_rate: f64) {
        let _ = (epoch, next_rate);
    }

    /// The evaluations at the end are done.
    fn finished(&mut self, report: &Report) {
        let _ = report;
    }

    /// A checkpoint was written.
    fn saved(&mut self, path: &Path) {
        let _ = path;
    }

    /// There is a warning for the user.
    fn warn(&mut self, warning: &Warning) {
        let _ = warning;
    }
}

/// Ignores all events.
impl Observer for () {}
