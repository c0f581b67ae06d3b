//! Real photos from the folder named by `FOVEA_TEST_DATA`; without it these tests only say that they were
//! skipped.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use fovea_pipeline::Split;

use super::conformance;
use crate::{OpenOptions, open};

/// A file or folder of the test data.
fn test_data(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("FOVEA_TEST_DATA").map(|root| PathBuf::from(root).join(name));
    if path.is_none() {
        eprintln!("skipped: FOVEA_TEST_DATA is not set, {name} is needed");
    }
    path
}

#[test]
fn a_small_imagenet_has_the_expected_labels() {
    let Some(folder) = test_data("ilsvrc2012-mini") else { return };
    let options = OpenOptions {
        train: Some(folder.join("ILSVRC2012_img_train.tar")),
        val: Some(folder.join("ILSVRC2012_img_val.tar")),
        devkit: Some(folder.join("ILSVRC2012_devkit_t12.tar.gz")),
        ..OpenOptions::default()
    };
    let by_folder = OpenOptions { train: Some(folder.clone()), ..OpenOptions::default() };
    for options in [options, by_folder] {
        let source = open(&options).expect("the files are in the official layout");
        conformance::check(&*source);
        assert_eq!(source.entries(Split::Train).len(), 400);
        assert_eq!(source.entries(Split::Val).len(), 100);

        let synsets = fs::read_to_string(folder.join("synsets.txt")).expect("the list is there");
        let expected: Vec<(&str, &str)> = synsets.lines().filter_map(|line| line.split_once(' ')).collect();
        let classes: Vec<(&str, &str)> =
            source.classes().iter().map(|class| (class.wnid.as_str(), class.name.as_str())).collect();
        assert_eq!(classes.len(), 1000);
        assert_eq!(classes, expected);

        let labels =
            fs::read_to_string(folder.join("val_labels_expected.tsv")).expect("the labels are there");
        let labels: HashMap<&str, &str> = labels.lines().filter_map(|line| line.split_once('\t')).collect();
        for entry in source.entries(Split::Val) {
            let wnid = source.classes()[entry.label as usize].wnid.as_str();
            assert_eq!(Some(&wnid), labels.get(entry.key.as_str()), "label of {}", entry.key);
        }
        for entry in source.entries(Split::Train) {
            let wnid = &source.classes()[entry.label as usize].wnid;
            assert!(entry.key.starts_with(wnid.as_str()), "{entry:?} is labelled {wnid}");
        }
    }
}

#[test]
fn cifar10_as_a_gzipped_tar_of_folders() {
    let Some(path) = test_data("cifar10-jpeg.tar.gz") else { return };
    let source =
        open(&OpenOptions { train: Some(path), ..OpenOptions::default() }).expect("the archive is sound");
    conformance::check(&*source);
    assert_eq!(source.name(), "tar-of-folders");
    assert_eq!(source.classes().len(), 10);
    assert_eq!(source.entries(Split::Train).len(), 50_000);
    assert_eq!(source.entries(Split::Val).len(), 10_000);
    let mut buffer = Vec::new();
    source.read(Split::Val, 9_999, &mut buffer).expect("the image can be read");
    assert!(buffer.starts_with(b"\xff\xd8\xff"), "a JPEG file begins like this");
}
