//! A stopped run resumes to the same bits.

use std::fs;
use std::num::NonZeroU32;

use super::support::*;
use crate::training::{TrainingError, Warning};

/// Stops a run as `stop` sets it up, resumes it, and compares its results with an undisturbed run.
fn stop_and_resume(stops: &[usize], stop: impl Fn(&mut Watcher, usize)) {
    let place = Place::new();
    Attempt::new(&place, "undisturbed").finish();
    let expected = traces(&place.path("undisturbed"));
    for &at in stops {
        let run = format!("stopped-{at}");
        let mut first = Attempt::new(&place, &run);
        stop(&mut first.watcher, at);
        first.be_interrupted();
        let mut second = Attempt::new(&place, &run);
        second.resumes = true;
        // The checkpoint's seed counts, not that of the command line.
        second.options.settings.seed = 99;
        second.options.workers = 1;
        second.finish();
        assert!(traces(&place.path(&run)) == expected, "stopped at {at}");
        // No step is done twice.
        assert_eq!(first.watcher.losses.len() + second.watcher.losses.len(), 3 * (TRAIN / 8));
    }
}

#[test]
fn stopped_after_any_update_it_resumes_to_the_same_bits() {
    stop_and_resume(&[1, 2, 4, 5, 6, 9, 14], |watcher, steps| watcher.stop_after_steps = Some(steps));
}

#[test]
fn a_run_that_shuffles_in_windows_resumes_to_the_same_bits() {
    let place = Place::new();
    place.prepare_small_shards("shards");
    fn attempt<'a>(place: &'a Place, run: &'a str, window: u32) -> Attempt<'a> {
        let mut attempt = Attempt::new(place, run);
        attempt.data = "shards";
        attempt.options.settings.window = NonZeroU32::new(window);
        attempt
    }
    for (run, window) in [("whole", 0), ("all", 100), ("two", 2)] {
        attempt(&place, run, window).finish();
    }
    assert!(traces(&place.path("whole")) == traces(&place.path("all")), "they are in one window");
    assert!(traces(&place.path("whole")) != traces(&place.path("two")));
    for at in [1, 3, 7] {
        let run = format!("stopped-{at}");
        let mut first = attempt(&place, &run, 2);
        first.watcher.stop_after_steps = Some(at);
        first.be_interrupted();
        let mut second = attempt(&place, &run, 2);
        second.resumes = true;
        second.finish();
        assert!(traces(&place.path(&run)) == traces(&place.path("two")), "stopped at {at}");
    }
}

#[test]
fn stopped_in_any_evaluation_it_resumes_to_the_same_bits() {
    stop_and_resume(&[1, 2, 4, 9, 12], |watcher, reports| watcher.stop_after_reports = Some(reports));
}

#[test]
fn a_run_that_is_over_can_be_given_more_epochs() {
    let place = Place::new();
    let mut short = Attempt::new(&place, "run");
    short.recipe = recipe(&["training.epochs=2"]);
    short.finish();
    let mut longer = Attempt::new(&place, "run");
    longer.resumes = true;
    assert_eq!(longer.finish().epochs, 3);
    Attempt::new(&place, "undisturbed").finish();
    assert!(traces(&place.path("run")) == traces(&place.path("undisturbed")));
}

#[test]
fn stopped_again_before_any_step_it_saves_nothing_twice() {
    let place = Place::new();
    let checkpoints = || fs::read_dir(place.path("run/checkpoints")).unwrap().count();
    let mut first = Attempt::new(&place, "run");
    first.watcher.stop_after_steps = Some(7);
    first.be_interrupted();
    let before = checkpoints();
    let mut second = Attempt::new(&place, "run");
    second.resumes = true;
    second.watcher.stop_at_once = true;
    second.be_interrupted();
    assert_eq!(checkpoints(), before);
}

#[test]
fn records_that_were_damaged_in_the_meantime_are_a_warning() {
    let place = Place::new();
    let mut first = Attempt::new(&place, "run");
    first.watcher.stop_after_steps = Some(7);
    first.be_interrupted();
    let path = place.path("run/metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("{\"step\":3,", "{\"step\":x,", 1)).unwrap();
    let mut second = Attempt::new(&place, "run");
    second.resumes = true;
    second.finish();
    assert_eq!(second.watcher.warnings, [Warning::MissingRecords { path, records: 1 }]);
}

#[test]
fn a_run_does_not_go_back_to_an_earlier_epoch() {
    let place = Place::new();
    let mut first = Attempt::new(&place, "run");
    first.watcher.stop_after_steps = Some(7);
    first.be_interrupted();
    let mut second = Attempt::new(&place, "run");
    second.resumes = true;
    second.recipe = recipe(&["training.epochs=1"]);
    let refused = second.go().unwrap_err();
    assert!(matches!(refused, TrainingError::Over { epochs: 2, wanted: 1 }), "{refused}");
    second.recipe = recipe(&["training.epochs=2"]);
    second.finish();
}
