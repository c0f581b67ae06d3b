//! Python reads the output: the scripts of the documentation, and exported networks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::{ImageFormat, RgbImage};
use serde_json::Value;

use crate::guides::blocks;
use crate::support::*;
use crate::train::Prepared;

/// A Python interpreter.
pub struct Python(pub String);

impl Python {
    pub fn find() -> Self {
        Self(std::env::var("FOVEA_TEST_PYTHON").unwrap_or_else(|_| "python3".into()))
    }

    fn can_import(&self, module: &str) -> bool {
        let import = format!("import {module}");
        Command::new(&self.0).args(["-c", &import]).output().is_ok_and(|output| output.status.success())
    }

    /// Whether it has all of `modules`; prints a line if not.
    pub fn has(&self, modules: &[&str]) -> bool {
        let missing = modules.iter().find(|module| !self.can_import(module));
        if let Some(module) = missing {
            println!("skipped: {} has no {module}", self.0);
        }
        missing.is_none()
    }

    fn run(&self, arguments: &[&str]) -> String {
        succeed(Command::new(&self.0).args(arguments))
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

#[test]
fn the_documented_script_reads_raw_and_jpeg_shards() {
    let python = Python::find();
    if !python.has(&["pyarrow"]) {
        return;
    }
    let script = script("read_shards.py");
    let folders = Folders::new(4, 2, 50);
    for encoding in ["raw", "jpeg"] {
        let out = folders.path().join(encoding);
        succeed(&mut prepare(folders.path(), &out, &["--size", "32", "--encoding", encoding]));
        let printed = python.run(&[text(&script), text(&out)]);
        assert!(printed.contains("train: 12 images"), "{printed}");
        assert!(printed.contains("val: 6 images"), "{printed}");
        if python.can_import("datasets") {
            assert!(printed.contains("ClassLabel(names=['n001', 'n002', 'n003'])"), "{printed}");
            assert_eq!(printed.contains("'image': Image("), encoding == "jpeg", "{printed}");
        } else {
            println!("{} has no datasets: that part is skipped", python.0);
        }
    }
}

#[test]
fn the_lines_in_the_description_of_shards_work_as_written() {
    let python = Python::find();
    if !python.has(&["pyarrow", "numpy", "datasets"]) {
        return;
    }
    let folders = Folders::new(4, 2, 300);
    let out = folders.path().join("shards");
    succeed(&mut prepare(folders.path(), &out, &["--encoding", "raw"]));
    let lines = blocks(include_str!("../../../docs/SHARDS.md"), "python").concat();
    let lines = lines
        + "\nprint(image.shape, int(image.max()) > 0, images['train'].num_rows, images['train'].features['label'])";
    let mut command = Command::new(&python.0);
    // No earlier cache can stand in for the files, and no server is contacted.
    command
        .args(["-c", &lines])
        .current_dir(&out)
        .env("HF_HOME", folders.path().join("hub"))
        .env("HF_HUB_OFFLINE", "1");
    let printed = succeed(&mut command);
    assert_eq!(printed.trim(), "(3, 256, 256) True 12 ClassLabel(names=['n001', 'n002', 'n003'])");
}

#[test]
fn the_documented_script_trains_with_the_graphs_and_their_state() {
    let python = Python::find();
    if !python.has(&["onnxruntime", "numpy", "safetensors"]) {
        return;
    }
    train_with_graphs(&python);
}

#[test]
fn the_graphs_run_on_the_oldest_onnx_runtime_they_are_made_for() {
    let Ok(python) = std::env::var("FOVEA_TEST_OLDEST_PYTHON") else {
        println!("skipped: FOVEA_TEST_OLDEST_PYTHON is not set");
        return;
    };
    let python = Python(python);
    let version = python.run(&["-c", "import onnxruntime; print(onnxruntime.__version__)"]);
    assert!(version.starts_with("1.17."), "{version}");
    train_with_graphs(&python);
    let folder = tempfile::tempdir().unwrap();
    for recipe in ["alexnet", "alexnet-torchvision", "cifar-quick", "cifar-11pct"] {
        let out = folder.path().join(recipe);
        let arguments = ["graphs", "--recipe", recipe, "--batch-size", "2", "--out", text(&out)];
        succeed(&mut trainer(&arguments));
        let opened = python.run(&["-c", OPEN, text(&out)]);
        assert_eq!(opened.trim(), "4", "{recipe}");
    }
}

/// Opens the graphs in a folder; prints how many there are.
const OPEN: &str = "
import pathlib, sys, onnxruntime
graphs = list(pathlib.Path(sys.argv[1]).glob('*.onnx'))
for graph in graphs:
    onnxruntime.InferenceSession(str(graph), providers=['CPUExecutionProvider'])
print(len(graphs))
";

/// Runs the documented script, which trains with the graphs of a small network, in several forms.
fn train_with_graphs(python: &Python) {
    let prepared = Prepared::new();
    let script = script("train_in_python.py");
    for more in [
        &["--classes", "4"][..],
        &["--data", text(&prepared.data), "--precision", "f16"],
        &["--data", text(&prepared.data), "--device", "cuda"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = trainer(&["graphs", "--recipe", "demo", "--out", text(folder.path())]);
        command.args(["--set", "input.image_px=32", "--batch-size", "8"]).args(more);
        succeed(&mut command);
        let printed = python.run(&[text(&script), text(folder.path()), "60"]);
        let losses: Vec<f64> =
            printed.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(losses.len() == 2 && losses[1] < 0.7 * losses[0], "{more:?}: {printed}");
    }
}

/// Runs an exported network over images of bytes, `[1,3,S,S]`, alone and three times in one batch; prints
/// JSON.
const ANSWER: &str = "
import json, sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])
port = session.get_inputs()[0]
side = port.shape[2]
image = numpy.fromfile(sys.argv[2], numpy.uint8).reshape(1, 3, side, side)
image = image.astype({'tensor(uint8)': numpy.uint8, 'tensor(float)': numpy.float32}[port.type])
predictions = [session.run(['probabilities'], {port.name: numpy.repeat(image, n, 0)})[0] for n in (1, 3)]
print(json.dumps(numpy.concatenate(predictions).tolist()))
";

#[test]
fn an_exported_network_predicts_the_same_in_python() {
    let python = Python::find();
    if !python.has(&["onnxruntime", "numpy"]) {
        return;
    }
    let prepared = Prepared::new();
    let run = prepared.path("run");
    succeed(&mut prepared.train(&run, 2, &[]));
    // As large as prepared images, so that nothing is resized; the network sees the 24 pixels in the middle.
    let picture: RgbImage = picture(32, 32, 7);
    let photo = prepared.path("photo.png");
    fs::write(&photo, encoded(&picture, ImageFormat::Png)).unwrap();
    let printed = succeed(&mut trainer(&["predict", text(&run), text(&photo), "--json"]));
    let here: Value = serde_json::from_str(&printed).unwrap();
    let here: BTreeMap<&str, f64> = here[0]["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|best| (best["class"].as_str().unwrap(), best["probability"].as_f64().unwrap()))
        .collect();

    let planes: Vec<u8> = (0..3)
        .flat_map(|channel| (4..28).flat_map(move |y| (4..28).map(move |x| (channel, y, x))))
        .map(|(channel, y, x)| picture.get_pixel(x, y).0[channel])
        .collect();
    let view = prepared.path("view.u8");
    fs::write(&view, planes).unwrap();
    for pixels in ["u8", "f32"] {
        let file = prepared.path(&format!("{pixels}.onnx"));
        succeed(&mut trainer(&["export", text(&run), "--out", text(&file), "--pixels", pixels]));
        let predictions: Vec<Vec<f64>> =
            serde_json::from_str(&python.run(&["-c", ANSWER, text(&file), text(&view)])).unwrap();
        assert_eq!(predictions.len(), 1 + 3);
        for prediction in predictions {
            for (there, (class, here)) in prediction.iter().zip(&here) {
                assert!((there - here).abs() < 1e-5, "{pixels}, {class}: {there} against {here}");
            }
        }
    }
}

/// Runs its arguments in a terminal of 80 columns and prints what the terminal receives.
const TERMINAL: &str = "
import fcntl, os, pty, struct, sys, termios
child, terminal = pty.fork()
if child == 0:
    sys.stdin.readline()  # the size is set
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
os.write(terminal, b'\\n')
try:
    while received := os.read(terminal, 65536):
        sys.stdout.buffer.write(received)
except OSError:  # the other end is closed
    pass
";

/// A terminal writes `^C` behind a bar; if that begins another line, the bar stays above what is printed.
#[test]
fn bars_leave_the_last_columns_of_a_terminal_free() {
    let python = Python::find();
    if !python.has(&["pty"]) {
        return;
    }
    let folders = Folders::new(4, 2, 50);
    let out = folders.path().join("shards");
    let tool = fovea_tests::tool("prepare_imagenet");
    let arguments = ["-c", TERMINAL, text(&tool), "--train", text(folders.path()), "--out", text(&out)];
    let received = python.run(&arguments);
    let bars: Vec<_> = received.split(['\r', '\n']).filter(|line| line.contains("images/s,")).collect();
    assert!(!bars.is_empty(), "{received}");
    for bar in bars {
        let columns = bar.trim_start_matches("\u{1b}[2K").chars().count();
        assert!((60..=77).contains(&columns), "{columns} columns: {bar:?}");
    }
}

/// Compares gradients of a loss and of an output with differences; prints the largest error of each, relative
/// to the largest element.
const DIFFERENCES: &str = "
import sys, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
images = np.random.default_rng(1).uniform(0, 255, (2, 3, 24, 24)).astype(np.float32)
labels, seed = np.array([2, 0]), np.array([[1, -2, 0.5], [0, 1, 1]], np.float32)
session = onnxruntime.InferenceSession('loss.onnx', options)
def loss(**weights):
    return session.run(None, {'images': images, 'labels': labels} | weights)
names = [port.name for port in session.get_outputs()]
outputs = dict(zip(names, loss()))
bias = [name[:-5] for name in names if name.endswith('bias.grad')][-1]
start = np.load('bias.npy')
def error(gradient, at, step):
    numeric = np.array([(at(place, step) - at(place, -step)) / (2 * step) for place in np.ndindex(gradient.shape)])
    return np.abs(numeric - gradient.ravel()).max() / np.abs(gradient).max()
def moved(values, place, step):
    values = values.copy()
    values[place] += step
    return values
at = lambda place, step: float(loss(**{bias: moved(start, place, step)})[names.index('loss')])
print(error(outputs[bias + '.grad'], at, 1 / 16))
session = onnxruntime.InferenceSession('saliency.onnx', options)
feed = {'images': images, 'grad.logits': seed}
[gradient] = session.run(['images.grad'], feed)
at = lambda place, step: float((session.run(['logits'], feed | {'images': moved(images, place, step)})[0] * seed).sum())
rows = gradient[:, :, 11:13, 11:13]
shifted = lambda place, step: at((place[0], place[1], place[2] + 11, place[3] + 11), step)
print(error(rows, shifted, 1 / 16))
";

#[test]
fn a_file_with_its_gradients_runs_in_python_as_documented() {
    let python = Python::find();
    if !python.has(&["onnxruntime", "numpy", "onnx"]) {
        return;
    }
    let prepared = Prepared::new();
    let (run, folder) = (prepared.path("run"), prepared.folders.path());
    succeed(&mut prepared.train(&run, 1, &[]));
    succeed(trainer(&["export", "run", "--out", "small.onnx", "--pixels", "f32"]).current_dir(folder));
    let guide = include_str!("../../../docs/NETWORKS.md");
    let commands: Vec<&str> = blocks(guide, "sh")
        .into_iter()
        .flat_map(str::lines)
        .filter(|line| line.contains("gradients"))
        .collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        succeed(trainer(&arguments).current_dir(folder));
    }
    let run = |lines: &str| succeed(Command::new(&python.0).args(["-c", lines]).current_dir(folder));
    let [saliency, training] = blocks(guide, "python")[..] else { panic!("the guide has two scripts") };
    let printed = run(&format!("{saliency}\nprint(saliency.shape, saliency.max() > 0)"));
    assert_eq!(printed.trim(), "(1, 24, 24) True");
    let stored =
        "\nbias = [name for name in names if name.endswith('bias')][-1]\nnp.save('bias', stored[bias])";
    let printed = run(&format!("{training}{stored}"));
    let losses: Vec<f64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    assert!(losses.len() == 20 && losses[19] < losses[0], "{printed}");
    let errors: Vec<f64> = run(DIFFERENCES).lines().map(|line| line.parse().unwrap()).collect();
    // A step of a pixel moves some values over the edge of a rectifier.
    assert!(errors.len() == 2 && errors[0] < 0.01 && errors[1] < 0.1, "{errors:?}");
}
