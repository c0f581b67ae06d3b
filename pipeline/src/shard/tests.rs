//! Tests of writing and reading shards, damaged ones above all.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::test_support::{SIDE, encoded, header, label_of, labelled_dataset, write_shard};
use crate::{Encoding, Label, LabelKind, Split};

fn shard_of(encoding: Encoding, images: usize) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let info = write_shard(directory.path(), encoding, 0, 0..images);
    let path = directory.path().join(info.file);
    (directory, path)
}

#[test]
fn records_come_back_as_they_were_appended() {
    for encoding in [Encoding::Raw, Encoding::Jpeg] {
        let (_directory, path) = shard_of(encoding, 25);
        let shard = Shard::open(&path).unwrap();
        assert_eq!(shard.header(), &header(encoding, 0));
        assert_eq!(shard.len(), 25);
        for index in 0..25 {
            let record = shard.record(index);
            assert_eq!(record.image, encoded(encoding, index));
            assert_eq!(
                (record.label, shard.key(index)),
                (Label::Class(index as u32 % 10), format!("image-{index}"))
            );
            shard.verify(index).unwrap();
        }
    }
}

#[test]
fn records_stay_in_order_over_several_arrow_batches() {
    let directory = tempfile::tempdir().unwrap();
    let large = ShardHeader { image_size: 1500, ..header(Encoding::Raw, 0) };
    let bytes = large.raw_image_bytes();
    let mut writer = ShardWriter::create(directory.path(), large).unwrap();
    for index in 0..5 {
        writer.append(&vec![index as u8; bytes], index, &index.to_string()).unwrap();
    }
    let path = writer.finish().unwrap().path;
    // Two images of 6.75 MB fit into the 16 MB of a batch.
    let file = fs::File::open(&path).unwrap();
    assert_eq!(arrow_ipc::reader::FileReader::try_new(file, None).unwrap().num_batches(), 3);
    let shard = Shard::open(&path).unwrap();
    let read: Vec<_> =
        (0..5).map(|i| (shard.record(i).image[0], shard.record(i).label, shard.key(i))).collect();
    assert_eq!(read, [0, 1, 2, 3, 4].map(|i| (i, Label::Class(i.into()), i.to_string())));
}

#[test]
fn the_same_records_make_the_same_bytes_and_their_digest() {
    let (_a, first) = shard_of(Encoding::Jpeg, 7);
    let (_b, second) = shard_of(Encoding::Jpeg, 7);
    let bytes = fs::read(&first).unwrap();
    assert_eq!(bytes, fs::read(second).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let info = write_shard(directory.path(), Encoding::Jpeg, 0, 0..7);
    assert_eq!(info.bytes, bytes.len() as u64);
    assert_eq!(info.blake3, blake3::hash(&bytes).to_hex().to_string());
}

#[test]
fn the_images_of_a_raw_shard_are_aligned() {
    let (_directory, path) = shard_of(Encoding::Raw, 3);
    let shard = Shard::open(&path).unwrap();
    assert_eq!(shard.record(0).image.as_ptr().addr() % 64, 0);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(directory.path(), header(Encoding::Raw, 0)).unwrap();
    writer.append(&encoded(Encoding::Raw, 0), 0, "a").unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_record_that_does_not_fit_is_refused_with_both_sizes() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(directory.path(), header(Encoding::Raw, 0)).unwrap();
    let error = writer.append(&[0; 10], 0, "short.jpg").unwrap_err().to_string();
    assert!(error.contains("short.jpg") && error.contains("10 bytes, expected 1200"), "{error}");
    let image = encoded(Encoding::Raw, 0);
    writer.append(&image, 9, "fits.jpg").unwrap();
    let error = writer.append(&[&image[..], &[0]].concat(), 0, "long.jpg").unwrap_err().to_string();
    assert!(error.contains("record 1 (long.jpg): 1201 bytes, expected 1200"), "{error}");
    let error = writer.append(&image, 10, "x").unwrap_err().to_string();
    assert!(error.contains("label 10, but there are 10 classes"), "{error}");
    assert_eq!(writer.finish().unwrap().info.images, 1);
}

#[test]
fn a_flipped_bit_in_an_image_is_named() {
    let (_directory, path) = shard_of(Encoding::Raw, 25);
    let image = encoded(Encoding::Raw, 17);
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.windows(image.len()).position(|window| window == image).unwrap();
    bytes[place + 100] ^= 4;
    fs::write(&path, bytes).unwrap();
    let shard = Shard::open(&path).unwrap();
    shard.verify(16).unwrap();
    let error = shard.verify(17).unwrap_err().to_string();
    assert!(error.contains("train-00000.arrow: record 17 (image-17): checksum"), "{error}");
}

#[test]
fn a_shard_that_is_cut_off_anywhere_is_refused() {
    let (_directory, path) = shard_of(Encoding::Jpeg, 3);
    let bytes = fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = Shard::open(&path).map(|_| ()).unwrap_err();
        assert!(matches!(error, ShardError::Damaged { .. } | ShardError::Io { .. }), "{length}: {error}");
    }
}

#[test]
fn no_flipped_bit_anywhere_makes_opening_or_reading_panic() {
    let (_directory, path) = shard_of(Encoding::Jpeg, 2);
    let bytes = fs::read(&path).unwrap();
    let (mut refused, mut unchanged) = (0, 0);
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(&path, damaged).unwrap();
        match Shard::open(&path) {
            Ok(shard) => {
                let intact = (0..shard.len()).filter(|&index| shard.verify(index).is_ok()).count();
                unchanged += usize::from(intact == 2);
            }
            Err(_) => refused += 1,
        }
    }
    // Padding and keys may change unnoticed here; the digest of the whole file in dataset.json covers them.
    assert!(refused > 300 && unchanged > 0, "{refused} refused, {unchanged} unchanged of {}", bytes.len());
}

#[test]
fn a_shard_of_another_version_is_refused_with_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    for version in [0, 9] {
        let other = ShardHeader { format_version: version, ..header(Encoding::Raw, 0) };
        let path = ShardWriter::create(directory.path(), other).unwrap().finish().unwrap().path;
        let error = Shard::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("version {version}")) && error.contains("versions 1 to 3"),
            "{error}"
        );
    }
}

#[test]
fn an_impossible_image_size_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let empty = ShardHeader { image_size: 0, ..header(Encoding::Raw, 0) };
    let path = ShardWriter::create(directory.path(), empty).unwrap().finish().unwrap().path;
    let error = Shard::open(&path).unwrap_err().to_string();
    assert!(error.contains("image size 0, expected 1 to 16384 pixels"), "{error}");
}

/// Writes a shard of JPEG files with the given labels and keys, as another program might.
fn foreign_shard(labels: Vec<Option<i64>>, keys: Vec<Option<&str>>) -> Result<Shard, ShardError> {
    use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, UInt32Array};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.arrow");
    let rows = labels.len();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from(vec![&b"image"[..]; rows])),
        Arc::new(Int64Array::from(labels)),
        Arc::new(StringArray::from(keys)),
        Arc::new(UInt32Array::from(vec![crc32fast::hash(b"image"); rows])),
    ];
    let batch = RecordBatch::try_new(Arc::new(header(Encoding::Jpeg, 0).schema()), columns).unwrap();
    let mut file =
        arrow_ipc::writer::FileWriter::try_new(fs::File::create(&path).unwrap(), &batch.schema()).unwrap();
    file.write(&batch).unwrap();
    file.finish().unwrap();
    Shard::open(&path)
}

#[test]
fn labels_that_are_no_class_and_missing_values_are_refused_with_their_place() {
    let keys = vec![Some("a"), Some("b")];
    foreign_shard(vec![Some(0), Some(9)], keys.clone()).unwrap().verify(1).unwrap();
    for label in [10, -1] {
        let error = foreign_shard(vec![Some(0), Some(label)], keys.clone()).unwrap_err().to_string();
        let expected = format!("record batch 0: row 1: label {label}, but there are 10 classes");
        assert!(error.contains(&expected), "{error}");
    }
    let error = foreign_shard(vec![Some(0), None], keys).unwrap_err().to_string();
    assert!(error.contains("record batch 0: column `label` has missing values"), "{error}");
    let error = foreign_shard(vec![Some(0), Some(1)], vec![Some("a"), None]).unwrap_err().to_string();
    assert!(error.contains("column `key` has missing values"), "{error}");
}

#[test]
fn a_file_that_is_no_shard_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.arrow");
    fs::write(&path, "<html>".repeat(100)).unwrap();
    let error = Shard::open(&path).unwrap_err().to_string();
    assert!(error.contains("no Arrow footer"), "{error}");

    let schema = arrow_schema::Schema::empty();
    let mut file = arrow_ipc::writer::FileWriter::try_new(fs::File::create(&path).unwrap(), &schema).unwrap();
    file.finish().unwrap();
    let error = Shard::open(&path).unwrap_err().to_string();
    assert!(error.contains("no metadata `fovea`"), "{error}");
}

#[test]
fn columns_that_differ_from_the_header_are_refused_with_both() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.arrow");
    let metadata = header(Encoding::Raw, 0).schema().metadata().clone();
    let schema = header(Encoding::Jpeg, 0).schema().with_metadata(metadata);
    let mut file = arrow_ipc::writer::FileWriter::try_new(fs::File::create(&path).unwrap(), &schema).unwrap();
    file.finish().unwrap();
    let error = Shard::open(&path).unwrap_err().to_string();
    let raw = format!("image: FixedSizeBinary({})", 3 * SIDE * SIDE);
    assert!(error.contains("image: Binary") && error.contains(&raw), "{error}");
}

const OTHER_KINDS: [LabelKind; 2] = [LabelKind::MultiHot, LabelKind::Values];

#[test]
fn labels_of_every_kind_come_back_in_both_encodings() {
    for kind in OTHER_KINDS {
        for encoding in Encoding::ALL {
            let directory = labelled_dataset(kind, encoding, 9);
            for (number, images) in [(0, 0..3), (1, 3..9)] {
                let shard =
                    Shard::open(&directory.path().join(shard_file_name(Split::Train, number))).unwrap();
                assert_eq!((shard.header().labels, shard.header().format_version), (kind, 2));
                for (index, image) in images.enumerate() {
                    let record = shard.record(index);
                    assert_eq!(record.label, label_of(kind, image).get(0), "{kind}, {encoding}, {image}");
                    assert!(record.image == encoded(encoding, image));
                    shard.verify(index).unwrap();
                }
            }
        }
    }
}

#[test]
fn labels_that_are_not_those_of_the_header_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, label, expected) in [
        (LabelKind::MultiHot, Label::MultiHot(&[1; 9]), "record 0 (x): 9 values in its label, expected 10"),
        (LabelKind::MultiHot, Label::Class(1), "a label of the kind class, expected multi-hot"),
        (LabelKind::Values, Label::Values(&[f32::INFINITY; 10]), "inf as number 0 in its label"),
        (LabelKind::Class, Label::MultiHot(&[1; 10]), "a label of the kind multi-hot, expected class"),
    ] {
        let header =
            ShardHeader { labels: kind, format_version: kind.format_version(), ..header(Encoding::Raw, 0) };
        let mut writer = ShardWriter::create(directory.path(), header).unwrap();
        let error = writer.append_labelled(&encoded(Encoding::Raw, 0), label, "x").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // A version that has no such labels.
    let header = ShardHeader { labels: LabelKind::Values, ..header(Encoding::Raw, 0) };
    let path = ShardWriter::create(directory.path(), header).unwrap().finish().unwrap().path;
    let error = Shard::open(&path).unwrap_err().to_string();
    assert!(error.contains("labels of the kind values in format version 1"), "{error}");
}

#[test]
fn a_changed_mark_or_number_is_refused_or_changes_the_digest() {
    for (kind, byte) in [(LabelKind::MultiHot, 2), (LabelKind::MultiHot, 1), (LabelKind::Values, 0xff)] {
        let directory = labelled_dataset(kind, Encoding::Raw, 9);
        let path = directory.path().join(shard_file_name(Split::Train, 0));
        let before = Shard::open(&path).unwrap().records_blake3();
        let bytes = fs::read(&path).unwrap();
        // Labels of three images, which lie side by side.
        let label = |image| label_of(kind, image).get(0).further_bytes().collect::<Vec<u8>>();
        let (own, all) = (label(1), [label(0), label(1), label(2)].concat());
        let place = bytes.windows(all.len()).position(|window| window == all).unwrap() + own.len();
        let mut changed = bytes.clone();
        // The last byte of the first number: then it is as none that is written.
        let at = if kind == LabelKind::Values { 3 } else { usize::from(own[0] == 1) };
        assert_ne!(changed[place + at], byte);
        changed[place + at] = byte;
        if kind == LabelKind::Values {
            changed[place + 2] = 0xff;
        }
        fs::write(&path, &changed).unwrap();
        match Shard::open(&path) {
            Ok(shard) => assert!(byte == 1 && shard.records_blake3() != before, "{kind}, {byte}"),
            Err(error) => {
                let error = error.to_string();
                assert!(byte != 1 && error.contains("record batch 0: row 1: "), "{error}");
            }
        }
    }
}
