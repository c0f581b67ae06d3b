//! The threads of a preparation: workers decode, the caller's thread writes in order, a finisher syncs shards
//! to the disk.
//!
//! ```text
//!        tasks (bounded)          outputs         full shards
//! caller ──────────────► workers ─────────► caller ───────────► finisher: fsync, rename, progress.json
//!    ▲                                        │ puts them in order
//!    └────────── a new task for each written ◄┘
//! ```
//!
//! The number of tasks in flight is fixed, and so is the memory. When one side ends, the others see their
//! channel closed and end too.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::thread::{self, Scope, ScopedJoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use fovea_pipeline::Split;
use fovea_pipeline::shard::{ShardHeader, ShardWriter};
use fovea_pipeline::threads::panic_text;

use super::plan::{PlannedShard, ShardPlan};
use super::progress::Finished;
use super::worker::{Output, Shared, Task, Worker};
use super::{PrepareError, PrepareOptions, Progress, Rejection};
use crate::Source;
use crate::statistics::{BatchSums, Statistics};

/// Decoded bytes of a task: many enough to make channels cheap, few enough to keep all cores busy to the end.
const TASK_BYTES: usize = 4 << 20;

/// A preparation that is about to run.
pub(super) struct Run<'a> {
    pub source: &'a dyn Source,
    pub options: &'a PrepareOptions,
    pub plan: &'a ShardPlan,
    pub directory: &'a Path,
    pub progress: &'a Progress,
    /// The header of a shard, for the split and the number given.
    pub header: &'a (dyn Fn(Split, u32) -> ShardHeader + Sync),
}

/// A shard with all its records, and what the finisher adds to the state when the shard is on the disk.
struct FullShard {
    writer: ShardWriter,
    split: Split,
    rejected: Vec<Rejection>,
    turned: u64,
    cut: u64,
    statistics: Statistics,
}

type TaskResult = Result<Option<Task>, PrepareError>;

impl Run<'_> {
    /// Writes the shards that `finished` lacks and returns the state after the last one.
    pub(super) fn write_shards(&self, finished: Finished) -> Result<Finished, PrepareError> {
        let todo = &self.plan.shards[finished.shards.len()..];
        if todo.is_empty() {
            return Ok(finished);
        }
        let shared = Shared {
            source: self.source,
            order: Split::ALL.map(|split| self.plan.order(split)),
            options: self.options,
            progress: self.progress,
            huge: Mutex::new(()),
        };
        thread::scope(|scope| {
            let workers = self.options.workers;
            let (task_sender, task_receiver) = bounded(tasks_in_flight(workers));
            let (result_sender, result_receiver) = bounded(tasks_in_flight(workers));
            for _ in 0..workers.get() {
                let (tasks, results) = (task_receiver.clone(), result_sender.clone());
                let shared = &shared;
                start(scope, move || work(shared, &tasks, &results))?;
            }
            drop((task_receiver, result_sender));

            let (full_sender, full_receiver) = bounded(0);
            let finisher = start(scope, move || finish_shards(self.directory, finished, &full_receiver))?;
            let mut writer = OrderedOutputs::new(self.options, todo, task_sender, result_receiver);
            let written = self.append_all(todo, &mut writer, &full_sender);
            // Workers and finisher end when their channels are closed.
            drop((writer, full_sender));
            let state = finisher
                .join()
                .map_err(|panic| PrepareError::Worker { reason: panic_text(&*panic).into() })?;
            match (written, state) {
                // When the finisher fails, the writer only sees a closed channel: the finisher's error has
                // the reason.
                (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
                (Ok(()), Ok(finished)) if finished.shards.len() < self.plan.shards.len() => {
                    let (finished, shards) = (finished.shards.len(), self.plan.shards.len());
                    Err(PrepareError::Interrupted { finished, shards })
                }
                (Ok(()), Ok(finished)) => Ok(finished),
            }
        })
    }

    /// Appends the workers' images to shard after shard; returns early when the run is cancelled or the
    /// finisher has ended.
    fn append_all(
        &self,
        todo: &[PlannedShard],
        outputs: &mut OrderedOutputs<'_>,
        finisher: &Sender<FullShard>,
    ) -> Result<(), PrepareError> {
        for shard in todo {
            let entries = self.source.entries(shard.split);
            let mut full = FullShard {
                writer: ShardWriter::create(self.directory, (self.header)(shard.split, shard.number))?,
                split: shard.split,
                rejected: Vec::new(),
                turned: 0,
                cut: 0,
                statistics: Statistics::new(self.options.mean_values()),
            };
            let mut done = shard.positions.start;
            while done < shard.positions.end {
                let Some(mut task) = outputs.next()? else { return Ok(()) };
                let mut start = 0;
                for record in &task.output.records {
                    let entry = &entries[record.entry];
                    let label = self.source.label(shard.split, record.entry);
                    let image = &task.output.images[start..record.end];
                    full.writer.append_sized(image, record.size, label, &entry.key)?;
                    start = record.end;
                }
                full.statistics.add_batch(&task.output.sums);
                self.progress.add(task.positions.len() as u64, task.output.rejected.len() as u64);
                full.rejected.append(&mut task.output.rejected);
                full.turned += task.output.turned;
                full.cut += task.output.cut;
                done = task.positions.end;
                outputs.recycle(task.output);
            }
            if finisher.send(full).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Starts a thread; the threads before it end when the caller drops its ends of their channels.
pub(super) fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, PrepareError> {
    thread::Builder::new().spawn_scoped(scope, body).map_err(|source| PrepareError::Thread { source })
}

/// Tasks that a worker converts or that wait to be written.
fn tasks_in_flight(workers: NonZeroUsize) -> usize {
    2 * workers.get() + 2
}

/// The body of a worker's thread.
fn work(shared: &Shared<'_>, tasks: &Receiver<Task>, results: &Sender<TaskResult>) {
    let mut worker = Worker::new(shared);
    for task in tasks {
        let result = catch_unwind(AssertUnwindSafe(|| worker.run(task)))
            .unwrap_or_else(|panic| Err(PrepareError::Worker { reason: panic_text(&*panic).into() }));
        if results.send(result).is_err() {
            return;
        }
    }
}

/// The body of the finisher's thread: the next shard is being filled while this one goes to the disk.
fn finish_shards(
    directory: &Path,
    mut finished: Finished,
    full_shards: &Receiver<FullShard>,
) -> Result<Finished, PrepareError> {
    for mut full in full_shards {
        let shard = full.writer.finish()?;
        finished.shards.push((full.split, shard.info));
        finished.rejected.append(&mut full.rejected);
        finished.turned += full.turned;
        finished.cut += full.cut;
        finished.statistics.add(&full.statistics);
        finished.save(directory)?;
    }
    Ok(finished)
}

/// Sends tasks to the workers and returns their results in the order of the tasks.
struct OrderedOutputs<'a> {
    remaining: Box<dyn Iterator<Item = (usize, Split, std::ops::Range<usize>)> + 'a>,
    tasks: Sender<Task>,
    results: Receiver<TaskResult>,
    early: BTreeMap<usize, Task>,
    next: usize,
}

impl<'a> OrderedOutputs<'a> {
    fn new(
        options: &PrepareOptions,
        todo: &'a [PlannedShard],
        tasks: Sender<Task>,
        results: Receiver<TaskResult>,
    ) -> Self {
        let images = (TASK_BYTES / options.image_bytes()).clamp(1, BatchSums::MAX_IMAGES);
        let parts = todo.iter().flat_map(move |shard| {
            shard
                .positions
                .clone()
                .step_by(images)
                .map(move |start| (shard.split, start..shard.positions.end.min(start + images)))
        });
        let remaining =
            Box::new(parts.enumerate().map(|(number, (split, positions))| (number, split, positions)));
        let mut outputs = OrderedOutputs { remaining, tasks, results, early: BTreeMap::new(), next: 0 };
        for _ in 0..tasks_in_flight(options.workers) {
            outputs.recycle(Output::new(options.mean_values()));
        }
        outputs
    }

    /// The result of the next task; `None` when the run was cancelled.
    fn next(&mut self) -> Result<Option<Task>, PrepareError> {
        loop {
            if let Some(task) = self.early.remove(&self.next) {
                self.next += 1;
                return Ok(Some(task));
            }
            let result = self.results.recv().map_err(|_| PrepareError::Worker {
                reason: format!("no worker is left, task {} is missing", self.next),
            })?;
            match result? {
                Some(task) => self.early.insert(task.number, task),
                None => return Ok(None),
            };
        }
    }

    /// Sends the next task, if there is one, with the memory of an earlier one.
    fn recycle(&mut self, output: Output) {
        if let Some((number, split, positions)) = self.remaining.next() {
            // The channel has room for all tasks in flight; it is closed only when all workers are gone,
            // which `next` notices.
            let _ = self.tasks.send(Task { number, split, positions, output });
        }
    }
}
