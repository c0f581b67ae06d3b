//! How much of a data set must be in a cache at once.

use crate::sizes::at_most;
use crate::{DatasetInfo, ShardInfo, Split};

/// What a cache with a limit must hold of a data set.
///
/// Of shards that are read in order, or shuffled one by one, two are needed at once: the next one arrives
/// while one is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of the two largest shards, enough to read images one by one.
    pub reading_bytes: u64,
    /// Bytes of the two largest shards of each split: evaluation reads those of one while training holds
    /// those of the other. Training images are evaluated on if there are no others.
    pub training_bytes: u64,
    /// Bytes of an image with what is stored beside it, in the shard in which they are largest.
    image_bytes: u64,
}

impl Room {
    /// What this data set needs.
    #[must_use]
    pub fn of(info: &DatasetInfo) -> Self {
        let shards = || Split::ALL.into_iter().flat_map(|split| info.shards(split));
        let training_bytes = match Split::ALL.map(|split| two_largest(info.shards(split))) {
            [0, one] | [one, 0] => one.saturating_mul(2).min(bytes_of(shards())),
            [train, val] => train.saturating_add(val),
        };
        Self {
            reading_bytes: two_largest(shards()),
            training_bytes,
            image_bytes: shards().map(|shard| shard.bytes / shard.images.max(1)).max().unwrap_or_default(),
        }
    }

    /// What to do where only `capacity_bytes` are there.
    #[must_use]
    pub fn remedy(&self, capacity_bytes: u64) -> String {
        let Self { reading_bytes, training_bytes, image_bytes } = *self;
        let mut text = format!("give at least {training_bytes} bytes, enough for two shards of each split");
        if reading_bytes < training_bytes {
            text.push_str(&format!(" (to read images one by one {reading_bytes})"));
        }
        // Four shards, and a fifth, since they have their size only about.
        let shard_bytes = capacity_bytes / 5;
        if shard_bytes >= image_bytes.saturating_mul(8) {
            text.push_str(&format!(
                ", or prepare the data set in smaller shards (--shard-size {})",
                at_most(shard_bytes)
            ));
        }
        text
    }
}

/// Bytes of the two largest of some shards.
pub(crate) fn two_largest<'a>(shards: impl IntoIterator<Item = &'a ShardInfo>) -> u64 {
    let mut sizes: Vec<u64> = shards.into_iter().map(|shard| shard.bytes).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes.into_iter().take(2).fold(0, u64::saturating_add)
}

/// Bytes of all of some shards.
pub(crate) fn bytes_of<'a>(shards: impl IntoIterator<Item = &'a ShardInfo>) -> u64 {
    shards.into_iter().map(|shard| shard.bytes).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::info_of_sizes as info;

    #[test]
    fn two_shards_of_each_split_are_needed_to_train_and_two_of_all_to_read() {
        for (train, val, reading, training) in [
            (&[100, 300, 200][..], &[50, 20, 60][..], 500, 610),
            (&[300], &[50], 350, 350),
            (&[300], &[50, 400, 60], 700, 760),
            (&[300, 300, 300, 10], &[], 600, 910),
            (&[300; 9], &[], 600, 1200),
            (&[], &[50; 9], 100, 200),
            (&[300], &[], 300, 300),
            (&[u64::MAX, u64::MAX], &[u64::MAX], u64::MAX, u64::MAX),
        ] {
            let room = Room::of(&info(train, val));
            assert_eq!((room.reading_bytes, room.training_bytes), (reading, training), "{train:?}, {val:?}");
        }
    }

    #[test]
    fn the_remedy_names_a_limit_and_a_size_of_shards_if_images_are_smaller() {
        let room = Room::of(&info(&[79_000_000, 500_000], &[20_000_000]));
        let text = "give at least 99500000 bytes, enough for two shards of each split (to read images one by one \
                    99000000), or prepare the data set in smaller shards (--shard-size ";
        let about = room.remedy(320_000_000);
        assert!(about == format!("{text}64MB)"), "{about}");
        assert!(!room.remedy(20_000_000).contains("--shard-size"), "its images have 7.9 MB");
    }
}
