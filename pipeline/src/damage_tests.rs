//! Damaged files of a data set: an error, or exactly the same data, and never a panic.

use std::fs;
use std::path::Path;

use ndarray::Array3;

use crate::geometry::Size;
use crate::test_support;
use crate::{Dataset, DatasetInfo, Encoding, ImageShape, LabelKind, Split};

/// All that a data set gives: labels, keys and images, and the mean image.
type Content = (Vec<(i64, Vec<u8>, String, Size, Vec<u8>)>, Option<Array3<f32>>);

/// Reads all of a data set, or fails as a training run would.
fn read(directory: &Path) -> Option<Content> {
    let dataset = Dataset::open(directory).ok()?;
    let records = dataset.records(Split::Train).ok()?;
    let read = |index| {
        let record = records.record(index).ok()?;
        record.verify().ok()?;
        let label = record.get().label.further_bytes().collect();
        Some((record.label(), label, record.key(), record.get().size, record.get().image.to_vec()))
    };
    let mean = match dataset.info().image_shape {
        ImageShape::Square => Some(dataset.mean_image().ok()?),
        ImageShape::Keep => None,
    };
    Some(((0..records.len()).map(read).collect::<Option<_>>()?, mean))
}

/// The file with a flipped bit in each byte, with each word replaced by an extreme number, and cut.
fn damaged(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flipped = (0..whole.len()).map(|place| {
        let mut bytes = whole.to_vec();
        bytes[place] ^= 1 << (place % 8);
        bytes
    });
    let words = [0, 1, i32::MAX as u32, 1 << 31, u32::MAX];
    let replaced = (0..whole.len() - 3).step_by(4).map(move |place| {
        let mut bytes = whole.to_vec();
        bytes[place..place + 4].copy_from_slice(&words[place / 4 % words.len()].to_le_bytes());
        bytes
    });
    // Signs of length in the head of each format are 64 bits wide.
    let doubled = (0..whole.len() - 7).step_by(8).map(move |place| {
        let mut bytes = whole.to_vec();
        bytes[place..place + 8].copy_from_slice(&(u64::MAX >> (place / 8 % 2)).to_le_bytes());
        bytes
    });
    let cut = (0..whole.len()).step_by(7).map(|length| whole[..length].to_vec());
    flipped.chain(replaced).chain(doubled).chain(cut)
}

#[test]
fn a_damaged_file_is_an_error_or_changes_nothing() {
    let sizes = [(9, 6), (6, 6), (6, 20)].map(|(width, height)| Size { width, height });
    for (what, directory) in [
        ("raw", test_support::dataset(Encoding::Raw, 8)),
        ("jpeg", test_support::dataset(Encoding::Jpeg, 8)),
        ("numbers", test_support::labelled_dataset(LabelKind::Values, Encoding::Raw, 5)),
        ("marks", test_support::labelled_dataset(LabelKind::MultiHot, Encoding::Jpeg, 5)),
        ("raw of differing sizes", test_support::dataset_of_sizes(Encoding::Raw, 6, &sizes)),
        ("jpeg of differing sizes", test_support::dataset_of_sizes(Encoding::Jpeg, 6, &sizes)),
    ] {
        let intact = read(directory.path()).unwrap();
        let shard = if intact.1.is_some() { "train-00001.arrow" } else { "train-00000.arrow" };
        let mean = intact.1.as_ref().map(|_| DatasetInfo::MEAN_IMAGE_FILE_NAME);
        for name in [shard, DatasetInfo::FILE_NAME].into_iter().chain(mean) {
            let path = directory.path().join(name);
            let whole = fs::read(&path).unwrap();
            let (mut refused, mut total) = (0, 0);
            for bytes in damaged(&whole) {
                // A new file, as a mapped one must not be cut.
                fs::remove_file(&path).unwrap();
                fs::write(&path, &bytes).unwrap();
                total += 1;
                match read(directory.path()) {
                    Some(content) => assert!(content == intact, "{what} {name}: other data, no error"),
                    None => refused += 1,
                }
            }
            assert!(refused > total / 4, "{what} {name}: {refused} of {total} refused");
            fs::write(&path, &whole).unwrap();
        }
    }
}

/// Without hashes, as earlier versions wrote it, other data may be read, but nothing panics or asks for more
/// memory than there is.
#[test]
fn a_damaged_file_of_an_earlier_version_makes_nothing_panic() {
    let directory = test_support::dataset(Encoding::Jpeg, 8);
    let path = directory.path().join(DatasetInfo::FILE_NAME);
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for shard in json["train"].as_array_mut().unwrap() {
        shard.as_object_mut().unwrap().remove("records_blake3");
    }
    for key in ["sha256", "mean_image_blake3"] {
        json.as_object_mut().unwrap().remove(key);
    }
    fs::write(&path, json.to_string()).unwrap();
    let intact = read(directory.path()).unwrap();
    for name in ["train-00001.arrow", DatasetInfo::FILE_NAME, DatasetInfo::MEAN_IMAGE_FILE_NAME] {
        let path = directory.path().join(name);
        let whole = fs::read(&path).unwrap();
        let mut same = 0;
        for bytes in damaged(&whole) {
            fs::remove_file(&path).unwrap();
            fs::write(&path, &bytes).unwrap();
            same += usize::from(read(directory.path()).as_ref() == Some(&intact));
        }
        assert!(same < whole.len(), "{name}: {same} changes without effect");
        fs::write(&path, &whole).unwrap();
    }
}
