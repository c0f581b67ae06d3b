//! `graphs`: the graphs of a training session and its initial state.

use std::{fs, io, process::ExitCode};

use anyhow::Context;
use fovea_trainer::{
    backend::{Device, Precision},
    checkpoint::TensorRef,
    files::write_atomically,
    graph::{ElementType, Target},
    models::{Classifier, GraphOptions, TrainingGraphs, names},
    recipe::Recipe,
};

use super::args::GraphsArgs;

pub fn graphs(args: &GraphsArgs) -> anyhow::Result<ExitCode> {
    let recipe = Recipe::load(&args.recipe, &args.set)?;
    let target = match args.device.resolve() {
        Device::Cpu => Target::Cpu,
        Device::Cuda(_) => Target::Cuda,
    };
    let rows = args.batch_size.map_or(recipe.training.batch_size, usize::from);
    let network = Classifier::new(&recipe, args.classes.get());
    let compute = match args.precision {
        Precision::F16 => ElementType::F16,
        Precision::F32 | Precision::Tf32 => ElementType::F32,
    };
    let options = GraphOptions { compute, ..GraphOptions::of_recipe(&recipe, rows, target) };
    let graphs = TrainingGraphs::build(&network, &options)?;

    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = args.out.join(name);
        write_atomically(&path, |out| io::Write::write_all(out, bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
        anyhow::Ok(())
    };
    write("train.onnx", &graphs.train.to_bytes())?;
    write("update.onnx", &graphs.update.to_bytes())?;
    write("accumulate.onnx", &graphs.accumulate.to_bytes())?;
    write("evaluate.onnx", &graphs.evaluate.to_bytes())?;

    let weights: Vec<Vec<f32>> = graphs
        .parameters
        .iter()
        .enumerate()
        .map(|(index, parameter)| parameter.initial(args.seed, index))
        .collect();
    let mean_shape = options.mean_shape(network.input_px);
    let mean = vec![0.0; mean_shape.iter().product()];
    let mut tensors = vec![(names::MEAN, TensorRef { shape: &mean_shape, values: &mean })];
    for (parameter, values) in graphs.parameters.iter().zip(&weights) {
        tensors.push((&parameter.name, TensorRef { shape: &parameter.shape, values }));
    }
    write("state.safetensors", &safetensors::serialize(tensors, None)?)?;
    Ok(ExitCode::SUCCESS)
}
