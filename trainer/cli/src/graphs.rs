//! `graphs`: the graphs of a training session, its initial state, and what else their inputs are to be.

use std::process::ExitCode;
use std::{fs, io};

use anyhow::Context;
use fovea_files::write_atomically;
use fovea_tools::say;
use fovea_trainer::backend::{OrtOptions, Precision, Update, momentum_name};
use fovea_trainer::checkpoint::TensorRef;
use fovea_trainer::models::{Classifier, TrainingGraphs, names};
use fovea_trainer::recipe::{Mean, Recipe};
use fovea_trainer::training::TrainingData;
use serde_json::json;

use super::args::GraphsArgs;

/// The mean of pixels where no data set tells another.
const MIDDLE: f32 = 127.5;

pub fn graphs(args: &GraphsArgs) -> anyhow::Result<ExitCode> {
    let recipe = Recipe::load(&args.recipe, &args.set)?;
    let rows = args.batch_size.map_or(recipe.training.batch_size, usize::from);
    let data = args.data.as_deref().map(|directory| TrainingData::open(directory, &recipe)).transpose()?;
    let classes = data.as_ref().map_or(args.classes.get(), |data| data.classes().len());
    recipe.shapes(3, classes)?;
    let network = Classifier::new(&recipe, classes)?;
    let device = args.device.resolve();
    let options = OrtOptions { precision: args.precision, ..OrtOptions::new(device) }.graphs(&recipe, rows);
    let graphs = TrainingGraphs::build(&network, &options)?;

    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = args.out.join(name);
        write_atomically(&path, |out| io::Write::write_all(out, bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
        say!("{}", path.display())?;
        anyhow::Ok(())
    };
    write("train.onnx", &graphs.train.to_bytes())?;
    write("update.onnx", &graphs.update.to_bytes())?;
    write("accumulate.onnx", &graphs.accumulate.to_bytes())?;
    write("evaluate.onnx", &graphs.evaluate.to_bytes())?;

    let description =
        serde_json::to_vec_pretty(&description(&recipe, &graphs, rows, classes, args.precision))?;
    write("graphs.json", &description)?;
    let mean_shape = options.mean_shape(network.input_px);
    let mean = match &data {
        Some(data) => data.mean().to_vec(),
        None if recipe.input.mean == Mean::None => vec![0.0; 3],
        None => vec![MIDDLE; mean_shape.iter().product()],
    };
    write("state.safetensors", &state(&graphs, &mean_shape, &mean, args.seed)?)?;
    Ok(ExitCode::SUCCESS)
}

/// What the inputs of the graphs are to be that are no tensors of the state.
fn description(
    recipe: &Recipe,
    graphs: &TrainingGraphs,
    rows: usize,
    classes: usize,
    precision: Precision,
) -> serde_json::Value {
    let update = Update::of_recipe(recipe, recipe.optimizer.learning_rate);
    let parameters = graphs.parameters.iter().map(|parameter| {
        let (rate, decay) = update.rate_and_decay(parameter.kind, parameter.weight_decay);
        json!({ "name": parameter.name, "shape": parameter.shape, "learning_rate": rate, "decay": decay })
    });
    let masks =
        graphs.masks.iter().map(|mask| json!({ "name": mask.name, "shape": mask.shape, "keep": mask.keep }));
    json!({
        "recipe": recipe.name,
        "batch_size": rows,
        "classes": classes,
        "precision": precision,
        "momentum": update.momentum,
        "parameters": parameters.collect::<Vec<_>>(),
        "masks": masks.collect::<Vec<_>>(),
    })
}

/// Mean, weights and momenta.
fn state(
    graphs: &TrainingGraphs,
    mean_shape: &[usize],
    mean: &[f32],
    seed: u64,
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let weights: Vec<Vec<f32>> =
        graphs.parameters.iter().zip(0..).map(|(parameter, index)| parameter.initial(seed, index)).collect();
    let largest = weights.iter().map(Vec::len).max().unwrap_or(0);
    let zeros = vec![0.0; largest];
    let mut tensors = vec![(names::MEAN.to_owned(), TensorRef { shape: mean_shape, values: mean })];
    for (parameter, values) in graphs.parameters.iter().zip(&weights) {
        let shape = &parameter.shape;
        tensors.push((parameter.name.clone(), TensorRef { shape, values }));
        let momenta = TensorRef { shape, values: &zeros[..values.len()] };
        tensors.push((momentum_name(&parameter.name), momenta));
    }
    safetensors::serialize(tensors, None)
}
