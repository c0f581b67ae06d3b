//! Whoever watches a run.

use std::path::{Path, PathBuf};

use fovea_pipeline::EvalCrops;

use super::Score;
use crate::metrics;

/// What lies before a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Training images.
    pub images: usize,
    /// Images that the error is measured on.
    pub evaluated_images: usize,
    /// Epochs in all.
    pub epochs: u32,
    /// Batches of an epoch.
    pub batches: u64,
    /// Epochs done by an earlier part of the run.
    pub epochs_done: u32,
    /// Batches of the next epoch done by an earlier part of the run.
    pub batches_done: u64,
}

/// Something that the user should know; each text ends with what can be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// The data set has no validation images.
    NoValidation,
    /// Records of what was done before are not there.
    MissingRecords {
        /// The file.
        path: PathBuf,
        /// How many it lacks.
        records: u64,
    },
    /// The loss lies at ln K.
    Plateau {
        /// Number of classes K.
        classes: usize,
        /// Updates done.
        step: u64,
    },
    /// A batch was left out.
    Discarded {
        /// Its loss.
        loss: f64,
        /// Updates done before it.
        step: u64,
        /// Batches left out so far.
        total: u64,
    },
    /// A batch's gradients were too large for half precision, so that there was no update.
    Overflow {
        /// The loss scale from now on.
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
                "the data set has no validation images: errors are measured on the centre of the training images"
            ),
            Self::MissingRecords { path, records } => write!(
                f,
                "{} lacks {records} of the records of what was done before: it was damaged or changed; the run goes on \
                 without them",
                path.display()
            ),
            Self::Plateau { classes, step } => write!(
                f,
                "after {step} updates the loss still lies at ln {classes} = {:.3}, where all classes look alike to the \
                 network. With small initial weights and biases of 1 this can last for thousands of updates before the \
                 loss falls: wait, or start with smaller biases, as recipe alexnet-bias-0.1 does, or larger weights",
                (*classes as f64).ln()
            ),
            Self::Discarded { loss, step, total } => write!(
                f,
                "left out a batch after step {step}: its loss is {loss} ({total} left out so far); if that goes on, lower \
                 optimizer.learning_rate"
            ),
            Self::Overflow { loss_scale, step } => write!(
                f,
                "no update from the batch after step {step}: its gradients were too large for f16, so the loss scale is \
                 {loss_scale} from now on; if that goes on, use --precision f32"
            ),
        }
    }
}

/// Hears how a run goes; every method does nothing unless written.
pub trait Observer {
    /// The run begins or goes on.
    fn started(&mut self, plan: &Plan) {
        let _ = plan;
    }

    /// An update was done. `batch` counts from 1 within its epoch, the one of `step.epoch`.
    fn step(&mut self, step: &metrics::Step, batch: u64) {
        let _ = (step, batch);
    }

    /// An evaluation has got to `images` of `of` images.
    fn evaluating(&mut self, views: EvalCrops, images: u64, of: u64) {
        let _ = (views, images, of);
    }

    /// An epoch with its evaluation is over; `next_rate` is the learning rate of the next one.
    fn epoch(&mut self, epoch: &metrics::Epoch, next_rate: f64) {
        let _ = (epoch, next_rate);
    }

    /// The evaluation at the end is over.
    fn finished(&mut self, views: EvalCrops, score: &Score) {
        let _ = (views, score);
    }

    /// A checkpoint was written.
    fn saved(&mut self, path: &Path) {
        let _ = path;
    }

    /// There is something to know.
    fn warn(&mut self, warning: &Warning) {
        let _ = warning;
    }
}

/// Hears nothing.
impl Observer for () {}
