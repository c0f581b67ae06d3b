//! The order of an epoch: a function of seed and epoch.

use std::num::NonZeroU32;
use std::ops::Range;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::random::order_rng;

/// The order in which an epoch visits the records of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// A new random permutation for every epoch.
    Shuffled,
    /// As they are stored, every epoch.
    Sequential,
    /// A new random permutation of the shards for every epoch, cut into windows of this many shards or one
    /// fewer; the records of a window are permuted among themselves. Needs only the shards of two windows at
    /// a time.
    ///
    /// If all shards are in one window it is [`Shuffled`](Self::Shuffled).
    Windowed(NonZeroU32),
}

impl Order {
    /// The number of windows of an epoch over this many shards.
    pub(crate) fn windows(self, shards: usize) -> usize {
        match self {
            Self::Shuffled => 1,
            Self::Sequential => shards,
            Self::Windowed(size) => shards.div_ceil(size.get() as usize),
        }
    }

    /// The record at each position of epoch `epoch`, over shards with `records` records each: a permutation
    /// of all records.
    #[must_use]
    pub fn permutation(self, seed: u64, epoch: u64, records: &[u32]) -> Vec<u32> {
        let mut starts = vec![0];
        for shard in records {
            starts.push(starts[starts.len() - 1] + *shard as usize);
        }
        let windows = Windows::new(self, seed, epoch, &starts);
        (0..windows.len()).flat_map(|window| windows.records(window, &starts)).collect()
    }
}

/// An epoch's windows: shards whose records come before those of all later windows.
#[derive(Debug)]
pub(crate) struct Windows {
    order: Order,
    seed: u64,
    epoch: u64,
    /// The shards, in the order in which they come.
    shards: Vec<u32>,
    /// Where each window begins in `shards`, then their number.
    bounds: Vec<usize>,
    /// The position of each window's first record, then the number of records.
    positions: Vec<u64>,
}

impl Windows {
    /// The windows of epoch `epoch` over shards of which each begins at a record of `starts`, whose last
    /// element is the number of records.
    pub(crate) fn new(order: Order, seed: u64, epoch: u64, starts: &[usize]) -> Self {
        let count = starts.len() - 1;
        let mut shards: Vec<u32> = (0..count as u32).collect();
        let windows = order.windows(count);
        let order = match order {
            Order::Windowed(_) if windows == 1 => Order::Shuffled,
            order => order,
        };
        if matches!(order, Order::Windowed(_)) {
            shuffle(&mut shards, seed, epoch, 0);
        }
        // As equal as can be.
        let bounds: Vec<usize> = (0..=windows).map(|window| window * count / windows.max(1)).collect();
        let records = |shard: u32| (starts[shard as usize + 1] - starts[shard as usize]) as u64;
        let mut positions = vec![0];
        for window in bounds.windows(2) {
            let in_window: u64 = shards[window[0]..window[1]].iter().map(|&shard| records(shard)).sum();
            positions.push(positions[positions.len() - 1] + in_window);
        }
        Self { order, seed, epoch, shards, bounds, positions }
    }

    /// The number of windows.
    pub(crate) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The shards of a window.
    pub(crate) fn shards(&self, window: usize) -> &[u32] {
        &self.shards[self.bounds[window]..self.bounds[window + 1]]
    }

    /// The positions of a window.
    pub(crate) fn positions(&self, window: usize) -> Range<u64> {
        self.positions[window]..self.positions[window + 1]
    }

    /// The window of a position.
    pub(crate) fn at(&self, position: u64) -> usize {
        self.positions.partition_point(|&start| start <= position) - 1
    }

    /// The record at each position of a window.
    pub(crate) fn records(&self, window: usize, starts: &[usize]) -> Vec<u32> {
        let of_shard = |&shard: &u32| starts[shard as usize] as u32..starts[shard as usize + 1] as u32;
        let mut records: Vec<u32> = self.shards(window).iter().flat_map(of_shard).collect();
        match self.order {
            Order::Sequential => {}
            Order::Shuffled => shuffle(&mut records, self.seed, self.epoch, 0),
            Order::Windowed(_) => shuffle(&mut records, self.seed, self.epoch, 1 + window as u64),
        }
        records
    }
}

/// Permutes `values` as shuffle number `shuffle` of an epoch does: Fisher and Yates, from the last to the
/// first.
fn shuffle(values: &mut [u32], seed: u64, epoch: u64, shuffle: u64) {
    let mut rng = order_rng(seed, epoch, shuffle);
    for last in (1..values.len() as u32).rev() {
        values.swap(last as usize, rng.random_range(0..=last) as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn windowed(shards: u32) -> Order {
        Order::Windowed(NonZeroU32::new(shards).unwrap())
    }

    /// The numbers of records of seven shards, an empty one among them.
    const RECORDS: [u32; 7] = [100, 30, 0, 250, 1, 99, 20];

    #[test]
    fn every_order_visits_every_record_once() {
        for order in [Order::Shuffled, windowed(1), windowed(3), windowed(100)] {
            let mut permutation = order.permutation(3, 0, &RECORDS);
            assert_ne!(permutation, Order::Sequential.permutation(3, 0, &RECORDS), "{order:?}");
            permutation.sort_unstable();
            assert!(permutation.into_iter().eq(0..500), "{order:?}");
        }
        assert!(Order::Sequential.permutation(3, 0, &RECORDS).into_iter().eq(0..500));
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_only() {
        for order in [Order::Shuffled, windowed(3)] {
            let permutation = order.permutation(3, 4, &RECORDS);
            assert_eq!(permutation, order.permutation(3, 4, &RECORDS));
            assert_ne!(permutation, order.permutation(4, 4, &RECORDS));
            assert_ne!(permutation, order.permutation(3, 5, &RECORDS));
        }
    }

    #[test]
    fn the_order_is_the_same_in_every_version_and_from_python() {
        // `pipeline/python/tests/test_batches.py` has the same numbers. Changing them breaks the resumption
        // of every run that exists.
        assert_eq!(Order::Shuffled.permutation(7, 3, &[50])[..8], [12, 19, 14, 34, 43, 0, 16, 29]);
        assert_eq!(Order::Shuffled.permutation(7, 3, &[20, 30])[..8], [12, 19, 14, 34, 43, 0, 16, 29]);
    }

    #[test]
    fn a_window_holds_whole_shards_and_permutes_them_among_themselves() {
        let records = [10; 12];
        for epoch in 0..20 {
            let permutation = windowed(5).permutation(1, epoch, &records);
            // Three windows of four shards.
            let mut shards_of_windows = Vec::new();
            for window in permutation.chunks(40) {
                let mut shards: Vec<u32> = window.iter().map(|record| record / 10).collect();
                assert!(!shards.is_sorted(), "epoch {epoch}: shard after shard: {window:?}");
                shards.sort_unstable();
                shards.dedup();
                assert_eq!(shards.len(), 4, "epoch {epoch}: {window:?}");
                shards_of_windows.extend(shards);
            }
            assert!(!shards_of_windows.is_sorted(), "epoch {epoch}: the shards are not permuted");
        }
    }

    #[test]
    fn one_window_of_all_shards_is_the_shuffled_order() {
        let shuffled = Order::Shuffled.permutation(5, 2, &RECORDS);
        assert_eq!(windowed(7).permutation(5, 2, &RECORDS), shuffled);
        assert_ne!(windowed(6).permutation(5, 2, &RECORDS), shuffled);
    }

    #[test]
    fn every_permutation_of_three_is_as_likely_as_the_others() {
        // In the second case of three shards, in the third of three records in one of two windows.
        for (order, records) in
            [(Order::Shuffled, &[3][..]), (windowed(1), &[1, 1, 1]), (windowed(1), &[3, 0])]
        {
            let mut counts = BTreeMap::new();
            for epoch in 0..6000 {
                *counts.entry(order.permutation(1, epoch, records)).or_insert(0) += 1;
            }
            assert_eq!(counts.len(), 6);
            // Expected 1000 each with a standard deviation of 29.
            assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
        }
    }
}
