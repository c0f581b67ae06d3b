//! Runs whose ranks own shares of the weights and of the optimizer's state.

use std::fs;
use std::time::Duration;

use fovea_runtime::{Device, testing};

use super::ranks::{Make, Together, reference};
use super::support::*;
use crate::backend::conformance::OPTIMIZERS;
use crate::backend::{OrtBackend, OrtOptions, Precision, Setup, TrainingBackend};
use crate::checkpoint;
use crate::collective::Shares;
use crate::collective::fake::{Faults, ranks_with, run};
use crate::names;
use crate::recipe::Recipe;
use crate::training::{Outcome, TrainingData};

/// A network with running statistics, whose parameters are cut into shares within tensors.
const RESNET: &str =
    "network={ architecture = { kind = \"resnet\", block = \"basic\", depths = [1, 1, 1, 1] } }";

fn ort(setup: &Setup<'_>, precision: Precision) -> Box<dyn TrainingBackend> {
    let options = OrtOptions { precision, ..OrtOptions::new(Device::Cpu) };
    let backend = OrtBackend::new(testing::runtime(), setup, options);
    Box::new(backend.unwrap_or_else(|error| panic!("{error}")))
}

/// A run of two epochs of three batches.
fn short<'a>(place: &'a Place, run: &'a str, backend: Make, recipe: &Recipe) -> Together<'a> {
    let mut short = Together { backend, recipe: recipe.clone(), ..Together::new(place, run, 4) };
    short.options.settings.limit_batches = Some(3);
    short
}

fn short_recipe(set: &[&str]) -> Recipe {
    recipe(&[set, &["training.epochs=2", "evaluation.at_end=center"]].concat())
}

/// Trains with 1, 2 and 4 ranks, and with 4, then 2, then 1, to one result.
fn the_bits_are_those_of_one(backend: Make, recipe: &Recipe, precision: Precision) {
    let place = Place::new();
    let short = |run| {
        let mut short = short(&place, run, backend, recipe);
        short.options.settings.precision = precision;
        short
    };
    let report = short("one").finish_by(1);
    let expected = traces(&place.path("one"));
    for (run, world) in [("two", 2), ("four", 4)] {
        assert_eq!(short(run).finish_by(world), report, "{world} ranks, {:?}", recipe.optimizer);
        assert!(traces(&place.path(run)) == expected, "{world} ranks, {:?}", recipe.optimizer);
    }
    for (world, stops, resumes) in [(4, Some((1, 2)), false), (2, Some((0, 4)), true), (1, None, true)] {
        let outcomes = Together { stops, resumes, ..short("stopped") }.by(world);
        let is_stopped = matches!(outcomes[0], Outcome::Interrupted { .. });
        assert_eq!(is_stopped, stops.is_some(), "{outcomes:?}");
    }
    assert!(traces(&place.path("stopped")) == expected, "resumed, {:?}", recipe.optimizer);
}

#[test]
fn every_optimizer_is_shared_to_the_bits_of_one_process() {
    for optimizer in OPTIMIZERS {
        let recipe = short_recipe(&[optimizer, "training.ema=0.9", "training.clip_norm=0.5"]);
        for backend in [reference as Make, ort] {
            the_bits_are_those_of_one(backend, &recipe, Precision::F32);
        }
    }
}

#[test]
fn eight_processes_share_a_step() {
    let place = Place::new();
    for (run, world) in [("one", 1), ("eight", 8)] {
        let mut together = short(&place, run, ort, &short_recipe(&[]));
        together.options.settings.parts = 8;
        together.finish_by(world);
    }
    assert!(traces(&place.path("one")) == traces(&place.path("eight")));
}

#[test]
fn running_statistics_and_tensors_across_shares_keep_their_bits() {
    let recipe = short_recipe(&[RESNET, OPTIMIZERS[2], "training.ema=0.9", "training.clip_norm=0.5"]);
    the_bits_are_those_of_one(ort, &recipe, Precision::F32);
}

#[test]
fn an_overflow_in_half_precision_costs_all_processes_their_update() {
    let recipe = short_recipe(&["network.layer.fc2.weight_std=5", "optimizer.learning_rate=0.00001"]);
    the_bits_are_those_of_one(ort, &recipe, Precision::F16);
    let place = Place::new();
    let mut four = short(&place, "four", ort, &recipe);
    four.options.settings.precision = Precision::F16;
    four.finish_by(4);
    let last = checkpoint::Store::new(&place.path("four"), 9).latest().unwrap();
    let (meta, state) = checkpoint::load(&last).unwrap();
    assert!(meta.step < 6, "no update is lost");
    assert!(state.get(names::LOSS_SCALE).unwrap().values[0] < 65536.0);
}

#[test]
fn a_process_holds_its_share_of_the_slots_only() {
    let (recipe, place) = (recipe(&[RESNET, OPTIMIZERS[2]]), Place::new());
    let data = TrainingData::open(&place.path("data"), &recipe).unwrap();
    for world in [1, 2, 4] {
        let mut held = 0;
        for rank in 0..world {
            let setup = data.setup(&recipe, 2, 5).unwrap().of_rank(rank, world);
            let mut lent = Vec::new();
            let mut whole = 0;
            let lend = &mut |own: &[f32], shares: &Shares| {
                assert_eq!(own.len(), shares.of(rank).len());
                whole = shares.len();
                lent.push(own.len());
            };
            ort(&setup, Precision::F32).lend_slots(lend).unwrap();
            assert_eq!(lent.len(), if world == 1 { 0 } else { 2 }, "first and second moments");
            assert!(lent.iter().all(|own| own * world < whole + whole / 4), "{lent:?} of {whole}");
            held += lent.first().unwrap_or(&0);
            assert!(rank + 1 < world || held == whole, "{held} of {whole}");
        }
    }
}

#[test]
fn a_rank_that_dies_at_any_moment_leaves_a_checkpoint_to_resume_from() {
    let place = Place::new();
    let recipe = short_recipe(&["training.epochs=1", "training.ema=0.9", "training.clip_norm=0.5"]);
    short(&place, "whole", reference, &recipe).finish_by(1);
    let expected = traces(&place.path("whole"));
    let mut saved = Vec::new();
    for dies_after in 5.. {
        let name = format!("dead-{dies_after}");
        let mut together = short(&place, &name, reference, &recipe);
        together.options.checkpoint_every = Duration::ZERO;
        let dead = Faults { dies_after: Some(dies_after), ..Faults::default() };
        let outcomes = run(ranks_with(&[Faults::default(), dead]), |fake| together.as_rank(fake));
        if outcomes[1].is_ok() {
            break;
        }
        let checkpoints = place.path(&name).join("checkpoints");
        saved.push(fs::read_dir(checkpoints).map_or(0, |all| all.flatten().count()));
        Together { resumes: true, ..short(&place, &name, reference, &recipe) }.finish_by(1);
        assert!(traces(&place.path(&name)) == expected, "dies after {dies_after} operations");
    }
    // Each checkpoint is there at some moment and not yet at another.
    assert!(saved.len() > 30 && saved.first() == Some(&0) && saved.last() == Some(&2), "{saved:?}");
}
