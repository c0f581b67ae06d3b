//! Networks from files, from recipe to training step.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use fovea_graph::{ElementType, Target};
use fovea_runtime::{Device, testing};

use super::*;
use crate::backend::{
    MicroBatch, OrtBackend, OrtOptions, Rows, RowsId, Setup, Targets, TrainingBackend, Updated,
};
use crate::optimizer::Update;
use crate::recipe::Recipe;

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
    let recipe = Recipe::load("demo", &[]).unwrap();
    let network = Classifier::new(&recipe, CLASSES).unwrap();
    let values: Vec<Vec<f32>> = network.parameters().unwrap().iter().map(|p| p.initial(3, 0)).collect();
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
        outputs.iter().find(|port| port.name == crate::names::FEATURES).unwrap().ty.shape[1]
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
    assert!(error.contains("gives [1, 5], expected one value for each of 7 classes"), "{error}");
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
