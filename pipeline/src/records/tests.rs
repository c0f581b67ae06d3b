//! Records of data sets, whole and in a window of shards.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process;

use super::*;
use crate::geometry::Size;
use crate::test_support;
use crate::{Dataset, Split};

#[test]
fn records_are_numbered_across_the_shards() {
    let directory = test_support::dataset(Encoding::Raw, 8);
    let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
    assert_eq!((records.len(), records.shards().len()), (8, 3));
    for index in 0..8 {
        assert_eq!(records.record(index).unwrap().key(), format!("image-{index}"));
    }
}

#[test]
fn who_waits_for_another_thread_to_map_a_shard_may_stop_and_threads_of_other_processes_are_not_waited_for() {
    let directory = test_support::dataset(Encoding::Raw, 8);
    let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
    records.slots[0].mapping.store(process::id(), Ordering::Relaxed);
    let looks = Cell::new(0);
    let is_wanted = || {
        looks.set(looks.get() + 1);
        looks.get() < 3
    };
    let error = records.record_while(0, &is_wanted).unwrap_err();
    assert!(matches!(error, DatasetError::Unwanted { .. }) && looks.get() == 3, "{error}");
    // As in a forked child.
    records.slots[0].mapping.store(process::id() + 1, Ordering::Relaxed);
    records.record(0).unwrap();
    assert_eq!(records.slots[0].mapping.load(Ordering::Relaxed), 0);
}

/// Brings nothing, into so many bytes.
#[derive(Debug)]
struct Limited(u64);

impl ShardFiles for Limited {
    fn are_permanent(&self) -> bool {
        false
    }

    fn capacity(&self) -> Option<u64> {
        Some(self.0)
    }

    fn check(&self, _: &[ShardInfo]) -> Result<(), DatasetError> {
        Ok(())
    }

    fn fetch(&self, shard: &ShardInfo, _: &dyn Fn() -> bool) -> Result<PathBuf, DatasetError> {
        Err(DatasetError::Unwanted { file: shard.file.clone() })
    }

    fn fetch_ahead(&self, _: &[&ShardInfo]) {}

    fn set_aside(&self, _: &ShardInfo) {}

    fn release(&self, _: &ShardInfo) {}
}

#[test]
fn a_window_that_does_not_fit_is_refused_with_a_limit_that_suffices() {
    let check = |train: &[u64], val: &[u64], window, capacity| {
        let info = Arc::new(test_support::info_of_sizes(train, val));
        let records = Records::new(info, Arc::new(Limited(capacity)), Split::Train);
        records.check_window(NonZeroU32::new(window).unwrap())
    };
    let (train, val) = (&[100; 9][..], &[20, 30, 40][..]);
    for (train, val, window, capacity, fits, needed) in [
        (train, val, 2, 469, 1, 470),
        (train, val, 4, 700, 3, 870),
        // Two windows of five shards are all.
        (train, val, 5, 700, 3, 970),
        (train, val, u32::MAX, 270, 1, 970),
        (train, &[], 3, 799, 2, 800),
        (train, &[], 4, 800, 3, 900),
    ] {
        let error = check(train, val, window, capacity).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "the cache limit of {capacity} bytes is too small to shuffle among {window} shards at a time; give at \
                 least {needed} bytes, or a window of {fits}, for which it suffices"
            )
        );
        check(train, val, fits, capacity).unwrap();
        check(train, val, window, needed).unwrap();
    }
    assert!(matches!(check(train, val, 1, 269), Err(DatasetError::NoRoom { .. })));
}

#[test]
fn windows_leave_room_for_two_shards_of_the_other_split() {
    let window = |train: &[u64], val: &[u64], split, capacity| {
        let info = Arc::new(test_support::info_of_sizes(train, val));
        Records::new(info, Arc::new(Limited(capacity)), split).window_that_fits()
    };
    let (train, val) = (&[100; 9][..], &[20, 30, 40][..]);
    for (capacity, expected) in [
        (970, None),
        (969, Some(4)),
        (870, Some(4)),
        (869, Some(3)),
        (470, Some(2)),
        (469, Some(1)),
        (270, Some(1)),
    ] {
        let found = window(train, val, Split::Train, capacity).unwrap().map(NonZeroU32::get);
        assert_eq!(found, expected, "{capacity}");
    }
    for (train, val, split, capacity, expected) in [
        (train, val, Split::Val, 290, None),
        (train, val, Split::Val, 289, Some(1)),
        (train, &[], Split::Train, 900, None),
        (train, &[], Split::Train, 899, Some(3)),
        (train, &[], Split::Train, 400, Some(1)),
        (&[100], &[70], Split::Train, 170, None),
        (&[100, 60, 50], &[70], Split::Train, 230, Some(1)),
    ] {
        let found = window(train, val, split, capacity).unwrap().map(NonZeroU32::get);
        assert_eq!(found, expected, "{train:?}, {val:?}, {split}, {capacity}");
    }
    for (train, val, capacity) in [(train, val, 269), (train, &[], 399), (&[100], &[70], 169)] {
        let error = window(train, val, Split::Train, capacity).unwrap_err().to_string();
        let expected =
            format!("limit of {capacity} bytes is too small to train with; give at least {} ", capacity + 1);
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_view_of_a_record_shows_its_whole_image_in_both_encodings() {
    for encoding in Encoding::ALL {
        let directory = test_support::dataset(encoding, 8);
        let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
        let (mut decoder, mut scratch) = (JpegDecoder::default(), Scratch::default());
        let record = records.record(5).unwrap();
        let mut view = record.view(&mut decoder, &mut scratch).unwrap();
        assert_eq!(view.size(), Size::square(test_support::SIDE));
        let mut planes = vec![0; 3 * view.size().area()];
        view.write_u8(&mut planes);
        let expected = test_support::pixels(5);
        let differences = planes.iter().zip(&expected).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let mean = differences.sum::<f64>() / planes.len() as f64;
        assert!(mean <= if encoding == Encoding::Raw { 0.0 } else { 3.0 }, "{encoding}: {mean}");
    }
}

#[test]
fn a_view_of_a_damaged_record_is_refused_by_name() {
    let directory = test_support::dataset(Encoding::Raw, 8);
    let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
    let path = directory.path().join("train-00001.arrow");
    let image = test_support::encoded(Encoding::Raw, 5);
    let bytes = fs::read(&path).unwrap();
    let place = bytes.windows(image.len()).position(|window| window == image).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_at(&[image[0] ^ 1], place as u64).unwrap();
    let (mut decoder, mut scratch) = (JpegDecoder::default(), Scratch::default());
    let record = records.record(5).unwrap();
    let error = record.view(&mut decoder, &mut scratch).unwrap_err().to_string();
    assert!(error.contains("train-00001.arrow: record 1 (image-5): checksum"), "{error}");
}

#[test]
fn a_record_is_checked_at_its_first_use_only() {
    let directory = test_support::dataset(Encoding::Raw, 280);
    let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
    // 70 is in the second word of bits, 6 at the same place of the first.
    for index in [6, 7, 71, 69] {
        records.record(index).unwrap().verify().unwrap();
    }
    let flip_bit_of = |index: usize| {
        let path = directory.path().join("train-00000.arrow");
        let image = test_support::encoded(Encoding::Raw, index);
        let place = fs::read(&path).unwrap().windows(image.len()).position(|window| window == image).unwrap();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_at(&[image[0] ^ 1], place as u64).unwrap();
    };
    flip_bit_of(70);
    let error = records.record(70).unwrap().verify().unwrap_err().to_string();
    assert!(error.contains("record 70 (image-70): checksum"), "{error}");
    records.record(6).unwrap().verify().unwrap();
    flip_bit_of(6);
    records.record(6).unwrap().verify().unwrap();
}
