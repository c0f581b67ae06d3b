//! Photos stored in their own proportions, from the files to predictions.

use std::fs;
use std::process::Command;

use image::ImageFormat;
use serde_json::Value;

use crate::support::*;

/// Width and height of the photos: landscapes, portraits, a square, panoramas, smaller and larger than
/// stored.
const SIZES: [(u32, u32); 8] =
    [(60, 40), (40, 60), (50, 50), (300, 30), (30, 480), (20, 10), (640, 32), (90, 70)];

/// Photos of three classes in both splits.
fn photos() -> Folders {
    let folders = Folders::new(0, 0, 0);
    for (split, count) in [("train", 24), ("val", 6)] {
        for number in 0..count {
            let (width, height) = SIZES[number % SIZES.len()];
            let photo = encoded(&picture(width, height, number as u32), ImageFormat::Jpeg);
            folders.add(split, ["a", "b", "c"][number % 3], &format!("{number:02}.jpg"), &photo);
        }
    }
    folders
}

#[test]
fn whole_photos_are_prepared_previewed_trained_evaluated_and_predicted() {
    let folders = photos();
    for encoding in ["raw", "jpeg"] {
        let path = |name: &str| folders.path().join(format!("{encoding}-{name}"));
        let (data, run, sheet) = (path("data"), path("run"), path("sheet.png"));
        let options = ["--shape", "keep", "--size", "28", "--shard-size", "40kB", "--encoding", encoding];
        let summary = succeed(&mut prepare(folders.path(), &data, &options));
        assert!(summary.contains("whole photos, shorter side 28 pixels"), "{summary}");
        assert!(summary.contains("3 photos longer than 16 to 1, of which the middle is stored"), "{summary}");
        assert!(succeed(&mut prepare_imagenet(&["verify", text(&data)])).contains("all is well"));
        let inspected = succeed(&mut prepare_imagenet(&["inspect", text(&data), "--json"]));
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!((&inspected["image_shape"], &inspected["format_version"]), (&"keep".into(), &3.into()));
        assert_eq!(inspected["cut_images"], 3);
        assert!(!data.join("mean_image.npy").exists());

        let mut preview = Command::new(fovea_tests::tool("preview_augmentations"));
        succeed(preview.args([text(&data), "--count", "2", "--out", text(&sheet)]));
        assert!(fs::metadata(&sheet).unwrap().len() > 1000);

        let begin = ["--data", text(&data), "--run", text(&run), "--recipe", "demo", "--epochs", "2"];
        let begin = [&begin[..], &["--batch-size", "8"]].concat();
        let refused = fail(&mut trainer(&begin), 2);
        assert!(
            refused.contains("no mean image") && refused.contains("input.mean = \"channel\""),
            "{refused}"
        );
        let mean = ["--set", "input.mean=channel", "--set", "augmentation.train=[{op=\"horizontal_flip\"}]"];
        let refused = fail(&mut trainer(&[&begin[..], &mean, &["--set", "input.crop_px=28"]].concat()), 2);
        assert!(refused.contains("random_resized_crop"), "{refused}");
        let crop = "augmentation.train=[{op=\"random_resized_crop\"},{op=\"horizontal_flip\"}]";
        let more = ["--set", "input.mean=channel", "--set", crop];
        succeed(&mut trainer(&[&begin[..], &more].concat()));
        for crops in ["--ten-crop", "--json"] {
            succeed(&mut trainer(&["evaluate", text(&run), crops]));
        }
        let photo = folders.path().join("val/b/01.jpg");
        let predicted = succeed(&mut trainer(&["predict", text(&run), text(&photo), "--json"]));
        let predicted: Value = serde_json::from_str(&predicted).unwrap();
        let probabilities = predicted[0]["predictions"].as_array().unwrap().iter();
        let sum = probabilities.map(|class| class["probability"].as_f64().unwrap()).sum::<f64>();
        assert!((sum - 1.0).abs() < 1e-3, "{predicted}");
    }
}
