//! `trainer` with wrong input or broken surroundings: one clear error, the right exit code, no panic.

use std::fs;
use std::process::Command;

use crate::support::*;
use crate::train::{Prepared, checkpoints};

/// Runs and expects an exit code and these parts in a single error.
fn refuse(command: &mut Command, code: i32, parts: &[&str]) {
    let message = fail(command, code);
    assert_eq!(message.matches("error: ").count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing: {message}");
    }
}

#[test]
fn a_data_set_that_is_missing_foreign_or_of_another_size_is_named() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    let photos = prepared.path("train");
    // Without ONNX Runtime: what is wrong is found before it is looked for.
    let refuse = |arguments: &[&str], parts: &[&str]| {
        let mut command = trainer(arguments);
        refuse(command.args(["--run", text(&run), "--ort-dylib", "/nowhere"]), 2, parts);
    };
    for data in ["/nowhere/at/all", text(&photos)] {
        refuse(&["--data", data], &[data, "not a prepared data set", "prepare_imagenet"]);
    }
    refuse(&["--data", text(&prepared.data)], &["32 pixels", "`alexnet` needs 256", "--size 256"]);
    refuse(&["--recipe", "alexnet"], &["256 pixels", "--data"]);
    let damaged = prepared.path("damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("dataset.json"), "{}").unwrap();
    refuse(&["--data", text(&damaged)], &["dataset.json", "prepare the data set again"]);
    assert!(!run.exists());
}

#[test]
fn a_mistake_in_the_recipe_is_wrong_usage() {
    for (arguments, part) in [
        (["--set", "optimizer.learnig_rate=1"], "did you mean `optimizer.learning_rate`?"),
        (["--set", "optimizer.learning_rate=0"], "`optimizer.learning_rate` is 0"),
        (["--set", "optimizer.learning_rate=-0.1"], "`optimizer.learning_rate` is -0.1"),
        (["--set", "optimizer.learning_rate=nan"], "`optimizer.learning_rate` is NaN"),
        (["--set", "optimizer.learning_rate"], "expected key=value"),
        (["--batch-size", "0"], "`training.batch_size` is 0"),
        (["--recipe", "alexnt"], "did you mean `alexnet`?"),
        (["--recipe", "finetune"], "name one with --network FILE.onnx"),
    ] {
        refuse(&mut trainer(&arguments), 2, &[part]);
    }
}

#[test]
fn gradients_are_of_what_a_file_has_and_nothing_is_written_without() {
    let folder = tempfile::tempdir().unwrap();
    succeed(trainer(&["graphs", "--recipe", "demo", "--batch-size", "2", "--out", "."]).current_dir(&folder));
    let gradients = |more: &[&str]| {
        let mut command = trainer(&["gradients", "evaluate.onnx", "--out", "gradients.onnx"]);
        command.args(more).current_dir(&folder);
        command
    };
    for (more, parts) in [
        (&["--wrt", "conv1.wieght"][..], &["`conv1.wieght`", "near: conv1.weight"][..]),
        (&["--wrt", "labels", "--of", "loss"], &["`labels`", "no gradient"]),
        (&["--wrt", "weights"], &["nothing of what is asked for"]),
        (&["--wrt", "conv1.weight", "--of", "los"], &["`los`", "near: loss"]),
        (&["--wrt", "conv1.weight", "--shape", "mean=N,1"], &["`mean`", "--shape"]),
        (&["--wrt", "conv1.weight", "--shape", "mean"], &["INPUT=LENGTH"]),
        (&["--of", "loss"], &["--wrt"]),
    ] {
        refuse(&mut gradients(more), 2, parts);
    }
    refuse(
        &mut trainer(&["gradients", "none.onnx", "--wrt", "inputs", "--out", "x.onnx"]),
        2,
        &["none.onnx"],
    );
    let file = folder.path().join("gradients.onnx");
    assert!(!file.exists());
    let printed = all_output(&gradients(&["--wrt", "conv1.weight,mean", "--of", "loss"]).output().unwrap());
    assert!(printed.contains("out  conv1.weight.grad f32 [32,3,5,5]"), "{printed}");
    assert!(printed.contains("out  mean.grad f32 [3,") && file.exists(), "{printed}");
}

#[test]
fn a_batch_larger_than_the_data_set_is_an_error_with_both_numbers() {
    let prepared = Prepared::new();
    let arguments = ["--data", text(&prepared.data), "--recipe", "demo", "--set", "input.image_px=32"];
    let mut command = trainer(&arguments);
    command.args(["--batch-size", "73", "--run", text(&prepared.path("run"))]);
    refuse(
        &mut command,
        2,
        &[text(&prepared.data), "batch of 73 images", "72 training images", "--batch-size"],
    );
    assert!(!prepared.path("run").exists());
}

#[test]
fn layers_that_do_not_fit_are_wrong_usage_and_leave_no_run() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    for (set, part) in [
        ("network.layer.conv1.kernel=100", "`conv1`"),
        ("network.layer.conv1.groups=2", "`conv1`"),
        (
            "network.freeze=[\"cnov1.*\"]",
            "`network.freeze`: `cnov1.*` matches no parameter of the network; near: conv1",
        ),
        ("network.train=[\"fc9.*\"]", "`network.train`: `fc9.*` matches no parameter"),
        ("network.freeze=[\"*\"]", "nothing is trained"),
        ("name=../evil", "`name` is `../evil`"),
    ] {
        refuse(&mut prepared.train(&run, 1, &["--set", set]), 2, &[part]);
    }
    let mut bench = trainer(&["bench", "--recipe", "demo", "--set", "network.layer.conv1.kernel=100"]);
    refuse(&mut bench, 2, &["`conv1`"]);
    refuse(&mut prepared.train(&run, 1, &["--checkpoint-minutes", "0"]), 2, &["minutes above 0"]);
    assert!(!run.exists());
}

#[test]
fn a_library_without_cuda_is_an_error_and_no_silent_run_on_the_cpu() {
    let prepared = Prepared::new();
    let mut command = trainer(&["--data", text(&prepared.data), "--run", text(&prepared.path("run"))]);
    command.args(["--recipe", "demo", "--set", "input.image_px=32", "--batch-size", "8", "--device", "cuda"]);
    // Without a driver, the missing driver is the error.
    let message = fail(&mut command, 1);
    assert!(message.contains("NVIDIA driver") || message.contains("cuda:0 cannot be used"), "{message}");
    assert!(message.contains("--device cpu") && !prepared.path("run").exists(), "{message}");
}

#[test]
fn the_null_backend_leaves_no_weights_and_takes_none() {
    let prepared = Prepared::new();
    let (run, null) = (prepared.path("run"), prepared.path("null"));
    succeed(&mut prepared.train(&run, 1, &[]));
    for command in ["--resume", "evaluate"] {
        refuse(
            trainer(&[command, text(&run)]).args(["--backend", "null"]),
            1,
            &["null backend has no weights"],
        );
    }
    succeed(&mut prepared.train(&null, 1, &["--backend", "null"]));
    refuse(&mut trainer(&["evaluate", text(&null)]), 1, &["there is no checkpoint in"]);
}

#[test]
fn a_run_survives_closed_output_streams() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    let mut unread = start(&mut prepared.train(&run, 2, &[]));
    drop((unread.stdout.take(), unread.stderr.take()));
    assert_eq!(unread.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().count(), 18);
    // A result that cannot be written is an error.
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    if let Ok(full) = full {
        let output = trainer(&["recipes"]).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let message = all_output(&output);
        assert!(message.starts_with("error: cannot write to standard output"), "{message}");
    }
}

#[test]
fn a_file_that_is_no_library_is_named_with_the_remedy() {
    let prepared = Prepared::new();
    let file = prepared.path("libonnxruntime.so");
    fs::write(&file, "not a library").unwrap();
    for (name, path, part) in [
        ("a", "/nowhere/libonnxruntime.so", "there is no ONNX Runtime library"),
        ("b", text(&file), "not a usable shared library"),
    ] {
        let mut command = prepared.train(&prepared.path(name), 3, &["--ort-dylib", path]);
        refuse(&mut command, 1, &[part, path]);
    }
}

#[test]
fn a_library_that_is_too_old_is_named_with_its_version_and_the_remedy() {
    let prepared = Prepared::new();
    let library = prepared.path("libonnxruntime.so");
    // Every ONNX Runtime returns null when asked for an API version that it does not have.
    let code = "static const char *version(void) { return \"1.10.0\"; }
                static const void *api(unsigned number) { (void)number; return 0; }
                struct base { const void *(*api)(unsigned); const char *(*version)(void); };
                const struct base *OrtGetApiBase(void) { static const struct base b = {api, version}; return &b; }";
    if !has_compiled(code, &library) {
        return;
    }
    let mut command = prepared.train(&prepared.path("run"), 1, &["--ort-dylib", text(&library)]);
    refuse(
        &mut command,
        1,
        &[text(&library), "ONNX Runtime 1.10", "or newer is needed", "unset ORT_DYLIB_PATH"],
    );
}

#[test]
fn cuda_without_a_gpu_is_an_error_and_no_silent_run_on_the_cpu() {
    let mut command = trainer(&["--limit-batches", "1", "--device", "cuda"]);
    let root = tempfile::tempdir().unwrap();
    command.args(["--run", text(&root.path().join("run"))]).env("FOVEA_CACHE", root.path());
    refuse(&mut command, 1, &["NVIDIA driver", "--device cpu"]);
    // Nothing was prepared or fetched for it, and no file was looked for.
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    let none = text(&root.path().join("none")).to_owned();
    for command in [
        &["compare", "demo", "alexnet"][..],
        &["evaluate", &none],
        &["predict", &none, &none],
        &["report", &none],
        &["features", &none, &none, "--out", &none],
        &["search", &none, &none, "--in", &none],
        &["bench", "--recipe", "demo"],
    ] {
        let mut command = trainer(command);
        command.args(["--device", "cuda"]).env("FOVEA_CACHE", root.path()).current_dir(root.path());
        refuse(&mut command, 1, &["NVIDIA driver", "--device cpu"]);
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_run_that_cannot_resume_is_an_error_with_the_reason() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    succeed(&mut prepared.train(&run, 2, &[]));
    refuse(&mut trainer(&["--resume", text(&prepared.data)]), 1, &["run.json", "name the folder of a run"]);
    refuse(&mut prepared.train(&run, 3, &[]), 2, &["holds a run already", "--resume"]);
    let mut command = trainer(&["--resume", text(&run), "--set", "optimizer.momentum=0.5"]);
    refuse(&mut command, 2, &["another recipe", "`demo`"]);

    let two = Folders::new(4, 2, 40);
    fs::remove_dir_all(two.path().join("train/n003")).unwrap();
    fs::remove_dir_all(two.path().join("val/n003")).unwrap();
    let other = two.path().join("data");
    succeed(&mut prepare(two.path(), &other, &["--size", "32"]));
    for command in [["--resume", text(&run)], ["evaluate", text(&run)]] {
        let mut command = trainer(&command);
        command.args(["--data", text(&other), "--ort-dylib", "/nowhere"]);
        refuse(&mut command, 2, &["3 classes, the data set has 2"]);
    }

    let last = checkpoints(&run).pop().unwrap().join("state.safetensors");
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    for command in [&["--resume", text(&run)][..], &["evaluate", text(&run), "--checkpoint", "last"]] {
        refuse(&mut trainer(command), 1, &[text(&last), "is truncated", "delete its folder"]);
    }
}

#[test]
fn a_second_trainer_on_the_same_run_is_refused() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    let mut first = start(&mut prepared.train(&run, 100_000, &[]));
    wait_for(&run.join("checkpoints"), &mut first);
    refuse(&mut trainer(&["--resume", text(&run)]), 1, &["another trainer is using"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_full_disk_ends_the_run_with_its_checkpoints_whole() {
    let prepared = Prepared::new();
    let whole = prepared.path("whole");
    succeed(&mut prepared.train(&whole, 3, &[]));
    let last_state = |run| checkpoints(run).pop().unwrap().join("state.safetensors");
    let bytes = fs::metadata(last_state(&whole)).unwrap().len();

    let disk = prepared.path("disk");
    fs::create_dir(&disk).unwrap();
    // Room for the first checkpoint and not for the second.
    let Some(disk) = SmallDisk::mount(&disk, &format!("size={}", bytes * 3 / 2)) else {
        println!("skipped: mounting a small disk takes root");
        return;
    };
    let run = disk.0.join("run");
    refuse(
        &mut prepared.train(&run, 3, &[]),
        1,
        &["cannot write", "No space left", "earlier checkpoints are untouched"],
    );
    assert_eq!(checkpoints(&run).len(), 1);
    disk.remount("size=100m");
    succeed(&mut trainer(&["--resume", text(&run), "--device", "cpu"]));
    assert!(fs::read(last_state(&run)).unwrap() == fs::read(last_state(&whole)).unwrap());
}

#[test]
fn a_file_that_is_no_photo_is_named() {
    let prepared = Prepared::new();
    let run = prepared.path("run");
    succeed(&mut prepared.train(&run, 1, &[]));
    let page = prepared.path("page.jpg");
    fs::write(&page, "<html>").unwrap();
    refuse(&mut trainer(&["predict", text(&run), text(&page)]), 1, &["cannot decode", "page.jpg"]);
    refuse(&mut trainer(&["predict", text(&run), "/nowhere.jpg"]), 1, &["cannot read /nowhere.jpg"]);
}
