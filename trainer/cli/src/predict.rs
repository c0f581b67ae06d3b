//! `predict`: classifies photos.

use std::process::ExitCode;

use anyhow::ensure;
use fovea_pipeline::summary::percent;
use fovea_tools::outln;
use fovea_trainer::backend::{Precision, Setup, TrainingBackend};
use fovea_trainer::training::{TrainedModel, average, probabilities};
use serde_json::json;

use super::args::PredictArgs;
use super::device;
use super::photo_input::PhotoInput;

/// Classes that are printed.
const PREDICTIONS: usize = 5;

pub fn predict(args: &PredictArgs) -> anyhow::Result<ExitCode> {
    let trained = TrainedModel::load(&args.trained.run, args.trained.checkpoint)?;
    let TrainedModel { recipe, mean, state, meta, network, .. } = trained;
    let views = args.views.views();
    let input = PhotoInput::for_run(&args.trained.run, &recipe, views)?;
    // All photos are read before anything is computed, so that a mistyped name is an error at once.
    let images = args.images.iter().map(|path| input.views_of(path)).collect::<anyhow::Result<Vec<_>>>()?;

    let classes = meta.classes.len();
    let setup = Setup { recipe: &recipe, network, batch_rows: views.count(), mean: &mean, seed: 0 };
    let mut backend = device::backend(&args.device, None, &setup, Precision::F32)?;
    backend.import(state)?;
    let mut printed = Vec::new();
    for (path, rows) in args.images.iter().zip(images) {
        let predictions = predictions(&input, &mut *backend, &rows, classes)?;
        let best = predictions
            .iter()
            .take(PREDICTIONS)
            .map(|&(class, probability)| (&meta.classes[class], &meta.class_names[class], probability));
        if args.json {
            let best: Vec<_> = best
                .map(|(id, name, probability)| json!({ "class": id, "name": name, "probability": probability }))
                .collect();
            // `answers` is what earlier versions call them.
            printed.push(json!({ "image": path, "predictions": &best, "answers": &best }));
            continue;
        }
        outln!("{}", path.display())?;
        for (id, name, probability) in best {
            outln!("  {:>7}  {name}  ({id})", percent(probability))?;
        }
    }
    if args.json {
        outln!("{}", serde_json::Value::from(printed))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Classes and their probabilities, the most probable first.
fn predictions(
    input: &PhotoInput,
    backend: &mut dyn TrainingBackend,
    rows: &[u8],
    classes: usize,
) -> anyhow::Result<Vec<(usize, f64)>> {
    // The labels only affect the metrics, which are not used.
    let labels = vec![0; input.views.count()];
    let (all, _) = probabilities(backend, rows, &labels, input.crop, classes)?;
    ensure!(
        all.iter().all(|probability| probability.is_finite()),
        "the network's outputs are not numbers: its training has diverged; use an earlier run, or train with a lower rate"
    );
    let mut predictions: Vec<_> = average(&all, classes).into_iter().enumerate().collect();
    predictions.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(predictions)
}
