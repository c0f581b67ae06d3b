//! The loader: worker threads that turn records into batches on a channel.
//!
//! Workers claim a few slots of the current batch at a time, write samples from the memory map straight into
//! them, and claim again; the worker that completes a batch sends it. Batches leave in order. The record of a
//! slot and its augmentation depend only on seed, epoch and position, so batches are the same bytes for any
//! number of workers.
//!
//! ```no_run
//! use std::sync::Arc;
//! use fovea_pipeline::{Chain, Dataset, Loader, LoaderConfig, Split, augment};
//!
//! let dataset = Dataset::open("shards".as_ref())?;
//! let records = Arc::new(dataset.records(Split::Train)?);
//! let info = dataset.info();
//! let chain = Chain::from_configs(&augment::alexnet(), info.image_sizes(), info.statistics.as_ref())?;
//! for batch in Loader::start(records, LoaderConfig::training(chain))? {
//!     let batch = batch?;
//!     println!("{:?} {:?}", batch.shape(), batch.labels());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod error;
mod filling;
mod plan;
#[cfg(test)]
mod size_tests;
mod stats;
#[cfg(test)]
mod tests;
mod turns;
#[cfg(test)]
mod window_tests;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender, bounded, unbounded};

pub use config::{Checksums, LastBatch, LoaderConfig, OnBadRecord, Views};
pub use error::LoaderError;
pub use stats::{LoaderStats, StatsSnapshot};

use plan::BatchPlans;
use stats::Counters;
use worker::Shared;

use crate::batch::{Batch, BatchShape, Buffer, NO_LABEL};
use crate::labels::LabelKind;
use crate::memory::{self, HostMemory, MemoryProvider};
use crate::records::Records;

/// A running loader: an iterator over batches.
///
/// It ends after the last batch or the first error. Dropping it stops and joins its threads.
#[derive(Debug)]
pub struct Loader {
    /// `None` once the loader has ended.
    batches: Option<Receiver<Result<Batch, LoaderError>>>,
    /// Dropping it stops waiting workers.
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
    /// Starts the threads of a loader over `records`, with ordinary memory.
    ///
    /// # Errors
    /// [`LoaderError::Config`] or [`LoaderError::Augment`] when the configuration does not fit the records,
    /// [`LoaderError::Memory`] and [`LoaderError::Thread`] when the system refuses.
    pub fn start(records: Arc<Records>, config: LoaderConfig) -> Result<Self, LoaderError> {
        Self::start_with_memory(records, config, &mut HostMemory)
    }

    /// Starts a loader whose batches are in memory from `provider`.
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
        for buffer in allocate(&config, shape, records.labels(), provider)? {
            free_sender.send(buffer).expect("the receiver is in scope");
        }
        // Room for every batch that has memory, and an error from each worker: sending never blocks.
        let (outgoing, batches) = bounded(config.buffers + config.workers);
        let (stop, stopped) = bounded(0);
        let counters = Arc::new(Counters::new());
        let held = Arc::new(AtomicUsize::new(0));
        let plans = BatchPlans::new(&config, &records);
        let batches_per_epoch = plans.batches_per_epoch();
        let mut loader = Self {
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
    #[must_use]
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// Batches of an epoch.
    #[must_use]
    pub fn batches_per_epoch(&self) -> u64 {
        self.batches_per_epoch
    }

    /// The loader's counters.
    #[must_use]
    pub fn stats(&self) -> LoaderStats {
        LoaderStats::new(Arc::clone(&self.counters))
    }

    /// The next batch if it is ready, without waiting. `None` when it is not ready, or when there are no more
    /// batches; [`next`](Iterator::next) distinguishes the two.
    pub fn next_if_ready(&mut self) -> Option<Result<Batch, LoaderError>> {
        let message = self.batches.as_ref()?.try_recv().ok();
        message.map(|message| self.hand_over(message))
    }

    /// Waits at most `timeout` until [`next`](Iterator::next) has something to return at once: a batch, an
    /// error or the end. Whether it has.
    ///
    /// For a consumer that has to look at something else now and then while it waits.
    #[must_use]
    pub fn is_ready_within(&self, timeout: Duration) -> bool {
        let Some(batches) = &self.batches else { return true };
        let started = Instant::now();
        let mut select = Select::new();
        select.recv(batches);
        let is_ready = select.ready_timeout(timeout).is_ok();
        stats::add(&self.counters.consumer_waiting_ns, started.elapsed().as_nanos() as u64);
        is_ready
    }

    /// Waits for the next message of the workers; `None` when they have all ended.
    fn receive(&self) -> Option<Result<Batch, LoaderError>> {
        let batches = self.batches.as_ref()?;
        loop {
            match batches.recv_timeout(self.hold_timeout) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                // A batch may be slow to make. Only when the consumer holds all buffers itself will none
                // come: it holds no more than when it began to wait.
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
    /// A batch belongs to the consumer from here on; an error ends the loader.
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

/// Allocates the memory of all batches.
fn allocate(
    config: &LoaderConfig,
    shape: BatchShape,
    (kind, outputs): (LabelKind, usize),
    provider: &mut dyn MemoryProvider,
) -> Result<Vec<Buffer>, LoaderError> {
    let bytes = shape.values() * config.form.kind().bytes();
    let refuse = |reason: String| LoaderError::Memory { buffers: config.buffers, bytes, reason };
    (0..config.buffers)
        .map(|_| {
            let memory = provider.allocate(bytes).map_err(|error| refuse(error.to_string()))?;
            memory::check(&*memory, bytes).map_err(|unfit| refuse(format!("the provider gave {unfit}")))?;
            Ok(Buffer {
                memory,
                labels: vec![NO_LABEL; shape.samples],
                marks: vec![0; if kind == LabelKind::MultiHot { shape.samples * outputs } else { 0 }],
                values: vec![0.0; if kind == LabelKind::Values { shape.samples * outputs } else { 0 }],
                color_offsets: vec![[0.0; 3]; shape.samples * shape.views],
                records: Vec::with_capacity(shape.samples),
                positions: Vec::with_capacity(shape.samples),
                partners: vec![0; shape.samples],
                shares: vec![1.0; shape.samples],
            })
        })
        .collect()
}
