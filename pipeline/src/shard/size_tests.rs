//! Tests of shards whose images have sizes of their own.

use std::fs;

use super::*;
use crate::geometry::Size;
use crate::test_support::{dataset_of_sizes, header, header_of_sizes, sized_pixels};
use crate::{Dataset, Encoding, ImageShape, Label, LabelKind, Split};

/// Landscape, portrait, square, and panoramas.
const SIZES: [(u32, u32); 6] = [(20, 15), (15, 21), (15, 15), (150, 15), (15, 240), (16, 15)];

fn sizes() -> [Size; 6] {
    SIZES.map(|(width, height)| Size { width, height })
}

#[test]
fn images_and_their_sizes_come_back_in_both_encodings() {
    for encoding in Encoding::ALL {
        let directory = dataset_of_sizes(encoding, 15, &sizes());
        let shard = Shard::open(&directory.path().join("train-00000.arrow")).unwrap();
        assert_eq!((shard.header().image_shape, shard.header().format_version), (ImageShape::Keep, 3));
        for (image, size) in sizes().into_iter().enumerate() {
            let record = shard.record(image);
            assert_eq!((record.size, record.label), (size, Label::Class(image as u32)));
            assert!(encoding == Encoding::Jpeg || record.image == sized_pixels(image, size));
            shard.verify(image).unwrap();
        }
    }
}

#[test]
fn sizes_stay_with_their_images_over_several_arrow_batches() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(directory.path(), header_of_sizes(Encoding::Raw, 1000)).unwrap();
    let size = |index: u32| Size { width: 1000 + 500 * index, height: 1000 };
    for index in 0..5 {
        let image = vec![index as u8; 3 * size(index).area()];
        writer.append_sized(&image, size(index), Label::Class(index), &index.to_string()).unwrap();
    }
    let path = writer.finish().unwrap().path;
    let file = fs::File::open(&path).unwrap();
    assert_eq!(arrow_ipc::reader::FileReader::try_new(file, None).unwrap().num_batches(), 2);
    let shard = Shard::open(&path).unwrap();
    for index in 0..5 {
        let record = shard.record(index as usize);
        assert_eq!((record.size, record.image[0]), (size(index), index as u8));
        assert_eq!(record.image.len(), 3 * size(index).area());
    }
}

#[test]
fn an_image_of_an_impossible_size_is_refused_before_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(directory.path(), header_of_sizes(Encoding::Raw, 15)).unwrap();
    for ((width, height), expected) in [
        ((20, 16), "record 0 (x): 20x16 pixels, expected a shorter side of 15"),
        ((15, 14), "15x14 pixels, expected a shorter side of 15"),
        (
            (241, 15),
            "241x15 pixels, expected a shorter side of 15, and a longer one at most 16 times as long",
        ),
        ((15, 0), "15x0 pixels"),
    ] {
        let size = Size { width, height };
        let image = vec![0; 3 * size.area()];
        let error = writer.append_sized(&image, size, Label::Class(0), "x").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let size = Size { width: 20, height: 15 };
    let error = writer.append_sized(&[0; 899], size, Label::Class(0), "x").unwrap_err().to_string();
    assert!(error.contains("899 bytes, expected 900 for 3x15x20 pixels"), "{error}");
}

#[test]
fn a_shape_in_a_version_that_lacks_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let keep = header_of_sizes(Encoding::Raw, 15);
    for (header, expected) in [
        (ShardHeader { format_version: 2, ..keep.clone() }, "shape keep with labels of the kind class"),
        (ShardHeader { image_shape: ImageShape::Square, ..keep }, "images of the shape square"),
        (ShardHeader { format_version: 3, ..header(Encoding::Jpeg, 0) }, "in format version 3"),
    ] {
        let path = ShardWriter::create(directory.path(), header).unwrap().finish().unwrap().path;
        let error = Shard::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let versions = [LabelKind::Class, LabelKind::Values, LabelKind::MultiHot]
        .map(|kind| (ImageShape::Square.format_version(kind), ImageShape::Keep.format_version(kind)));
    assert_eq!(versions, [(1, 3), (2, 3), (2, 3)]);
}

/// Changes the size of image 1 where the widths and heights of all images lie in the file.
fn change_size(path: &std::path::Path, new: Size) {
    let mut bytes = fs::read(path).unwrap();
    for (of, new) in
        [(SIZES.map(|(width, _)| width), new.width), (SIZES.map(|(_, height)| height), new.height)]
    {
        let column = of.map(u32::to_le_bytes).concat();
        let place = bytes.windows(column.len()).position(|window| window == column).unwrap();
        bytes[place + 4..place + 8].copy_from_slice(&new.to_le_bytes());
    }
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_changed_size_is_refused_when_the_shard_is_opened() {
    for (encoding, (width, height), expected) in [
        (Encoding::Raw, (15, 22), "record batch 0: row 1: 945 bytes, expected 990 for 3x22x15 pixels"),
        (Encoding::Raw, (14, 21), "row 1: 14x21 pixels, expected a shorter side of 15"),
        (Encoding::Jpeg, (15, u32::MAX), "row 1: 15x4294967295 pixels, expected a shorter side of 15"),
        // As many bytes, or any number of them.
        (Encoding::Raw, (21, 15), "digest of labels, keys and checksums"),
        (Encoding::Jpeg, (21, 15), "digest of labels, keys and checksums"),
        (Encoding::Jpeg, (15, 22), "digest of labels, keys and checksums"),
    ] {
        let directory = dataset_of_sizes(encoding, 15, &sizes());
        let path = directory.path().join("train-00000.arrow");
        change_size(&path, Size { width, height });
        let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
        let error = records.record(0).unwrap_err().to_string();
        assert!(error.contains("train-00000.arrow") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_jpeg_file_of_another_size_than_its_record_is_refused_by_name() {
    let directory = dataset_of_sizes(Encoding::Jpeg, 15, &sizes());
    let path = directory.path().join("train-00000.arrow");
    change_size(&path, Size { width: 15, height: 22 });
    let info = directory.path().join("dataset.json");
    // As if written so: the digests agree.
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&info).unwrap()).unwrap();
    json["train"][0]["records_blake3"] = serde_json::Value::Null;
    json.as_object_mut().unwrap().remove("sha256");
    fs::write(info, json.to_string()).unwrap();
    let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
    let record = records.record(1).unwrap();
    let mut decoder = crate::decode::JpegDecoder::default();
    let error = record.pixels(&mut decoder).unwrap_err().to_string();
    assert!(
        error.contains("record 1 (image-1)") && error.contains("15x21 pixels, expected 15x22"),
        "{error}"
    );
}

#[test]
fn squares_and_photos_of_their_own_proportions_are_no_data_set_together() {
    let directory = dataset_of_sizes(Encoding::Raw, 15, &sizes());
    let info = directory.path().join("dataset.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&info).unwrap()).unwrap();
    json["format_version"] = 1.into();
    json.as_object_mut().unwrap().remove("sha256");
    fs::write(&info, json.to_string()).unwrap();
    let error = Dataset::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("images of the shape keep with labels of the kind class in format version 1"),
        "{error}"
    );
    json.as_object_mut().unwrap().remove("image_shape");
    fs::write(&info, json.to_string()).unwrap();
    let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
    let error = records.record(0).unwrap_err().to_string();
    assert!(error.contains("shape of its images keep, but dataset.json says square"), "{error}");
}

#[test]
fn images_of_differing_sizes_have_no_mean_image() {
    let directory = dataset_of_sizes(Encoding::Raw, 15, &sizes());
    let error = Dataset::open(directory.path()).unwrap().mean_image().unwrap_err().to_string();
    assert!(error.contains("no mean image") && error.contains("input.mean = \"channel\""), "{error}");
}
