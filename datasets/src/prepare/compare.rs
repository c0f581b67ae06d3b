//! Compares images with what an earlier run has made of them.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use fovea_pipeline::Split;
use fovea_pipeline::shard::{Record, Shard};
use fovea_pipeline::text::printable;
use fovea_pipeline::threads::panic_text;

use super::changes::{Changes, MANY};
use super::plan::{PlannedShard, ShardPlan};
use super::run::start;
use super::worker::{Output, Shared, Task, Worker};
use super::{PrepareError, PrepareOptions, Progress, list};
use crate::Source;

/// What is in a folder.
pub(super) struct Folder<'a> {
    pub directory: &'a Path,
    /// The shards that are finished, the first ones of the plan.
    pub shards: &'a [PlannedShard],
    /// Split and printable key of the images that could not be decoded.
    pub rejected: HashSet<(String, String)>,
}

/// Compares images that are `touched` or were rejected with what `folder` has of them.
pub(super) fn look(
    source: &dyn Source,
    options: &PrepareOptions,
    plan: &ShardPlan,
    folder: &Folder<'_>,
    touched: &HashSet<(&str, &str)>,
) -> Result<Changes, PrepareError> {
    let suspects = suspects(source, plan, folder, touched);
    let progress = Progress::default();
    let order = Split::ALL.map(|split| plan.order(split));
    let shared = Shared { source, order, options, progress: &progress, huge: Mutex::new(()) };
    let (next, has_many) = (AtomicUsize::new(0), AtomicBool::new(false));
    let changes = Mutex::new(Changes::default());
    let work = || -> Result<(), PrepareError> {
        let mut worker = Worker::new(&shared);
        while let Some((shard, positions)) = suspects.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut compare = Comparison::open(&shared, folder.directory, shard)?;
            for &position in positions.iter().take_while(|_| !has_many.load(Ordering::Relaxed)) {
                let Some((key, change)) = compare.image(&mut worker, position)? else { continue };
                let name = list::name((shard.split.name(), &key));
                let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
                match change {
                    Change::Mended => changes.mended.push(name),
                    Change::Other => changes.changed.push(name),
                }
                has_many.fetch_or(changes.changed.len() >= MANY, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads = options.workers.get().min(suspects.len());
        let threads: Result<Vec<_>, _> = (0..threads).map(|_| start(scope, work)).collect();
        threads?.into_iter().try_for_each(|thread| {
            thread.join().map_err(|panic| PrepareError::Worker { reason: panic_text(&*panic).into() })?
        })
    })?;
    let mut changes = changes.into_inner().unwrap_or_else(PoisonError::into_inner);
    changes.mended.sort();
    changes.changed.sort();
    Ok(changes)
}

/// The positions, in the order of their split, of the images in finished shards that may have changed.
fn suspects<'a>(
    source: &dyn Source,
    plan: &ShardPlan,
    folder: &Folder<'a>,
    touched: &HashSet<(&str, &str)>,
) -> Vec<(&'a PlannedShard, Vec<usize>)> {
    if touched.is_empty() && folder.rejected.is_empty() {
        return Vec::new();
    }
    let rejected: HashSet<(&str, &str)> =
        folder.rejected.iter().map(|(split, key)| (split.as_str(), key.as_str())).collect();
    let is_suspect = |split: Split, position: usize| {
        let entry = &source.entries(split)[plan.order(split)[position] as usize];
        let key = printable(&entry.key);
        let name = (split.name(), &*key);
        touched.contains(&name) || rejected.contains(&name)
    };
    let positions = |shard: &PlannedShard| {
        shard.positions.clone().filter(|&position| is_suspect(shard.split, position)).collect()
    };
    let shards = folder.shards.iter().map(|shard| (shard, positions(shard)));
    shards.filter(|(_, positions): &(_, Vec<usize>)| !positions.is_empty()).collect()
}

enum Change {
    Mended,
    Other,
}

/// Compares images with the records of a shard.
struct Comparison<'a> {
    shared: &'a Shared<'a>,
    split: Split,
    shard: Shard,
    /// Records by key.
    records: HashMap<String, usize>,
    output: Option<Output>,
}

impl<'a> Comparison<'a> {
    fn open(shared: &'a Shared<'a>, directory: &Path, planned: &PlannedShard) -> Result<Self, PrepareError> {
        let shard = Shard::open(&directory.join(planned.file_name()))?;
        let records = (0..shard.len()).map(|index| (shard.key(index), index)).collect();
        let output = Some(Output::new(shared.options.mean_values()));
        Ok(Self { shared, split: planned.split, shard, records, output })
    }

    /// The key of the image at `position` and how it has changed, if it has.
    fn image(
        &mut self,
        worker: &mut Worker<'_>,
        position: usize,
    ) -> Result<Option<(String, Change)>, PrepareError> {
        let (split, positions) = (self.split, position..position + 1);
        let output = self.output.take().unwrap_or_else(|| Output::new(self.shared.options.mean_values()));
        // Nobody cancels.
        let Some(task) = worker.run(Task { number: 0, split, positions, output })? else { return Ok(None) };
        let entry = self.shared.order[split as usize][position] as usize;
        let key = &self.shared.source.entries(split)[entry].key;
        let record = self.records.get(key).map(|&index| self.shard.record(index));
        let decoded = task.output.records.first();
        let is_same = |record: Record<'_>| {
            decoded.is_some_and(|new| new.size == record.size) && *record.image == *task.output.images
        };
        let change = match record {
            Some(record) if is_same(record) => None,
            None if decoded.is_none() => None,
            None => Some(Change::Mended),
            Some(_) => Some(Change::Other),
        };
        self.output = Some(task.output);
        Ok(change.map(|change| (key.clone(), change)))
    }
}
