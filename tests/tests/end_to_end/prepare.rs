//! The result of a preparation.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use fovea_pipeline::Split;
use serde_json::Value;

use crate::support::*;

#[test]
fn every_image_of_a_folder_is_in_a_shard_once_with_its_label() {
    let folders = Folders::new(7, 3, 60);
    let out = folders.path().join("out");
    let summary =
        succeed(&mut prepare(folders.path(), &out, &["--size", "32", "--shard-size", "20000", "--json"]));
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["train"]["images"], 21);
    assert_eq!(summary["val"]["images"], 9);
    assert_eq!(summary["rejected"], 0);

    for (split, per_class) in [(Split::Train, 7), (Split::Val, 3)] {
        let mut found = records(&out, split);
        let in_order = found.is_sorted();
        assert_eq!(in_order, split == Split::Val, "training images are shuffled, validation images are not");
        found.sort();
        assert_eq!(found.len(), 3 * per_class);
        for (index, (key, label)) in found.iter().enumerate() {
            let (class, number) = (index / per_class, index % per_class);
            assert!(key.ends_with(&format!("n00{}_{number:03}.JPEG", class + 1)), "{key}");
            assert_eq!(*label, class as i64, "{key}");
        }
    }
    assert!(shards(&out, Split::Train).len() > 1, "a small shard size gives several shards");
    assert!(succeed(&mut prepare_imagenet(&["verify", text(&out)])).contains("all is well"));
    let inspected = succeed(&mut prepare_imagenet(&["inspect", text(&out), "--json"]));
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["statistics"], summary["statistics"]);
    assert_eq!(inspected["preparation"]["size"], 32);
    for class in inspected["images_of_classes"].as_array().unwrap() {
        assert_eq!((&class["train"], &class["val"]), (&7.into(), &3.into()), "{class}");
    }
    let inspected = succeed(&mut prepare_imagenet(&["inspect", text(&out)]));
    assert!(inspected.contains("          7         3  n002\n"), "{inspected}");
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_workers() {
    let folders = Folders::new(20, 5, 80);
    for encoding in ["raw", "jpeg"] {
        let out = |workers: &str| {
            let out = folders.path().join(format!("{encoding}-{workers}"));
            let options =
                ["--size", "48", "--shard-size", "50kB", "--encoding", encoding, "--workers", workers];
            succeed(&mut prepare(folders.path(), &out, &options));
            out
        };
        let one = out("1");
        for workers in ["2", "7"] {
            assert_same_content(&out(workers), &one);
        }
    }
}

#[test]
fn another_seed_gives_another_order_of_the_same_images() {
    let folders = Folders::new(12, 1, 40);
    let order = |seed: &str| {
        let out = folders.path().join(seed);
        succeed(&mut prepare(folders.path(), &out, &["--size", "8", "--seed", seed]));
        records(&out, Split::Train)
    };
    let (mut first, mut second) = (order("1"), order("2"));
    assert_ne!(first, second);
    first.sort();
    second.sort();
    assert_eq!(first, second);
}

#[test]
fn a_limit_takes_the_first_images_of_each_class() {
    let folders = Folders::new(5, 2, 40);
    let out = folders.path().join("out");
    succeed(&mut prepare(folders.path(), &out, &["--size", "8", "--limit-per-class", "2"]));
    let mut found = records(&out, Split::Train);
    found.sort();
    assert_eq!(found.len(), 6);
    assert!(found.iter().all(|(key, _)| key.contains("_000") || key.contains("_001")), "{found:?}");
}

#[test]
fn the_embedded_sample_needs_no_files() {
    let out = tempfile::tempdir().unwrap();
    let options = ["--embedded-sample", "--size", "28", "--limit-per-class", "20", "--out", text(out.path())];
    succeed(&mut prepare_imagenet(&options));
    assert_eq!(records(out.path(), Split::Train).len(), 200);
    assert_eq!(records(out.path(), Split::Val).len(), 200);
}

#[test]
fn wrong_usage_exits_with_code_2() {
    let folders = Folders::new(1, 1, 20);
    let out = folders.path().join("out");
    for options in
        [&["--size", "0"][..], &["--quality", "101"], &["--shard-size", "big"], &["--filter", "box"]]
    {
        fail(&mut prepare(folders.path(), &out, options), 2);
    }
    fail(&mut prepare_imagenet(&["--out", text(&out)]), 2);
}

#[test]
fn the_official_archives_give_the_right_label_for_every_validation_image() {
    let Some(data) = std::env::var_os("FOVEA_TEST_DATA") else {
        println!("skipped: FOVEA_TEST_DATA is not set");
        return;
    };
    let mini = Path::new(&data).join("ilsvrc2012-mini");
    let paths = ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"]
        .map(|name| mini.join(name));
    let out = tempfile::tempdir().unwrap();
    let options =
        ["--val", text(&paths[1]), "--devkit", text(&paths[2]), "--size", "64", "--encoding", "jpeg"];
    succeed(&mut prepare(&paths[0], out.path(), &options));

    let synsets = fs::read_to_string(mini.join("synsets.txt")).unwrap();
    let index_of: HashMap<&str, i64> = synsets
        .lines()
        .zip(0..)
        .map(|(line, index)| (line.split_whitespace().next().unwrap(), index))
        .collect();
    let expected = fs::read_to_string(mini.join("val_labels_expected.tsv")).unwrap();
    let found: HashMap<String, i64> = records(out.path(), Split::Val).into_iter().collect();
    assert_eq!(found.len(), 100);
    let mut compared = 0;
    for line in expected.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let Some(label) = found.get(fields[0]) else { continue };
        assert_eq!(*label, index_of[fields[1]], "{line}");
        compared += 1;
    }
    assert_eq!(compared, 100);
    let train = records(out.path(), Split::Train);
    assert_eq!(train.len(), 400);
    for (key, label) in train {
        let wnid = key.rsplit('/').next().unwrap().split('_').next().unwrap();
        assert_eq!(label, index_of[wnid], "{key}");
    }
}
