//! `predict`: classifies photos, or gives their numbers.

use std::process::ExitCode;

use anyhow::ensure;
use fovea_pipeline::summary::percent;
use fovea_pipeline::text::printable;
use fovea_tools::terminal::{one_line, print_json};
use fovea_tools::{errln, outln};
use fovea_trainer::backend::{Precision, Setup, Targets, TrainingBackend};
use fovea_trainer::recipe::Loss;
use fovea_trainer::training::{self, TrainedModel, average};
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

    let (classes, loss) = (meta.classes.len(), recipe.training.loss);
    let setup =
        Setup { recipe: &recipe, network, batch_rows: views.count(), mean: &mean, seed: 0, place: (0, 1) };
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
        let predictions = predictions(&input, &mut *backend, &rows, (loss, classes))?;
        let best = predictions
            .iter()
            .take(if loss == Loss::MeanSquaredError { classes } else { PREDICTIONS })
            .map(|&(class, probability)| (&meta.classes[class], &meta.class_names[class], probability));
        if args.json {
            let best: Vec<_> = best
                .map(|(id, name, value)| match loss {
                    Loss::MeanSquaredError => json!({ "name": name, "value": value }),
                    _ => json!({ "class": id, "name": name, "probability": value }),
                })
                .collect();
            // `answers` is what earlier versions call them.
            printed.push(json!({ "image": path, "predictions": &best, "answers": &best }));
            continue;
        }
        outln!("{}", printable(&path.to_string_lossy()))?;
        for (id, name, probability) in best {
            // Classes of folders have no other name.
            let id = if id == name { String::new() } else { format!("  ({id})") };
            let value = match loss {
                Loss::MeanSquaredError => format!("{probability:.4}"),
                _ => percent(probability),
            };
            outln!("  {value:>7}  {name}{id}")?;
        }
    }
    if args.json {
        print_json(&printed)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Classes and their probabilities, the most probable first; or numbers in their order.
fn predictions(
    input: &PhotoInput,
    backend: &mut dyn TrainingBackend,
    rows: &[u8],
    (loss, classes): (Loss, usize),
) -> anyhow::Result<Vec<(usize, f64)>> {
    // The labels only affect the metrics, which are not used.
    let (labels, values) = (vec![0; input.views.count()], vec![0.0; input.views.count() * classes]);
    let targets = match loss {
        Loss::CrossEntropy => Targets::Classes(&labels),
        Loss::BinaryCrossEntropy | Loss::MeanSquaredError => {
            Targets::Values { values: &values, outputs: classes }
        }
    };
    let (all, _) = training::predictions(backend, rows, targets, input.crop, classes)?;
    ensure!(
        all.iter().all(|probability| probability.is_finite()),
        "the network's outputs are not numbers: its training has diverged; use an earlier run, or train with a lower rate"
    );
    let mut predictions: Vec<_> = average(&all, classes).into_iter().enumerate().collect();
    if loss != Loss::MeanSquaredError {
        predictions.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    Ok(predictions)
}
