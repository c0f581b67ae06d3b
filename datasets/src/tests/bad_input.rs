//! One test for each way in which the input can be wrong: the error names the file, the place, what was found
//! and what was expected.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use fovea_pipeline::Split;

use super::fixtures::*;
use crate::official::{DEVKIT, OfficialFile, TRAIN_TAR, verify_tars};
use crate::{Layout, OpenOptions, Payload, SourceError, open};

/// Checks that the error's message is one line with all of `parts`.
fn assert_says(error: &SourceError, parts: &[&str]) {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

fn cut(path: &Path, bytes: usize) {
    let content = fs::read(path).expect("the fixture exists");
    fs::write(path, &content[..content.len().min(bytes)]).expect("the temporary folder is writable");
}

#[test]
fn a_training_tar_cut_off_anywhere_is_incomplete() {
    let fixture = ilsvrc_tars();
    let path = fixture.path("train.tar");
    let whole = fs::read(&path).expect("the fixture exists");
    for length in (512..whole.len()).step_by(256).chain([513, whole.len() - 1025, whole.len() - 1]) {
        fs::write(&path, &whole[..length]).expect("the temporary folder is writable");
        let error = error(fixture.open("train.tar", "", ""));
        assert!(
            matches!(error, SourceError::Damaged { offset, .. } if offset <= length as u64),
            "{length}: {error}"
        );
        assert_says(&error, &["train.tar: at byte", "expected", "found", "the file is incomplete"]);
    }
}

#[test]
fn a_validation_tar_cut_off_says_where() {
    let fixture = ilsvrc_tars();
    cut(&fixture.path("val.tar"), 700);
    let error = error(fixture.open("", "val.tar", "devkit.tar.gz"));
    assert_says(&error, &["val.tar: at byte 512", "of member \"ILSVRC2012_val_00000001.JPEG\"", "188 bytes"]);
}

#[test]
fn an_inner_tar_cut_off_is_named() {
    let fixture = Fixture::new();
    let inner = tar_bytes(&[("a.JPEG".to_owned(), content("a")), ("b.JPEG".to_owned(), content("b"))]);
    let whole = tar_bytes(&[("a.JPEG".to_owned(), content("a"))]);
    let files = [("n01440764.tar".to_owned(), whole), ("n01443537.tar".to_owned(), inner[..1600].to_vec())];
    fixture.write("train.tar", tar_bytes(&files));
    let error = error(fixture.open("train.tar", "", ""));
    assert_says(&error, &["train.tar: at byte", "\"n01443537.tar\"", "the file is incomplete"]);
}

#[test]
fn a_compressed_inner_archive_is_an_error() {
    let inner = tar_bytes(&[("a.JPEG".to_owned(), content("a"))]);
    for name in ["n01443537.tar", "n01443537.tar.gz", "n01443537.tgz"] {
        let fixture = Fixture::new();
        let files = [("n01440764.tar".to_owned(), inner.clone()), (name.to_owned(), gzip(&inner))];
        for files in [&files[..], &files[1..]] {
            fixture.write("train.tar", tar_bytes(files));
            let error = error(fixture.open("train.tar", "", ""));
            let quoted = format!("a header of {name:?}, found gzip data");
            assert_says(&error, &["train.tar: at byte", &quoted, "pack its files again, uncompressed"]);
        }
    }
}

#[test]
fn two_folders_for_one_split() {
    let fixture = folders();
    fixture.write("set/Train/n01440764/other.JPEG", "other");
    assert_says(
        &error(fixture.open("set", "", "")),
        &["set: found both Train/ and train/", "put their content"],
    );
}

#[test]
fn names_that_lead_out_of_the_archive_are_refused() {
    for name in ["train/cat/../../../etc/a.jpg", "../a.jpg", "/../a.jpg", "./cat/.././../a.jpg", "..", "/.."]
    {
        let fixture = Fixture::new();
        fixture.write("set.tar", tar_as_named(&[(name.to_owned(), Vec::new())]));
        let error = error(fixture.open("set.tar", "", ""));
        assert!(matches!(error, SourceError::UnsafeName { offset: 0, .. }), "{error}");
        assert_says(&error, &["set.tar", &format!("{name:?} leads out of the archive by \"..\"")]);
    }
}

#[test]
fn a_class_that_the_devkit_lacks() {
    let fixture = ilsvrc_tars();
    let inner = tar_bytes(&[("a.JPEG".to_owned(), content("a"))]);
    fixture.write("train.tar", tar_bytes(&[("n99999999.tar".to_owned(), inner)]));
    let error = error(fixture.open("train.tar", "", "devkit.tar.gz"));
    assert_says(&error, &["train.tar", "n99999999/a.JPEG", "\"n99999999\"", "the 3 classes", "meta.mat"]);
}

#[test]
fn a_ground_truth_with_an_id_that_the_devkit_lacks() {
    let fixture = ilsvrc_tars();
    // Id 4 is that of the inner node.
    for bad in ["4", "0", "-1", "x", ""] {
        let truth = format!("1\n2\n{bad}\n2\n3\n");
        fixture.write("devkit.tar.gz", gzip(&tar_bytes(&devkit_files(2012, &truth))));
        let error = error(fixture.open("", "val.tar", "devkit.tar.gz"));
        assert!(matches!(error, SourceError::Line { line: 3, .. }), "{error}");
        assert_says(&error, &["ILSVRC2012_validation_ground_truth.txt:3", "one of the 3 classes"]);
    }
}

#[test]
fn a_ground_truth_of_wrong_length() {
    let fixture = ilsvrc_tars();
    for truth in ["1\n2\n3\n1\n", "1\n2\n3\n1\n2\n3\n", ""] {
        fixture.write("devkit.tar.gz", gzip(&tar_bytes(&devkit_files(2012, truth))));
        let error = error(fixture.open("", "val.tar", "devkit.tar.gz"));
        assert_says(&error, &[&format!("has {} labels", truth.lines().count()), "val.tar has 5 images"]);
    }
}

#[test]
fn flat_validation_images_without_devkit() {
    let error = error(ilsvrc_tars().open("train.tar", "val.tar", ""));
    assert_says(&error, &["val.tar", "development kit", "give ILSVRC2012_devkit_t12.tar.gz"]);
}

#[test]
fn a_devkit_without_meta_mat_or_with_a_broken_one() {
    let fixture = ilsvrc_tars();
    fixture.write("devkit.tar.gz", gzip(&tar_bytes(&[("kit/readme.txt".to_owned(), vec![])])));
    assert_says(
        &error(fixture.open("", "val.tar", "devkit.tar.gz")),
        &["devkit.tar.gz", "data/meta.mat is missing"],
    );

    fixture.write("kit/data/meta.mat", b"MATLAB 7.3 MAT-file");
    assert_says(
        &error(fixture.open("", "val.tar", "kit")),
        &["meta.mat: at byte 0", "128 bytes", "19 bytes"],
    );

    fixture.write("devkit.tar.gz", b"<html>404</html>");
    assert_says(
        &error(fixture.open("", "val.tar", "devkit.tar.gz")),
        &["devkit.tar.gz", "download it again"],
    );
}

#[test]
fn a_validation_class_that_the_training_images_lack() {
    let fixture = folders();
    fixture.write("set/val/n99999999/a.JPEG", "a");
    let error = error(fixture.open("set", "", ""));
    assert_says(&error, &["set/val", "n99999999/a.JPEG", "\"n99999999\"", "the 3 classes of", "set/train"]);
}

#[test]
fn an_empty_data_set() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("empty/train/cat")).expect("the temporary folder is writable");
    fixture.write("empty.tar", [0; 1024]);
    fixture.write("text.tar", tar_bytes(&[("train/readme.txt".to_owned(), vec![])]));
    fixture.write("train.tar", tar_bytes(&[("n01440764.tar".to_owned(), tar_bytes(&[]))]));
    assert_says(
        &error(fixture.open("empty", "", "")),
        &["empty", "1 name (train)", "known layouts", "kaggle"],
    );
    fixture.write("set/cifar-10-batches-py/data_batch_1", [128, 4]);
    for path in ["set", "set/cifar-10-batches-py"] {
        assert_says(&error(fixture.open(path, "", "")), &["CIFAR-10 for Python", "cifar-10-binary.tar.gz"]);
    }
    assert_says(&error(fixture.open("empty.tar", "", "")), &["empty.tar", "known layouts"]);
    assert_says(&error(fixture.open("text.tar", "", "")), &["text.tar", "no images found", "*.jpg"]);
    assert_says(&error(fixture.open("train.tar", "", "")), &["train.tar: at byte 512", "an empty archive"]);
    assert_says(&error(fixture.open("", "", "")), &["no images given"]);
}

#[test]
fn a_path_without_the_split_that_it_was_given_for() {
    let fixture = folders();
    fixture.write_all(&below("only-val/val/", val_tree()));
    fixture.write_all(&below("only-train/train/", train_files()));
    assert_says(&error(fixture.open("only-val", "", "")), &["only-val", "expected training images"]);
    assert_says(&error(fixture.open("", "only-train", "")), &["only-train", "expected validation images"]);
}

#[test]
fn an_image_of_zero_bytes_or_of_html_is_a_payload_like_any_other() {
    let fixture = Fixture::new();
    fixture.write("set/train/cat/a.JPEG", b"");
    fixture.write("set/train/cat/b.JPEG", b"<html>");
    let tar = [("train/cat/a.JPEG".to_owned(), vec![]), ("train/cat/b.JPEG".to_owned(), b"<html>".to_vec())];
    fixture.write("set.tar", tar_bytes(&tar));
    for path in ["set", "set.tar"] {
        let source = fixture.open(path, "", "").expect("what images hold is not looked at");
        let mut buffer = vec![1, 2, 3];
        assert_eq!(source.read(Split::Train, 0, &mut buffer).expect("readable"), Payload::File(b""));
        assert_eq!(source.read(Split::Train, 1, &mut buffer).expect("readable"), Payload::File(b"<html>"));
    }
}

#[test]
fn an_image_that_vanishes_after_opening_is_named() {
    let fixture = folders();
    let source = fixture.open("set", "", "").expect("the fixture is sound");
    fs::remove_dir_all(fixture.path("set/train/n01440764")).expect("the temporary folder is writable");
    let error = source.read(Split::Train, 0, &mut Vec::new()).expect_err("the file is gone");
    assert_says(&error, &["set/train/n01440764/n01440764_1.JPEG", "cannot open"]);
}

#[test]
fn a_name_that_is_not_utf8_is_named() {
    let fixture = folders();
    let name = OsStr::from_bytes(b"caf\xe9.jpg");
    fs::write(fixture.path("set/train/n01440764").join(name), b"").expect("the temporary folder is writable");
    let error = error(fixture.open("set", "", ""));
    assert_says(&error, &["set/train/n01440764/caf", "not valid UTF-8", "rename the file"]);
}

#[test]
fn links_that_lead_nowhere_or_in_circles() {
    let fixture = folders();
    let link = fixture.path("set/train/n01440764/link");
    for target in ["set/train/n01440764", "set/train", "."] {
        symlink(fixture.path(target), &link).expect("the temporary folder has links");
        assert_says(
            &error(fixture.open("set", "", "")),
            &["set/train/n01440764/link", "a link to", "in which it lies itself", "remove the link"],
        );
        fs::remove_file(&link).expect("the link is there");
    }
    // Two links that lead to each other's folder.
    let other = fixture.path("set/train/n01443537/link");
    symlink(fixture.path("set/train/n01443537"), &link).expect("the temporary folder has links");
    symlink(fixture.path("set/train/n01440764"), &other).expect("the temporary folder has links");
    assert_says(&error(fixture.open("set", "", "")), &["/link/link", "in which it lies itself"]);
    fs::remove_file(&other).expect("the link is there");
    fs::remove_file(&link).expect("the link is there");

    symlink(fixture.path("nothing"), &link).expect("the temporary folder has links");
    assert_says(&error(fixture.open("set", "", "")), &["set/train/n01440764/link", "follow the link"]);
}

#[test]
fn an_image_next_to_the_folders_of_classes() {
    let fixture = folders();
    fixture.write("set/train/stray.png", "stray");
    assert_says(
        &error(fixture.open("set", "", "")),
        &["set/train", "\"stray.png\"", "one folder for each class"],
    );
}

#[test]
fn training_images_without_classes() {
    let fixture = Fixture::new();
    fixture.write_all(&below("flat/", val_files()));
    let error = error(fixture.open("flat", "", ""));
    assert_says(&error, &["flat: found 5 images side by side", "one folder for each class"]);
}

#[test]
fn files_that_are_no_archives_are_described() {
    let fixture = Fixture::new();
    for (content, description) in [
        (b"".as_slice(), "an empty file"),
        (&[0; 2048], "zeros (a broken download?)"),
        (b"\n<!DOCTYPE html>", "an HTML or XML page"),
        (b"\xff\xd8\xff\xe0", "a single JPEG image"),
        (b"PAR1", "a Parquet file"),
        (b"text", "a file of an unknown kind"),
        (&gzip(b"text"), "a gzip file of something else"),
    ] {
        fixture.write("file", content);
        assert_says(&error(fixture.open("file", "", "")), &["file: found", description, "tar-of-folders"]);
    }
}

#[test]
fn archives_in_other_formats_are_refused_with_the_command_that_undoes_them() {
    let fixture = Fixture::new();
    for (content, found, command) in [
        (b"\xfd7zXZ\0rest".as_slice(), "xz data", "xz -dc < SET > NEW"),
        (b"BZh91AY", "bzip2 data", "bzip2 -dc < SET > NEW"),
        (b"\x28\xb5\x2f\xfdrest", "zstd data", "zstd -dc < SET > NEW"),
        (b"\x04\x22\x4d\x18rest", "lz4 data", "lz4 -dc < SET > NEW"),
        (b"\x1f\x9drest", "data of compress", "gzip -dc < SET > NEW"),
        (b"PK\x03\x04rest", "a zip archive", "unzip SET -d NEW"),
        (b"7z\xbc\xaf\x27\x1crest", "a 7z archive", "7z x -oNEW SET"),
        (b"Rar!\x1a\x07rest", "a rar archive", "unrar x SET NEW/"),
    ] {
        for name in ["set.tar", "set.tar.xz", "Set of photos.tar", "bob's", "set"] {
            let path = fixture.write(name, content).display().to_string();
            let word =
                if name.starts_with('s') { path } else { format!("'{}'", path.replace('\'', r"'\''")) };
            let command = format!("decompress it first: {}", command.replace("SET", &word));
            assert_says(&error(fixture.open(name, "", "")), &[found, &command]);
        }
        let good = tar_bytes(&[("a.JPEG".to_owned(), content.to_vec())]);
        for name in ["n01443537.tar", "n01443537.tar.xz", "N01443537.TAR.BZ2", "n01443537.zip"] {
            let files = [("n01440764.tar".to_owned(), good.clone()), (name.to_owned(), content.to_vec())];
            fixture.write("train.tar", tar_bytes(&files));
            let quoted = format!("a header of {name:?}, found {found}");
            assert_says(&error(fixture.open("train.tar", "", "")), &[&quoted, "uncompressed"]);
        }
    }
}

/// Compressed with `program` and misnamed, then what the error says to type is typed.
#[test]
fn the_command_that_undoes_a_format_does_whatever_the_file_is_called() {
    let set = tar_bytes(&[("cat/a.jpg".to_owned(), content("a")), ("dog/b.jpg".to_owned(), content("b"))]);
    let python = "import sys, zipfile; zipfile.ZipFile(sys.stdout.buffer, 'w').writestr('cat/a.jpg', sys.stdin.buffer.read())";
    for program in [
        "xz -c",
        "bzip2 -c",
        "zstd -c",
        "lz4 -c",
        "xz -c --format=lzma",
        "gzip -c | gzip -c",
        "xz -c | gzip -c",
        "zstd -c | gzip -c",
        &format!("python3 -c \"{python}\""),
        &format!("python3 -c \"{python}\" | gzip -c"),
    ] {
        for name in ["set.tar", "set.tar.gz", "set.tar.xz", "set.zst", "SET OF PHOTOS", "bob's"] {
            let fixture = Fixture::new();
            let shell = |command: &str| {
                let mut shell = Command::new("sh");
                shell.args(["-c", command]).current_dir(fixture.dir.path());
                shell.output().expect("there is a shell")
            };
            fixture.write("sound.tar", &set);
            let first = program.split(' ').next().unwrap_or_default();
            if !shell(&format!("command -v {first}")).status.success() {
                eprintln!("skipped: {first} is not there");
                continue;
            }
            let packed = shell(&format!("cat sound.tar | {program}")).stdout;
            fixture.write(name, packed);
            let message = error(fixture.open(name, "", "")).to_string();
            let (_, command) = message.split_once("decompress it first: ").expect("it says how");
            let done = shell(command);
            assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
            let new = fixture.path("NEW");
            let file = if new.is_dir() { new.join("cat/a.jpg") } else { new };
            assert!(fs::read(file).expect("the command has made it") == set, "{command}");
        }
    }
}

#[test]
fn a_devkit_with_a_stale_checksum_and_other_data_behind_an_archive() {
    let fixture = ilsvrc_tars();
    let whole = fs::read(fixture.path("devkit.tar.gz")).expect("the fixture exists");
    let mut stale = whole.clone();
    let crc = stale.len() - 8;
    stale[crc] ^= 1;
    for bad in [stale, [&whole[..], b"garbage"].concat(), whole[..whole.len() - 1].to_vec()] {
        fixture.write("devkit.tar.gz", bad);
        let error = error(fixture.open("", "val.tar", "devkit.tar.gz"));
        assert_says(&error, &["devkit.tar.gz: at byte", "more gzip data or its end", "download"]);
    }
    fixture.write("devkit.tar.gz", [&whole[..], &[0; 999]].concat());
    assert!(fixture.open("", "val.tar", "devkit.tar.gz").is_ok());
}

#[test]
fn fifos_and_devices_are_refused_at_once() {
    let fixture = ilsvrc_tars();
    let made = Command::new("mkfifo").arg(fixture.path("fifo")).status();
    assert!(made.expect("mkfifo is part of every Unix").success());
    for (train, val, devkit) in [("fifo", "", ""), ("", "fifo", ""), ("", "val.tar", "fifo")] {
        let error = error(fixture.open(train, val, devkit));
        assert_says(&error, &["fifo: is a FIFO, expected a regular file"]);
    }
    let options = OpenOptions { train: Some("/dev/zero".into()), ..OpenOptions::default() };
    assert_says(&error(open(&options)), &["/dev/zero: is a character device"]);
    symlink("/dev/zero", fixture.write("kit/data/x", b"").with_file_name("meta.mat")).expect("it has links");
    assert_says(&error(fixture.open("", "val.tar", "kit")), &["meta.mat: is a character device"]);
}

#[test]
fn what_the_devkit_says_about_numbers_is_told() {
    let fixture = ilsvrc_tars();
    let source = fixture.open("train.tar", "val.tar", "devkit.tar.gz").expect("the fixture is sound");
    let [note] = source.notes() else { panic!("{:?}", source.notes()) };
    assert_eq!((note.kind, note.count), ("image-counts", 3));
    let start = "12 training images, 3900 according to ";
    assert!(note.message.starts_with(start) && note.message.contains("3 of 3 classes differ"), "{note:?}");
}

#[test]
fn classes_without_images_are_told() {
    let fixture = Fixture::new();
    let inner = |name: &str| tar_bytes(&[(name.to_owned(), vec![1])]);
    let files = [("cat.tar".to_owned(), inner("a.jpg")), ("dog.tar".to_owned(), inner("readme.txt"))];
    fixture.write("train.tar", tar_bytes(&files));
    let source = fixture.open("train.tar", "", "").expect("the fixture is sound");
    let kinds: Vec<&str> = source.notes().iter().map(|note| note.kind).collect();
    assert_eq!(kinds, ["passed-over", "empty-classes"]);
    let note = &source.notes()[1];
    assert_eq!((note.count, note.message.as_str()), (1, "1 of 2 classes has no training images: dog"));
}

#[test]
fn a_gzip_file_cut_off() {
    let fixture = Fixture::new();
    let whole = gzip(&tar_bytes(&below("train/", train_files())));
    fixture.write("set.tar.gz", &whole[..whole.len() / 2]);
    assert_says(&error(fixture.open("set.tar.gz", "", "")), &["set.tar.gz: at byte", "gzip", "incomplete"]);
}

#[test]
fn a_layout_that_does_not_fit_is_not_forced() {
    let fixture = folders();
    for layout in
        [Layout::Kaggle, Layout::Cifar10, Layout::TinyImagenet, Layout::IlsvrcTars, Layout::TarOfFolders]
    {
        let options = OpenOptions { layout: Some(layout), ..fixture.options("set", "", "") };
        let error = error(open(&options));
        assert_says(&error, &["a folder of 2 names (train, val)", &format!("the layout {layout}")]);
    }
}

#[test]
fn kaggle_images_without_a_row_and_rows_without_a_class() {
    let fixture = kaggle();
    fixture.write("kaggle/ILSVRC/Data/CLS-LOC/val/other.JPEG", "other");
    assert_says(
        &error(fixture.open("kaggle", "", "")),
        &["LOC_val_solution.csv", "\"other.JPEG\"", "CLS-LOC/val"],
    );

    fixture.write("kaggle/LOC_val_solution.csv", "ImageId,PredictionString\nILSVRC2012_val_00000001,\n");
    assert_says(&error(fixture.open("kaggle", "", "")), &["LOC_val_solution.csv:2", "a WNID and a box"]);

    let twice = "ILSVRC2012_val_00000001,n01440764 1 2 3 4\nILSVRC2012_val_00000001,n01443537 1 2 3 4\n";
    fixture.write("kaggle/LOC_val_solution.csv", twice);
    assert_says(
        &error(fixture.open("kaggle", "", "")),
        &[
            "LOC_val_solution.csv:2",
            "one class for each image",
            "of n01443537, and of n01440764 in a line before",
        ],
    );

    fs::remove_file(fixture.path("kaggle/LOC_val_solution.csv")).expect("the temporary folder is writable");
    assert_says(&error(fixture.open("kaggle", "", "")), &["LOC_val_solution.csv is missing"]);
}

#[test]
fn tiny_imagenet_images_without_annotation_or_with_two_classes() {
    let fixture = tiny_imagenet();
    let annotations = "tiny-imagenet-200/val/val_annotations.txt";
    let text = fs::read_to_string(fixture.path(annotations)).expect("the fixture has it");
    let first = text.lines().next().expect("it has lines").to_owned() + "\n";
    fixture.write(annotations, &first);
    let tiny = |fixture: &Fixture| error(fixture.open("tiny-imagenet-200", "", ""));
    assert_says(&tiny(&fixture), &["val_annotations.txt", "ILSVRC2012_val_00000002.JPEG"]);

    fixture.write(annotations, text.clone() + "ILSVRC2012_val_00000001.JPEG\tn99999999\n");
    let line = format!("val_annotations.txt:{}", text.lines().count() + 1);
    assert_says(&tiny(&fixture), &[&line, "one class for each image", "of n99999999, and of "]);
    fixture.write(annotations, text + &first);
    fixture.open("tiny-imagenet-200", "", "").expect("the same class twice is sound");
}

#[test]
fn cifar10_batches_cut_off_missing_or_with_wrong_labels() {
    let fixture = Fixture::new();
    fixture.write_all(&below("set/", cifar_files(3)));
    let batch = fs::read(fixture.path("set/data_batch_3.bin")).expect("the fixture exists");

    fixture.write("set/data_batch_3.bin", &batch[..batch.len() - 1]);
    assert_says(
        &error(fixture.open("set", "", "")),
        &["data_batch_3.bin", "records of 3073 bytes", "9218 bytes"],
    );

    let mut wrong = batch.clone();
    wrong[3073] = 10;
    fixture.write("set/data_batch_3.bin", wrong);
    assert_says(&error(fixture.open("set", "", "")), &["at byte 3073", "a label below 10", "found 10"]);

    fs::remove_file(fixture.path("set/data_batch_3.bin")).expect("the temporary folder is writable");
    assert_says(&error(fixture.open("set", "", "")), &["data_batch_3.bin is missing"]);
}

#[test]
fn validation_images_in_addition_to_a_data_set_that_has_its_own() {
    let fixture = folders();
    fixture.write_all(&below("cifar/", cifar_files(1)));
    assert_says(
        &error(fixture.open("cifar", "set/val", "")),
        &["cifar", "both splits", "give the data set once"],
    );
}

#[test]
fn files_that_are_not_the_official_ones() {
    let fixture = Fixture::new();
    let path = fixture.write("file", b"hello");
    let size = error_of(verify_tars(&[(TRAIN_TAR, &path)], |_, _| panic!("nothing is read")));
    assert_says(&size, &["has 5 bytes", "ILSVRC2012_img_train.tar", "147897477120", "download it again"]);
    let digest = error_of(verify_tars(&[(DEVKIT, &path)], |_, _| {}));
    assert_says(&digest, &["5d41402abc4b2a76b9719d911017c592", "fa75699e90414af021442c21a62c3abf"]);

    let hello = OfficialFile { name: "hello", size_bytes: Some(5), md5: "5d41402abc4b2a76b9719d911017c592" };
    let mut calls = Vec::new();
    verify_tars(&[(hello, &path), (hello, &path)], |done, total| calls.push((done, total)))
        .expect("it is the file");
    assert_eq!(calls, [(5, 10), (10, 10)]);
}

fn error_of(result: Result<(), SourceError>) -> SourceError {
    result.expect_err("the file is not the official one")
}
