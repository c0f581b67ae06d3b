//! `preview_augmentations` and `bench_loader`: previews of a data set, and the loader's speed.

use std::fs;
use std::path::Path;
use std::process::Command;

use fovea_pipeline::Split;
use image::ImageFormat;
use serde_json::Value;

use crate::support::*;

fn preview(source: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(fovea_tests::tool("preview_augmentations"));
    command.args([text(source), "--out", text(out)]).args(more);
    command
}

/// Width and height of the sheet that a preview has drawn.
fn sheet(source: &Path, more: &[&str]) -> (u32, u32) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sheet.png");
    succeed(&mut preview(source, &out, more));
    image::image_dimensions(&out).unwrap()
}

#[test]
fn a_preview_shows_an_image_a_folder_or_a_data_set() {
    let folders = Folders::new(2, 0, 300);
    let class = folders.path().join("train/n001");
    let image = fs::read_dir(&class).unwrap().next().unwrap().unwrap().path();
    let (width, one_row) = sheet(&image, &["--count", "2"]);
    assert_eq!(width, 14 + 256 + 2 * (224 + 14) + 2 * 14);
    let (_, two_rows) = sheet(&class, &["--count", "2"]);
    assert_eq!(two_rows - 14, 2 * (one_row - 14));
    fs::write(class.join("notes.txt"), "no image").unwrap();
    let (_, limited) = sheet(&class, &["--count", "2", "--rows", "1"]);
    assert_eq!(limited, one_row);

    for encoding in ["raw", "jpeg"] {
        let shards = folders.path().join(encoding);
        succeed(&mut prepare(folders.path(), &shards, &["--encoding", encoding]));
        assert_eq!(sheet(&shards, &["--count", "2", "--rows", "1"]), (width, one_row));
        let (ten_crop, _) = sheet(&shards, &["--ten-crop"]);
        assert_eq!(ten_crop, 14 + 256 + 10 * (224 + 14) + 2 * 14);
        let (nine_crop, _) = sheet(&shards, &["--views", "nine-crop"]);
        assert_eq!(nine_crop, 14 + 256 + 9 * (224 + 14) + 2 * 14);
        let (recipe, _) = sheet(&shards, &["--count", "2", "--recipe", "alexnet"]);
        assert_eq!(recipe, width);
    }
}

#[test]
fn a_preview_shows_images_of_the_size_that_a_recipe_trains_on() {
    let folders = Folders::new(1, 0, 300);
    let class = folders.path().join("train/n001");
    // 28 pixels and crops of 24, seven times as large.
    let (width, _) = sheet(&class, &["--count", "2", "--rows", "1", "--recipe", "demo"]);
    assert_eq!(width, 14 + 7 * 28 + 2 * (7 * 24 + 14) + 2 * 14);
    let shards = folders.path().join("shards");
    succeed(&mut prepare(folders.path(), &shards, &["--size", "32"]));
    let out = folders.path().join("sheet.png");
    let error = fail(&mut preview(&shards, &out, &["--recipe", "demo"]), 2);
    assert!(
        error.contains("32 pixels a side, recipe `demo` needs 28") && !error.contains("--set"),
        "{error}"
    );
    assert!(!out.exists());
}

#[test]
fn a_preview_is_the_same_for_the_same_seed() {
    let folders = Folders::new(2, 0, 300);
    let draw = |seed: &str| {
        let out = folders.path().join("sheet.png");
        let source = folders.path().join("train/n001");
        succeed(&mut preview(&source, &out, &["--seed", seed]));
        fs::read(out).unwrap()
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn a_preview_of_a_file_that_is_no_image_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sheet.png");
    let missing = fail(&mut preview(&folder.path().join("none.jpg"), &out, &[]), 1);
    assert!(missing.contains("cannot open") && missing.contains("none.jpg"), "{missing}");
    let empty = fail(&mut preview(folder.path(), &out, &[]), 1);
    assert!(empty.contains("neither a prepared data set"), "{empty}");
    let page = folder.path().join("page.jpg");
    fs::write(&page, "<html>").unwrap();
    let page = fail(&mut preview(&page, &out, &[]), 1);
    assert!(page.contains("page.jpg") && page.contains("text that begins with"), "{page}");
    let photo = folder.path().join("photo.png");
    picture(300, 300, 1).save_with_format(&photo, ImageFormat::Png).unwrap();
    let rows = fail(&mut preview(&photo, &out, &["--rows", "0"]), 2);
    assert!(rows.contains("--rows") && rows.contains("expected 1 to 64 images"), "{rows}");
    let recipe = fail(&mut preview(&photo, &out, &["--recipe", "alexnett"]), 2);
    assert!(recipe.contains("alexnet"), "{recipe}");
    let unwritable = fail(&mut preview(&photo, &folder.path().join("no/sheet.png"), &[]), 1);
    assert!(unwritable.contains("cannot write"), "{unwritable}");
}

#[test]
fn the_benchmark_prints_one_object_for_each_number_of_workers() {
    let folders = Folders::new(8, 0, 40);
    let shards = folders.path().join("shards");
    succeed(&mut prepare(folders.path(), &shards, &["--size", "32"]));
    let mapped_bytes: u64 = crate::support::shards(&shards, Split::Train)
        .iter()
        .map(|shard| fs::metadata(shard).unwrap().len())
        .sum();
    for (form, value_bytes) in [("u8", 1.0), ("f16", 2.0), ("f32", 4.0)] {
        let mut bench = Command::new(fovea_tests::tool("bench_loader"));
        bench.args([
            text(&shards),
            "--workers",
            "1,3",
            "--form",
            form,
            "--batch",
            "4",
            "--epochs",
            "2",
            "--json",
        ]);
        let printed = succeed(&mut bench);
        let measured: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(measured.len(), 2);
        for (measured, workers) in measured.iter().zip([1, 3]) {
            assert_eq!((measured["encoding"].as_str(), measured["form"].as_str()), (Some("raw"), Some(form)));
            assert_eq!((measured["workers"].as_u64(), measured["batch"].as_u64()), (Some(workers), Some(4)));
            for key in [
                "images_per_s",
                "peak_rss_bytes",
                "memcpy_bytes_per_s",
                "ceiling_images_per_s",
                "ratio_to_ceiling",
            ] {
                assert!(measured[key].as_f64().unwrap() > 0.0, "{key}: {measured}");
            }
            assert!(measured["cpu_s_per_1000"].is_f64());
            assert_eq!(measured["mapped_bytes"].as_u64(), Some(mapped_bytes));
            // The crop is 7/8 of the side of 32 pixels.
            let image_bytes =
                measured["bytes_per_s"].as_f64().unwrap() / measured["images_per_s"].as_f64().unwrap();
            assert!((image_bytes - 3.0 * 28.0 * 28.0 * value_bytes).abs() < 1e-6, "{measured}");
            assert!((0.0..=1.0).contains(&measured["consumer_wait_share"].as_f64().unwrap()), "{measured}");
        }
    }
    let mut resized = Command::new(fovea_tests::tool("bench_loader"));
    let list = r#"[{ op = "random_resized_crop" }, { op = "color_jitter", hue = 0.1 }]"#;
    let more = ["--augment", list, "--crop", "24", "--batch", "4", "--epochs", "1", "--json"];
    let printed = succeed(resized.args([text(&shards), "--workers", "2", "--form", "f16"]).args(more));
    let measured: Value = serde_json::from_str(&printed).unwrap();
    let names: Vec<_> = measured["augment"].as_array().unwrap().iter().map(|name| name.as_str()).collect();
    assert_eq!(names, [Some("random_resized_crop"), Some("color_jitter")]);
    assert!(measured["ratio_to_ceiling"].as_f64().unwrap() > 0.0, "{measured}");
    let bytes = measured["bytes_per_s"].as_f64().unwrap() / measured["images_per_s"].as_f64().unwrap();
    assert!((bytes - 2.0 * 3.0 * 24.0 * 24.0).abs() < 1e-6, "{measured}");
    for (augment, word) in [("random_corp", "there is no augmentation"), ("no.toml", "cannot read no.toml")] {
        let mut bench = Command::new(fovea_tests::tool("bench_loader"));
        let error = fail(bench.args([text(&shards), "--augment", augment]), 2);
        assert!(error.contains(word), "{error}");
    }

    let mut large = Command::new(fovea_tests::tool("bench_loader"));
    let error = fail(large.args([text(&shards), "--batch", "1000"]), 1);
    assert!(error.contains("larger than the data set"), "{error}");
}
