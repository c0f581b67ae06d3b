//! The event files as the `tensorboard` package reads them; skipped where Python (`FOVEA_TEST_PYTHON`, else
//! `python3`) lacks it.

use std::env;
use std::process::Command;

use fovea_pipeline::Split;
use fovea_trainer::metrics::{Metrics, Step};
use serde_json::{Value, json};

fn step(step: u64, loss: f64) -> Step {
    Step { step, epoch: 1, loss, top1: 0.5, top5: 0.25, lr: 0.01, images_per_s: 64.0, data_wait: 0.0 }
}

#[test]
fn tensorboard_reads_every_scalar_and_forgets_the_steps_that_are_taken_again() {
    let python = env::var_os("FOVEA_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let has_tensorboard = Command::new(&python)
        .args(["-c", "import tensorboard.backend.event_processing.event_accumulator"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_tensorboard {
        eprintln!("skipped: {} has no `tensorboard` package", python.display());
        return;
    }

    let run = tempfile::tempdir().unwrap();
    let mut first = Metrics::open(run.path(), 0, 0, Split::Val).unwrap();
    for number in 1..=4 {
        first.step(&step(number, 1.0)).unwrap();
    }
    drop(first);
    let mut resumed = Metrics::open(run.path(), 2, 0, Split::Val).unwrap();
    resumed.step(&step(3, 0.0)).unwrap();

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_events.py");
    let output = Command::new(&python).arg(script).arg(run.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let scalars: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(scalars["train/loss"], json!([[1, 1.0], [2, 1.0], [3, 0.0]]));
    assert_eq!(scalars["speed/images_per_s"], json!([[1, 64.0], [2, 64.0], [3, 64.0]]));
    assert_eq!(scalars.as_object().unwrap().len(), 6);
}
