//! Training images of another size after some epochs.

use super::ranks::Together;
use super::support::*;
use crate::recipe::Recipe;

/// A network with as many values before its last layer for images of 6, 7 and 8 pixels.
fn sized(overrides: &[&str]) -> Recipe {
    let network = "network.layer=[
        { name = \"conv1\", kind = \"conv\", out = 4, kernel = 3, pad = 1, weight_std = 0.1 },
        { name = \"relu1\", kind = \"activation\", function = \"relu\" },
        { name = \"drop1\", kind = \"dropout\", p = 0.3 },
        { name = \"pool1\", kind = \"pool\", kernel = 3, stride = 3 },
        { name = \"fc2\", kind = \"linear\", weight_std = 0.1 },
    ]";
    recipe(&[&[network, "input.mean='channel'", "evaluation.at_end='center'"], overrides].concat())
}

const SIZES: &str = "augmentation.sizes=[{after=1, crop_px=8}, {after=2, crop_px=7}]";

fn attempt<'a>(place: &'a Place, run: &'a str, overrides: &[&str]) -> Attempt<'a> {
    let mut attempt = Attempt::new(place, run);
    attempt.recipe = sized(overrides);
    attempt
}

#[test]
fn epochs_have_the_images_of_their_size() {
    let place = Place::new();
    // Of the two, only the evaluation differs, on which this schedule does not depend.
    let schedule = "schedule={kind='cosine'}";
    let mut whole = attempt(&place, "whole", &[schedule, "input.crop_px=8"]);
    whole.finish();
    let mut from_start =
        attempt(&place, "from-start", &[schedule, "augmentation.sizes=[{after=0, crop_px=8}]"]);
    from_start.finish();
    assert_eq!(from_start.watcher.sizes, [(1, 8), (2, 8), (3, 8)]);
    assert_eq!(whole.watcher.sizes, []);
    assert_eq!(from_start.watcher.losses, whole.watcher.losses);

    let mut one = attempt(&place, "one", &[schedule]);
    one.finish();
    let mut several = attempt(&place, "several", &[schedule, SIZES]);
    several.finish();
    assert_eq!(several.watcher.sizes, [(1, 6), (2, 8), (3, 7)]);
    let batches = TRAIN / 8;
    assert_eq!(several.watcher.losses[..batches], one.watcher.losses[..batches]);
    assert_ne!(several.watcher.losses[batches], one.watcher.losses[batches]);
}

#[test]
fn a_run_of_several_sizes_resumes_to_the_same_bits() {
    let place = Place::new();
    attempt(&place, "undisturbed", &[SIZES]).finish();
    // In the first epoch, at the end of it, in the second, after it.
    for at in [2, 5, 6, 8, 10, 12] {
        let run = format!("stopped-{at}");
        let mut first = attempt(&place, &run, &[SIZES]);
        first.watcher.stop_after_steps = Some(at);
        first.be_interrupted();
        let mut second = attempt(&place, &run, &[SIZES]);
        second.resumes = true;
        second.finish();
        assert!(traces(&place.path(&run)) == traces(&place.path("undisturbed")), "stopped at {at}");
    }
}

#[test]
fn several_sizes_are_trained_on_alike_by_one_and_by_two_ranks() {
    let place = Place::new();
    let attempt = |run, world| {
        let mut together = Together::new(&place, run, 2);
        together.recipe = sized(&[SIZES]);
        together.options.settings.micro_batch = Some(3);
        together.finish_by(world)
    };
    assert_eq!(attempt("one", 1), attempt("two", 2));
    assert_eq!(traces(&place.path("one")), traces(&place.path("two")));
}

#[test]
fn batches_that_are_taken_in_advance_have_the_size_of_their_epoch() {
    let place = Place::new();
    attempt(&place, "plain", &[SIZES]).finish();
    let mut ahead = attempt(&place, "ahead", &[SIZES]);
    ahead.fetches_ahead = true;
    ahead.finish();
    assert!(ahead.fetched > 0);
    assert!(traces(&place.path("ahead")) == traces(&place.path("plain")));
}
