//! The order of an epoch: a function of seed and epoch.

use rand::RngExt;

use crate::random::order_rng;

/// The order in which an epoch visits the records of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A new random permutation for every epoch.
    Shuffled,
    /// As they are stored, every epoch.
    Sequential,
}

impl Order {
    /// The record at each position of epoch `epoch` over `records` records: a permutation of `0..records`.
    #[must_use]
    pub fn permutation(self, seed: u64, epoch: u64, records: u32) -> Vec<u32> {
        let mut permutation: Vec<u32> = (0..records).collect();
        if self == Self::Shuffled {
            // Fisher and Yates, from the last to the first.
            let mut rng = order_rng(seed, epoch);
            for last in (1..records).rev() {
                permutation.swap(last as usize, rng.random_range(0..=last) as usize);
            }
        }
        permutation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffled_epoch_visits_every_record_once() {
        let mut permutation = Order::Shuffled.permutation(3, 0, 1000);
        assert_ne!(permutation, Order::Sequential.permutation(3, 0, 1000));
        permutation.sort_unstable();
        assert_eq!(permutation, Order::Sequential.permutation(3, 0, 1000));
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_only() {
        let permutation = Order::Shuffled.permutation(3, 4, 1000);
        assert_eq!(permutation, Order::Shuffled.permutation(3, 4, 1000));
        assert_ne!(permutation, Order::Shuffled.permutation(4, 4, 1000));
        assert_ne!(permutation, Order::Shuffled.permutation(3, 5, 1000));
    }

    #[test]
    fn the_order_is_the_same_in_every_version_and_from_python() {
        // `pipeline/python/tests/test_batches.py` has the same numbers. Changing them breaks the resumption
        // of every run that exists.
        let permutation = Order::Shuffled.permutation(7, 3, 50);
        assert_eq!(permutation[..8], [12, 19, 14, 34, 43, 0, 16, 29]);
    }

    #[test]
    fn every_permutation_of_three_is_as_likely_as_the_others() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..6000 {
            *counts.entry(Order::Shuffled.permutation(1, epoch, 3)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Expected 1000 each with a standard deviation of 29.
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
