//! The loader: worker threads that turn records into batches on a channel.
//!
//! Workers claim a few slots of the current batch at a time, cut the samples straight out of the memory map into them, and
//! claim again; whoever completes a batch sends it. Batches leave in order. Which record goes into which slot and what
//! happens to it depends only on seed, epoch and position, so batches are the same bytes for any number of workers.
//!
//! ```no_run
//! use std::sync::Arc;
//! use fovea_pipeline::{Chain, Dataset, Loader, LoaderConfig, Split, augment, view::Size};
//!
//! let dataset = Dataset::open("shards".as_ref())?;
//! let records = Arc::new(dataset.records(Split::Train)?);
//! let info = dataset.info();
//! let chain = Chain::from_configs(&augment::alexnet(), Size::square(info.image_size), info.statistics.as_ref())?;
//! for batch in Loader::start(records, LoaderConfig::training(chain))? {
//!     let batch = batch?;
//!     println!("{:?} {:?}", batch.shape(), batch.labels());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod filling;
mod plan;
mod stats;
#[cfg(test)]
mod tests;
mod worker;

use std::num::NonZero;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use serde::{Deserialize, Serialize};

pub use stats::{LoaderStats, StatsSnapshot};

use plan::Plans;
use stats::Counters;
use worker::Shared;

use crate::augment::{AugmentError, Chain};
use crate::batch::{Batch, BatchShape, Buffer, NO_LABEL};
use crate::dataset::Records;
use crate::form::OutputForm;
use crate::memory::{ALIGNMENT_BYTES, HostMemory, MemoryProvider};
use crate::order::Order;
use crate::shard::ShardError;
use crate::test_views::TestViews;
use crate::view::Size;

/// What is made of each sample.
#[derive(Clone, Debug)]
pub enum Views {
    /// One view, changed by the augmentations.
    Augmented(Arc<Chain>),
    /// Fixed crops.
    Test {
        /// Which.
        views: TestViews,
        /// Their size.
        crop: Size,
    },
}

/// What to do with the last samples of an epoch when they do not fill a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastBatch {
    /// Leave them out.
    Drop,
    /// Deliver them in a batch whose [`len`](Batch::len) tells how many there are.
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
    /// The number of the first batch in the first epoch: where an interrupted run goes on.
    pub first_batch: u64,
    /// The order of an epoch.
    pub order: Order,
    /// What is made of each sample.
    pub views: Views,
    /// What the pixels of a batch are.
    pub form: OutputForm,
    /// What happens to the last samples of an epoch.
    pub last_batch: LastBatch,
    /// This process's number among those that share an epoch.
    pub rank: usize,
    /// How many processes share an epoch.
    pub world: usize,
    /// Batches that have memory: those being filled, those waiting, and those that the consumer holds.
    pub buffers: usize,
    /// How many batches ahead records are read from the disk; 0 reads them when they are used.
    pub readahead: usize,
    /// When records are checked.
    pub checksums: Checksums,
    /// What happens to damaged records.
    pub on_bad_record: OnBadRecord,
    /// How long [`Loader::next`] waits while the consumer itself holds all buffers, before it calls that an error.
    pub hold_timeout: Duration,
}

impl LoaderConfig {
    /// Endless shuffled epochs of augmented samples, 128 a batch.
    pub fn training(chain: Chain) -> Self {
        LoaderConfig {
            batch_size: 128,
            workers: std::thread::available_parallelism().map_or(1, NonZero::get),
            seed: 0,
            epochs: 0..u64::MAX,
            first_batch: 0,
            order: Order::Shuffled,
            views: Views::Augmented(Arc::new(chain)),
            form: OutputForm::U8,
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

    /// Every image once, in the order of the shards, seen through fixed crops of size `crop`; 128 a batch.
    pub fn evaluation(views: TestViews, crop: Size) -> Self {
        LoaderConfig {
            epochs: 0..1,
            order: Order::Sequential,
            views: Views::Test { views, crop },
            last_batch: LastBatch::Pad,
            ..LoaderConfig::training(Chain::empty(crop))
        }
    }

    fn shape(&self) -> BatchShape {
        let (views, size) = match &self.views {
            Views::Augmented(chain) => (1, chain.output_size()),
            Views::Test { views, crop } => (views.count(), *crop),
        };
        BatchShape { samples: self.batch_size, views, size }
    }

    fn check(&self, records: &Records) -> Result<(), LoaderError> {
        let refuse = |reason: String| Err(LoaderError::Config { reason });
        for (name, value) in
            [("batch_size", self.batch_size), ("workers", self.workers), ("buffers", self.buffers)]
        {
            if value == 0 {
                return refuse(format!("{name} = 0, expected at least 1"));
            }
        }
        if self.rank >= self.world {
            return refuse(format!("rank {} of {} ranks, expected 0 to world - 1", self.rank, self.world));
        }
        if records.len() > u32::MAX as usize {
            return refuse(format!("{} records, expected at most {}", records.len(), u32::MAX));
        }
        let stored = Size::square(records.image_size());
        match &self.views {
            Views::Augmented(chain) if chain.input_size() != stored => {
                return refuse(format!(
                    "augmentations made for images of {} pixels, but the data set's have {stored}",
                    chain.input_size()
                ));
            }
            Views::Augmented(_) => {}
            Views::Test { views, crop } => views.check(stored, *crop)?,
        }
        self.form.check(self.shape().size).or_else(refuse)?;
        if self.last_batch == LastBatch::Drop && self.batch_size * self.world > records.len() {
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

/// A loader cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// The configuration makes no sense.
    #[error("the loader cannot work with {reason}")]
    Config {
        /// What was given and what was expected.
        reason: String,
    },
    /// An augmentation or a test view does not fit the images.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// A record is damaged.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// A record matches its checksum but is no image.
    #[error("{}: record {index} ({key}) cannot be decoded: {reason}", path.display())]
    Decode {
        /// The shard.
        path: PathBuf,
        /// Position of the record in the shard.
        index: usize,
        /// Name of the image.
        key: String,
        /// The decoder's reason.
        reason: String,
    },
    /// There is no memory for the batches.
    #[error(
        "no memory for {buffers} batches of {bytes} bytes: {reason}; use smaller batches or fewer buffers"
    )]
    Memory {
        /// Batches that should have memory.
        buffers: usize,
        /// Bytes of each.
        bytes: usize,
        /// The provider's reason.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start a loader thread: {source}")]
    Thread {
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A worker died.
    #[error("a loader worker panicked: {message}")]
    WorkerPanicked {
        /// The panic's message.
        message: String,
    },
    /// The consumer asks for a batch while it holds all there can be.
    #[error(
        "all {buffers} buffers have been held by the consumer for {waited:?}; drop batches, or set `buffers` higher"
    )]
    AllBuffersHeld {
        /// Batches that have memory.
        buffers: usize,
        /// How long it was waited for one to come back.
        waited: Duration,
    },
}

/// A running loader: an iterator over batches.
///
/// It ends after the last batch or the first error. Dropping it stops and joins its threads.
#[derive(Debug)]
pub struct Loader {
    /// `None` once the loader has ended.
    batches: Option<Receiver<Result<Batch, LoaderError>>>,
    /// Dropping it tells waiting workers to stop.
    stop: Option<Sender<std::convert::Infallible>>,
    workers: Vec<JoinHandle<()>>,
    counters: Arc<Counters>,
    /// Batches that the consumer has received and not dropped.
    held: Arc<AtomicUsize>,
    buffers: usize,
    hold_timeout: Duration,
    shape: BatchShape,
    batches_per_epoch: u64,
}

impl Loader {
    /// Starts the threads of a loader over `records`, with memory of the program's own.
    ///
    /// # Errors
    /// [`LoaderError::Config`] or [`LoaderError::Augment`] when the configuration does not fit the records,
    /// [`LoaderError::Memory`] and [`LoaderError::Thread`] when the system refuses.
    pub fn start(records: Arc<Records>, config: LoaderConfig) -> Result<Self, LoaderError> {
        Loader::start_with_memory(records, config, &mut HostMemory)
    }

    /// Starts a loader whose batches are made of memory from `provider`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_memory(
        records: Arc<Records>,
        config: LoaderConfig,
        provider: &mut dyn MemoryProvider,
    ) -> Result<Self, LoaderError> {
        config.check(&records)?;
        let shape = config.shape();
        let (free_sender, free) = unbounded();
        for buffer in allocate(&config, shape, provider)? {
            free_sender.send(buffer).expect("the receiver is in scope");
        }
        // Room for every batch that has memory, and an error from each worker: sending never blocks.
        let (outgoing, batches) = bounded(config.buffers + config.workers);
        let (stop, stopped) = bounded(0);
        let counters = Arc::new(Counters::new());
        let held = Arc::new(AtomicUsize::new(0));
        let plans = Plans::new(&config, records.len() as u32);
        let batches_per_epoch = plans.batches_per_epoch();
        let mut loader = Loader {
            batches: Some(batches),
            stop: Some(stop),
            workers: Vec::with_capacity(config.workers),
            counters: Arc::clone(&counters),
            held: Arc::clone(&held),
            buffers: config.buffers,
            hold_timeout: config.hold_timeout,
            shape,
            batches_per_epoch,
        };
        let workers = config.workers;
        let shared = Arc::new(Shared::new(
            records,
            config,
            plans,
            free,
            free_sender,
            stopped,
            outgoing,
            counters,
            held,
        ));
        for number in 0..workers {
            let shared = Arc::clone(&shared);
            let worker = std::thread::Builder::new()
                .name(format!("loader-{number}"))
                .spawn(move || worker::run(&shared))
                .map_err(|source| LoaderError::Thread { source })?;
            loader.workers.push(worker);
        }
        Ok(loader)
    }

    /// N, V, H and W of every batch.
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// Batches of an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.batches_per_epoch
    }

    /// The loader's counters.
    pub fn stats(&self) -> LoaderStats {
        LoaderStats::new(Arc::clone(&self.counters))
    }

    /// The next batch if it has been made already, without waiting. `None` when it has not, or when there is none, which
    /// [`next`](Iterator::next) tells apart.
    pub fn next_if_ready(&mut self) -> Option<Result<Batch, LoaderError>> {
        let message = self.batches.as_ref()?.try_recv().ok();
        message.map(|message| self.hand_over(message))
    }

    /// Waits for the next message of the workers; `None` when they have all ended.
    fn receive(&self) -> Option<Result<Batch, LoaderError>> {
        let batches = self.batches.as_ref()?;
        loop {
            match batches.recv_timeout(self.hold_timeout) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                // A batch may be slow to make; only the consumer's own hold on all buffers is hopeless. It holds no
                // more than when it began to wait.
                Err(RecvTimeoutError::Timeout) if self.held.load(Ordering::Relaxed) < self.buffers => {}
                Err(RecvTimeoutError::Timeout) => {
                    let (buffers, waited) = (self.buffers, self.hold_timeout);
                    return Some(Err(LoaderError::AllBuffersHeld { buffers, waited }));
                }
            }
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        let started = Instant::now();
        let message = self.receive();
        stats::add(&self.counters.consumer_waiting_ns, started.elapsed().as_nanos() as u64);
        if message.is_none() {
            self.shut_down();
        }
        message.map(|message| self.hand_over(message))
    }
}

impl Loader {
    /// A batch is the consumer's from here on; an error is the last thing that comes.
    fn hand_over(&mut self, message: Result<Batch, LoaderError>) -> Result<Batch, LoaderError> {
        match &message {
            Ok(_) => {
                self.held.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => self.shut_down(),
        }
        message
    }

    fn shut_down(&mut self) {
        self.stop = None;
        self.batches = None;
        for worker in self.workers.drain(..) {
            // A worker catches its panics and sends them as errors.
            let _ = worker.join();
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Makes the memory of all batches.
fn allocate(
    config: &LoaderConfig,
    shape: BatchShape,
    provider: &mut dyn MemoryProvider,
) -> Result<Vec<Buffer>, LoaderError> {
    let bytes = shape.values() * config.form.kind().bytes();
    let refuse = |reason: String| LoaderError::Memory { buffers: config.buffers, bytes, reason };
    (0..config.buffers)
        .map(|_| {
            let mut memory = provider.allocate(bytes).map_err(|error| refuse(error.to_string()))?;
            let given = memory.bytes_mut();
            if given.len() < bytes || !given.as_ptr().addr().is_multiple_of(ALIGNMENT_BYTES) {
                return Err(refuse(format!(
                    "the provider gave {} bytes at {:p}, expected {bytes} aligned to {ALIGNMENT_BYTES}",
                    given.len(),
                    given.as_ptr()
                )));
            }
            Ok(Buffer {
                memory,
                labels: vec![NO_LABEL; shape.samples],
                color_offsets: vec![[0.0; 3]; shape.samples * shape.views],
                records: Vec::with_capacity(shape.samples),
            })
        })
        .collect()
}
