//! Networks from files, from recipe to training step.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use fovea_graph::{Builder, ElementType, Imported, Lowering, Mode, Network, Target, TensorType};
use fovea_runtime::{Device, testing};

use super::*;
use crate::backend::{
    MicroBatch, OrtBackend, OrtOptions, Rows, RowsId, Setup, Targets, TrainingBackend, Updated,
};
use crate::checkpoint::Meta;
use crate::metrics::BatchMetrics;
use crate::names;
use crate::optimizer::{self, Averaged, Update};
use crate::recipe::Recipe;
use crate::state::{Tensor, Tensors};
use crate::training::{StoredImages, TrainedModel};

const ROWS: usize = 3;
const CLASSES: usize = 5;

struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(bytes: &[u8]) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    fs::write(&path, bytes).unwrap();
    File { _folder: folder, path }
}

/// Weights and slots after an update, and the loss before it.
pub fn one_step(recipe: &Recipe, mean: &[f32], seed: u64) -> (f64, Vec<f32>, HashMap<String, Vec<f32>>) {
    let setup = Setup::new(recipe, CLASSES, ROWS, mean, seed).unwrap();
    let mut backend = OrtBackend::new(testing::runtime(), &setup, OrtOptions::new(Device::Cpu)).unwrap();
    let px = recipe.input.crop_px;
    let images: Vec<u8> = (0..ROWS * 3 * px * px).map(|i| (i * 7919 % 251) as u8).collect();
    let rows = Rows {
        images: &images,
        color_offsets: &[[3.0, 0.0, -2.0]; ROWS],
        targets: Targets::Classes(&[0, 4, 2]),
    };
    let mut probabilities = vec![0.0; ROWS * CLASSES];
    backend.evaluate(rows, &mut probabilities).unwrap();
    let id = RowsId { epoch: 0, batch: 0, first_row: 0 };
    let micro_batch = MicroBatch { seed: 1, step: 0, id, gradient_scale: 1.0 / ROWS as f32 };
    let loss = backend.accumulate(rows, micro_batch).unwrap().loss;
    let update = Update::new(0.1, 0);
    assert_eq!(backend.update(update).unwrap(), Updated::Done);
    let mut state = HashMap::new();
    backend
        .export(&mut |tensors| {
            state =
                tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.values.to_vec())).collect();
        })
        .unwrap();
    (loss, probabilities, state)
}

#[test]
fn an_exported_network_is_imported_again_and_takes_the_same_training_step() {
    let plain = ["network.layer.dropout.p=0".to_owned()];
    let recipe = Recipe::load("demo", &plain).unwrap();
    let mean = vec![120.0; 3 * 24 * 24];
    let network = Classifier::new(&recipe, CLASSES).unwrap();
    let values: Vec<Vec<f32>> =
        network.parameters().unwrap().iter().enumerate().map(|(i, p)| p.initial(3, i)).collect();
    let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    let options = GraphOptions::from_recipe(&recipe, 1, Target::Cpu);
    let exported = inference(&network, &options, PixelType::F32, &mean, &values).unwrap();
    let file = file(&exported.to_bytes());

    // The file subtracts the mean and scales itself.
    let network = format!("network={{onnx={:?}}}", file.path.to_str().unwrap());
    let overrides = [network, "input.mean=none".into(), "input.scale=1".into()];
    let imported = Recipe::load("demo", &overrides).unwrap();
    let (loss, probabilities, state) = one_step(&recipe, &mean, 3);
    let (other_loss, other_probabilities, other_state) = one_step(&imported, &[], 77);
    assert!((loss - other_loss).abs() < 1e-5, "{loss} against {other_loss}");
    for (a, b) in probabilities.iter().zip(&other_probabilities) {
        assert!((a - b).abs() < 1e-6, "{a} against {b}");
    }
    assert_eq!(state.len(), other_state.len());
    for (name, values) in &state {
        for (a, b) in values.iter().zip(&other_state[name]) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} against {b}");
        }
    }
}

/// The file of an exported network.
fn exported() -> Vec<u8> {
    exported_by(&[])
}

/// The file of an exported network of the recipe with these overrides.
fn exported_by(overrides: &[String]) -> Vec<u8> {
    let recipe = Recipe::load("demo", overrides).unwrap();
    let network = Classifier::new(&recipe, CLASSES).unwrap();
    let (parameters, buffers) = network.declared().unwrap();
    let mut values: Vec<Vec<f32>> = parameters.iter().map(|p| p.initial(3, 0)).collect();
    values.extend(buffers.iter().map(|buffer| vec![1.0; buffer.len()]));
    let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    let options = GraphOptions::from_recipe(&recipe, 1, Target::Cpu);
    let mean = vec![0.0; 3 * 24 * 24];
    inference(&network, &options, PixelType::F32, &mean, &values).unwrap().to_bytes()
}

#[test]
fn the_last_hidden_layer_of_a_file_is_a_tap_as_wide_as_that_of_the_layers_it_was_exported_from() {
    let file = file(&exported());
    let overrides = [format!("network={{onnx={:?}}}", file.path.to_str().unwrap())];
    let widths = [&[][..], &overrides].map(|overrides| {
        let recipe = Recipe::load("demo", overrides).unwrap();
        let network = Classifier::new(&recipe, CLASSES).unwrap();
        let layer = network.network.last_hidden().unwrap();
        assert!(network.network.taps().contains(&layer), "{layer}");
        let values: Vec<Vec<f32>> = network.parameters().unwrap().iter().map(|p| p.initial(3, 0)).collect();
        let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let options = GraphOptions::from_recipe(&recipe, 1, Target::Cpu);
        let graph = features(&network, &options, &layer, &[0.0; 3 * 24 * 24], &values).unwrap();
        let outputs = graph.outputs();
        outputs.iter().find(|port| port.name == names::FEATURES).unwrap().ty.shape[1]
    });
    assert_eq!(widths, [256, 256]);
}

#[test]
fn a_file_is_trained_in_any_precision_and_exported_again_and_its_outputs_are_counted() {
    let file = file(&exported());
    let overrides = [format!("network={{onnx={:?}}}", file.path.to_str().unwrap())];
    let recipe = Recipe::load("demo", &overrides).unwrap();
    let network = Classifier::new(&recipe, CLASSES).unwrap();
    let half = GraphOptions { compute: ElementType::F16, ..GraphOptions::new(ROWS) };
    let graphs = TrainingGraphs::build(&network, &half).unwrap();
    let _runs = testing::session(&graphs.train.to_bytes());
    let values: Vec<Vec<f32>> = graphs.parameters.iter().map(|p| p.initial(0, 0)).collect();
    let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    inference(&network, &GraphOptions::new(1), PixelType::F32, &[0.0; 3], &values).unwrap();
    let error = Classifier::new(&recipe, CLASSES + 2).unwrap().parameters().unwrap_err().to_string();
    assert!(
        error.contains("gives 5 values for an image, the data set has 7 classes; --classes auto"),
        "{error}"
    );
}

fn meta(recipe: &Recipe) -> Meta {
    Meta {
        written_by: String::new(),
        recipe: recipe.name.clone(),
        recipe_hash: recipe.hash(),
        classes: vec![String::new(); CLASSES],
        class_names: vec![String::new(); CLASSES],
        data: String::new(),
        is_best: false,
        seed: 0,
        step: 0,
        epoch: 0,
        batch: 0,
        sums: BatchMetrics::default(),
        discarded: 0,
        schedule: optimizer::State::default(),
    }
}

#[test]
fn an_export_of_the_own_file_has_the_running_average_if_there_is_one() {
    let normalised = "network={architecture={kind=\"resnet\",block=\"basic\",depths=[1,1,1,1]}}";
    let file = file(&exported_by(&[normalised.to_owned()]));
    let network = format!("network={{onnx={:?}}}", file.path.to_str().unwrap());
    for (ema, expected) in [(None, 1.0), (Some("training.ema=0.9"), 2.0)] {
        let overrides: Vec<String> =
            [Some(network.as_str()), ema].into_iter().flatten().map(Into::into).collect();
        let recipe = Recipe::load("demo", &overrides).unwrap();
        let network = Classifier::new(&recipe, CLASSES).unwrap();
        let (parameters, buffers) = network.declared().unwrap();
        let tensor = |shape: &[usize], value| {
            let values = vec![value; shape.iter().product()];
            Tensor { shape: shape.to_vec(), values }
        };
        let parameters = parameters.iter().flat_map(|parameter| {
            let average = names::slot(&parameter.name, Averaged::SLOT);
            let values = [(parameter.name.clone(), 1.0), (average, 2.0)];
            values.map(|(name, value)| (name, tensor(&parameter.shape, value)))
        });
        let buffers = buffers.iter().map(|buffer| (buffer.name.clone(), tensor(&buffer.shape, 3.0)));
        let state = Tensors::new("state".as_ref(), parameters.chain(buffers).collect());
        let (path, mean) = (PathBuf::new(), vec![0.0; 3 * 24 * 24]);
        let trained = TrainedModel { path, meta: meta(&recipe), mean, state, network, recipe };
        let stored = StoredImages { upright: false, squashed: false, filter: "lanczos3" };
        let written = self::file(&trained.own_file(&stored).unwrap().unwrap());
        let again = Imported::read(&written.path).unwrap();
        let mut g = Builder::new("again", Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 3, 24, 24])).unwrap();
        let forward = again.forward(&mut g, x, Mode::Evaluate).unwrap();
        for (parameter, _) in &forward.parameters {
            assert!(parameter.initial(0, 0).iter().all(|&value| value == expected), "{}", parameter.name);
        }
        let statistics = forward.buffers.iter().map(|used| used.buffer.initial(0, 0));
        let statistics: Vec<f32> = statistics.flatten().collect();
        assert!(statistics.len() > 100 && statistics.iter().all(|&value| value == 3.0));
    }
}

#[test]
fn a_recipe_names_its_network_from_its_own_folder() {
    let file = file(&exported());
    let folder = file.path.parent().unwrap();
    let mut table: toml::Table = Recipe::load("demo", &[]).unwrap().to_toml().parse().unwrap();
    table["network"] = "onnx = 'network.onnx'".parse::<toml::Table>().unwrap().into();
    let path = folder.join("mine.toml");
    fs::write(&path, table.to_string()).unwrap();
    let recipe = Recipe::load(path.to_str().unwrap(), &[]).unwrap();
    assert_eq!(recipe.network.onnx.as_deref(), Some(file.path.as_path()));
    assert_eq!(Recipe::from_toml(&recipe.to_toml(), "again").unwrap(), recipe);
    let hash = recipe.hash();
    let moved = folder.join("moved.onnx");
    fs::copy(&file.path, &moved).unwrap();
    let from = |file: &Path| {
        let network = format!("network={{onnx={:?}}}", file.to_str().unwrap());
        Recipe::load("demo", &[network]).unwrap()
    };
    assert_eq!(from(&moved).hash(), hash, "the same network elsewhere");
    fs::write(&moved, b"another").unwrap();
    assert_ne!(from(&moved).hash(), hash);
    let both = Recipe::load("demo", &["network.onnx=x.onnx".to_owned()]).unwrap_err().to_string();
    assert!(both.contains("`network.onnx` is x.onnx") && both.contains("not both"), "{both}");
}
