//! `trainer compare` as a user runs it, with two small recipes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::*;
use crate::train::Prepared;

/// A data set and two recipes of epochs of 9 batches.
struct Arena {
    prepared: Prepared,
    recipes: [PathBuf; 2],
}

impl Arena {
    fn new() -> Self {
        let prepared = Prepared::new();
        let recipes = ["relu", "tanh"].map(|function| {
            let path = prepared.path(&format!("{function}.toml"));
            let text = format!(
                "base = \"demo\"\nname = \"small-{function}\"\n[set]\n\"input.image_px\" = 32\n\"training.batch_size\" = 8\n\
                 \"network.layer.activation.function\" = \"{function}\"\n"
            );
            fs::write(&path, text).unwrap();
            path
        });
        Self { prepared, recipes }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.prepared.path(name)
    }

    fn compare(&self, out: &Path, more: &[&str]) -> Command {
        let [first, second] = &self.recipes;
        let mut command = trainer(&["compare", text(first), text(second), "--device", "cpu"]);
        command.args(["--data", text(&self.prepared.data), "--out", text(out)]).args(more);
        command
    }

    /// A run of the first recipe made by hand.
    fn train(&self, run: &Path, more: &[&str]) {
        let mut command =
            trainer(&["--recipe", text(&self.recipes[0]), "--device", "cpu", "--run", text(run)]);
        succeed(command.args(["--data", text(&self.prepared.data), "--epochs", "2"]).args(more));
    }
}

/// The comparison in a folder without the times.
fn result(out: &Path) -> Value {
    without_times(&fs::read_to_string(out.join("comparison.json")).unwrap())
}

fn without_times(json: &str) -> Value {
    let mut value: Value = serde_json::from_str(json).unwrap();
    for recipe in value["recipes"].as_array_mut().unwrap() {
        assert!(recipe.as_object_mut().unwrap().remove("seconds_per_epoch").unwrap().is_number());
    }
    value
}

/// The lines that report a trained epoch, up to its number.
fn epochs(printed: &str) -> Vec<String> {
    let line = |line: &str| line.split_once(": training error").map(|(epoch, _)| epoch.to_owned());
    printed.lines().filter_map(line).collect()
}

#[test]
fn stopped_and_started_again_it_comes_to_the_same_comparison() {
    let arena = Arena::new();
    let arguments = ["--until", "0.3", "--epochs", "3", "--seeds", "2", "--rates", "0.01,0.03,0.1"];
    let whole = arena.out("whole");
    let printed = succeed(arena.compare(&whole, &arguments).arg("--json"));
    let expected = result(&whole);
    assert_eq!(without_times(&printed), expected);
    let recipes = expected["recipes"].as_array().unwrap();
    let names: Vec<_> = recipes.iter().map(|recipe| &recipe["recipe"]).collect();
    assert_eq!(names, ["small-relu", "small-tanh"]);
    for recipe in recipes {
        assert!(recipe["tried"].as_array().unwrap().len() >= 3, "{recipe}");
        let seeds: Vec<_> = recipe["runs"].as_array().unwrap().iter().map(|run| &run["seed"]).collect();
        assert_eq!(seeds, [0, 1], "{recipe}");
    }

    let out = arena.out("stopped");
    let mut first = start(&mut arena.compare(&out, &arguments));
    wait_for(&out.join("small-relu/rate-0.03/seed-0/checkpoints"), &mut first);
    let message = fail(&mut arena.compare(&out, &arguments), 1);
    assert!(message.contains("another comparison is using"), "{message}");
    let kill = Command::new("kill").args(["-TERM", &first.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = first.wait_with_output().unwrap();
    let mut said = all_output(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the same command resumes it"), "{said}");
    assert!(!out.join("comparison.json").exists());

    let mut second = start(&mut arena.compare(&out, &arguments));
    wait_for(&out.join("small-tanh/rate-0.01/seed-0/checkpoints"), &mut second);
    second.kill().unwrap();
    said += &all_output(&second.wait_with_output().unwrap());
    let output = arena.compare(&out, &arguments).output().unwrap();
    said += &all_output(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(result(&out), expected);
    let mut trained = epochs(&said);
    let count = trained.len();
    trained.sort();
    trained.dedup();
    assert_eq!(trained.len(), count, "epochs were trained twice:\n{said}");

    assert!(fs::read_to_string(out.join("comparison.svg")).unwrap().contains("small-tanh, rate"));
    assert!(fs::read(out.join("comparison.png")).unwrap().starts_with(b"\x89PNG"));

    let again = arena.compare(&out, &arguments).output().unwrap();
    assert_eq!(epochs(&all_output(&again)), [""; 0]);
    assert_eq!(result(&out), expected);
}

#[test]
fn a_run_made_by_hand_is_used_and_every_epoch_is_in_the_table() {
    let arena = Arena::new();
    let out = arena.out("out");
    let run = out.join("small-relu/rate-0.02/seed-1");
    arena.train(&run, &["--set", "optimizer.learning_rate=0.02", "--seed", "1"]);
    let before = fs::read_to_string(run.join("epochs.csv")).unwrap();

    let arguments = ["--rates", "0.02", "--seeds", "2", "--epochs", "2", "--metric", "val_error"];
    let output = arena.compare(&out, &arguments).output().unwrap();
    let said = all_output(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("validation error after the last epoch; seeds 0 to 1"), "{said}");
    assert!(!said.contains("small-relu, rate 0.02, seed 1, epoch"), "{said}");
    assert_eq!(fs::read_to_string(run.join("epochs.csv")).unwrap(), before);

    let table = fs::read_to_string(out.join("comparison.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    let of = |row: &Vec<&str>| row[..4].join(",");
    let expected = ["relu", "tanh"].iter().flat_map(|name| {
        [(0, 1), (0, 2), (1, 1), (1, 2)].map(|(seed, epoch)| format!("small-{name},0.02,{seed},{epoch}"))
    });
    assert_eq!(rows[1..].iter().map(of).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    // epoch, step, lr, train_loss, train_top1, …
    let by_hand: Vec<&str> = before.lines().last().unwrap().split(',').collect();
    assert_eq!(rows[4][4..8], [by_hand[3], by_hand[4], by_hand[6], by_hand[7]]);
}

#[test]
fn a_folder_with_another_run_is_refused_before_anything_is_trained() {
    let arena = Arena::new();
    for (name, folder, set, parts) in [
        (
            "recipe",
            "rate-0.02/seed-0",
            "optimizer={learning_rate=0.02,momentum=0.5,weight_decay=0.0005}",
            ["another optimizer.momentum (0.5, here 0.9)", "--out"],
        ),
        (
            "rate",
            "rate-0.03/seed-0",
            "optimizer.learning_rate=0.02",
            ["another optimizer.learning_rate (0.02, here 0.03)", "--out"],
        ),
        ("seed", "rate-0.02/seed-5", "optimizer.learning_rate=0.02", ["another seed (0, here 5)", "--out"]),
    ] {
        let out = arena.out(name);
        let run = out.join("small-relu").join(folder);
        arena.train(&run, &["--set", set, "--limit-batches", "2"]);
        let message = fail(&mut arena.compare(&out, &["--rates", "0.02", "--limit-batches", "2"]), 1);
        for part in parts.into_iter().chain([text(&run)]) {
            assert!(message.contains(part), "`{part}` is missing: {message}");
        }
        assert!(!out.join("small-tanh").exists());
    }
    // The right recipe, and epochs of fewer batches.
    let out = arena.out("limit");
    let run = out.join("small-relu/rate-0.02/seed-0");
    arena.train(&run, &["--set", "optimizer.learning_rate=0.02", "--limit-batches", "2"]);
    let message = fail(&mut arena.compare(&out, &["--rates", "0.02"]), 1);
    assert!(message.contains("another --limit-batches (2, here none)"), "{message}");
}

#[test]
fn what_cannot_be_compared_is_wrong_usage() {
    let arena = Arena::new();
    let [first, second] = &arena.recipes;
    let out = arena.out("out");
    let same = ["--set", "network.layer.activation.function=relu"];
    for (arguments, part) in [
        (vec![text(first)], "name at least two"),
        (vec![], "required"),
        (vec![text(first), "alexnt"], "did you mean `alexnet`?"),
        (vec![text(first), text(first)], "two of the recipes are called `small-relu`"),
        (vec![text(first), text(second), same[0], same[1]], "differ in nothing but their names"),
        (vec![text(first), text(second), "--until", "0.9"], "below 0.66"),
        (vec![text(first), text(second), "--until", "-1"], "the target -1"),
        (vec![text(first), text(second), "--rates", "0.1,0"], "invalid learning rate 0"),
        (vec![text(first), text(second), "--rates", "0.1", "--no-tuning"], "cannot be used with"),
        (vec![text(first), text(second), "--seeds", "0"], "--seeds"),
        (vec![text(first), text(second), "--metric", "top1"], "train_error"),
    ] {
        let mut command = trainer(&["compare", "--data", text(&arena.prepared.data), "--out", text(&out)]);
        let message = fail(command.args(&arguments), 2);
        assert!(message.contains(part), "`{part}` is missing: {message}");
        assert_eq!(message.matches("error: ").count(), 1, "{message}");
    }
    assert!(!out.exists());
}
