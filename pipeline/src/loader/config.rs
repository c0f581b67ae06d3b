//! How a loader works.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::LoaderError;
use crate::augment::Chain;
use crate::batch::BatchShape;
use crate::eval_crops::EvalCrops;
use crate::form::{Axes, OutputForm};
use crate::geometry::Size;
use crate::mixing::Mixing;
use crate::names::UnknownName;
use crate::order::Order;
use crate::records::Records;
use crate::threads::{MOST_THREADS, cores};

/// More batches than any consumer has use for.
const MOST_BUFFERS: usize = 1 << 16;

/// The views that are made of each sample.
#[derive(Clone, Debug)]
pub enum Views {
    /// Views changed by the augmentations, each with draws of its own.
    Augmented {
        /// The augmentations.
        chain: Arc<Chain>,
        /// V: views of each sample.
        count: usize,
    },
    /// Fixed crops.
    Test {
        /// Which.
        views: EvalCrops,
        /// Their size.
        crop: Size,
    },
}

/// What to do with the last samples of an epoch when they do not fill a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastBatch {
    /// Leave them out.
    Drop,
    /// Deliver them in a batch whose [`len`](crate::Batch::len) is their number.
    Pad,
}

/// What to do with a record that does not match its checksum or cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadRecord {
    /// End with an error that names it.
    #[default]
    Stop,
    /// Leave it out of its batch and count it.
    Skip,
}

impl OnBadRecord {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Stop, Self::Skip];

    /// The name on command lines and in the settings of a run.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for OnBadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OnBadRecord {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("reaction to bad records", name, &Self::ALL, Self::name)
    }
}

/// When records are checked against their checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// At the first use of each record in this process.
    FirstUse,
    /// Never.
    Never,
}

/// How a loader works. Start from [`training`](Self::training) or [`evaluation`](Self::evaluation).
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// N: samples of a full batch of one rank.
    pub batch_size: usize,
    /// Threads that make batches.
    pub workers: usize,
    /// Determines order and augmentation.
    pub seed: u64,
    /// The epochs to deliver.
    pub epochs: Range<u64>,
    /// The number of the first batch in the first epoch: where an interrupted run resumes.
    pub first_batch: u64,
    /// Samples of the first epoch that come before its first batch, over all ranks: where a run whose batches
    /// had another size was interrupted. Batches are counted from there.
    pub first_sample: u64,
    /// The order of an epoch.
    pub order: Order,
    /// The views that are made of each sample.
    pub views: Views,
    /// The mixing of the samples of a batch with each other.
    pub mixing: Mixing,
    /// Type and normalisation of the pixels.
    pub form: OutputForm,
    /// The order in which the values of an image lie in memory.
    pub axes: Axes,
    /// What happens to the last samples of an epoch.
    pub last_batch: LastBatch,
    /// This process's number among those that share an epoch.
    pub rank: usize,
    /// How many processes share an epoch.
    pub world: usize,
    /// Batches in memory: being filled, waiting, or held by the consumer.
    pub buffers: usize,
    /// How many batches ahead records are read from the disk; 0 reads them when they are used.
    pub readahead: usize,
    /// When records are checked.
    pub checksums: Checksums,
    /// What happens to damaged records.
    pub on_bad_record: OnBadRecord,
    /// How long [`Loader::next`](super::Loader::next) waits while the consumer itself holds all buffers; then
    /// that is an error.
    pub hold_timeout: Duration,
}

impl LoaderConfig {
    /// Endless shuffled epochs of augmented samples, 128 a batch.
    #[must_use]
    pub fn training(chain: Chain) -> Self {
        Self {
            batch_size: 128,
            workers: cores().get(),
            seed: 0,
            epochs: 0..u64::MAX,
            first_batch: 0,
            first_sample: 0,
            order: Order::Shuffled,
            views: Views::Augmented { chain: Arc::new(chain), count: 1 },
            mixing: Mixing::default(),
            form: OutputForm::U8,
            axes: Axes::Chw,
            last_batch: LastBatch::Drop,
            rank: 0,
            world: 1,
            buffers: 3,
            readahead: 4,
            checksums: Checksums::FirstUse,
            on_bad_record: OnBadRecord::Stop,
            hold_timeout: Duration::from_secs(60),
        }
    }

    /// Every image once, in the order of the shards, in fixed crops of size `crop`; 128 a batch.
    #[must_use]
    pub fn evaluation(views: EvalCrops, crop: Size) -> Self {
        Self {
            epochs: 0..1,
            order: Order::Sequential,
            views: Views::Test { views, crop },
            last_batch: LastBatch::Pad,
            ..Self::training(Chain::empty(crop))
        }
    }

    /// N, V, H and W of every batch.
    #[must_use]
    pub fn shape(&self) -> BatchShape {
        let (views, size) = match &self.views {
            Views::Augmented { chain, count } => (*count, chain.output_size()),
            Views::Test { views, crop } => (views.count(), *crop),
        };
        BatchShape { samples: self.batch_size, views, size }
    }

    /// Checks that a loader over `records` can work like this, as it does when it is started.
    ///
    /// # Errors
    /// [`LoaderError::Config`] or [`LoaderError::Augment`] when the configuration does not fit the records.
    pub fn check(&self, records: &Records) -> Result<(), LoaderError> {
        let refuse = |reason: String| Err(LoaderError::Config { reason });
        for (name, value) in
            [("batch_size", self.batch_size), ("workers", self.workers), ("buffers", self.buffers)]
        {
            if value == 0 {
                return refuse(format!("{name} = 0, expected at least 1"));
            }
        }
        for (name, value, most) in
            [("workers", self.workers, MOST_THREADS), ("buffers", self.buffers, MOST_BUFFERS)]
        {
            if value > most {
                return refuse(format!("{name} = {value}, expected at most {most}"));
            }
        }
        let shape = self.shape();
        let values = [shape.views, 3, shape.size.height as usize, shape.size.width as usize];
        let bytes = values.into_iter().try_fold(shape.samples, usize::checked_mul);
        let bytes = bytes.and_then(|values| values.checked_mul(self.form.kind().bytes()));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return refuse(format!(
                "{} images a batch, in {} views of {} pixels: they are more bytes than memory has addresses",
                shape.samples, shape.views, shape.size
            ));
        }
        if self.rank >= self.world {
            return refuse(format!("rank {} of {} ranks, expected 0 to world - 1", self.rank, self.world));
        }
        if records.len() > u32::MAX as usize {
            return refuse(format!("{} records, expected at most {}", records.len(), u32::MAX));
        }
        let stored = records.image_sizes();
        match &self.views {
            Views::Augmented { chain, .. } if chain.input_sizes() != stored => {
                return refuse(format!(
                    "augmentations made for images of {} pixels, but the data set's have {stored}",
                    chain.input_sizes()
                ));
            }
            Views::Augmented { count: 0, .. } => {
                return refuse("0 views of a sample, expected at least 1".into());
            }
            Views::Augmented { .. } => {}
            Views::Test { views, crop } => views.check(stored.smallest(), *crop)?,
        }
        if let Some((name, alpha)) = self.mixing.out_of_range() {
            return refuse(format!("{name} = {alpha:?}, expected 0 to 1000"));
        }
        if !self.mixing.is_none() && self.world > 1 && !self.batch_size.is_multiple_of(2) {
            return refuse(format!(
                "a batch of {} over {} ranks, expected an even number: neighbours are mixed with each other",
                self.batch_size, self.world
            ));
        }
        self.form.check(self.shape().size).or_else(refuse)?;
        if self.last_batch == LastBatch::Drop && self.batch_size.saturating_mul(self.world) > records.len() {
            return refuse(format!(
                "a batch of {} over {} ranks is larger than the data set of {} images, so that no batch is ever full; \
                 make the batch smaller",
                self.batch_size,
                self.world,
                records.len()
            ));
        }
        Ok(())
    }
}
