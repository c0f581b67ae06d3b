//! Photos with a table of labels: several classes each, or numbers, from the photos to predictions.

use std::fs;

use image::ImageFormat;
use serde_json::Value;

use crate::support::*;

/// 40 photos, a table of their labels, and what the rest of the test calls them.
fn photos(header: &str, label: impl Fn(usize) -> String) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut table = format!("{header}\n");
    fs::create_dir(root.path().join("photos")).unwrap();
    for number in 0..40 {
        let name = format!("{number:02}.png");
        let bytes = encoded(&picture(30, 30, number as u32), ImageFormat::Png);
        fs::write(root.path().join("photos").join(&name), bytes).unwrap();
        let split = if number < 32 { "train" } else { "val" };
        table += &format!("{name},{split},{}\n", label(number));
    }
    fs::write(root.path().join("labels.csv"), table).unwrap();
    root
}

#[test]
fn photos_with_several_labels_or_numbers_are_prepared_trained_evaluated_and_predicted() {
    let several = |number: usize| ["sky", "sea;sky", "", "sea|tree"][number % 4].to_owned();
    let numbers = |number: usize| format!("{},{}", number as f64 / 8.0, number % 3);
    let cases = [
        (
            "file,split,labels",
            &several as &dyn Fn(usize) -> String,
            "binary_cross_entropy",
            "any of 3 classes",
        ),
        ("file,split,age,size", &numbers, "mean_squared_error", "2 numbers"),
    ];
    for (header, label, loss, described) in cases {
        let root = photos(header, label);
        let path = |name: &str| root.path().join(name);
        let (data, run) = (path("data"), path("run"));
        let table = path("labels.csv");
        let size = ["--labels", text(&table), "--size", "28"];
        let summary = succeed(&mut prepare(&path("photos"), &data, &size));
        assert!(summary.contains(described), "{summary}");
        assert!(succeed(&mut prepare_imagenet(&["verify", text(&data)])).contains("all is well"));
        let inspected = succeed(&mut prepare_imagenet(&["inspect", text(&data)]));
        assert!(inspected.contains(described) && inspected.contains("format 2"), "{inspected}");
        let listed = if loss.starts_with("binary") { "16         4  sea" } else { "number      age" };
        assert!(inspected.contains(listed), "{inspected}");

        // Without the loss for these labels.
        let begin = [
            "--data",
            text(&data),
            "--run",
            text(&run),
            "--recipe",
            "demo",
            "--epochs",
            "2",
            "--batch-size",
            "8",
        ];
        let refused = fail(&mut trainer(&begin), 2);
        assert!(refused.contains(&format!("--set training.loss={loss}")), "{refused}");
        let loss = format!("training.loss={loss}");
        let mixing = [
            "--set",
            &loss,
            "--set",
            "augmentation.mixup_alpha=0.4",
            "--set",
            "optimizer.learning_rate=0.001",
        ];
        let mut train = trainer(&[&begin[..], &mixing].concat());
        let output = train.output().unwrap();
        let printed = all_output(&output);
        assert_eq!(output.status.code(), Some(0), "{printed}");
        let [first, second] = match described {
            "2 numbers" => ["mean squared error ", "mean absolute error "],
            _ => ["exact-match error ", "label error "],
        };
        assert!(printed.contains(first) && printed.contains(second), "{printed}");

        let evaluated = succeed(&mut trainer(&["evaluate", text(&run), "--json"]));
        let evaluated: Value = serde_json::from_str(&evaluated).unwrap();
        let score = &evaluated["scores"]["center"];
        assert_eq!(score["images"], 8);
        assert!(score["top1"].as_f64().unwrap() >= 0.0 && score["top5"].as_f64().unwrap() > 0.0, "{score}");
        let ten = succeed(&mut trainer(&["evaluate", text(&run), "--ten-crop"]));
        assert!(ten.contains(first) && !ten.contains("top-1"), "{ten}");

        let photo = path("photos/03.png");
        let predicted = succeed(&mut trainer(&["predict", text(&run), text(&photo), "--json"]));
        let predicted: Value = serde_json::from_str(&predicted).unwrap();
        let predictions = predicted[0]["predictions"].as_array().unwrap();
        let shown = succeed(&mut trainer(&["predict", text(&run), text(&photo)]));
        if described == "2 numbers" {
            assert_eq!((&predictions[0]["name"], &predictions[1]["name"]), (&"age".into(), &"size".into()));
            assert!(predictions.iter().all(|number| number["value"].is_number()), "{predicted}");
            assert!(shown.contains("  age") && !shown.contains('%'), "{shown}");
        } else {
            // Each class has a probability of its own.
            let probabilities = predictions.iter().map(|class| class["probability"].as_f64().unwrap());
            assert!(probabilities.clone().all(|probability| (0.0..=1.0).contains(&probability)));
            assert!((probabilities.sum::<f64>() - 1.0).abs() > 1e-3, "{predicted}");
        }
        let onnx = path("network.onnx");
        succeed(&mut trainer(&["export", text(&run), "--out", text(&onnx)]));
        let page = path("report.html");
        succeed(&mut trainer(&["report", text(&run), "--out", text(&page)]));
        let page = fs::read_to_string(page).unwrap();
        assert!(
            page.contains(&format!("best {first}").trim_end().to_owned()) && !page.contains("top-1"),
            "{first}"
        );
    }
}

#[test]
fn a_table_that_does_not_fit_is_one_line_and_wrong_usage_is_exit_code_2() {
    let root = photos("file,split,labels", |_| "sky".into());
    let path = |name: &str| root.path().join(name);
    let (photos, out, table) = (path("photos"), path("data"), path("labels.csv"));
    fs::remove_file(path("photos/07.png")).unwrap();
    let message = fail(&mut prepare(&photos, &out, &["--labels", text(&table)]), 1);
    assert!(message.contains("labels.csv:9: no photo \"07.png\""), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    let both = fail(&mut prepare(&photos, &out, &["--labels", text(&table), "--val", text(&photos)]), 2);
    assert!(both.contains("--labels"), "{both}");
}
