//! `trainer` as a user runs it, with a small network.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;

use crate::support::*;

/// A prepared data set of three classes, 32 pixels, and room for runs.
pub struct Prepared {
    pub folders: Folders,
    pub data: PathBuf,
}

impl Prepared {
    pub fn new() -> Self {
        let folders = Folders::new(24, 5, 40);
        let data = folders.path().join("data");
        succeed(&mut prepare(folders.path(), &data, &["--size", "32"]));
        Self { folders, data }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folders.path().join(name)
    }

    /// Trains the demonstration's network on the data set: epochs of 9 batches.
    pub fn train(&self, run: &Path, epochs: u32, more: &[&str]) -> Command {
        let mut command = trainer(&["--data", text(&self.data), "--run", text(run), "--recipe", "demo"]);
        command.args(["--set", "input.image_px=32", "--batch-size", "8", "--device", "cpu"]);
        command.args(["--epochs", &epochs.to_string()]);
        command.args(more);
        command
    }
}

pub fn resume(run: &Path) -> Command {
    trainer(&["--resume", text(run), "--device", "cpu"])
}

/// The checkpoints of a run, the earliest first.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(run.join("checkpoints"))
        .expect("the run has checkpoints")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| text(path).contains("/step-"))
        .collect();
    found.sort();
    found
}

/// Tensors of the last checkpoint, and the losses of all steps.
pub fn result(run: &Path) -> (Vec<u8>, Vec<Value>) {
    let tensors = fs::read(checkpoints(run).pop().unwrap().join("state.safetensors")).unwrap();
    let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].clone();
    (tensors, lines.lines().map(loss).collect())
}

#[test]
fn without_data_it_trains_on_the_sample_prepared_once_and_prints_the_next_commands() {
    let root = tempfile::tempdir().unwrap();
    let demo = |run: &str| {
        let arguments = ["--epochs", "1", "--limit-batches", "3", "--device", "cpu", "--run", run];
        let mut command = trainer(&arguments);
        command.env("FOVEA_CACHE", root.path().join("cache")).current_dir(root.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        for part in [
            "trained       1 epoch and 3 updates",
            "last and best top-1 error",
            "on   1000 validation images, ten crops",
            "prepare_imagenet --",
        ] {
            assert!(stdout.contains(part), "{part}: {stdout}");
        }
        assert_eq!(stdout.matches("cargo run --release").count(), 3, "{stdout}");
        stderr
    };
    assert!(demo("first").contains("preparing the built-in sample"));
    let again = demo("second");
    assert!(!again.contains("preparing"), "{again}");
    assert!(again.contains("epoch 1/1: training loss"), "{again}");
    assert_eq!(result(&root.path().join("first")), result(&root.path().join("second")));
}

#[test]
fn killed_at_any_moment_and_resumed_it_comes_to_the_same_bits() {
    // What changes from batch to batch: the rate, its rise, the average of the weights.
    const SETTINGS: [&str; 10] = [
        "--set",
        "schedule={kind=\"cosine\"}",
        "--set",
        "warmup={steps=4}",
        "--set",
        "training.ema=0.9",
        "--set",
        "training.clip_norm=0.5",
        "--set",
        "training.label_smoothing=0.1",
    ];
    let prepared = Prepared::new();
    let whole = prepared.path("whole");
    succeed(&mut prepared.train(&whole, 3, &SETTINGS));
    let expected = result(&whole);
    assert_eq!(expected.1.len(), 27);

    let run = prepared.path("killed");
    let mut first = start(prepared.train(&run, 3, &SETTINGS).args(["--checkpoint-minutes", "0.00001"]));
    wait_for(&run.join("checkpoints/step-000000001"), &mut first);
    first.kill().unwrap();
    first.wait().unwrap();
    for milliseconds in [5, 17, 40] {
        let before = checkpoints(&run).pop().unwrap();
        let mut next = start(resume(&run).args(["--checkpoint-minutes", "0.00001"]));
        while next.try_wait().unwrap().is_none() && checkpoints(&run).pop().unwrap() == before {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(milliseconds));
        next.kill().unwrap();
        next.wait().unwrap();
    }
    succeed(&mut resume(&run));
    assert!(result(&run) == expected);
}

#[test]
fn killed_before_its_first_checkpoint_it_restarts_with_the_same_settings() {
    let prepared = Prepared::new();
    let [whole, killed] = ["whole", "killed"].map(|name| prepared.path(name));
    for run in [&whole, &killed] {
        succeed(&mut prepared.train(run, 1, &["--seed", "7"]));
    }
    fs::remove_dir_all(killed.join("checkpoints")).unwrap();
    succeed(&mut resume(&killed));
    assert!(result(&killed) == result(&whole));
}

#[test]
fn interrupted_it_saves_and_prints_how_to_resume() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    let mut first = start(&mut prepared.train(&run, 100_000, &[]));
    wait_for(&run.join("checkpoints"), &mut first);
    let kill = Command::new("kill").args(["-TERM", &first.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = first.wait_with_output().unwrap();
    let printed = all_output(&output);
    assert_eq!(output.status.code(), Some(130), "{printed}");
    assert!(printed.contains(&format!("resume with: trainer --resume {}", run.display())), "{printed}");

    let steps = fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().count();
    assert!(text(&checkpoints(&run).pop().unwrap()).contains(&format!("step-{steps:09}")));
    let epochs = steps / 9 + 1;
    succeed(resume(&run).args(["--epochs", &epochs.to_string()]));
    assert_eq!(result(&run).1.len(), epochs * 9);
}

#[test]
fn a_resumed_run_still_leaves_damaged_images_out() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    let shard = prepared.data.join("train-00000.arrow");
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    succeed(&mut prepared.train(&run, 1, &["--on-bad-record", "skip"]));
    succeed(resume(&run).args(["--epochs", "2"]));
    let message = fail(resume(&run).args(["--epochs", "3", "--on-bad-record", "stop"]), 1);
    assert!(message.contains("train-00000.arrow") && message.contains("checksum"), "{message}");
}

#[test]
fn a_trained_network_evaluates_predicts_and_is_exported() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    let report: Value = serde_json::from_str(&succeed(&mut prepared.train(&run, 3, &["--json"]))).unwrap();
    assert_eq!((&report["epochs"], &report["score"]["images"]), (&Value::from(3), &Value::from(15)));

    let arguments =
        ["evaluate", text(&run), "--ten-crop", "--json", "--checkpoint", "last", "--device", "cpu"];
    let found: Value = serde_json::from_str(&succeed(&mut trainer(&arguments))).unwrap();
    assert_eq!(found["scores"]["ten-crop"], report["score"]);
    let printed = succeed(&mut trainer(&["evaluate", text(&run), "--data", text(&prepared.data)]));
    assert!(printed.contains("centre crop   top-1 error"), "{printed}");

    let photo = prepared.path("val/n002").join("n002_000.JPEG");
    let printed = succeed(&mut trainer(&["predict", text(&run), text(&photo)]));
    assert_eq!(printed.lines().count(), 4, "{printed}");
    let printed = succeed(&mut trainer(&["predict", text(&run), text(&photo), text(&photo), "--json"]));
    let predictions: Value = serde_json::from_str(&printed).unwrap();
    let of_photo = predictions[1]["predictions"].as_array().unwrap();
    let sum: f64 = of_photo.iter().map(|answer| answer["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5 && of_photo.len() == 3, "{printed}");

    let file = prepared.path("network.onnx");
    let printed = succeed(&mut trainer(&["export", text(&run), "--out", text(&file), "--pixels", "f32"]));
    assert_eq!(printed.trim(), text(&file));
    assert!(fs::metadata(&file).unwrap().len() > 100_000);
}

#[test]
fn photos_are_made_square_as_those_of_the_data_set_were() {
    let prepared = Prepared::new();
    let squashed = Prepared { data: prepared.path("squashed"), ..Prepared::new() };
    succeed(&mut prepare(prepared.folders.path(), &squashed.data, &["--size", "32", "--resize", "squash"]));
    // Wide photos that differ in what is left and right of the central square.
    let photo = |name: &str, outside: [u8; 3]| {
        let path = prepared.path(name);
        let pixel = |x, y| match x {
            40..80 => Rgb([(3 * x) as u8, (5 * y) as u8, 90]),
            _ => Rgb(outside),
        };
        RgbImage::from_fn(120, 40, pixel).save(&path).unwrap();
        path
    };
    let photos = [photo("white.png", [255; 3]), photo("blue.png", [0, 0, 255])];
    for (data, name, sees_all) in [(&prepared, "cut", false), (&squashed, "whole", true)] {
        let run = prepared.path(name);
        succeed(&mut data.train(&run, 1, &[]));
        // The run itself records the resize mode.
        fs::remove_dir_all(&data.data).unwrap();
        let mut command = trainer(&["predict", text(&run), "--json", "--device", "cpu"]);
        let printed: Value = serde_json::from_str(&succeed(command.args(&photos))).unwrap();
        assert_eq!(printed[0]["predictions"] != printed[1]["predictions"], sees_all, "{name}: {printed}");
        // An export says it too.
        let file = prepared.path("network.onnx");
        succeed(&mut trainer(&["export", text(&run), "--out", text(&file), "--pixels", "f32"]));
        let exported = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        let side = if sees_all { "resize_both_sides_px" } else { "resize_shorter_side_px" };
        for part in [format!("\"{side}\":32"), "\"resize_filter\":\"lanczos3\"".into()] {
            assert!(exported.contains(&part), "{name}: no {part}");
        }
    }
}

#[test]
fn a_run_in_half_precision_resumes_in_half_precision_to_the_same_bits() {
    let prepared = Prepared::new();
    let (whole, parts) = (prepared.path("whole"), prepared.path("parts"));
    succeed(&mut prepared.train(&whole, 2, &["--precision", "f16"]));
    succeed(&mut prepared.train(&parts, 1, &["--precision", "f16"]));
    succeed(resume(&parts).args(["--epochs", "2"]));
    assert!(result(&parts) == result(&whole));
    let names = String::from_utf8_lossy(&result(&whole).0[..4096]).into_owned();
    assert!(names.contains("\"loss_scale\""), "{names}");
}

#[test]
fn a_network_from_a_file_begins_with_its_weights() {
    let prepared = Prepared::new();
    let first = prepared.path("first");
    let report = |printed: String| serde_json::from_str::<Value>(&printed).unwrap();
    let trained = report(succeed(&mut prepared.train(&first, 2, &["--json"])));
    let file = prepared.path("network.onnx");
    let arguments = ["export", text(&first), "--out", text(&file), "--pixels", "f32", "--checkpoint", "last"];
    succeed(&mut trainer(&arguments));
    // The file subtracts the mean itself. Steps as small as these change nothing visible.
    let second = prepared.path("second");
    let mut further = prepared.train(&second, 1, &["--json", "--network", text(&file)]);
    further.args(["--set", "input.mean=none", "--set", "input.scale=1"]);
    further.args(["--set", "optimizer.learning_rate=1e-9"]);
    let further = report(succeed(&mut further));
    let loss = |report: &Value| report["score"]["loss"].as_f64().unwrap();
    assert!((loss(&trained) - loss(&further)).abs() < 1e-3, "{trained} against {further}");
    // A run keeps its own copy.
    fs::remove_file(&file).unwrap();
    succeed(resume(&second).args(["--epochs", "2"]));
    let again = prepared.path("again.onnx");
    succeed(&mut trainer(&["export", text(&second), "--out", text(&again)]));
}

#[test]
fn the_graphs_of_a_session_are_written_with_its_initial_state() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["graphs", "--recipe", "demo", "--classes", "10", "--out", text(folder.path())];
    succeed(&mut trainer(&arguments));
    let names: Vec<String> = content(folder.path()).into_keys().collect();
    assert_eq!(
        names,
        ["accumulate.onnx", "evaluate.onnx", "graphs.json", "state.safetensors", "train.onnx", "update.onnx"]
    );
}

#[test]
fn the_recipes_are_listed() {
    let printed = succeed(&mut trainer(&["recipes"]));
    assert!(printed.lines().any(|line| line.starts_with("alexnet ")), "{printed}");
    let list: Value = serde_json::from_str(&succeed(&mut trainer(&["recipes", "--json"]))).unwrap();
    assert_eq!(list.as_array().unwrap().len(), printed.lines().count());
}

#[test]
fn a_recipe_is_printed_whole_with_its_sources_and_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["alexnet-code", "resnet50", "vit-small"] {
        let file = folder.path().join(format!("{name}.toml"));
        fs::write(&file, succeed(&mut trainer(&["recipes", name]))).unwrap();
        let json = |recipe: &str| succeed(&mut trainer(&["recipes", recipe, "--json"]));
        assert_eq!(json(text(&file)), json(name));
    }
    assert!(succeed(&mut trainer(&["recipes", "vit-small"])).starts_with("# Training data-efficient"));
    assert!(succeed(&mut trainer(&["recipes", "resnet50"])).contains("--model resnet50"));
    let message = fail(&mut trainer(&["recipes", "resnet81"]), 2);
    assert!(message.contains("did you mean `resnet18`?"), "{message}");
}

#[test]
fn a_network_from_a_file_is_fine_tuned_to_other_classes_with_a_part_of_it_frozen() {
    let prepared = Prepared::new();
    // An untrained residual network for 7 classes, as a file that names its parameters like PyTorch.
    let [seven, first, run, parts] = ["seven", "first", "run", "parts"].map(|name| prepared.path(name));
    let folders = Folders::new(4, 2, 40);
    for class in ["n004", "n005", "n006", "n007"] {
        for (split, count) in [("train", 4), ("val", 2)] {
            for number in 0..count {
                let bytes = encoded(&picture(40, 40, number), ImageFormat::Jpeg);
                folders.add(split, class, &format!("{number}.JPEG"), &bytes);
            }
        }
    }
    succeed(&mut prepare(folders.path(), &seven, &["--size", "32"]));
    let small = ["--set", "input.image_px=32", "--set", "input.crop_px=32", "--batch-size", "8"];
    let mut pretrain = trainer(&["--data", text(&seven), "--run", text(&first), "--recipe", "resnet18"]);
    pretrain.args(small).args(["--set", "network.architecture.depths=[1, 1, 1, 1]", "--epochs", "1"]);
    succeed(pretrain.args(["--device", "cpu", "--set", "optimizer.learning_rate=0.001"]));
    let file = prepared.path("network.onnx");
    succeed(&mut trainer(&["export", text(&first), "--out", text(&file), "--pixels", "f32"]));

    let tune = |run: &Path, epochs: &str, more: &[&str]| {
        let mut command = trainer(&["--data", text(&prepared.data), "--run", text(run)]);
        command.args(["--network", text(&file), "--recipe", "finetune", "--device", "cpu"]);
        command.args(small).args(["--epochs", epochs]).args(more);
        command
    };
    let freeze = ["--classes", "auto", "--set", "network.freeze=[\"layer1.*\"]"];
    let output = tune(&run, "2", &freeze).output().unwrap();
    let printed = all_output(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    // 2·64·64·9 + 4·64 = 73,984 values are frozen.
    assert!(printed.contains("trains 4,833,347 of 4,907,331 values"), "{printed}");

    // Stopped in the middle and resumed, running statistics included, it comes to the same bits.
    let mut interrupted = start(tune(&parts, "2", &freeze).args(["--checkpoint-minutes", "0.00000001"]));
    wait_for(&parts.join("checkpoints/step-000000002"), &mut interrupted);
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();
    succeed(&mut resume(&parts));
    assert!(result(&parts) == result(&run));

    let message = fail(&mut tune(&prepared.path("none"), "1", &["--set", "network.freeze=[\"layr1.*\"]"]), 2);
    assert!(
        message.contains("`layr1.*` matches no parameter") && message.contains("near: layer1.0"),
        "{message}"
    );
    let message = fail(&mut tune(&prepared.path("none"), "1", &["--classes", "file"]), 2);
    assert!(
        message.contains("gives 7 values for an image, the data set has 3 classes; --classes auto"),
        "{message}"
    );

    let printed = succeed(&mut trainer(&["inspect", text(&file)]));
    assert!(printed.contains("statistics     5,760 running values"), "{printed}");
}

#[test]
fn a_benchmark_prints_the_time_of_each_step() {
    let arguments =
        ["bench", "--recipe", "demo", "--classes", "10", "--batch-size", "4", "--steps", "2", "--json"];
    let found: Value = serde_json::from_str(&succeed(&mut trainer(&arguments))).unwrap();
    assert_eq!(found["step_s"].as_array().unwrap().len(), 2);
}

#[test]
fn a_benchmark_compares_micro_batches() {
    let bench = |micro_batch: &str| {
        let mut bench = trainer(&["bench", "--recipe", "demo", "--classes", "10", "--batch-size", "8"]);
        bench.args(["--steps", "2", "--micro-batch", micro_batch]);
        bench
    };
    let found: Vec<Value> = serde_json::from_str(&succeed(bench("8,3").arg("--json"))).unwrap();
    let rows: Vec<_> = found.iter().map(|one| one["micro_batch_rows"].as_u64().unwrap()).collect();
    assert_eq!(rows, [8, 3]);
    let [whole, parts] = [0, 1].map(|one: usize| found[one]["losses"][1].as_f64().unwrap());
    assert!((whole - parts).abs() < 1e-4, "{whole}, but {parts} in parts");
    let printed = succeed(&mut bench("8,3"));
    assert!(printed.contains("\n8 ") && printed.contains("\n3 "), "{printed}");
    let message = fail(&mut bench("4,9"), 2);
    assert!(message.contains("--micro-batch 9: expected at most the 8 images of a batch"), "{message}");
}

#[test]
fn a_benchmark_prints_the_cost_of_the_loader() {
    let prepared = Prepared::new();
    let bench = |batch: &str| {
        let mut bench = trainer(&["bench", "--data", text(&prepared.data), "--recipe", "demo", "--json"]);
        bench.args(["--set", "input.image_px=32", "--steps", "3", "--batch-size", batch]);
        bench
    };
    let found: Value = serde_json::from_str(&succeed(&mut bench("8"))).unwrap();
    let mean = |key: &str| {
        let steps: Vec<f64> = found[key].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        assert_eq!(steps.len(), 6, "{key}: {found}");
        steps.iter().sum::<f64>() / 6.0
    };
    assert!(mean("repeated_step_s") > 0.0 && mean("loaded_step_s") > 0.0);
    let number = |key: &str| found[key].as_f64().unwrap();
    assert!((0.0..1.0).contains(&number("data_wait")) && number("speed_ratio") > 0.0, "{found}");
    assert_eq!(found["batch_rows"], 8);
    let too_few = fail(&mut bench("100"), 2);
    assert!(too_few.contains("72") && too_few.contains("100"), "{too_few}");
}
