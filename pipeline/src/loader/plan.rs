//! Which records are in which batch: pure arithmetic over (seed, epoch, batch).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::{LastBatch, LoaderConfig};
use crate::order::Order;

/// The batches of a loader, one after the other.
#[derive(Debug)]
pub(super) struct BatchPlans {
    order: Order,
    seed: u64,
    records: u32,
    samples: usize,
    rank: usize,
    world: usize,
    last_batch: LastBatch,
    /// Of any epoch but the first, which begins at `first_sample`.
    batches_per_epoch: u64,
    first_sample: u64,
    epochs: Range<u64>,
    /// The next batch: epoch, number in the epoch, number in the loader.
    epoch: u64,
    index: u64,
    sequence: u64,
    /// The order of the epoch of the next batch.
    permutation: Option<Arc<Vec<u32>>>,
    /// Planned batches that are not handed out yet; their records are read ahead.
    ahead: VecDeque<BatchPlan>,
    readahead: usize,
}

/// The records of one batch.
#[derive(Clone, Debug)]
pub(super) struct BatchPlan {
    pub epoch: u64,
    /// Number in the epoch.
    pub index: u64,
    /// Number since the loader started.
    pub sequence: u64,
    /// Position in the epoch of the first sample.
    pub first_position: u64,
    permutation: Arc<Vec<u32>>,
    len: usize,
}

impl BatchPlan {
    /// The records, in the order of the samples.
    pub fn records(&self) -> &[u32] {
        &self.permutation[self.first_position as usize..][..self.len]
    }
}

/// Batches in an epoch of `records` records over `world` ranks with `samples` samples a batch and rank.
pub(super) fn batches_per_epoch(records: usize, samples: usize, world: usize, last: LastBatch) -> u64 {
    let global = samples * world;
    let batches = match last {
        LastBatch::Drop => records / global,
        LastBatch::Pad => records.div_ceil(global),
    };
    batches as u64
}

impl BatchPlans {
    pub fn new(config: &LoaderConfig, records: u32) -> Self {
        let world = config.world;
        let batches_per_epoch =
            batches_per_epoch(records as usize, config.batch_size, world, config.last_batch);
        Self {
            order: config.order,
            seed: config.seed,
            records,
            samples: config.batch_size,
            rank: config.rank,
            world,
            last_batch: config.last_batch,
            batches_per_epoch,
            first_sample: config.first_sample.min(records.into()),
            epochs: config.epochs.clone(),
            epoch: config.epochs.start,
            index: config.first_batch,
            sequence: 0,
            permutation: None,
            ahead: VecDeque::new(),
            readahead: config.readahead,
        }
    }

    pub fn batches_per_epoch(&self) -> u64 {
        self.batches_per_epoch
    }

    /// The next batch, and the one whose records should be read ahead now.
    pub fn next(&mut self) -> Option<(BatchPlan, Option<BatchPlan>)> {
        // The first call also plans the first batches, which are never read ahead.
        while self.ahead.len() < self.readahead {
            match self.plan() {
                Some(plan) => self.ahead.push_back(plan),
                None => break,
            }
        }
        let upcoming = self.plan();
        self.ahead.extend(upcoming.clone());
        self.ahead.pop_front().map(|plan| (plan, upcoming))
    }

    /// The sample that the epoch of the next batch begins with, and its batches.
    fn epoch(&self) -> (u64, u64) {
        if self.epoch != self.epochs.start {
            return (0, self.batches_per_epoch);
        }
        let records = (u64::from(self.records) - self.first_sample) as usize;
        (self.first_sample, batches_per_epoch(records, self.samples, self.world, self.last_batch))
    }

    fn plan(&mut self) -> Option<BatchPlan> {
        let (mut first_sample, mut batches) = self.epoch();
        while self.index >= batches {
            if self.epoch >= self.epochs.end || self.batches_per_epoch == 0 {
                return None;
            }
            self.epoch += 1;
            self.index -= batches;
            self.permutation = None;
            (first_sample, batches) = self.epoch();
        }
        if self.epoch >= self.epochs.end {
            return None;
        }
        let (order, seed, epoch, records) = (self.order, self.seed, self.epoch, self.records);
        let permutation =
            self.permutation.get_or_insert_with(|| Arc::new(order.permutation(seed, epoch, records)));
        // The samples of one step are adjacent over all ranks, so that N ranks with batches of B make the
        // same steps as one rank with batches of N·B.
        let records = records as u64;
        let samples = self.samples as u64;
        let first = first_sample + (self.index * self.world as u64 + self.rank as u64) * samples;
        let first_position = first.min(records);
        let plan = BatchPlan {
            epoch,
            index: self.index,
            sequence: self.sequence,
            first_position,
            permutation: Arc::clone(permutation),
            len: (records - first_position).min(samples) as usize,
        };
        self.index += 1;
        self.sequence += 1;
        Some(plan)
    }
}
