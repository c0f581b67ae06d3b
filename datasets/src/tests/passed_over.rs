//! Nothing is passed over in silence, and folders that can be read in two ways are asked about. Each case is
//! tried as folders and as a tar of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use fovea_pipeline::Split;
use tar::EntryType;

use super::fixtures::*;
use crate::{Note, OpenOptions, Reading, Source, SourceError, open};

/// Files of little content.
fn files(names: &[&str]) -> Vec<(String, Vec<u8>)> {
    names.iter().map(|name| ((*name).to_owned(), content(name))).collect()
}

/// The results of opening the files as a folder and as a tar.
fn open_both(names: &[&str], reading: Reading) -> [Result<Box<dyn Source>, SourceError>; 2] {
    let fixture = Fixture::new();
    fixture.write_all(&below("set/", files(names)));
    fixture.write("set.tar", tar_bytes(&files(names)));
    ["set", "set.tar"].map(|path| open(&OpenOptions { reading, ..fixture.options(path, "", "") }))
}

fn classes(source: &dyn Source) -> Vec<&str> {
    source.classes().iter().map(|class| class.wnid.as_str()).collect()
}

/// Number of images of both splits, and the classes.
fn summary(result: Result<Box<dyn Source>, SourceError>) -> (usize, usize, Vec<String>) {
    let source = result.unwrap_or_else(|error| panic!("{error}"));
    let [train, val] = Split::ALL.map(|split| source.entries(split).len());
    (train, val, classes(&*source).into_iter().map(str::to_owned).collect())
}

fn note<'s>(source: &'s dyn Source, kind: &str) -> &'s Note {
    let notes = source.notes();
    notes.iter().find(|note| note.kind == kind).unwrap_or_else(|| panic!("no note {kind}: {notes:?}"))
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn classes_may_be_called_like_splits() {
    for (names, expected) in [
        // Each class has the same folders in it.
        (
            &["bus/front/0.jpg", "bus/side/0.jpg", "car/front/0.jpg", "car/side/0.jpg", "train/side/0.jpg"][..],
            &["bus", "car", "train"][..],
        ),
        (&["bus/0.jpg", "car/0.jpg", "train/0.jpg"], &["bus", "car", "train"]),
        (&["invalid/0.jpg", "valid/0.jpg"], &["invalid", "valid"]),
        (&["control/0.jpg", "Test/0.jpg", "val/0.jpg"], &["Test", "control", "val"]),
        (
            &["a/1/0.jpg", "b/2/0.jpg", "c/3/0.jpg", "freight_train/4/0.jpg"],
            &["a", "b", "c", "freight_train"],
        ),
    ] {
        for result in open_both(names, Reading::Detect) {
            let source = result.unwrap_or_else(|error| panic!("{names:?}: {error}"));
            assert_eq!(classes(&*source), expected);
            assert_eq!(source.entries(Split::Train).len(), names.len(), "{names:?}");
            assert!(note(&*source, "layout").message.contains("--layout splits"), "{names:?}");
        }
    }
}

#[test]
fn a_class_called_train_in_both_splits() {
    let names = ["train/bus/0.jpg", "train/train/0.jpg", "val/bus/0.jpg", "val/train/0.jpg"];
    for result in open_both(&names, Reading::Detect) {
        assert_eq!(summary(result), (2, 2, owned(&["bus", "train"])));
    }
    let fixture = Fixture::new();
    fixture.write_all(&files(&names));
    assert_eq!(summary(fixture.open("train", "val", "")), (2, 2, owned(&["bus", "train"])));
}

#[test]
fn folders_that_can_be_read_in_two_ways_are_asked_about() {
    for (names, train, val) in [
        (
            &[
                "training_set/training_set/cats/0.jpg",
                "training_set/training_set/dogs/0.jpg",
                "test_set/test_set/cats/0.jpg",
            ][..],
            2,
            1,
        ),
        (&["train2017/cats/0.jpg", "train2017/dogs/0.jpg", "val2017/cats/0.jpg"], 2, 1),
        (&["seg_train/seg_train/sea/0.jpg", "seg_test/seg_test/sea/0.jpg", "seg_pred/0.jpg"], 1, 1),
        (&["TrainImages/sea/0.jpg", "validation images/sea/0.jpg"], 1, 1),
        (&["train/cats/0.jpg", "holdout/cats/0.jpg"], 1, 0),
        (&["train/cats/0.jpg", "extra/1.jpg"], 1, 0),
    ] {
        for (result, forced) in open_both(names, Reading::Detect).into_iter().zip([0, 1]) {
            let error = error(result).to_string();
            assert!(error.contains("--layout classes takes them for"), "{names:?}: {error}");
            assert!(error.contains("--layout splits for splits: training images in"), "{names:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
            let [splits, classes] = [Reading::Splits, Reading::Classes]
                .map(|reading| summary(open_both(names, reading).into_iter().nth(forced).expect("two")));
            assert_eq!((splits.0, splits.1), (train, val), "{names:?}");
            assert_eq!((classes.0, classes.1), (names.len(), 0), "{names:?}");
            let mut folders: Vec<&str> = names.iter().filter_map(|name| name.split('/').next()).collect();
            folders.sort();
            folders.dedup();
            assert_eq!(classes.2, folders);
        }
    }
}

#[test]
fn a_split_among_the_classes_of_another_is_asked_about_or_given_by_path() {
    let names = ["train/cat/0.jpg", "train/dog/0.jpg", "train/val/cat/1.jpg", "train/val/dog/1.jpg"];
    for result in open_both(&names, Reading::Detect) {
        let error = error(result).to_string();
        assert!(error.contains("found \"val\" among the folders of classes"), "{error}");
        assert!(error.contains("give --train and --val") && error.contains("--layout splits"), "{error}");
    }
    for result in open_both(&names, Reading::Splits) {
        assert_eq!(summary(result), (4, 0, owned(&["cat", "dog", "val"])));
    }
    let fixture = Fixture::new();
    fixture.write_all(&files(&names));
    assert_eq!(summary(fixture.open("train", "train/val", "")), (2, 2, owned(&["cat", "dog"])));
    // A class of that name has other content.
    for result in open_both(&["train/cat/0.jpg", "train/val/0.jpg"], Reading::Detect) {
        assert_eq!(summary(result), (2, 0, owned(&["cat", "val"])));
    }
}

#[test]
fn folders_that_each_class_has_are_said_not_to_be_classes() {
    for result in
        open_both(&["f1/cat/0.jpg", "f1/dog/0.jpg", "f2/cat/0.jpg", "f2/dog/0.jpg"], Reading::Detect)
    {
        let source = result.expect("the fixture is sound");
        assert_eq!(classes(&*source), ["f1", "f2"]);
        assert_eq!(
            note(&*source, "same-folders").message,
            "each of the 2 classes has the same folders in it, which were not taken for classes: cat, dog"
        );
    }
    for names in [&["a/x/0.jpg", "b/y/0.jpg"][..], &["a/x/0.jpg", "b/x/0.jpg", "b/1.jpg"]] {
        for result in open_both(names, Reading::Detect) {
            assert_eq!(result.expect("the fixture is sound").notes(), [], "{names:?}");
        }
    }
}

#[test]
fn tars_of_classes_of_several_splits_are_refused() {
    let fixture = Fixture::new();
    let class = || tar_bytes(&files(&["0.jpg"]));
    let split = || tar_bytes(&files(&["cat/0.jpg", "dog/1.jpg"]));
    for (members, found) in [
        (&["train/cat.tar", "val/cat.tar"][..], "archives of classes in train, val"),
        (&["train.tar", "val.tar"], "\"train.tar\" with folders of images in it"),
    ] {
        let is_split = members[0] == "train.tar";
        let content = || if is_split { split() } else { class() };
        let members: Vec<_> = members.iter().map(|name| ((*name).to_owned(), content())).collect();
        fixture.write("set.tar", tar_bytes(&members));
        let error = error(fixture.open("set.tar", "", "")).to_string();
        assert!(error.contains(found) && error.contains("unpack it and give its parts"), "{error}");
    }
    let sound = ["pets/cat.tar", "wild/val.tar"].map(|name| (name.to_owned(), class()));
    fixture.write("set.tar", tar_bytes(&sound));
    assert_eq!(summary(fixture.open("set.tar", "", "")), (2, 0, owned(&["cat", "val"])));
}

#[test]
fn a_split_folder_around_the_only_split_is_skipped() {
    let fixture = Fixture::new();
    fixture
        .write_all(&files(&["training_set/training_set/cats/0.jpg", "training_set/training_set/dogs/0.jpg"]));
    for path in ["training_set", "."] {
        assert_eq!(summary(fixture.open(path, "", "")), (2, 0, owned(&["cats", "dogs"])), "{path}");
    }
    let names =
        ["train/train/cats/0.jpg", "train/train/dogs/0.jpg", "test/test/cats/0.jpg", "test/test/dogs/0.jpg"];
    for result in open_both(&names, Reading::Detect) {
        assert_eq!(summary(result), (2, 2, owned(&["cats", "dogs"])));
    }
    let names = ["train/images/cats/0.jpg", "train/images/dogs/0.jpg", "val/images/cats/0.jpg"];
    for result in open_both(&names, Reading::Detect) {
        assert_eq!(summary(result), (2, 1, owned(&["cats", "dogs"])));
    }
}

#[test]
fn splits_below_each_of_several_folders_are_asked_about() {
    let names = ["a/train/x/0.jpg", "a/test/x/0.jpg", "b/train/x/0.jpg", "b/test/x/0.jpg"];
    for result in open_both(&names, Reading::Detect) {
        let error = error(result).to_string();
        assert!(
            error.contains("2 classes: a, b") && error.contains("give one of them with --train"),
            "{error}"
        );
    }
    for result in open_both(&names, Reading::Classes) {
        assert_eq!(summary(result), (4, 0, owned(&["a", "b"])));
    }
}

#[test]
fn files_that_are_not_taken_are_counted_by_kind_and_named() {
    let names =
        ["train/cat/0.jpg", "train/cat/notes.txt", "train/dog/0.jpg", "train/dog/1.mp4", "readme.txt"];
    for result in open_both(&names, Reading::Detect) {
        let source = result.expect("the fixture is sound");
        let note = note(&*source, "passed-over");
        assert_eq!(note.message, "3 files were passed over: 2 .txt, 1 .mp4");
        assert_eq!(note.count, 3);
        let mut named = note.names.clone();
        named.sort();
        assert_eq!(named, ["readme.txt", "train/cat/notes.txt", "train/dog/1.mp4"]);
    }
}

#[test]
fn nothing_is_said_where_everything_is_taken() {
    for result in
        open_both(&["train/a/0.jpg", "train/b/0.jpg", "val/a/1.jpg", "val/b/1.jpg"], Reading::Detect)
    {
        assert_eq!(result.expect("the fixture is sound").notes(), []);
    }
}

#[test]
fn a_class_without_images_is_named() {
    for result in open_both(&["cat/0.jpg", "dog/0.jpg", "emu/1.mp4", "emu/2.mp4"], Reading::Detect) {
        let source = result.expect("the fixture is sound");
        assert_eq!(classes(&*source), ["cat", "dog"]);
        assert_eq!(note(&*source, "empty-folders").names, ["emu"]);
    }
    let fixture = Fixture::new();
    fixture.write_all(&files(&["cat/0.jpg", "dog/0.jpg"]));
    fs::create_dir(fixture.path("kiwi")).expect("the temporary folder is writable");
    let source = fixture.open(".", "", "").expect("the fixture is sound");
    assert_eq!(
        note(&*source, "empty-folders").message,
        "1 folder without an image left out of the classes: kiwi"
    );
}

/// A tar with folders, pipes and links as well as files.
fn tar_of(names: &[&str], others: &[(&str, EntryType)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files(names) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_slice()).expect("memory can be written");
    }
    for (name, kind) in others {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(0);
        builder.append_data(&mut header, name, &[][..]).expect("memory can be written");
    }
    builder.into_inner().expect("memory can be written")
}

#[test]
fn empty_folders_and_pipes_of_a_tar_are_said_as_on_disk() {
    let fixture = Fixture::new();
    let others = [
        ("set/kiwi/", EntryType::Directory),
        ("set/.hidden/", EntryType::Directory),
        ("set/cat/pipe.jpg", EntryType::Fifo),
        ("set/cat/device.jpg", EntryType::Char),
    ];
    fixture.write("set.tar", tar_of(&["set/cat/0.jpg", "set/dog/0.jpg"], &others));
    let source = fixture.open("set.tar", "", "").expect("the fixture is sound");
    assert_eq!(classes(&*source), ["cat", "dog"]);
    let message = &note(&*source, "empty-folders").message;
    assert_eq!(message, "1 folder without an image left out of the classes: kiwi");
    assert_eq!(note(&*source, "special-files").message, "2 names passed over: pipes, sockets or devices");
}

#[test]
fn files_that_systems_leave_are_no_images_and_counted() {
    let names = [
        "cat/0.jpg",
        "cat/._0.jpg",
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "dog/0.jpg",
        "dog/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "__MACOSX/cat/x.jpg",
        "@eaDir/y.jpg",
        "PaxHeader/z.jpg",
    ];
    // Of a folder of the system only its own name is counted where it is not looked into.
    let expected = ["7 files were passed over: 5 of the system, 2 hidden"; 2];
    for (result, expected) in open_both(&names, Reading::Detect).into_iter().zip(expected) {
        let source = result.expect("the fixture is sound");
        assert_eq!(classes(&*source), ["cat", "dog"]);
        assert_eq!(source.entries(Split::Train).len(), 2);
        let notes: Vec<&str> = source.notes().iter().map(|note| note.message.as_str()).collect();
        assert_eq!(notes, [expected]);
    }
}

#[test]
fn what_is_no_image_in_a_tar_of_tars_is_counted() {
    let fixture = Fixture::new();
    let inner = [("a.tar", &["0.jpg", "notes.txt", "._0.jpg"][..]), ("b.tar", &["0.jpg", "1.mp4"])];
    let mut outer: Vec<(String, Vec<u8>)> =
        inner.iter().map(|(name, names)| ((*name).to_owned(), tar_bytes(&files(names)))).collect();
    outer.push(("readme.txt".to_owned(), b"read me".to_vec()));
    fixture.write("train.tar", tar_bytes(&outer));
    let source = fixture.open("train.tar", "", "").expect("the fixture is sound");
    assert_eq!(source.entries(Split::Train).len(), 2);
    let note = note(&*source, "passed-over");
    assert_eq!(note.message, "4 files were passed over: 2 .txt, 1 .mp4, 1 hidden");
    assert_eq!(note.names, ["a/._0.jpg", "a/notes.txt", "b/1.mp4", "readme.txt"]);
}

#[test]
fn batches_that_are_not_those_of_cifar10_are_named() {
    let fixture = Fixture::new();
    let repeat = |(name, records): (String, Vec<u8>)| match name.ends_with(".bin") {
        true => (name, records.repeat(10_000)),
        false => (name, records),
    };
    let mut batches: Vec<_> = cifar_files(1).into_iter().map(repeat).collect();
    fixture.write_all(&below("whole/", batches.clone()));
    assert_eq!(fixture.open("whole", "", "").expect("the fixture is sound").notes(), []);
    for batch in [1, 5] {
        batches[batch].1.truncate(9_999 * 3073);
    }
    fixture.write("short.tar", tar_bytes(&batches));
    let source = fixture.open("short.tar", "", "").expect("the fixture is sound");
    let note = note(&*source, "counts");
    assert_eq!(
        note.message,
        "not the batches of CIFAR-10, which have 10000 images each: 9999 images in data_batch_2.bin, 9999 images \
         in test_batch.bin"
    );
    assert_eq!(note.names, ["data_batch_2.bin", "test_batch.bin"]);
}

#[test]
fn images_that_a_table_lists_and_that_are_not_there_are_named() {
    let fixture = tiny_imagenet();
    let source = fixture.open("tiny-imagenet-200", "", "").expect("the fixture is sound");
    assert!(source.notes().iter().all(|note| note.kind != "missing-images"), "{:?}", source.notes());
    fixture.write(
        "tiny-imagenet-200/train/n01440764/n01440764_boxes.txt",
        "n01440764_7777.JPEG\t0\t0\t63\t62\n",
    );
    let source = fixture.open("tiny-imagenet-200", "", "").expect("the others are there");
    let about = note(&*source, "missing-images");
    assert!(about.path.ends_with("train"), "{about:?}");
    assert_eq!(about.message, "1 of the 1 image listed there is missing: n01440764_7777.JPEG");

    for (fixture, root, images, table) in [
        (tiny_imagenet(), "tiny-imagenet-200", "tiny-imagenet-200/val/images", "val_annotations.txt"),
        (kaggle(), "kaggle", "kaggle/ILSVRC/Data/CLS-LOC/val", "LOC_val_solution.csv"),
    ] {
        let all = entries_of(&fixture.path(images));
        for gone in [&all[0], &all[2]] {
            fs::remove_file(fixture.path(&format!("{images}/{gone}"))).expect("the fixture has it");
        }
        let source = fixture.open(root, "", "").expect("the others are there");
        assert_eq!(source.entries(Split::Val).len(), all.len() - 2);
        let about = note(&*source, "missing-images");
        assert!(about.path.ends_with(table) && about.count == 2, "{about:?}");
        let expected = format!("2 of the {} images listed there are missing: ", all.len());
        assert!(about.message.starts_with(&expected), "{}", about.message);
        assert!(all[0].starts_with(&about.names[0]) && all[2].starts_with(&about.names[1]), "{about:?}");
    }
}

#[test]
fn classes_of_one_split_only_are_named() {
    for result in open_both(&["train/a/0.jpg", "train/b/0.jpg", "val/a/1.jpg"], Reading::Detect) {
        let source = result.expect("the fixture is sound");
        assert_eq!(note(&*source, "empty-classes").message, "1 of 2 classes has no validation images: b");
    }
}

#[test]
fn a_single_class_is_said() {
    for result in open_both(&["x/cats/0.jpg", "x/cats/1.jpg"], Reading::Detect) {
        let source = result.expect("the fixture is sound");
        assert_eq!(note(&*source, "one-class").names, ["cats"]);
    }
}

#[test]
fn test_images_without_labels_are_passed_over_and_said() {
    for test in ["test/1.jpg", "test/unknown/1.jpg"] {
        for result in open_both(&["train/a/0.jpg", "train/b/0.jpg", test], Reading::Detect) {
            let source = result.expect("the training images are sound");
            assert_eq!(source.entries(Split::Val), [], "{test}");
            assert_eq!(note(&*source, "unlabelled-test").message, "1 test image without labels passed over");
        }
    }
    let names = ["train/a/0.jpg", "val/a/0.jpg", "test/1.jpg", "test/2.jpg"];
    for result in open_both(&names, Reading::Detect) {
        let source = result.expect("the fixture is sound");
        assert_eq!(source.entries(Split::Val).len(), 1);
        let note = note(&*source, "beside-splits");
        assert_eq!(note.message, "2 images beside the splits passed over, in test");
        assert_eq!(note.names, ["test/1.jpg", "test/2.jpg"]);
    }
    for result in open_both(&["train/a/0.jpg", "train/b/0.jpg", "1.jpg"], Reading::Detect) {
        let source = result.expect("the fixture is sound");
        assert_eq!(note(&*source, "beside-splits").message, "1 image beside the splits passed over, in ./");
    }
    let source = tiny_imagenet().open("tiny-imagenet-200", "", "").expect("the fixture is sound");
    assert_eq!(note(&*source, "unlabelled-test").count, VAL_CLASSES.len() as u64);
}

#[test]
fn validation_images_that_are_the_training_images_are_not_validation() {
    let fixture = Fixture::new();
    fixture.write_all(&below("set/", files(&["a/0.jpg", "b/0.jpg"])));
    fixture.write("set.tar", tar_bytes(&files(&["a/0.jpg", "b/0.jpg"])));
    symlink(fixture.path("set"), fixture.path("link")).expect("the temporary folder has links");
    for (train, val) in [("set", "set"), ("set", "link"), ("set", "link/../set"), ("set.tar", "set.tar")] {
        let source = fixture.open(train, val, "").expect("the training images are sound");
        assert_eq!(source.entries(Split::Val), [], "{train} {val}");
        let message = &note(&*source, "val-is-train").message;
        assert_eq!(message, "validation would be on the 2 images of the training, so there is none");
    }
    let fixture = folders();
    let source = fixture.open("set", "set/train", "").expect("the training images are sound");
    assert_eq!(note(&*source, "val-is-train").count, 12);
    assert_eq!(note(&*source, "other-split").count, VAL_CLASSES.len() as u64);
    assert_eq!(fixture.open("set", "set", "").expect("the fixture is sound").notes(), []);
}

#[test]
fn images_of_a_split_that_was_not_asked_for_are_said() {
    let fixture = folders();
    fixture.write_all(&below("other/", val_tree()));
    let source = fixture.open("set", "other", "").expect("the fixture is sound");
    let message = &note(&*source, "other-split").message;
    assert_eq!(message, "5 validation images beside those that were asked for passed over");
    let source = fixture.open("", "set", "").expect("the fixture is sound");
    let message = &note(&*source, "other-split").message;
    assert_eq!(message, "12 training images beside those that were asked for passed over");
}

#[test]
fn pipes_sockets_and_devices_are_said_or_refused_and_never_read() {
    let fixture = folders();
    let pipe = fixture.path("set/train/n01440764/pipe.jpg");
    let status = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(status.success());
    let _socket =
        UnixListener::bind(fixture.path("set/train/n01440764/socket")).expect("sockets can be made");
    let source = fixture.open("set", "", "").expect("the images are sound");
    assert_eq!(source.entries(Split::Train).len(), 12);
    assert_eq!(note(&*source, "special-files").count, 2);
    for (path, found) in [(pipe.as_path(), "a FIFO"), ("/dev/zero".as_ref(), "a character device")] {
        for options in [
            OpenOptions { train: Some(path.to_owned()), ..OpenOptions::default() },
            OpenOptions { devkit: Some(path.to_owned()), ..fixture.options("set", "", "") },
        ] {
            let error = error(open(&options));
            assert!(matches!(error, SourceError::NotAFile { .. }), "{error}");
            assert!(error.to_string().contains(found), "{error}");
        }
    }
}

#[test]
fn links_that_multiply_are_refused_at_once() {
    let fixture = Fixture::new();
    // 2^24 paths lead to the images.
    for level in 0..24 {
        fs::create_dir_all(fixture.path(&format!("l{level}"))).expect("the temporary folder is writable");
        for name in ["a", "b"] {
            let link = fixture.path(&format!("l{level}/{name}"));
            symlink(fixture.path(&format!("l{}", level + 1)), link).expect("the temporary folder has links");
        }
    }
    fixture.write("l24/0.jpg", "");
    let error = error(fixture.open("l0", "", ""));
    assert!(matches!(error, SourceError::TooManyLinks { .. }), "{error}");
}

#[test]
fn images_without_the_name_of_one_are_taken_by_their_content_and_counted() {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    let tiff = b"II*\0\x08\0\0\0".to_vec();
    let files: Vec<(String, Vec<u8>)> = [
        ("a/0.jpg", content("0")),
        ("a/1", b"\xff\xd8\xff\xe0\0\x10JFIF".to_vec()),
        ("a/2.dat", png.clone()),
        ("a/.3", png.clone()),
        ("a/4.nef", tiff.clone()),
        ("b/5.scan", tiff),
        ("b/notes.txt", b"BM is a class of its own, as said in the notes".to_vec()),
        ("b/README", b"P5 4 classes".to_vec()),
        ("b/6", Vec::new()),
        ("b/Thumbs.db", png),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into();
    let fixture = Fixture::new();
    fixture.write_all(&below("set/", files.clone()));
    fixture.write("set.tar", tar_bytes(&files));
    let inner = |class: &str| {
        let files = files.iter().filter_map(|(name, bytes)| {
            Some((name.strip_prefix(class)?.strip_prefix('/')?.to_owned(), bytes.clone()))
        });
        (format!("{class}.tar"), tar_bytes(&files.collect::<Vec<_>>()))
    };
    fixture.write("tars.tar", tar_bytes(&[inner("a"), inner("b")]));
    for path in ["set", "set.tar", "tars.tar"] {
        let source = open(&fixture.options(path, "", "")).unwrap_or_else(|error| panic!("{path}: {error}"));
        let keys: Vec<&str> = source.entries(Split::Train).iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["a/0.jpg", "a/1", "a/2.dat", "b/5.scan"], "{path}");
        let taken = note(&*source, "taken-by-content");
        assert_eq!(taken.names, owned(&["a/1", "a/2.dat", "b/5.scan"]), "{path}");
        let message = "3 files were taken for an image by content: 1 .dat, 1 .scan, 1 without an extension";
        assert_eq!(taken.message, message, "{path}");
        let passed_over = note(&*source, "passed-over");
        for name in ["a/4.nef", "b/notes.txt", "b/README", "b/6"] {
            assert!(passed_over.names.contains(&name.to_owned()), "{path}: {:?}", passed_over.names);
        }
    }
}
