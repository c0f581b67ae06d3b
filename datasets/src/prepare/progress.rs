//! What is finished: stored on disk for the next run, and counted for other threads.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fovea_files::seal;
use fovea_pipeline::{ShardInfo, Split};
use serde::{Deserialize, Serialize};

use super::plan::{PlannedShard, ShardPlan};
use super::{PrepareError, Rejection, durable};
use crate::statistics::Statistics;

/// Name of the file that says which shards are finished; it is removed at the end.
pub(crate) const PROGRESS_FILE: &str = "progress.json";

/// The state after a finished shard: shards are finished in the order of the plan, one after the other.
///
/// It is replaced as a whole after each shard, so the sums always belong to exactly the shards in the list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finished {
    pub shards: Vec<(Split, ShardInfo)>,
    pub rejected: Vec<Rejection>,
    /// Images that are not stored upright, of those in the shards.
    #[serde(default)]
    pub turned: u64,
    /// Images of which only the middle was kept, of those in the shards.
    #[serde(default)]
    pub cut: u64,
    /// Over the training images only.
    pub statistics: Statistics,
}

impl Finished {
    /// No shards, for a mean image of so many values.
    pub(crate) fn nothing(mean_values: usize) -> Self {
        let statistics = Statistics::new(mean_values);
        Self { shards: Vec::new(), rejected: Vec::new(), turned: 0, cut: 0, statistics }
    }

    /// The state that an earlier run with the same plan stored in `directory`.
    pub(crate) fn load(
        directory: &Path,
        plan: &ShardPlan,
        classes: usize,
        mean_values: usize,
    ) -> Result<Self, PrepareError> {
        let path = directory.join(PROGRESS_FILE);
        let Some(finished) = durable::read_json::<Self>(&path)? else {
            return Ok(Self::nothing(mean_values));
        };
        let unreadable = |reason| PrepareError::Unreadable { path: path.clone(), reason };
        if finished.statistics.mean_values() != mean_values {
            let found = finished.statistics.mean_values();
            return Err(unreadable(format!("sums of {found} values, expected {mean_values}")));
        }
        let mut planned = plan.shards.iter().map(PlannedShard::file_name);
        for (_, shard) in &finished.shards {
            let expected = planned.next().unwrap_or_else(|| "no further shard".into());
            if shard.file != expected {
                return Err(unreadable(format!("lists {}, expected {expected}", shard.file)));
            }
        }
        // A file of an earlier version has no hash that would tell.
        let images =
            finished.shards_of(Split::Train).iter().map(|shard| shard.images).fold(0, u64::saturating_add);
        if !finished.statistics.is_possible(images) {
            return Err(unreadable(format!("its sums are not those of {images} training images")));
        }
        if let Some(rejection) = finished.rejected.iter().find(|image| image.label as usize >= classes) {
            let label = rejection.label;
            return Err(unreadable(format!(
                "label {label} of a rejected image, but there are {classes} classes"
            )));
        }
        Ok(finished)
    }

    /// Stores the state in `directory`.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), PrepareError> {
        let sealed = seal(self).and_then(|sealed| serde_json::to_vec(&sealed));
        let text = sealed.expect("the state is strings and numbers");
        durable::write(&directory.join(PROGRESS_FILE), &text)
    }

    /// The finished shards of `split`.
    pub(crate) fn shards_of(&self, split: Split) -> Vec<ShardInfo> {
        self.shards.iter().filter(|(of, _)| *of == split).map(|(_, info)| info.clone()).collect()
    }
}

/// Counters of a run, which other threads may read, and a flag by which they may cancel it.
#[derive(Debug, Default)]
pub struct Progress {
    images: AtomicU64,
    rejected: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// Images that are written or rejected, those of earlier runs included.
    pub fn images(&self) -> u64 {
        self.images.load(Ordering::Relaxed)
    }

    /// Images that could not be decoded, those of earlier runs included.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Asks the run to stop soon; what is finished stays.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the run was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, images: u64, rejected: u64) {
        self.images.fetch_add(images, Ordering::Relaxed);
        self.rejected.fetch_add(rejected, Ordering::Relaxed);
    }
}
