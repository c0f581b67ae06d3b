//! `evaluate`: the error of a trained network.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use fovea_pipeline::loader::OnBadRecord;
use fovea_pipeline::{EvalCrops, Records, cores};
use fovea_tools::bars::titled_bar;
use fovea_tools::outln;
use fovea_tools::terminal::print_json;
use fovea_trainer::backend::Setup;
use fovea_trainer::collective::Ranks;
use fovea_trainer::training::{
    Evaluation, TrainedModel, TrainingError, check_labels, crop_size, evaluated_split, read_settings,
};
use serde_json::json;

use super::args::EvaluateArgs;
use super::train::{measured_on, score_line};
use super::{NEVER, data, device};

pub fn evaluate(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    let trained = TrainedModel::load(&args.trained.run, args.trained.checkpoint)?;
    let settings = read_settings(&args.trained.run)?;
    let directory = args.data.clone().unwrap_or(settings.data);
    let cache = args.cache.or_of(settings.cache, settings.cache_limit);
    let dataset = data::open_for(&cache, &directory, &trained.recipe)?;
    check_labels(&dataset, &trained.recipe)?;
    let wnids: Vec<&str> = dataset.info().classes.iter().map(|class| class.wnid.as_str()).collect();
    trained.meta.check_classes(&wnids)?;
    let split = evaluated_split(&dataset);
    let records: Arc<Records> =
        dataset.records(split).map_err(TrainingError::from).context("nothing to evaluate on")?.into();

    let batch_rows = args.batch_size.map_or(trained.recipe.training.batch_size, usize::from);
    let batch_rows = batch_rows.min(records.len().max(1));
    let TrainedModel { path, recipe, mean, state, meta, network } = trained;
    let setup = Setup { recipe: &recipe, network, batch_rows, mean: &mean, seed: 0, place: (0, 1) };
    setup.check_memory()?;
    let mut backend = device::backend(&args.device, None, &setup, settings.precision)?;
    backend.import(state)?;

    let mut evaluation = Evaluation {
        records,
        views: EvalCrops::Center,
        crop: crop_size(&recipe),
        classes: meta.classes.len(),
        loss: recipe.training.loss,
        on_bad_record: OnBadRecord::Stop,
        workers: args.workers.unwrap_or_else(cores).get(),
    };
    let images = evaluation.records.len() as u64;
    // The centre crop costs little in addition to several others.
    let mut wanted = vec![EvalCrops::Center, args.views.views()];
    wanted.dedup();
    let mut results = Vec::new();
    for views in wanted {
        evaluation.views = views;
        let bar = titled_bar(views.title(), images, "images");
        // An interrupt ends the process.
        let score = evaluation
            .run(&mut *backend, &mut Ranks::default(), &NEVER, &mut |done| bar.set_position(done))?;
        bar.finish_and_clear();
        results.push((views, score.expect("nothing asks it to stop")));
    }
    if args.json {
        let scores: serde_json::Map<_, _> =
            results.iter().map(|(views, score)| (views.name().to_owned(), json!(score))).collect();
        print_json(&json!({ "checkpoint": path, "data": directory, "split": split, "scores": scores }))?;
        return Ok(ExitCode::SUCCESS);
    }
    outln!("checkpoint    {} (epoch {}, step {})", path.display(), meta.epoch, meta.step)?;
    let images = measured_on(split, images);
    outln!("measured on   {images} of {}", directory.display())?;
    for (views, score) in results {
        outln!("{:13} {}", views.title(), score_line(&score, recipe.training.loss))?;
    }
    Ok(ExitCode::SUCCESS)
}
