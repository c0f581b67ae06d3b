//! Runs that cannot begin or continue.

use super::support::*;
use crate::backend::BackendError;
use crate::checkpoint::CheckpointError;
use crate::state::StateError;
use crate::training::{
    OnNan, Outcome, RunFolder, TrainingData, TrainingError, Warning, read_recipe, read_settings,
};

fn error(attempt: &mut Attempt<'_>) -> TrainingError {
    match attempt.go() {
        Err(error) => error,
        Ok(outcome) => panic!("{outcome:?}"),
    }
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_with_a_report_and_keeps_the_checkpoint() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.spoilt = &[7];
    let TrainingError::NotFinite(divergence) = error(&mut attempt) else { panic!("another error") };
    assert_eq!((divergence.step, divergence.epoch, divergence.learning_rate), (7, 2, 0.05));
    assert_eq!(divergence.extremes.len(), 4);
    assert!(divergence.extremes.iter().all(|parameter| parameter.weight > 0.0 || parameter.gradient > 0.0));
    let checkpoint = divergence.checkpoint.clone().unwrap();
    assert!(checkpoint.ends_with("step-000000005") && checkpoint.exists(), "{checkpoint:?}");
    assert!(divergence.to_string().contains("after step 7"), "{divergence}");
}

#[test]
fn batches_whose_loss_is_not_finite_are_skipped_and_counted_on_request() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.options.settings.on_nan = OnNan::Skip;
    attempt.spoilt = &[1, 8];
    let report = attempt.finish();
    assert_eq!((report.discarded, report.step), (2, 13));
    let [Warning::Discarded { step: 1, total: 1, .. }, Warning::Discarded { step: 7, total: 2, .. }] =
        attempt.watcher.warnings[..]
    else {
        panic!("{:?}", attempt.watcher.warnings)
    };
}

#[test]
fn gradients_that_overflow_half_precision_cost_one_update_and_do_not_end_the_run() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.overflowing = &[0, 7];
    let report = attempt.finish();
    assert_eq!((report.discarded, report.step), (0, 13));
    assert_eq!(attempt.watcher.warnings, [0, 6].map(|step| Warning::Overflow { loss_scale: 0.5, step }));
}

#[test]
fn a_skipped_batch_does_not_affect_the_weights() {
    let place = Place::new();
    let mut spoilt = Attempt::new(&place, "spoilt");
    spoilt.options.settings.on_nan = OnNan::Skip;
    // The second batch of the only two; then the weights are those after the first.
    spoilt.options.settings.limit_batches = Some(2);
    spoilt.recipe = recipe(&["training.epochs=1"]);
    spoilt.spoilt = &[1];
    spoilt.finish();
    let mut short = Attempt::new(&place, "short");
    short.options.settings.limit_batches = Some(1);
    short.recipe = recipe(&["training.epochs=1"]);
    short.finish();
    assert!(traces(&place.path("spoilt")).0 == traces(&place.path("short")).0);
}

#[test]
fn weights_that_are_not_finite_end_the_run_even_if_batches_may_be_skipped() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.options.settings.on_nan = OnNan::Skip;
    (attempt.spoilt, attempt.lost) = (&[0], true);
    let error = error(&mut attempt);
    assert!(matches!(&error, TrainingError::NotFinite(report) if report.checkpoint.is_none()), "{error}");
}

#[test]
fn weights_that_are_not_finite_are_never_saved() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.infinite_after = Some(7);
    let TrainingError::NotFinite(divergence) = error(&mut attempt) else { panic!("another error") };
    assert_eq!((divergence.step, divergence.epoch), (10, 2));
    assert!(divergence.to_string().starts_with("weights or optimizer state are not finite"), "{divergence}");
    assert!(divergence.checkpoint.unwrap().ends_with("step-000000005"));
}

#[test]
fn a_data_set_that_is_missing_or_of_another_size_is_named_with_the_remedy() {
    let place = Place::new();
    let mut missing = Attempt::new(&place, "run");
    missing.data = "nowhere";
    let text = error(&mut missing).to_string();
    assert!(text.contains("nowhere") && text.contains("prepare_imagenet"), "{text}");
    for (overrides, remedy) in [
        (&["input.image_px=16"][..], "--set input.image_px=8"),
        (
            &["input.image_px=16", "input.crop_px=12"],
            "--set input.image_px=8 --set input.crop_px=6, if the network takes images that small",
        ),
    ] {
        let mut other = Attempt::new(&place, "run");
        other.recipe = recipe(overrides);
        let text = error(&mut other).to_string();
        assert!(text.contains("8 pixels") && text.ends_with(remedy), "{text}");
    }
    assert!(!place.path("run").exists());
}

#[test]
fn a_batch_larger_than_the_data_set_is_an_error() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.recipe = recipe(&["training.batch_size=48"]);
    attempt.rows = 48;
    let text = error(&mut attempt).to_string();
    assert!(text.contains("batch of 48") && text.contains("47 images"), "{text}");
    let data = TrainingData::open(&place.path("data"), &attempt.recipe).unwrap();
    let text = data.check_batch(&attempt.recipe, 1).unwrap_err().to_string();
    assert!(text.starts_with(place.path("data").to_str().unwrap()) && text.contains("batch of 48"), "{text}");
    let whole = recipe(&["training.batch_size=47"]);
    data.check_batch(&whole, 1).unwrap();
    for parts in [0, 2] {
        let text = data.check_batch(&whole, parts).unwrap_err().to_string();
        assert!(text.contains(&format!("a batch of 47 images has no {parts} equal parts")), "{text}");
    }
}

#[test]
fn a_run_that_cannot_begin_leaves_no_folder() {
    let place = Place::new();
    drop(RunFolder::create(&place.path("run"), 1).unwrap());
    assert!(!place.path("run").exists());
    // Files of the user stay.
    std::fs::create_dir(place.path("run")).unwrap();
    std::fs::write(place.path("run/notes.txt"), "mine").unwrap();
    drop(RunFolder::create(&place.path("run"), 1).unwrap());
    assert!(place.path("run/notes.txt").exists());
}

#[test]
fn the_second_of_two_trainers_in_a_folder_is_refused() {
    let place = Place::new();
    let held = RunFolder::create(&place.path("run"), 1).unwrap();
    let refused = error(&mut Attempt::new(&place, "run"));
    assert!(matches!(refused, TrainingError::Checkpoint(CheckpointError::InUse { .. })), "{refused}");
    drop(held);
    Attempt::new(&place, "run").finish();
}

#[test]
fn a_new_run_does_not_overwrite_an_old_one() {
    let place = Place::new();
    Attempt::new(&place, "run").finish();
    let before = traces(&place.path("run"));
    let refused = error(&mut Attempt::new(&place, "run"));
    assert!(matches!(refused, TrainingError::RunExists { .. }), "{refused}");
    assert!(traces(&place.path("run")) == before);
}

/// Resumes a finished run of one epoch after `change`.
fn resumed(place: &Place, change: impl FnOnce(&mut Attempt<'_>)) -> TrainingError {
    let mut attempt = Attempt::new(place, "run");
    attempt.resumes = true;
    change(&mut attempt);
    error(&mut attempt)
}

#[test]
fn a_run_does_not_resume_with_another_recipe_or_other_data() {
    let place = Place::new();
    let mut first = Attempt::new(&place, "run");
    first.watcher.stop_after_steps = Some(4);
    first.be_interrupted();
    place.prepare("other-images", 3, VAL, 1);
    place.prepare("four-classes", 4, VAL, 0);

    let refused = resumed(&place, |attempt| attempt.recipe = recipe(&["optimizer.momentum=0.8"]));
    assert!(matches!(refused, TrainingError::Checkpoint(CheckpointError::OtherRecipe { .. })), "{refused}");
    let refused = resumed(&place, |attempt| attempt.data = "four-classes");
    let TrainingError::Checkpoint(CheckpointError::ClassCount { saved: 3, data: 4 }) = refused else {
        panic!("{refused}")
    };
    let refused = resumed(&place, |attempt| attempt.data = "other-images");
    assert!(matches!(refused, TrainingError::OtherData { .. }), "{refused}");
    let refused = resumed(&place, |attempt| attempt.options.settings.limit_batches = Some(3));
    assert!(matches!(refused, TrainingError::Position { batch: 4, batches: 3 }), "{refused}");
    // None of this has changed the run's settings.
    assert_eq!(read_settings(&place.path("run")).unwrap().data, place.path("data"));
    assert_eq!(read_recipe(&place.path("run")).unwrap().optimizer.momentum, Some(0.9));
}

#[test]
fn a_run_does_not_resume_from_a_changed_position() {
    let place = Place::new();
    let constant = recipe(&["schedule={kind=\"multi_step\", gamma=0.1, milestones=[]}"]);
    let mut first = Attempt::new(&place, "run");
    first.recipe = constant.clone();
    first.watcher.stop_after_steps = Some(7);
    first.be_interrupted();
    let checkpoint = RunFolder::open(&place.path("run"), 1).unwrap().store().latest().unwrap();
    let path = checkpoint.join("checkpoint.json");
    let text = std::fs::read(&path).unwrap();
    let changed = |pointer: &str, value: u64, keep_hash: bool| {
        let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        *json.pointer_mut(pointer).unwrap() = value.into();
        if !keep_hash {
            json.as_object_mut().unwrap().remove("sha256").unwrap();
        }
        std::fs::write(&path, json.to_string()).unwrap();
        resumed(&place, |attempt| attempt.recipe = constant.clone())
    };
    let refused = changed("/step", 6, true);
    assert!(matches!(refused, TrainingError::Checkpoint(CheckpointError::Damaged { .. })), "{refused}");
    // As earlier versions wrote it.
    let refused = changed("/epoch", u32::MAX.into(), false);
    assert!(matches!(refused, TrainingError::Over { epochs: u32::MAX, wanted: 3 }), "{refused}");
    let refused = changed("/schedule/divisions", 1, false);
    let TrainingError::Checkpoint(CheckpointError::Reductions { found: 1, most: 0 }) = refused else {
        panic!("{refused}")
    };
}

#[test]
fn a_changed_file_of_settings_is_refused_with_the_remedy() {
    let place = Place::new();
    Attempt::new(&place, "run").finish();
    let path = place.path("run/run.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"on_nan\": \"stop\"", "\"on_nan\": \"skip\"")).unwrap();
    let refused = read_settings(&place.path("run")).unwrap_err();
    assert!(matches!(refused, TrainingError::Changed { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("run.json: its content has sha256") && text.contains("remove `sha256`"), "{text}");
}

#[test]
fn a_state_that_does_not_fit_is_an_error_of_the_backend() {
    let place = Place::new();
    let mut first = Attempt::new(&place, "run");
    first.watcher.stop_after_steps = Some(1);
    first.be_interrupted();
    let refused = resumed(&place, |attempt| {
        // The name is not part of the hash; the shape of a layer is.
        attempt.recipe.name = "renamed".into();
        attempt.watcher.stop_after_steps = Some(1);
        let folder = attempt.place.path("run/checkpoints/step-000000001");
        let (meta, mut state) = crate::checkpoint::load(&folder).unwrap();
        let mean = state.take("input.mean", &[3, 6, 6]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let mean = crate::state::TensorRef { shape: &mean.shape, values: &mean.values };
        crate::checkpoint::save(&folder, &meta, &[("input.mean", mean)]).unwrap();
    });
    let TrainingError::Backend(BackendError::State(StateError::Missing { name, .. })) = refused else {
        panic!("{refused}")
    };
    assert_eq!(name, "fc1.weight");
}

#[test]
fn a_run_whose_folder_is_moved_saves_a_checkpoint_and_ends_with_an_error() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.watcher.moves = Some((7, [place.path("run"), place.path("moved")]));
    let TrainingError::RunGone { path, checkpoint } = error(&mut attempt) else { panic!("another error") };
    assert_eq!(path, place.path("run"));
    assert_eq!(crate::checkpoint::load(&checkpoint).unwrap().0.step, 10);
    let before = RunFolder::open(&place.path("moved"), 1).unwrap().store().latest().unwrap();
    assert!(before.ends_with("step-000000005"), "{before:?}");
}

#[test]
fn an_interruption_is_no_failure() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.watcher.stop_after_steps = Some(3);
    assert_eq!(attempt.go().unwrap(), Outcome::Interrupted { step: 3 });
}
