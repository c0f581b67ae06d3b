//! Bad pictures, bad shards, bad folders: each is named in an error, none causes a panic.

use std::fs;
use std::path::{Path, PathBuf};

use fovea_pipeline::Split;
use image::{ImageFormat, RgbImage};

use crate::support::*;

#[test]
fn pictures_that_cannot_be_decoded_are_listed_with_their_reasons() {
    let folders = Folders::new(3, 1, 60);
    let photo = encoded(&picture(300, 200, 1), ImageFormat::Jpeg);
    folders.add("train", "n001", "truncated.JPEG", &photo[..photo.len() / 2]);
    folders.add("train", "n001", "closed-again.JPEG", &[&photo[..photo.len() / 2], &[0xff, 0xd9]].concat());
    folders.add("train", "n002", "empty.JPEG", b"");
    folders.add("train", "n003", "page.JPEG", b"<!DOCTYPE html><html>\t<body>404</body></html>");
    folders.add("val", "n003", "noise.JPEG", &[0x55; 100]);
    let out = folders.path().join("out");
    let summary = succeed(&mut prepare(folders.path(), &out, &["--size", "32"]));
    assert!(summary.contains("5 images, see"), "{summary}");

    let list = fs::read_to_string(out.join("rejected.tsv")).unwrap();
    let mut lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.remove(0), "split\tclass\tkey\treason");
    assert_eq!(lines.len(), 5);
    for (split, class, key, reason) in [
        ("train", "n001", "truncated.JPEG", "truncated JPEG"),
        ("train", "n001", "closed-again.JPEG", "truncated JPEG"),
        ("train", "n002", "empty.JPEG", "the file is empty"),
        ("train", "n003", "page.JPEG", "text that begins with `<!DOCTYPE html><html>"),
        ("val", "n003", "noise.JPEG", "not an image that can be read"),
    ] {
        let found = lines.iter().any(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            fields[0] == split && fields[1] == class && fields[2].ends_with(key) && fields[3].contains(reason)
        });
        assert!(found, "{key}: {list}");
    }
    assert_eq!(records(&out, Split::Train).len(), 9);
    succeed(&mut prepare_imagenet(&["verify", text(&out)]));

    let message = fail(&mut prepare(folders.path(), &out, &["--size", "32", "--max-rejects", "4"]), 1);
    assert!(message.contains("5 images could not be decoded, more than the 4"), "{message}");
    succeed(&mut prepare(folders.path(), &out, &["--size", "32", "--max-rejects", "5"]));
}

#[test]
fn tiny_and_huge_pictures_and_pngs_under_a_jpeg_name_just_work() {
    let folders = Folders::new(1, 1, 60);
    folders.add("train", "n001", "tiny.JPEG", &encoded(&picture(1, 1, 1), ImageFormat::Jpeg));
    folders.add("train", "n001", "png.JPEG", &encoded(&picture(50, 70, 2), ImageFormat::Png));
    let huge = RgbImage::from_pixel(12_000, 9_000, image::Rgb([10, 200, 30]));
    folders.add("train", "n002", "huge.png", &encoded(&huge, ImageFormat::Png));
    folders.add("train", "n002", "huge.JPEG", &encoded(&huge, ImageFormat::Jpeg));
    let out = folders.path().join("out");
    succeed(&mut prepare(folders.path(), &out, &["--size", "32", "--max-rejects", "0"]));
    assert_eq!(records(&out, Split::Train).len(), 7);
    let shard = fovea_pipeline::shard::Shard::open(&shards(&out, Split::Train)[0]).unwrap();
    for index in 0..shard.len() {
        if shard.key(index).ends_with("huge.png") {
            let expected: Vec<u8> = [10, 200, 30].into_iter().flat_map(|value| [value; 32 * 32]).collect();
            assert_eq!(shard.record(index).image, expected);
        }
    }
}

#[test]
fn a_source_of_broken_pictures_only_is_an_error() {
    let folders = Folders::new(0, 0, 60);
    folders.add("train", "n001", "empty.JPEG", b"");
    let out = folders.path().join("out");
    let message = fail(&mut prepare(folders.path(), &out, &[]), 1);
    assert!(message.contains("none of the 1 images could be decoded"), "{message}");
}

#[test]
fn an_empty_data_set_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("out");
    let message = fail(&mut prepare(empty.path(), &out, &[]), 1);
    assert!(message.contains("found an empty folder"), "{message}");
    fs::create_dir_all(empty.path().join("train/n001")).unwrap();
    let message = fail(&mut prepare(empty.path(), &out, &["--layout", "folders"]), 1);
    assert!(message.contains("one folder of images for each class"), "{message}");
    assert!(!out.exists());
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let folders = Folders::new(1, 1, 20);
    let file = folders.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    let out = file.join("out");
    let message = fail(&mut prepare(folders.path(), &out, &[]), 1);
    assert!(message.contains(text(&out)) && message.contains("cannot create"), "{message}");
}

#[test]
fn shards_without_their_preparation_are_not_overwritten() {
    let folders = Folders::new(2, 1, 20);
    let out = folders.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("train-00000.arrow"), b"precious").unwrap();
    let message = fail(&mut prepare(folders.path(), &out, &["--size", "8"]), 1);
    assert!(message.contains("train-00000.arrow"), "{message}");
    assert_eq!(fs::read(out.join("train-00000.arrow")).unwrap(), b"precious");
}

/// A valid data set of 32×32 pixels whose first shard a test may damage.
struct Prepared {
    folders: Folders,
    out: PathBuf,
}

impl Prepared {
    fn new(encoding: &str) -> Self {
        let folders = Folders::new(4, 2, 50);
        let out = folders.path().join("out");
        succeed(&mut prepare(folders.path(), &out, &["--size", "32", "--encoding", encoding]));
        Self { folders, out }
    }

    fn shard(&self) -> PathBuf {
        self.out.join("train-00000.arrow")
    }

    /// The output of `verify`, which must fail and name the shard.
    fn problems(&self) -> String {
        let message = fail(&mut prepare_imagenet(&["verify", text(&self.out)]), 1);
        assert!(message.contains("train-00000.arrow"), "{message}");
        message
    }
}

#[test]
fn verify_names_the_record_with_a_flipped_bit() {
    for encoding in ["raw", "jpeg"] {
        let prepared = Prepared::new(encoding);
        let shard = fovea_pipeline::shard::Shard::open(&prepared.shard()).unwrap();
        let (image, key) = (shard.record(5).image.to_vec(), shard.key(5));
        drop(shard);
        let mut bytes = fs::read(prepared.shard()).unwrap();
        let place = bytes.windows(image.len()).position(|window| window == image).unwrap();
        bytes[place + image.len() / 2] ^= 0x10;
        fs::write(prepared.shard(), bytes).unwrap();
        let problems = prepared.problems();
        assert!(problems.contains(&format!("record 5 ({key}): checksum")), "{problems}");
        assert!(problems.contains("BLAKE3"), "{problems}");
    }
}

#[test]
fn verify_names_a_shard_that_is_cut_off() {
    let prepared = Prepared::new("raw");
    let bytes = fs::read(prepared.shard()).unwrap();
    for kept in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        fs::write(prepared.shard(), &bytes[..kept]).unwrap();
        let problems = prepared.problems();
        assert!(problems.contains(&format!("{kept} bytes, dataset.json says {}", bytes.len())), "{problems}");
    }
    fs::remove_file(prepared.shard()).unwrap();
    assert!(prepared.problems().contains("cannot read"));
}

#[test]
fn verify_names_a_shard_of_another_version() {
    let prepared = Prepared::new("raw");
    let mut bytes = fs::read(prepared.shard()).unwrap();
    let version = b"\"format_version\":1";
    let places: Vec<usize> =
        (0..bytes.len() - version.len()).filter(|&at| bytes[at..].starts_with(version)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place + version.len() - 1] = b'7';
    }
    fs::write(prepared.shard(), bytes).unwrap();
    let problems = prepared.problems();
    assert!(problems.contains("version 7, but this program reads versions 1 to 3"), "{problems}");
}

#[test]
fn verify_names_a_shard_of_another_size() {
    let prepared = Prepared::new("raw");
    let other = prepared.folders.path().join("other");
    succeed(&mut prepare(prepared.folders.path(), &other, &["--size", "24"]));
    fs::copy(other.join("train-00000.arrow"), prepared.shard()).unwrap();
    let problems = prepared.problems();
    assert!(problems.contains("image size 24, but dataset.json says 32"), "{problems}");
}

#[test]
fn verify_and_inspect_of_another_folder_name_the_expected_content() {
    let empty = tempfile::tempdir().unwrap();
    for command in ["verify", "inspect"] {
        let message = fail(&mut prepare_imagenet(&[command, text(empty.path())]), 1);
        assert!(message.contains("dataset.json") && message.contains("prepared data set"), "{message}");
        let nowhere = Path::new("/nowhere/at/all");
        fail(&mut prepare_imagenet(&[command, text(nowhere)]), 1);
    }
}
