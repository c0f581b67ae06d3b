//! `trainer report`, `features` and `search`: the page about a run, and activations of its network.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use fovea_pipeline::Split;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::*;
use crate::train::{Prepared, checkpoints};

const METRIC_FIGURES: [&str; 4] = ["loss", "error", "speed", "data-wait"];
const CHECKPOINT_FIGURES: [&str; 2] = ["kernels", "norms"];
const IMAGE_FIGURES: [&str; 4] = ["predictions", "saliency", "nearest", "confusion"];

fn report(run: &Path) -> Command {
    trainer(&["report", text(run), "--device", "cpu"])
}

/// Writes the report of a run and returns its page.
fn page_of(run: &Path) -> String {
    let printed = succeed(&mut report(run));
    let page = run.join("report.html");
    assert_eq!(printed.trim(), text(&page));
    fs::read_to_string(page).unwrap()
}

/// Names of the figures in a page.
fn figures(page: &str) -> Vec<&str> {
    page.split("<figure ")
        .skip(1)
        .map(|figure| figure.split("id=\"").nth(1).unwrap().split('"').next().unwrap())
        .collect()
}

/// A run of two epochs.
fn trained(prepared: &Prepared) -> PathBuf {
    let run = prepared.path("run");
    succeed(&mut prepared.train(&run, 2, &[]));
    run
}

/// Waits until `done` returns true.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_report_holds_every_figure_and_loads_nothing_from_elsewhere() {
    let prepared = Prepared::new();
    let run = trained(&prepared);
    let page = page_of(&run);
    assert_eq!(figures(&page), [&METRIC_FIGURES[..], &CHECKPOINT_FIGURES, &IMAGE_FIGURES].concat());
    assert!(!page.contains("Left out"), "{page}");
    for part in [
        "kind = &quot;conv&quot;",
        "ONNX Runtime 1.",
        text(&prepared.data),
        "2 of 2",
        "group 2",
        "class",
        "Checkpoint: step ",
    ] {
        assert!(page.contains(part), "`{part}` is missing");
    }
    for foreign in ["<script", "<link", "<iframe", "src=", "href=\"http", "url(", "@import", "http-equiv"] {
        assert!(!page.contains(foreign), "the page has {foreign}");
    }
    for name in figures(&page) {
        let svg = fs::read_to_string(run.join(format!("figures/{name}.svg"))).unwrap();
        assert!(!svg.contains("var(") && svg.contains("<title>"), "{svg}");
        let png = image::open(run.join(format!("figures/{name}.png"))).unwrap().to_rgb8();
        assert!(png.pixels().any(|pixel| *pixel != *png.get_pixel(0, 0)), "{name} is empty");
    }
}

#[test]
fn missing_or_damaged_data_is_left_out_and_listed() {
    let prepared = Prepared::new();
    let run = trained(&prepared);
    let metrics = run.join("metrics.jsonl");
    let mut lines = fs::read_to_string(&metrics).unwrap();
    lines.insert_str(lines.find('\n').unwrap() + 1, "{\"step\": 2, \"loss\"\n");
    fs::write(&metrics, lines).unwrap();
    let page = page_of(&run);
    assert!(page.contains("metrics.jsonl, line 2: no record of an update"), "{page}");
    assert_eq!(figures(&page), [&METRIC_FIGURES[..], &CHECKPOINT_FIGURES, &IMAGE_FIGURES].concat());

    fs::remove_dir_all(&prepared.data).unwrap();
    let page = page_of(&run);
    assert_eq!(figures(&page), [&METRIC_FIGURES[..], &CHECKPOINT_FIGURES].concat());
    assert!(
        page.contains("Left out: predictions of images: ") && page.contains(text(&prepared.data)),
        "{page}"
    );

    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let page = page_of(&run);
    assert_eq!(figures(&page), METRIC_FIGURES);
    assert!(
        page.contains("Left out: the network&#39;s kernels")
            || page.contains("Left out: the network's kernels"),
        "{page}"
    );

    let error = fail(&mut report(&prepared.path("train")), 1);
    assert!(error.contains("recipe.toml") && error.contains("name the folder of a run"), "{error}");
}

#[test]
fn a_run_in_progress_is_watched_until_the_watcher_is_interrupted() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    let mut training = start(&mut prepared.train(&run, 100_000, &[]));
    wait_for(&run.join("checkpoints"), &mut training);
    let out = prepared.path("page.html");
    let mut watching = start(report(&run).args(["--watch", "1", "--out", text(&out)]));
    wait_for(&out, &mut watching);
    let first = fs::read_to_string(&out).unwrap();
    assert!(first.contains("<meta http-equiv=\"refresh\" content=\"1\">"), "{first}");
    wait_until("the page changes", || fs::read_to_string(&out).unwrap() != first);
    training.kill().unwrap();
    training.wait().unwrap();
    let kill = Command::new("kill").args(["-TERM", &watching.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = watching.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", all_output(&output));
    assert!(!fs::read_to_string(&out).unwrap().contains("http-equiv"));
    assert!(prepared.path("figures/loss.png").exists());
}

/// A tensor of a file, as f32.
fn floats(file: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let (words, _) = tensor.data().as_chunks();
    (tensor.shape().to_vec(), words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

#[test]
fn features_are_in_order_and_give_the_networks_logits() {
    let prepared = Prepared::new();
    let run = trained(&prepared);
    let write = |layer: &str, name: &str| {
        let out = prepared.path(name);
        let arguments = ["features", text(&run), text(&prepared.data), "--layer", layer, "--out", text(&out)];
        let printed = succeed(trainer(&arguments).args(["--device", "cpu", "--checkpoint", "last"]));
        assert_eq!(printed.trim(), text(&out));
        fs::read(out).unwrap()
    };
    let file = write("drop7", "features.safetensors");
    let expected = records(&prepared.data, Split::Val);
    let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
    let metadata = metadata.metadata().clone().expect("the file records its origin");
    let newest = checkpoints(&run).pop().unwrap();
    for (name, value) in [
        ("layer", "drop7"),
        ("run", text(&run)),
        ("checkpoint", newest.file_name().unwrap().to_str().unwrap()),
        ("classes", "[\"n001\",\"n002\",\"n003\"]"),
    ] {
        assert_eq!(metadata[name], value, "{name}");
    }
    let (shape, features) = floats(&file, "features");
    assert_eq!(shape, [15, 256]);
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let (labels, _) = tensors.tensor("labels").unwrap().data().as_chunks();
    let labels: Vec<i64> = labels.iter().map(|word| i64::from_le_bytes(*word)).collect();
    let keys = String::from_utf8(tensors.tensor("keys").unwrap().data().to_vec()).unwrap();
    let found: Vec<(String, i64)> = keys.lines().map(str::to_owned).zip(labels.iter().copied()).collect();
    assert_eq!(found, expected);

    let (_, logits) = floats(&write("fc8", "logits.safetensors"), "features");
    let state = fs::read(checkpoints(&run).pop().unwrap().join("state.safetensors")).unwrap();
    let [(_, weight), (_, bias)] = ["fc8.weight", "fc8.bias"].map(|name| floats(&state, name));
    for (row, (features, logits)) in features.chunks_exact(256).zip(logits.chunks_exact(3)).enumerate() {
        for class in 0..3 {
            let weights = &weight[class * 256..][..256];
            let sum: f32 = features.iter().zip(weights).map(|(x, w)| x * w).sum();
            let difference = (sum + bias[class] - logits[class]).abs();
            assert!(difference < 1e-4, "image {row}, class {class}: differs by {difference}");
        }
    }
    // The network's own error count confirms that rows and labels belong together.
    let best = |logits: &[f32]| (0..3).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as i64;
    let wrong = logits.chunks_exact(3).zip(&labels).filter(|(logits, label)| best(logits) != **label).count();
    let printed =
        succeed(&mut trainer(&["evaluate", text(&run), "--checkpoint", "last", "--json", "--device", "cpu"]));
    let scores: Value = serde_json::from_str(&printed).unwrap();
    assert!(
        (scores["scores"]["center"]["top1"].as_f64().unwrap() - wrong as f64 / 15.0).abs() < 1e-9,
        "{printed}"
    );

    let npy = write("drop7", "features.npy");
    let header = 10 + usize::from(npy[8]) + 256 * usize::from(npy[9]);
    let dict = String::from_utf8_lossy(&npy[10..header]);
    assert!(dict.contains("'shape': (15, 256)") && dict.contains("'<f4'"), "{dict}");
    let values: Vec<u8> = features.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert!(npy[header..] == values);
    let table = fs::read_to_string(prepared.path("features.csv")).unwrap();
    let rows: Vec<String> =
        expected.iter().map(|(key, label)| format!("{label},\"n00{}\",\"{key}\"", label + 1)).collect();
    assert_eq!(table.lines().next(), Some("label,wnid,key"));
    assert_eq!(table.lines().skip(1).collect::<Vec<_>>(), rows);
}

#[test]
fn a_search_finds_the_photo_itself_first() {
    let prepared = Prepared::new();
    let run = trained(&prepared);
    let photos = [prepared.path("train/n002/n002_007.JPEG"), prepared.path("train/n003/n003_000.JPEG")];
    let out = prepared.path("found.png");
    let search = || {
        let mut command =
            trainer(&["search", text(&run), text(&photos[0]), text(&photos[1]), "--device", "cpu"]);
        command.args(["--in", text(&prepared.data), "--count", "3"]);
        command
    };
    let printed = succeed(search().args(["--json", "--out", text(&out)]));
    let found: Value = serde_json::from_str(&printed).unwrap();
    for (of_photo, key) in found.as_array().unwrap().iter().zip(["n002_007.JPEG", "n003_000.JPEG"]) {
        let nearest = of_photo["nearest"].as_array().unwrap();
        assert_eq!(nearest.len(), 3, "{printed}");
        assert!(nearest[0]["key"].as_str().unwrap().ends_with(key), "{printed}");
        let distances: Vec<f64> = nearest.iter().map(|found| found["distance"].as_f64().unwrap()).collect();
        assert!(distances[0] < 1e-3 && distances[1] > distances[0] && distances.is_sorted(), "{printed}");
    }
    let drawn = prepared.path("found.svg");
    succeed(search().args(["--out", text(&drawn)]));
    let svg = fs::read_to_string(drawn).unwrap();
    assert!(svg.contains("<title>Nearest images by Euclidean distance in relu7</title>"), "{svg}");
    let (width, height) = image::image_dimensions(&out).unwrap();
    assert!(width > 800 && height > 500, "{width}×{height}");
    let printed = succeed(&mut search());
    assert_eq!(printed.lines().count(), 2 * 4, "{printed}");
}

#[test]
fn a_network_from_a_file_has_a_whole_report_and_its_nodes_are_layers() {
    let prepared = Prepared::new();
    let (first, run) = (prepared.path("first"), prepared.path("run"));
    succeed(&mut prepared.train(&first, 1, &[]));
    let file = prepared.path("network.onnx");
    succeed(&mut trainer(&["export", text(&first), "--out", text(&file), "--pixels", "f32"]));
    let from_file = ["--network", text(&file), "--set", "input.mean=none", "--set", "input.scale=1"];
    succeed(&mut prepared.train(&run, 1, &from_file));
    fs::remove_file(&file).unwrap();

    let page = page_of(&run);
    assert_eq!(figures(&page), [&METRIC_FIGURES[..], &CHECKPOINT_FIGURES, &IMAGE_FIGURES].concat());
    assert!(!page.contains("Left out") && page.contains("group 2"), "{page}");

    let features = |more: &[&str]| {
        let mut command = trainer(&["features", text(&run), text(&prepared.data), "--device", "cpu"]);
        command.args(more);
        command
    };
    let out = prepared.path("f.safetensors");
    succeed(&mut features(&["--out", text(&out)]));
    assert_eq!(floats(&fs::read(&out).unwrap(), "features").0, [15, 256]);
    let error = fail(&mut features(&["--out", text(&out), "--layer", "fc9"]), 2);
    let (_, nodes) = error.trim().split_once("no layer `fc9`; its layers: ").expect("the error names nodes");
    let last = nodes.rsplit(", ").next().unwrap();
    succeed(&mut features(&["--out", text(&out), "--layer", last]));
    assert_eq!(floats(&fs::read(&out).unwrap(), "features").0, [15, 3]);

    let photo = prepared.path("train/n002/n002_007.JPEG");
    let search = ["search", text(&run), text(&photo), "--in", text(&prepared.data), "--count", "3", "--json"];
    let printed = succeed(trainer(&search).args(["--device", "cpu"]));
    let found: Value = serde_json::from_str(&printed).unwrap();
    assert!(found[0]["nearest"][0]["key"].as_str().unwrap().ends_with("n002_007.JPEG"), "{printed}");
}

#[test]
fn an_unknown_layer_or_format_is_an_error_that_lists_the_known_ones() {
    let prepared = Prepared::new();
    let run = trained(&prepared);
    let features = |more: &[&str]| {
        let mut command = trainer(&["features", text(&run), text(&prepared.data), "--device", "cpu"]);
        command.args(more);
        fail(&mut command, 2)
    };
    let (good, bad) = (prepared.path("f.npy"), prepared.path("f.txt"));
    let error = features(&["--out", text(&good), "--layer", "fc9"]);
    assert!(error.contains("no layer `fc9`; its layers: conv1, relu1,"), "{error}");
    assert!(!good.exists());
    let error = features(&["--out", text(&bad)]);
    assert!(error.contains("f.txt") && error.contains(".safetensors or .npy"), "{error}");
    let photo = prepared.path("val/n002/n002_000.JPEG");
    let arguments = ["search", text(&run), text(&photo), "--in", text(&prepared.data), "--out", "found.gif"];
    let error = fail(&mut trainer(&arguments), 2);
    assert!(error.contains("found.gif") && error.contains(".png or .svg"), "{error}");
    let arguments = ["search", text(&run), text(&photo), "--in", text(&prepared.data), "--layer", "fc9"];
    let error = fail(&mut trainer(&arguments), 2);
    assert!(error.contains("no layer `fc9`; its layers: conv1, relu1,"), "{error}");
}

#[test]
fn a_missing_output_folder_is_an_error_before_any_computation() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    succeed(&mut prepared.train(&run, 1, &[]));
    let photo = prepared.path("val/n002/n002_000.JPEG");
    let of = |name: &str| prepared.path("nowhere").join(name);
    let [page, picture, file] = ["page.html", "found.png", "f.npy"].map(of);
    for arguments in [
        vec!["report", text(&run), "--out", text(&page)],
        vec!["search", text(&run), text(&photo), "--in", text(&prepared.data), "--out", text(&picture)],
        vec!["features", text(&run), text(&prepared.data), "--out", text(&file)],
    ] {
        // There is no library to compute with.
        let mut command = trainer(&arguments);
        let error = fail(command.env("ORT_DYLIB_PATH", text(&prepared.path("no-library"))), 1);
        assert!(error.contains("there is no folder") && error.contains("nowhere"), "{error}");
    }
}
