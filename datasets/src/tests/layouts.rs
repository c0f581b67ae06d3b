//! Every layout is detected and read correctly.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;

use fovea_pipeline::Split;

use super::conformance;
use super::fixtures::*;
use crate::{EmbeddedSample, Layout, OpenOptions, Payload, Source, open};

/// Runs the conformance suite and checks labels and content against the fixtures' images.
fn check(source: &dyn Source, name: &str) {
    conformance::check(source);
    assert_eq!(source.name(), name);
    let wnids: Vec<&str> = source.classes().iter().map(|class| class.wnid.as_str()).collect();
    assert_eq!(wnids, WNIDS);
    check_train(source);
    check_val(source);
}

fn check_train(source: &dyn Source) {
    let entries = source.entries(Split::Train);
    assert_eq!(entries.len(), WNIDS.len() * TRAIN_PER_CLASS);
    for (index, entry) in entries.iter().enumerate() {
        let wnid = &source.classes()[entry.label as usize].wnid;
        let file = entry.key.rsplit('/').next().expect("a key has a last part");
        assert!(file.starts_with(wnid.as_str()), "{entry:?} is labelled {wnid}");
        assert_content(source, Split::Train, index, &content(&format!("{wnid}/{file}")));
    }
}

fn check_val(source: &dyn Source) {
    let entries = source.entries(Split::Val);
    assert_eq!(entries.len(), VAL_CLASSES.len());
    for (index, entry) in entries.iter().enumerate() {
        let file = entry.key.rsplit('/').next().expect("a key has a last part");
        let number: usize = file[15..23].parse().expect("the name holds a number");
        let wnid = &source.classes()[entry.label as usize].wnid;
        assert_eq!(wnid, WNIDS[VAL_CLASSES[number - 1]], "label of {}", entry.key);
        assert_content(source, Split::Val, index, &content(file));
    }
}

fn assert_content(source: &dyn Source, split: Split, index: usize, expected: &[u8]) {
    let mut buffer = Vec::new();
    let payload = source.read(split, index, &mut buffer).expect("the image can be read");
    let key = &source.entries(split)[index].key;
    assert!(payload == Payload::File(expected), "{split} image {key} has other content");
}

#[test]
fn official_tars_with_devkit() {
    let fixture = ilsvrc_tars();
    let source = fixture.open("train.tar", "val.tar", "devkit.tar.gz").expect("the fixture is sound");
    check(&*source, "ilsvrc2012-tars");
    let ids: Vec<_> = source.classes().iter().map(|class| class.ilsvrc_id).collect();
    assert_eq!(ids, [Some(3), Some(1), Some(2)]);
    assert_eq!(source.classes()[0].name, "tench, Tinca tinca");
}

#[test]
fn official_training_tar_alone_takes_its_classes_from_the_inner_tars() {
    let fixture = ilsvrc_tars();
    let source = fixture.open("train.tar", "", "").expect("the fixture is sound");
    conformance::check(&*source);
    check_train(&*source);
    assert_eq!(source.entries(Split::Val), []);
    assert_eq!(source.classes()[1].name, WNIDS[1]);
}

#[test]
fn official_validation_tar_alone_needs_only_the_devkit() {
    let fixture = ilsvrc_tars();
    let source = fixture.open("", "val.tar", "devkit.tar.gz").expect("the fixture is sound");
    conformance::check(&*source);
    check_val(&*source);
    assert_eq!(source.entries(Split::Train), []);
}

#[test]
fn official_tars_are_found_in_their_folder() {
    let fixture = Fixture::new();
    fixture.write("set/ILSVRC2012_img_train.tar", train_tar());
    fixture.write("set/ILSVRC2012_img_val.tar", tar_bytes(&val_files()));
    fixture.write("set/ILSVRC2012_devkit_t12.tar.gz", gzip(&tar_bytes(&devkit_files(2012, &ground_truth()))));
    check(&*fixture.open("set", "", "").expect("the fixture is sound"), "ilsvrc2012-tars");
}

#[test]
fn the_validation_tar_may_hold_its_images_in_a_folder() {
    for prefix in ["val/", "./ILSVRC2012_img_val/"] {
        let fixture = ilsvrc_tars();
        fixture.write("val.tar", tar_bytes(&below(prefix, val_files())));
        let source = fixture.open("train.tar", "val.tar", "devkit.tar.gz").expect("the fixture is sound");
        check(&*source, "ilsvrc2012-tars");
    }
}

#[test]
fn the_devkit_of_2010() {
    let fixture = ilsvrc_tars();
    fixture.write("devkit.tar.gz", gzip(&tar_bytes(&devkit_files(2010, &ground_truth()))));
    let source = fixture.open("train.tar", "val.tar", "devkit.tar.gz").expect("the fixture is sound");
    check(&*source, "ilsvrc2010-tars");
}

#[test]
fn the_devkit_may_be_unpacked() {
    let fixture = ilsvrc_tars();
    fixture.write_all(&devkit_files(2012, &ground_truth()));
    fixture.write_all(&below("around/", devkit_files(2012, &ground_truth())));
    for devkit in ["kit", "kit/data", "around"] {
        check(
            &*fixture.open("train.tar", "val.tar", devkit).expect("the fixture is sound"),
            "ilsvrc2012-tars",
        );
    }
}

#[test]
fn a_folder_with_both_splits() {
    let fixture = folders();
    check(&*fixture.open("set", "", "").expect("the fixture is sound"), "folders");
}

#[test]
fn splits_in_separate_folders() {
    let fixture = folders();
    check(&*fixture.open("set/train", "set/val", "").expect("the fixture is sound"), "folders");
    check(&*fixture.open("set", "set", "").expect("the fixture is sound"), "folders");
}

#[test]
fn training_tar_and_validation_folder_go_together() {
    let fixture = ilsvrc_tars();
    fixture.write_all(&below("val/", val_tree()));
    fixture.write_all(&below("flat/", val_files()));
    check(&*fixture.open("train.tar", "val", "").expect("the fixture is sound"), "ilsvrc2012-tars");
    check(
        &*fixture.open("train.tar", "flat", "devkit.tar.gz").expect("the fixture is sound"),
        "ilsvrc2012-tars",
    );
}

#[test]
fn a_folder_tree_and_the_tars_give_the_same_training_keys() {
    let (tars, tree) = (ilsvrc_tars(), folders());
    let tars = tars.open("train.tar", "", "").expect("the fixture is sound");
    let tree = tree.open("set", "", "").expect("the fixture is sound");
    assert_eq!(tars.entries(Split::Train), tree.entries(Split::Train));
}

#[test]
fn extensions_in_any_case_and_nothing_else() {
    let fixture = Fixture::new();
    for name in ["a.jpg", "b.JPG", "c.jpeg", "d.JPEG", "e.Png", "f.mp4", "g.txt", "._h.jpg", "jpg", "i.j.jpg"]
    {
        fixture.write(&format!("set/train/cat/{name}"), name);
        fixture.write(&format!("set/train/dog/{name}"), name);
    }
    let source = fixture.open("set", "", "").expect("the fixture is sound");
    let keys: Vec<&str> = source.entries(Split::Train).iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys[..6], ["cat/a.jpg", "cat/b.JPG", "cat/c.jpeg", "cat/d.JPEG", "cat/e.Png", "cat/i.j.jpg"]);
    assert_eq!(keys.len(), 12);
}

#[test]
fn links_to_files_and_folders_are_followed() {
    let fixture = folders();
    let link = |target: &str, name: &str| {
        let path = fixture.path(name);
        fs::create_dir_all(path.parent().expect("the path lies in the temporary folder")).expect("a folder");
        symlink(fixture.path(target), path).expect("the temporary folder has links");
    };
    link(&format!("set/train/{}", WNIDS[0]), &format!("linked/train/{}", WNIDS[0]));
    link(&format!("set/train/{}", WNIDS[1]), &format!("linked/train/{}", WNIDS[1]));
    let files = train_files().into_iter().filter(|(name, _)| name.starts_with(WNIDS[2]));
    files.for_each(|(name, _)| link(&format!("set/train/{name}"), &format!("linked/train/{name}")));
    link("set/val", "linked/val");
    check(&*fixture.open("linked", "", "").expect("the fixture is sound"), "folders");
}

#[test]
fn folders_below_those_of_classes_belong_to_them() {
    let fixture = Fixture::new();
    for name in ["cat/a.jpg", "cat/more/a.jpg", "cat/more/still/a.jpg", "dog/a.jpg"] {
        fixture.write(&format!("set/train/{name}"), name);
    }
    let source = fixture.open("set", "", "").expect("the fixture is sound");
    let entries: Vec<(&str, u32)> =
        source.entries(Split::Train).iter().map(|entry| (entry.key.as_str(), entry.label)).collect();
    let expected = [("cat/a.jpg", 0), ("cat/more/a.jpg", 0), ("cat/more/still/a.jpg", 0), ("dog/a.jpg", 1)];
    assert_eq!(entries, expected);
}

#[test]
fn flat_validation_folder_with_devkit() {
    let fixture = ilsvrc_tars();
    fixture.write_all(&below("set/train/", train_files()));
    fixture.write_all(&below("set/val/", val_files()));
    check(&*fixture.open("set", "", "devkit.tar.gz").expect("the fixture is sound"), "folders");
    check(&*fixture.open("set/train", "set/val", "devkit.tar.gz").expect("the fixture is sound"), "folders");
}

#[test]
fn kaggle_labels_are_joined_by_id() {
    let fixture = kaggle();
    for root in ["kaggle", "kaggle/ILSVRC", "kaggle/ILSVRC/Data/CLS-LOC"] {
        let source = fixture.open(root, "", "").expect("the fixture is sound");
        check(&*source, "kaggle");
        assert_eq!(source.classes()[2].name, "kit fox, Vulpes macrotis");
    }
}

#[test]
fn kaggle_as_a_tar_with_the_tables_in_it_or_beside_it() {
    let fixture = kaggle();
    let data = || {
        let splits = [("train", train_files()), ("val", val_files())];
        splits.into_iter().flat_map(|(split, files)| below(&format!("ILSVRC/Data/CLS-LOC/{split}/"), files))
    };
    let tables = ["LOC_val_solution.csv", "LOC_synset_mapping.txt"].map(|name| {
        (name.to_owned(), fs::read(fixture.path("kaggle").join(name)).expect("the fixture has it"))
    });
    let outside: Vec<_> = data().chain([("ILSVRC/Annotations/a.xml".to_owned(), vec![1])]).collect();
    fixture.write("kaggle/imagenet.tar", tar_bytes(&outside));
    fixture.write("kaggle/imagenet.tar.gz", gzip(&tar_bytes(&outside)));
    let inside: Vec<_> = tables.into_iter().chain(data()).collect();
    fixture.write("whole.tar", tar_bytes(&inside));
    fixture.write("around.tar", tar_bytes(&below("some/folder/", inside)));
    for path in ["kaggle/imagenet.tar", "kaggle/imagenet.tar.gz", "whole.tar", "around.tar"] {
        let source = fixture.open(path, "", "").unwrap_or_else(|error| panic!("{path}: {error}"));
        check(&*source, "kaggle");
        assert_eq!(source.classes()[0].name, "tench, Tinca tinca");
    }
    fs::remove_file(fixture.path("kaggle/LOC_val_solution.csv")).expect("the temporary folder is writable");
    let error = error(fixture.open("kaggle/imagenet.tar", "", "")).to_string();
    assert!(error.contains("LOC_val_solution.csv is missing; put it next to"), "{error}");
    // Without the tables it is a tree of folders, for which a development kit has the labels.
    fixture.write("alone/imagenet.tar", tar_bytes(&outside));
    fixture.write("devkit.tar.gz", gzip(&tar_bytes(&devkit_files(2012, &ground_truth()))));
    let source = fixture.open("alone/imagenet.tar", "", "devkit.tar.gz").expect("the fixture is sound");
    check(&*source, "tar-of-folders");
}

#[test]
fn tiny_imagenet_200() {
    let fixture = tiny_imagenet();
    for root in ["tiny-imagenet-200", "."] {
        let source = fixture.open(root, "", "").expect("the fixture is sound");
        check(&*source, "tiny-imagenet");
        assert_eq!(source.classes()[0].name, "tench, Tinca tinca");
    }
}

#[test]
fn the_folders_of_tiny_imagenet_200_given_one_by_one() {
    let fixture = tiny_imagenet();
    let whole = fixture.open("tiny-imagenet-200", "", "").expect("the fixture is sound");
    let parts = fixture.open("tiny-imagenet-200/train", "tiny-imagenet-200/val", "");
    let parts = parts.expect("the annotations are in the folder of the validation images");
    for split in Split::ALL {
        assert_eq!(parts.entries(split), whole.entries(split));
    }
    let wnids =
        |source: &dyn Source| source.classes().iter().map(|class| class.wnid.clone()).collect::<Vec<_>>();
    assert_eq!(wnids(&*parts), wnids(&*whole));
    let alone = fixture.open("", "tiny-imagenet-200/val", "").expect("they have labels");
    assert_eq!(alone.entries(Split::Val).len(), whole.entries(Split::Val).len());
}

#[test]
fn tiny_imagenet_200_in_a_tar() {
    let fixture = tiny_imagenet();
    let root = fixture.path("tiny-imagenet-200");
    for prefix in ["", "./tiny-imagenet-200", "any/folders"] {
        let mut tar = tar::Builder::new(Vec::new());
        let place = if prefix.is_empty() { "." } else { prefix };
        tar.append_dir_all(place, &root).expect("memory can be written");
        let tar = tar.into_inner().expect("memory can be written");
        fixture.write("tiny.tar", &tar);
        fixture.write("tiny.tar.gz", gzip(&tar));
        for name in ["tiny.tar", "tiny.tar.gz"] {
            let source = fixture.open(name, "", "").expect("the fixture is sound");
            check(&*source, "tiny-imagenet");
            assert_eq!(source.classes()[0].name, "tench, Tinca tinca");
            let on_disk = fixture.open("tiny-imagenet-200", "", "").expect("the fixture is sound");
            for split in Split::ALL {
                assert_eq!(source.entries(split), on_disk.entries(split), "{name} with {prefix:?}");
            }
            let said = |source: &dyn Source| {
                let notes = source.notes().iter();
                notes.map(|note| (note.kind, note.message.clone())).collect::<Vec<_>>()
            };
            assert!(said(&*source).iter().any(|(kind, _)| *kind == "unlabelled-test"));
            assert_eq!(said(&*source), said(&*on_disk), "{name} with {prefix:?}");
        }
    }
}

#[test]
fn tars_of_folders_plain_and_gzipped() {
    let mut files = below("./set/train/", train_files());
    files.extend(below("./set/test/", val_tree()));
    files.push(("./set/readme.txt".to_owned(), b"read me".to_vec()));
    let tar = tar_bytes(&files);
    let fixture = Fixture::new();
    fixture.write("set.tar", &tar);
    fixture.write("set.tar.gz", gzip(&tar));
    for name in ["set.tar", "set.tar.gz"] {
        check(&*fixture.open(name, "", "").expect("the fixture is sound"), "tar-of-folders");
    }
    assert_eq!(entries_of(fixture.dir.path()), ["set.tar", "set.tar.gz"], "the inflated file has no name");
}

#[test]
fn a_tar_of_classes_belongs_to_the_split_that_it_is_given_for() {
    let fixture = Fixture::new();
    fixture.write("train.tar", tar_bytes(&below("images/", train_files())));
    fixture.write("val.tar.gz", gzip(&tar_bytes(&val_tree())));
    check(&*fixture.open("train.tar", "val.tar.gz", "").expect("the fixture is sound"), "tar-of-folders");
}

#[test]
fn names_of_any_length_in_tars() {
    let long = "x".repeat(180);
    let files: Vec<_> =
        ["cat", "dog"].map(|class| (format!("train/{class}/{long}/{long}.jpg"), content(class))).into();
    let fixture = Fixture::new();
    fixture.write("set.tar", tar_bytes(&files));
    let source = fixture.open("set.tar", "", "").expect("the fixture is sound");
    assert_eq!(source.entries(Split::Train)[1].key, format!("dog/{long}/{long}.jpg"));
    assert_content(&*source, Split::Train, 1, &content("dog"));
}

#[test]
fn cifar10_folder_and_archive() {
    let fixture = Fixture::new();
    let files = below("cifar-10-batches-bin/", cifar_files(12));
    fixture.write_all(&below("set/", files.clone()));
    fixture.write("cifar-10-binary.tar.gz", gzip(&tar_bytes(&files)));
    for path in ["set", "set/cifar-10-batches-bin", "cifar-10-binary.tar.gz"] {
        let source = fixture.open(path, "", "").expect("the fixture is sound");
        conformance::check(&*source);
        assert_eq!(source.name(), "cifar10");
        assert_eq!((source.entries(Split::Train).len(), source.entries(Split::Val).len()), (60, 12));
        let entry = &source.entries(Split::Train)[13];
        assert_eq!((entry.key.as_str(), entry.label), ("data_batch_2/00001", 3));
        assert_eq!(source.classes()[3].name, "cat");
        let mut buffer = Vec::new();
        let Payload::Pixels { width: 32, height: 32, rgb } =
            source.read(Split::Train, 13, &mut buffer).expect("the image can be read")
        else {
            panic!("CIFAR-10 has pixels of 32×32");
        };
        // Pixel 7 of image 1 of batch 2: 7 + 1 + 2, and 80 more for each plane.
        assert_eq!(rgb[21..24], [10, 90, 170]);
    }
}

#[test]
fn the_embedded_sample_is_balanced_and_looks_like_clothes() {
    let sample = EmbeddedSample::new();
    conformance::check(&sample);
    let mut mean_by_class = [0.0; 10];
    let (mut seen, mut repeated) = (HashSet::new(), 0);
    for (split, per_class) in [(Split::Train, 600), (Split::Val, 100)] {
        let mut counts = [0; 10];
        for (index, entry) in sample.entries(split).iter().enumerate() {
            counts[entry.label as usize] += 1;
            let mut buffer = Vec::new();
            let Ok(Payload::Pixels { width: 28, height: 28, rgb }) = sample.read(split, index, &mut buffer)
            else {
                panic!("the sample has pixels of 28×28");
            };
            let mean = rgb.iter().map(|&b| f64::from(b)).sum::<f64>() / rgb.len() as f64;
            assert!(mean > 1.0, "{split} image {} is blank", entry.key);
            repeated += usize::from(!seen.insert(rgb.to_vec()));
            mean_by_class[entry.label as usize] += mean / 700.0;
        }
        assert_eq!(counts, [per_class; 10]);
    }
    // Fashion-MNIST has a few images twice. With validation images from the wrong rows there would be
    // hundreds.
    assert!(repeated < 10, "{repeated} images are there twice");
    // Sandals are mostly background, coats fill the picture; the means of the whole data set are 35 and 98.
    let (sandal, coat) = (mean_by_class[5], mean_by_class[4]);
    assert!((sandal - 35.0).abs() < 3.0 && (coat - 98.0).abs() < 3.0, "sandal {sandal:.1}, coat {coat:.1}");
    assert_eq!(sample.classes()[0].name, "T-shirt/top");
}

#[test]
fn layout_names_can_be_parsed_and_override_the_detection() {
    for layout in Layout::ALL {
        assert_eq!(layout.name().parse(), Ok(layout));
    }
    let message = "imagenet".parse::<Layout>().expect_err("there is no such layout").to_string();
    assert!(message.contains("\"imagenet\"") && message.contains("ilsvrc-tars"), "{message}");
    // As folders, Tiny-ImageNet's training images are those of an ordinary tree.
    let fixture = tiny_imagenet();
    let options =
        OpenOptions { layout: Some(Layout::Folders), ..fixture.options("tiny-imagenet-200/train", "", "") };
    assert_eq!(open(&options).expect("the fixture is sound").name(), "folders");
}

#[test]
fn archives_with_absolute_names_are_those_with_relative_ones() {
    let expected = ilsvrc_tars().open("train.tar", "val.tar", "devkit.tar.gz").expect("they are sound");
    for prefix in ["/", "/data/imagenet/", "./", "//data/./", "data/../", "/a/b/../../"] {
        let inner = |wnid: &str| {
            let files = train_files().into_iter();
            let files = files.filter_map(|(name, content)| {
                Some((format!("{prefix}{}", name.strip_prefix(&format!("{wnid}/"))?), content))
            });
            (format!("{prefix}{wnid}.tar"), tar_as_named(&files.collect::<Vec<_>>()))
        };
        let fixture = Fixture::new();
        fixture.write("train.tar", tar_as_named(&WNIDS.map(inner)));
        fixture.write("val.tar", tar_as_named(&below(prefix, val_files())));
        let devkit = below(prefix, devkit_files(2012, &ground_truth()));
        fixture.write("devkit.tar.gz", gzip(&tar_as_named(&devkit)));
        let source = fixture.open("train.tar", "val.tar", "devkit.tar.gz").expect("they are sound");
        assert_eq!(source.classes(), expected.classes(), "{prefix}");
        for split in Split::ALL {
            assert_eq!(source.entries(split).len(), expected.entries(split).len(), "{prefix}");
            for (entry, expected) in source.entries(split).iter().zip(expected.entries(split)) {
                assert_eq!((&entry.key, entry.label), (&expected.key, expected.label), "{prefix}");
            }
        }
        let renamed: u64 =
            source.notes().iter().filter(|note| note.kind == "renamed-members").map(|note| note.count).sum();
        // Three archives of four images each, and five images for validation.
        assert_eq!(renamed, if prefix == "./" { 0 } else { 3 + 12 + 5 }, "{prefix}");
    }
}
