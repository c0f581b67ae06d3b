//! Networks of families: their activations, their export, and what batch normalisation does in training.

use std::collections::HashMap;

use fovea_graph::Target;

use super::imported_tests::one_step;
use super::*;
use crate::recipe::Recipe;

const CLASSES: usize = 5;

/// A family's network of few blocks, and images as small as it takes.
fn small(name: &str, more: &[&str]) -> Recipe {
    let sizes: &[&str] = match name {
        "resnet18" => &["network.architecture.depths=[1, 1, 1, 1]"],
        "resnet50" => &["network.architecture.depths=[1, 1, 2, 1]"],
        "convnext-tiny" => {
            &["network.architecture.depths=[1, 1, 2, 1]", "network.architecture.widths=[8, 16, 24, 32]"]
        }
        "vit-small" => &["network.architecture.width=24", "network.architecture.depth=2"],
        _ => &[],
    };
    let px = ["input.crop_px=32", "input.image_px=32", "optimizer.learning_rate=0.1"];
    let set: Vec<String> = [&px, sizes, more].concat().iter().map(|text| (*text).to_owned()).collect();
    Recipe::load(name, &set).unwrap()
}

const FAMILIES: [&str; 5] = ["resnet18", "resnet50", "mobilenet-v3-small", "convnext-tiny", "vit-small"];

#[test]
fn the_last_hidden_activation_of_every_family_is_what_makes_the_logits() {
    for (name, layer, width) in [
        ("resnet18", "avgpool", 512),
        ("resnet50", "avgpool", 2048),
        ("mobilenet-v3-small", "classifier.1", 1024),
        ("convnext-tiny", "classifier.1", 32),
        ("vit-small", "norm", 24),
    ] {
        let recipe = small(name, &[]);
        let network = Classifier::new(&recipe, CLASSES).unwrap();
        assert_eq!(network.network.last_hidden().as_deref(), Some(layer), "{name}");
        let (parameters, buffers) = network.declared().unwrap();
        let parameters = parameters.iter().enumerate().map(|(at, parameter)| parameter.initial(3, at));
        let buffers = buffers.iter().enumerate().map(|(at, buffer)| buffer.initial(3, at));
        let values: Vec<Vec<f32>> = parameters.chain(buffers).collect();
        let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let options = GraphOptions::from_recipe(&recipe, 1, Target::Cpu);
        let graph = features(&network, &options, layer, &[0.0; 3], &values).unwrap();
        let outputs = graph.outputs();
        let found = outputs.iter().find(|port| port.name == crate::names::FEATURES).unwrap();
        assert_eq!(found.ty.shape[1], width, "{name}");
        // Everything but the images is inside.
        assert_eq!(graph.inputs().len(), 1, "{name}");
    }
}

/// Values that a step has changed, by name.
fn moved(recipe: &Recipe) -> HashMap<String, bool> {
    let network = Classifier::new(recipe, CLASSES).unwrap();
    let (parameters, buffers) = network.declared().unwrap();
    let parameters = parameters.iter().enumerate().map(|(at, p)| (p.name.clone(), p.initial(3, at)));
    let buffers = buffers.iter().enumerate().map(|(at, b)| (b.name.clone(), b.initial(3, at)));
    let before: Vec<_> = parameters.chain(buffers).collect();
    let (loss, _, after) = one_step(recipe, &[0.0; 3], 3);
    assert!(loss.is_finite(), "{loss}");
    before.into_iter().map(|(name, values)| (name.clone(), after[&name] != values)).collect()
}

#[test]
fn every_parameter_and_running_statistic_of_every_family_moves_in_training() {
    for name in FAMILIES {
        let recipe = small(name, &[]);
        // Where a branch is dropped for all three images of the step, nothing in it moves.
        let recipe = match name {
            "convnext-tiny" | "vit-small" => small(name, &["network.architecture.stochastic_depth=0"]),
            _ => recipe,
        };
        let still: Vec<String> =
            moved(&recipe).into_iter().filter(|(_, moved)| !moved).map(|(name, _)| name).collect();
        assert!(still.is_empty(), "{name}: {still:?}");
    }
}

#[test]
fn frozen_statistics_stay_and_what_they_scale_is_trained_unless_it_is_frozen_too() {
    let set = ["network.batch_norm=frozen", "network.freeze=[\"*bn2.*\"]"];
    for (name, moved) in moved(&small("resnet18", &set)) {
        let kept = name.contains("running") || name.contains("bn2.");
        assert_eq!(moved, !kept, "{name}");
    }
}

#[test]
fn frozen_statistics_of_a_file_stay_too() {
    let recipe = small("resnet18", &[]);
    let network = Classifier::new(&recipe, CLASSES).unwrap();
    // Evaluation graphs keep names and batch normalisation; parameters become initialisers.
    let (parameters, buffers) = network.declared().unwrap();
    let values: Vec<Vec<f32>> = parameters.iter().enumerate().map(|(at, p)| p.initial(3, at)).collect();
    let statistics: Vec<Vec<f32>> = buffers.iter().map(|buffer| vec![0.5; buffer.len()]).collect();
    let all: Vec<&[f32]> = values.iter().chain(&statistics).map(Vec::as_slice).collect();
    let options = GraphOptions::from_recipe(&recipe, 1, Target::Cpu);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    let graph = inference(&network, &options, PixelType::F32, &[0.0; 3], &all).unwrap();
    std::fs::write(&path, graph.to_bytes()).unwrap();
    let path = path.to_str().unwrap();
    for (frozen, set) in [(false, vec![]), (true, vec!["network.batch_norm=frozen".to_owned()])] {
        let px = ["input.crop_px=32", "input.image_px=32", "input.std=[1, 1, 1]"].map(str::to_owned);
        let recipe = Recipe::load_with_network("resnet18", path, None, &[&px[..], &set].concat()).unwrap();
        let (_, _, after) = one_step(&recipe, &[0.0; 3], 3);
        for (buffer, before) in buffers.iter().zip(&statistics) {
            assert_eq!(after[&buffer.name] == *before, frozen, "{}", buffer.name);
        }
    }
}
