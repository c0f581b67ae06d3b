//! `predict`: classifies photos.

use std::process::ExitCode;

use anyhow::ensure;
use fovea_pipeline::summary::percent;
use fovea_pipeline::text::printable;
use fovea_tools::terminal::{one_line, print_json};
use fovea_tools::{errln, outln};
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
    // All photos are read before anything is computed, so that a mistyped name is an error at once; the other
    // photos are classified all the same.
    let images: Vec<_> = args.images.iter().map(|path| (path, input.views_of(path))).collect();
    let failed = images.iter().filter(|(_, rows)| rows.is_err()).count();
    for error in images.iter().filter_map(|(_, rows)| rows.as_ref().err()) {
        errln!("error: {}", one_line(error));
    }
    if failed == images.len() && !args.json {
        return Ok(ExitCode::FAILURE);
    }

    let classes = meta.classes.len();
    let setup = Setup { recipe: &recipe, network, batch_rows: views.count(), mean: &mean, seed: 0 };
    let mut backend = device::backend(&args.device, None, &setup, Precision::F32)?;
    backend.import(state)?;
    let mut printed = Vec::new();
    for (path, rows) in images {
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                printed.push(json!({ "image": path, "error": one_line(&error) }));
                continue;
            }
        };
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
        outln!("{}", printable(&path.to_string_lossy()))?;
        for (id, name, probability) in best {
            // Classes of folders have no other name.
            let id = if id == name { String::new() } else { format!("  ({id})") };
            outln!("  {:>7}  {name}{id}", percent(probability))?;
        }
    }
    if args.json {
        print_json(&printed)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
