//! Runs that succeed.

use std::fs;
use std::sync::atomic::AtomicBool;

use fovea_pipeline::loader::OnBadRecord;
use fovea_pipeline::{EvalCrops, Split};
use fovea_runtime::testing::{self, Data};

use super::support::{Attempt, Place, TRAIN, VAL, recipe, traces};
use crate::backend::{ReferenceBackend, Setup, Targets, TrainingBackend};
use crate::checkpoint::Store;
use crate::collective::Ranks;
use crate::models::PixelType;
use crate::recipe::Loss;
use crate::training::{
    CheckpointChoice, Evaluation, OnNan, RunPlan, Score, TrainedModel, TrainingData, Warning, crop_size,
    predictions, read_recipe, read_report, read_settings,
};

#[test]
fn a_run_learns_and_writes_its_records() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.recipe = recipe(&["training.epochs=12"]);
    let report = attempt.finish();
    assert!(report.score.top1 < 0.1, "{report:?}");
    let batches = TRAIN as u64 / 8;
    assert_eq!((report.epochs, report.step, report.views), (12, 12 * batches, EvalCrops::TenCrop));

    let run = place.path("run");
    let (_, _, steps, epochs) = traces(&run);
    assert_eq!((steps.len() as u64, epochs.len()), (report.step, 13));
    assert_eq!(read_recipe(&run).unwrap(), attempt.recipe);
    assert_eq!(read_settings(&run).unwrap().data, place.path("data"));
    let environment = fs::read_to_string(run.join("environment.json")).unwrap();
    assert!(environment.contains("\"backend\": \"reference\""), "{environment}");
    let written: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(run.join("report.json")).unwrap()).unwrap();
    assert_eq!(written["score"]["top1"], report.score.top1);
}

#[test]
fn the_best_checkpoint_is_that_of_the_epoch_with_the_lowest_error() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.recipe =
        recipe(&["training.epochs=3", "network.layer.fc1.weight_std=0.01", "evaluation.at_end=center"]);
    let report = attempt.finish();
    let (_, _, _, epochs) = traces(&place.path("run"));
    let errors: Vec<f64> = epochs[1..].iter().map(|row| row[7].parse().unwrap()).collect();
    let lowest = errors.iter().copied().fold(f64::INFINITY, f64::min);
    let first_best = errors.iter().position(|&error| error == lowest).unwrap() + 1;
    assert!(first_best < errors.len(), "the last epoch is the best, which proves nothing: {errors:?}");
    // The report has the best weights and the last.
    let best = report.best.unwrap();
    assert_eq!((best.epoch as usize, best.score.top1), (first_best, lowest));
    assert_eq!(Some(&report.score.top1), errors.last());
    assert!(report.score.top1 > lowest, "{errors:?}");
    let trained = TrainedModel::load(&place.path("run"), CheckpointChoice::Best).unwrap();
    assert_eq!(trained.meta.step, best.step);
    assert_eq!(trained.meta.epoch as usize, first_best, "{errors:?}");
    assert_eq!(TrainedModel::load(&place.path("run"), CheckpointChoice::Last).unwrap().meta.epoch, 3);
    assert_eq!(trained.meta.class_names[1], "colour 1");
}

#[test]
fn a_backend_that_fetches_ahead_receives_the_next_images_and_makes_the_same_run() {
    let place = Place::new();
    // Batches of eight, whole or in parts of three, three and two, of which only a whole one is waited for.
    for (rows, at_least) in [(8, 5), (3, 15 * 2 - 1)] {
        let [mut plain, mut ahead] = ["plain", "ahead"].map(|name| Attempt::new(&place, name));
        ahead.fetches_ahead = true;
        for attempt in [&mut plain, &mut ahead] {
            (attempt.rows, attempt.options.settings.on_nan, attempt.spoilt) = (rows, OnNan::Skip, &[4]);
            attempt.finish();
        }
        assert!(traces(&place.path("plain")) == traces(&place.path("ahead")));
        assert_eq!(plain.fetched, 0);
        // A batch is held longer, so there is one more buffer.
        assert_eq!(ahead.blocks.count().0, plain.blocks.count().0 + 1);
        assert!(ahead.fetched >= at_least, "{} of batches in parts of {rows}", ahead.fetched);
        for name in ["plain", "ahead"] {
            fs::remove_dir_all(place.path(name)).unwrap();
        }
    }
}

#[test]
fn earlier_gradients_of_a_backend_do_not_enter_a_run() {
    let place = Place::new();
    let [mut new, mut used] = ["new", "used"].map(|name| Attempt::new(&place, name));
    used.is_amid_a_step = true;
    for attempt in [&mut new, &mut used] {
        attempt.finish();
    }
    assert!(traces(&place.path("new")) == traces(&place.path("used")));
}

#[test]
fn a_batch_in_parts_gives_the_same_update_but_for_rounding() {
    let place = Place::new();
    for (run, rows) in [("whole", 8), ("parts", 3)] {
        let mut attempt = Attempt::new(&place, run);
        // The masks of dropout are drawn for each part.
        attempt.recipe = recipe(&["network.layer.drop1.p=0", "training.epochs=2"]);
        attempt.rows = rows;
        attempt.finish();
    }
    let (_, _, whole, _) = traces(&place.path("whole"));
    let (_, _, parts, _) = traces(&place.path("parts"));
    assert_eq!(whole.len(), parts.len());
    for (a, b) in whole.iter().zip(&parts) {
        let (a, b) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-5, "{a} and {b}");
    }
}

#[test]
fn two_equal_views_of_each_photo_give_the_update_of_one_but_for_rounding() {
    let place = Place::new();
    let plain = ["network.layer.drop1.p=0", "training.epochs=2", "augmentation.train=[{op=\"center_crop\"}]"];
    for (run, more, rows) in [
        ("once", &["training.batch_size=4"][..], 4),
        ("twice", &["augmentation.views=2"], 8),
        ("in-pieces", &["augmentation.views=2"], 3),
    ] {
        let mut attempt = Attempt::new(&place, run);
        attempt.recipe = recipe(&[&plain[..], more].concat());
        attempt.rows = rows;
        attempt.finish();
    }
    let (_, _, once, _) = traces(&place.path("once"));
    for run in ["twice", "in-pieces"] {
        let (_, _, views, _) = traces(&place.path(run));
        assert_eq!((once.len(), views.len()), (22, 22), "{run}");
        for (a, b) in once.iter().zip(&views) {
            let (a, b) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
            assert!((a - b).abs() < 1e-5, "{run}: {a} and {b}");
        }
    }
}

#[test]
fn views_of_a_photo_have_draws_of_their_own() {
    let place = Place::new();
    let mut losses = Vec::new();
    for (run, more) in [("one", &["training.batch_size=4"][..]), ("two", &["augmentation.views=2"])] {
        let mut attempt = Attempt::new(&place, run);
        attempt.recipe = recipe(&[&["network.layer.drop1.p=0", "training.epochs=1"], more].concat());
        attempt.finish();
        losses.push(attempt.watcher.losses);
    }
    assert_eq!(losses[0].len(), losses[1].len());
    assert_ne!(losses[0][0], losses[1][0]);
}

#[test]
fn a_limit_ends_epochs_early_and_the_next_epoch_has_its_own_order() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "limited");
    attempt.options.settings.limit_batches = Some(2);
    attempt.finish();
    let mut whole = Attempt::new(&place, "whole");
    whole.finish();
    assert_eq!(attempt.watcher.losses.len(), 3 * 2);
    assert_eq!(attempt.watcher.losses[..2], whole.watcher.losses[..2]);
    let (_, _, _, epochs) = traces(&place.path("limited"));
    assert_eq!(epochs[3][1], "6");
}

#[test]
fn without_validation_images_the_training_images_are_evaluated_with_a_warning() {
    let place = Place::new();
    place.prepare("train-only", 3, 0, 0);
    let mut attempt = Attempt::new(&place, "run");
    attempt.data = "train-only";
    let data = TrainingData::open(&place.path("train-only"), &attempt.recipe).unwrap();
    assert_eq!(data.evaluated().len(), TRAIN);
    attempt.recipe.training.epochs = 1;
    attempt.watcher.stop_after_reports = Some(1);
    attempt.be_interrupted();
    assert_eq!(attempt.watcher.warnings, [Warning::NoValidation]);
    attempt.watcher.stop_after_reports = None;
    attempt.resumes = true;
    attempt.finish();
    let report = read_report(&place.path("run")).unwrap().unwrap();
    assert_eq!((report.split, report.score.images), (Split::Train, TRAIN as u64));
}

#[test]
fn a_loss_that_stays_at_ln_k_is_one_warning() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.recipe = recipe(&[
        "network.layer.linear.weight_std=0.001",
        "optimizer.learning_rate=1e-9",
        "training.epochs=50",
    ]);
    attempt.finish();
    let [Warning::StuckAtChance { classes: 3, step }] = attempt.watcher.warnings[..] else {
        panic!("{:?}", attempt.watcher.warnings)
    };
    assert!(step >= 200, "{step}");
    assert!(attempt.watcher.warnings[0].to_string().contains("ln 3 = 1.099"));
}

/// The score of an untrained network.
fn score(place: &Place, views: EvalCrops, rows: usize) -> Score {
    let recipe = recipe(&["network.layer.fc1.weight_std=2"]);
    let data = TrainingData::open(&place.path("data"), &recipe).unwrap();
    let setup = Setup::new(&recipe, 3, rows, data.mean(), 1).unwrap();
    let mut backend = ReferenceBackend::new(&setup).unwrap();
    let evaluation = Evaluation {
        records: data.evaluated().clone(),
        views,
        crop: crop_size(&recipe),
        classes: 3,
        loss: Loss::CrossEntropy,
        on_bad_record: OnBadRecord::Stop,
        workers: 2,
    };
    let mut reported = Vec::new();
    let score = evaluation
        .run(&mut backend, &mut Ranks::default(), &AtomicBool::new(false), &mut |done| reported.push(done))
        .unwrap()
        .unwrap();
    assert_eq!(reported.last(), Some(&(VAL as u64)));
    score
}

#[test]
fn an_evaluation_counts_every_image_once_for_any_batch_size() {
    let place = Place::new();
    for views in [EvalCrops::Center, EvalCrops::TenCrop] {
        let whole = score(&place, views, 64);
        assert_eq!(whole.images, VAL as u64);
        for rows in [1, 4, 10, 23] {
            let parts = score(&place, views, rows);
            assert_eq!((parts.images, parts.top1, parts.top5), (whole.images, whole.top1, whole.top5));
            assert!((parts.loss - whole.loss).abs() < 1e-6, "{rows} rows: {parts:?} and {whole:?}");
        }
    }
    assert_ne!(score(&place, EvalCrops::Center, 8).loss, score(&place, EvalCrops::TenCrop, 8).loss);
}

#[test]
fn checkpoints_within_an_epoch_are_made_by_the_clock_and_only_the_last_ones_stay() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    attempt.options.checkpoint_every = std::time::Duration::ZERO;
    attempt.watcher.stop_after_steps = Some(4);
    attempt.be_interrupted();
    let run = place.path("run");
    assert!(Store::new(&run, 9).latest().unwrap().ends_with("step-000000004"));
    let mut names: Vec<_> =
        fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["step-000000003", "step-000000004"]);
}

#[test]
fn the_exported_graph_gives_the_outputs_of_the_backend() {
    let place = Place::new();
    Attempt::new(&place, "run").finish();
    let load = || TrainedModel::load(&place.path("run"), CheckpointChoice::Last).unwrap();
    let TrainedModel { recipe, mean, state, .. } = load();
    let setup = Setup::new(&recipe, 3, 4, &mean, 0).unwrap();
    let mut backend = ReferenceBackend::new(&setup).unwrap();
    backend.import(state).unwrap();
    let images: Vec<u8> = (0..4 * 3 * 36).map(|i| (i * 7919 % 251) as u8).collect();
    let labels = Targets::Classes(&[0; 4]);
    let (expected, _) = predictions(&mut backend, &images, labels, crop_size(&recipe), 3).unwrap();
    for pixels in [PixelType::U8, PixelType::F32] {
        let data = match pixels {
            PixelType::U8 => Data::U8(images.clone()),
            PixelType::F32 => Data::F32(images.iter().map(|&pixel| pixel.into()).collect()),
        };
        let graph = load().inference_graph(pixels).unwrap();
        let predictions =
            testing::run(&mut testing::session(&graph.to_bytes()), &[("images", &[4, 3, 6, 6][..], data)]);
        for (found, expected) in predictions["probabilities"].iter().zip(&expected) {
            assert!((found - f64::from(*expected)).abs() < 1e-5, "{pixels:?}: {found}, expected {expected}");
        }
    }
}

#[test]
fn saliency_is_the_largest_derivative_of_the_highest_logit() {
    let place = Place::new();
    Attempt::new(&place, "run").finish();
    let load = || TrainedModel::load(&place.path("run"), CheckpointChoice::Last).unwrap();
    let pixels: Vec<u8> = (0..4 * 3 * 36).map(|i| (i * 7919 % 251) as u8).collect();
    let shape = &[4, 3, 6, 6][..];
    let mut maps = testing::session(&load().saliency_graph().unwrap().to_bytes());
    let maps = testing::run(&mut maps, &[("images", shape, Data::U8(pixels.clone()))]);
    let map = &maps["saliency"];
    assert_eq!(map.len(), 4 * 36);
    // The graph's derivative is by its centred and scaled input.
    let scale = load().recipe.input.scale;
    let mut network = testing::session(&load().inference_graph(PixelType::F32).unwrap().to_bytes());
    let step = 0.25;
    let mut highest = |colour: usize, place: usize, change: f32| -> Vec<f64> {
        let mut images: Vec<f32> = pixels.iter().map(|&pixel| pixel.into()).collect();
        (0..4).for_each(|image| images[(3 * image + colour) * 36 + place] += change);
        let logits = testing::run(&mut network, &[("images", shape, Data::F32(images))]);
        logits["logits"].chunks_exact(3).map(|row| row.iter().copied().fold(f64::MIN, f64::max)).collect()
    };
    let largest = map.iter().copied().fold(0.0, f64::max);
    let mut wrong = 0;
    for place in 0..36 {
        let mut expected = [0.0f64; 4];
        for colour in 0..3 {
            let (above, below) = (highest(colour, place, step), highest(colour, place, -step));
            for (image, expected) in expected.iter_mut().enumerate() {
                let derivative = (above[image] - below[image]) / f64::from(2.0 * step) / scale;
                *expected = expected.max(derivative.abs());
            }
        }
        for (image, expected) in expected.into_iter().enumerate() {
            wrong += u32::from((map[36 * image + place] - expected).abs() > 0.02 * largest);
        }
    }
    // A maximum or a rectifier may turn within a step.
    assert!(wrong <= 4 && largest > 0.0, "{wrong} of {} derivatives differ", 4 * 36);
}

#[test]
fn batches_are_in_memory_of_the_backend_which_is_freed_after_the_run() {
    let place = Place::new();
    let mut attempt = Attempt::new(&place, "run");
    // Each pass of the backend checks that its images are in a block.
    attempt.finish();
    // Three buffers for the loader of the training, three for that of each epoch's evaluation, of the last
    // weights and of the best, which are other ones.
    assert_eq!(attempt.blocks.count(), (3 * (1 + 3 + 2), 0));

    let mut stopped = Attempt::new(&place, "stopped");
    stopped.spoilt = &[7];
    stopped.go().unwrap_err();
    let (made, alive) = stopped.blocks.count();
    assert!(made > 0 && alive == 0, "{alive} of {made} blocks are left");
}

#[test]
fn images_that_do_not_fill_a_batch_are_counted() {
    let plan = |images, batch_size, batches| RunPlan {
        images,
        evaluated_images: 1,
        evaluated: Split::Val,
        batch_size,
        views: 1,
        epochs: 1,
        loss: Loss::CrossEntropy,
        batches,
        epochs_done: 0,
        batches_done: 0,
    };
    assert_eq!(plan(6000, 32, 187).left_out(), 16);
    assert_eq!(plan(6400, 32, 200).left_out(), 0);
    assert_eq!(plan(6400, 32, 10).left_out(), 6080);
}
