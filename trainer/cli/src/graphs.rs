//! `graphs`: the graphs of a training session, its initial state, and the values of their other inputs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::{fs, io};

use anyhow::Context;
use fovea_files::write_atomically;
use fovea_graph::Distribution;
use fovea_tools::outln;
use fovea_trainer::backend::{OrtOptions, Precision, Setup};
use fovea_trainer::models::TrainingGraphs;
use fovea_trainer::names;
use fovea_trainer::optimizer::{self, Optimizer, ParameterGroup, Update, accumulate_graph, update_graph};
use fovea_trainer::recipe::{Mean, Recipe};
use fovea_trainer::state::TensorRef;
use fovea_trainer::training::TrainingData;
use serde_json::json;

use super::args::GraphsArgs;

/// The mean of pixels if there is no data set.
const MIDDLE: f32 = 127.5;

pub fn graphs(args: &GraphsArgs) -> anyhow::Result<ExitCode> {
    let recipe = Recipe::load(&args.recipe, &args.set)?;
    let rows = args.batch_size.map_or(recipe.training.batch_size, usize::from);
    let data = args.data.as_deref().map(|directory| TrainingData::open(directory, &recipe)).transpose()?;
    let classes = data.as_ref().map_or(args.classes.get(), |data| data.classes().len());
    let network = Setup::new(&recipe, classes, rows, &[], args.seed)?.network;
    let device = args.device.resolve();
    // Other programs know no operators of ours.
    let options = OrtOptions { precision: args.precision, own_operators: false, ..OrtOptions::new(device) }
        .graphs(&recipe, rows);
    let graphs = TrainingGraphs::build(&network, &options)?;
    let groups = optimizer::groups(&recipe, &graphs.parameters)?;

    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = args.out.join(name);
        write_atomically(&path, |out| io::Write::write_all(out, bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
        outln!("{}", path.display())?;
        anyhow::Ok(())
    };
    write("train.onnx", &graphs.train.to_bytes())?;
    let optimizer = optimizer::from_recipe(&recipe);
    write("update.onnx", &update_graph(&*optimizer)?.to_bytes())?;
    write("accumulate.onnx", &accumulate_graph()?.to_bytes())?;
    write("evaluate.onnx", &graphs.evaluate.to_bytes())?;

    let about = description(&recipe, &*optimizer, (&graphs, &groups), (rows, classes), args.precision);
    write("graphs.json", &serde_json::to_vec_pretty(&about)?)?;
    let mean_shape = options.mean_shape(network.input_px);
    let mean = match &data {
        Some(data) => data.mean().to_vec(),
        None => match recipe.input.mean {
            Mean::None => vec![0.0; 3],
            Mean::Values(values) => values.map(|value| value as f32).to_vec(),
            Mean::Channel | Mean::Image => vec![MIDDLE; mean_shape.iter().product()],
        },
    };
    let mean = TensorRef { shape: &mean_shape, values: &mean };
    write("state.safetensors", &state((&graphs, &groups), &*optimizer, mean, args.seed)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The graphs' inputs that are no tensors of the state. Parameters that keep their values have no
/// hyperparameters; those of the others are for the first update.
fn description(
    recipe: &Recipe,
    optimizer: &dyn Optimizer,
    (graphs, groups): (&TrainingGraphs, &[Option<ParameterGroup>]),
    (rows, classes): (usize, usize),
    precision: Precision,
) -> serde_json::Value {
    let update = Update::new(recipe.optimizer.learning_rate, 0);
    let parameters = graphs.parameters.iter().zip(groups).map(|(parameter, group)| {
        let named = group.map(|group| {
            let values = optimizer.values(&group, &update);
            optimizer.hyperparameters().iter().zip(values).collect::<BTreeMap<_, _>>()
        });
        json!({ "name": parameter.name, "shape": parameter.shape, "hyperparameters": named })
    });
    let drawn = &graphs.drawn;
    let masks =
        drawn.masks.iter().map(|mask| json!({ "name": mask.name, "shape": mask.shape, "keep": mask.keep }));
    let noises = drawn.noises.iter().map(|noise| {
        let distribution = match noise.distribution {
            Distribution::Uniform => "uniform",
            Distribution::Normal => "normal",
        };
        json!({ "name": noise.name, "shape": noise.shape, "distribution": distribution })
    });
    let buffers = graphs.buffers.iter().map(|buffer| json!({ "name": buffer.name, "shape": buffer.shape }));
    json!({
        "recipe": recipe.name,
        "batch_size": rows,
        "classes": classes,
        "precision": precision,
        "slots": optimizer.slots(),
        "parameters": parameters.collect::<Vec<_>>(),
        "masks": masks.collect::<Vec<_>>(),
        "noises": noises.collect::<Vec<_>>(),
        "buffers": buffers.collect::<Vec<_>>(),
    })
}

/// Mean, parameters, optimizer slots, buffers.
fn state(
    (graphs, groups): (&TrainingGraphs, &[Option<ParameterGroup>]),
    optimizer: &dyn Optimizer,
    mean: TensorRef<'_>,
    seed: u64,
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let weights: Vec<Vec<f32>> =
        graphs.parameters.iter().zip(0..).map(|(parameter, index)| parameter.initial(seed, index)).collect();
    let buffers: Vec<Vec<f32>> =
        graphs.buffers.iter().zip(0..).map(|(buffer, index)| buffer.initial(seed, index)).collect();
    let largest = weights.iter().map(Vec::len).max().unwrap_or(0);
    let zeros = vec![0.0; largest];
    let mut tensors = vec![(names::MEAN.to_owned(), mean)];
    for ((parameter, group), values) in graphs.parameters.iter().zip(groups).zip(&weights) {
        let shape = &parameter.shape;
        tensors.push((parameter.name.clone(), TensorRef { shape, values }));
        let empty = TensorRef { shape, values: &zeros[..values.len()] };
        for (at, slot) in optimizer.slots().iter().enumerate().filter(|_| group.is_some()) {
            let initial = if optimizer.average() == Some(at) { TensorRef { shape, values } } else { empty };
            tensors.push((names::slot(&parameter.name, slot), initial));
        }
    }
    for (buffer, values) in graphs.buffers.iter().zip(&buffers) {
        tensors.push((buffer.name.clone(), TensorRef { shape: &buffer.shape, values }));
    }
    safetensors::serialize(tensors, None)
}
