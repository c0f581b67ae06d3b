//! Which records are in which batch: pure arithmetic over (seed, epoch, batch).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::turns::{Turn, Turns};
use super::{LastBatch, LoaderConfig};
use crate::order::{Order, Windows};
use crate::records::{Hold, Records};

/// The batches of a loader, one after the other.
#[derive(Debug)]
pub(super) struct BatchPlans {
    order: Order,
    seed: u64,
    records: Arc<Records>,
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
    /// The windows of the epoch of the next batch.
    windows: Option<Windows>,
    /// The window of the next batch's first sample, and the one after it.
    window: Option<Arc<Window>>,
    following: Option<Following>,
    /// For shards that come and go window by window.
    turns: Option<Arc<Turns>>,
    /// Planned batches that are not handed out yet; their records are read ahead.
    ahead: VecDeque<BatchPlan>,
    readahead: usize,
}

/// A window of which samples are planned, and which is kept until they are made.
#[derive(Debug)]
struct Window {
    number: usize,
    /// The record at each of its positions.
    records: Vec<u32>,
    /// Let go before the turn, for the shards of the next window.
    hold: Hold,
    turn: Option<Turn>,
}

/// A window whose shards are asked for while the one before it is read.
#[derive(Debug)]
struct Following {
    epoch: u64,
    number: usize,
    hold: Hold,
}

/// The records of one batch.
#[derive(Debug)]
pub(super) struct BatchPlan {
    pub epoch: u64,
    /// Number in the epoch.
    pub index: u64,
    /// Number since the loader started.
    pub sequence: u64,
    /// Position in the epoch of the first sample.
    pub first_position: u64,
    /// Position in the epoch of the first sample of all ranks.
    pub step_position: u64,
    records: Arc<[u32]>,
    /// The windows that they are in, in order.
    parts: Vec<Part>,
    are_in_turns: bool,
}

/// The samples of a batch that are in one window.
#[derive(Debug)]
struct Part {
    /// The number of the sample after the last.
    end: usize,
    /// Samples that are not made.
    remaining: AtomicUsize,
    /// Let go when no sample remains.
    window: Mutex<Option<Arc<Window>>>,
}

impl BatchPlan {
    /// The records, in the order of the samples.
    pub fn records(&self) -> &Arc<[u32]> {
        &self.records
    }

    /// Waits for the turn of the window of `sample`, while `is_wanted`.
    pub fn wait_for_turn(&self, sample: usize, is_wanted: &dyn Fn() -> bool) {
        if !self.are_in_turns {
            return;
        }
        let window = self.part(sample).window().clone();
        if let Some(Window { turn: Some(turn), hold, .. }) = window.as_deref() {
            turn.wait(is_wanted);
            hold.begin();
        }
    }

    /// Says that `sample` is made, or cannot be: each once.
    pub fn is_done(&self, sample: usize) {
        if !self.are_in_turns {
            return;
        }
        let part = self.part(sample);
        if part.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            *part.window() = None;
        }
    }

    fn part(&self, sample: usize) -> &Part {
        &self.parts[self.parts.partition_point(|part| part.end <= sample)]
    }
}

impl Part {
    fn window(&self) -> MutexGuard<'_, Option<Arc<Window>>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub fn new(config: &LoaderConfig, records: &Arc<Records>) -> Self {
        let world = config.world;
        let shards = records.shards().len();
        let is_in_turns = !records.are_permanent() && config.order.windows(shards) > 1;
        let batches_per_epoch = batches_per_epoch(records.len(), config.batch_size, world, config.last_batch);
        Self {
            order: config.order,
            seed: config.seed,
            records: Arc::clone(records),
            samples: config.batch_size,
            rank: config.rank,
            world,
            last_batch: config.last_batch,
            batches_per_epoch,
            first_sample: config.first_sample.min(records.len() as u64),
            epochs: config.epochs.clone(),
            epoch: config.epochs.start,
            index: config.first_batch,
            sequence: 0,
            windows: None,
            window: None,
            following: None,
            turns: is_in_turns.then(Arc::default),
            ahead: VecDeque::new(),
            readahead: config.readahead,
        }
    }

    pub fn batches_per_epoch(&self) -> u64 {
        self.batches_per_epoch
    }

    /// The next batch, and the records that should be read ahead now.
    pub fn next(&mut self) -> Option<(BatchPlan, Option<Arc<[u32]>>)> {
        // The first call also plans the first batches, which are never read ahead.
        while self.ahead.len() < self.readahead {
            match self.plan() {
                Some(plan) => self.ahead.push_back(plan),
                None => break,
            }
        }
        let last = self.plan();
        let upcoming = last.as_ref().map(|plan| Arc::clone(&plan.records));
        self.ahead.extend(last);
        self.ahead.pop_front().map(|plan| (plan, upcoming))
    }

    /// The sample that the epoch of the next batch begins with, and its batches.
    fn epoch(&self) -> (u64, u64) {
        if self.epoch != self.epochs.start {
            return (0, self.batches_per_epoch);
        }
        let records = self.records.len() - self.first_sample as usize;
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
            (self.windows, self.window) = (None, None);
            (first_sample, batches) = self.epoch();
        }
        if self.epoch >= self.epochs.end {
            return None;
        }
        // The samples of one step are adjacent over all ranks, so that N ranks with batches of B make the
        // same steps as one rank with batches of N·B.
        let records = self.records.len() as u64;
        let samples = self.samples as u64;
        let step_position = first_sample + self.index * self.world as u64 * samples;
        let first = step_position + self.rank as u64 * samples;
        let first_position = first.min(records);
        let (records, parts) = self.records_at(first_position..(first + samples).min(records));
        let plan = BatchPlan {
            epoch: self.epoch,
            index: self.index,
            sequence: self.sequence,
            first_position,
            step_position,
            records: records.into(),
            parts,
            are_in_turns: self.turns.is_some(),
        };
        self.index += 1;
        self.sequence += 1;
        Some(plan)
    }

    /// The records at these positions of the epoch, and the windows that they are in.
    fn records_at(&mut self, mut positions: Range<u64>) -> (Vec<u32>, Vec<Part>) {
        let (mut records, mut parts) = (Vec::new(), Vec::new());
        while !positions.is_empty() {
            let (order, seed, epoch) = (self.order, self.seed, self.epoch);
            let starts = self.records.starts();
            let of_epoch = self.windows.get_or_insert_with(|| Windows::new(order, seed, epoch, starts));
            let number = of_epoch.at(positions.start);
            let there = of_epoch.positions(number);
            let window = self.window(number);
            let end = positions.end.min(there.end);
            let of_window = (positions.start - there.start) as usize..(end - there.start) as usize;
            let remaining = AtomicUsize::new(of_window.len());
            records.extend(&window.records[of_window]);
            parts.push(Part { end: records.len(), remaining, window: Mutex::new(Some(window)) });
            positions.start = end;
        }
        (records, parts)
    }

    /// Window `number` of the epoch. Asks for its shards, and for those of the window after it.
    fn window(&mut self, number: usize) -> Arc<Window> {
        if let Some(window) = self.window.as_ref().filter(|window| window.number == number) {
            return Arc::clone(window);
        }
        let windows = self.windows.as_ref().expect("made by the caller");
        let following = self.following.take();
        let hold = match following {
            Some(following) if (following.epoch, following.number) == (self.epoch, number) => following.hold,
            _ => self.records.hold(windows.shards(number).to_vec()),
        };
        let records = windows.records(number, self.records.starts());
        let turn = self.turns.as_ref().map(Turns::give);
        let window = Arc::new(Window { number, records, hold, turn });
        self.window = Some(Arc::clone(&window));
        self.following = self.following(number);
        window
    }

    /// Asks for the shards of the window after window `number`, in this epoch or the next.
    fn following(&self, number: usize) -> Option<Following> {
        let windows = self.windows.as_ref().expect("made by the caller");
        let (epoch, number, shards) = if number + 1 < windows.len() {
            (self.epoch, number + 1, windows.shards(number + 1).to_vec())
        } else if self.epoch + 1 < self.epochs.end {
            let next = Windows::new(self.order, self.seed, self.epoch + 1, self.records.starts());
            (self.epoch + 1, 0, next.shards(0).to_vec())
        } else {
            return None;
        };
        Some(Following { epoch, number, hold: self.records.hold(shards) })
    }
}
