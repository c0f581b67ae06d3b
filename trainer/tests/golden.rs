//! Twenty training steps of four networks against PyTorch in double precision.
//!
//! `golden/make_golden.py` wrote the expected values; PyTorch is not needed here. Inputs are drawn from the
//! same hash on both sides.

use std::collections::HashMap;

use fovea_graph::{Graph, ParameterKind, Target};
use fovea_runtime::Device;
use fovea_runtime::testing::{self, Data};
use fovea_trainer::models::{Classifier, GraphOptions, TrainingGraphs};
use fovea_trainer::names;
use fovea_trainer::optimizer::{Sgd, update_graph};
use fovea_trainer::recipe::Recipe;
use ort::session::Session;
use serde::Deserialize;

const SGD: Sgd = Sgd { momentum: 0.9 };

/// Largest differences: of a loss, relative; of a tensor's entries, relative to its root mean square.
struct Tolerance {
    /// Steps in which both sides take the same turns.
    same_turns: usize,
    loss: f64,
    weights: f64,
    momentum_buffers: f64,
}

const GRADIENT_TOLERANCE: f64 = 1e-4;
/// While both sides take the same turns, the losses differ by rounding only.
const SAME_TURNS_LOSS: f64 = 1e-5;
const SAME_TURNS: Tolerance =
    Tolerance { same_turns: 20, loss: SAME_TURNS_LOSS, weights: 1e-4, momentum_buffers: 1e-4 };
/// After few updates only a unit or two has turned over. Weights have hardly moved: that they did is seen by
/// their momentum buffers.
const EARLY: Tolerance = Tolerance { same_turns: 0, loss: 0.0, weights: 1e-6, momentum_buffers: 5e-3 };
/// Among the many units of a large network, rounding puts one on the other side of a ReLU or a maximum now
/// and then, and from there on the difference grows from step to step; momentum buffers, which are sums of
/// gradients, show it most.
const OTHER_TURNS: Tolerance = Tolerance { same_turns: 8, loss: 1e-3, weights: 2e-3, momentum_buffers: 0.3 };

#[derive(Deserialize)]
struct Golden {
    batch: usize,
    valid: usize,
    rate: f64,
    losses: Vec<f64>,
    top1: Vec<f64>,
    gradients: HashMap<String, Summary>,
    /// While rounding has turned hardly anything over.
    early: Noted,
    end: Noted,
}

/// The state after so many updates.
#[derive(Deserialize)]
struct Noted {
    updates: usize,
    weights: HashMap<String, Summary>,
    momentum_buffers: HashMap<String, Summary>,
}

#[derive(Deserialize)]
struct Summary {
    norm: f64,
    sum: f64,
    samples: Vec<f64>,
}

/// Uniform value number `index` of `stream` in [0, 1), as in `make_golden.py`.
fn uniform(stream: u64, index: usize) -> f64 {
    let mut z = ((stream << 40) + index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / f64::from(1 << 24)
}

fn draw<T>(stream: u64, count: usize, map: impl Fn(f64) -> T) -> Vec<T> {
    (0..count).map(|i| map(uniform(stream, i))).collect()
}

/// The network of a built-in recipe.
fn network(recipe: &str, classes: usize, overrides: &[&str]) -> Classifier {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Classifier::new(&Recipe::load(recipe, &overrides).unwrap(), classes).unwrap()
}

/// Weights and momentum buffers of one parameter.
struct State {
    weights: Vec<f32>,
    momentum_buffers: Vec<f32>,
}

struct Run {
    golden: Golden,
    graphs: TrainingGraphs,
    train: Session,
    update: Session,
    inputs: Vec<(String, Vec<usize>, Data)>,
    states: Vec<State>,
}

impl Run {
    fn new(network: &Classifier, golden: &str, target: Target) -> Self {
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let options =
            GraphOptions { target, pixel_scale: [1.0 / 128.0; 3], ..GraphOptions::new(golden.batch) };
        let graphs = TrainingGraphs::build(network, &options).unwrap();
        let open = |graph: &Graph| testing::session(&graph.to_bytes());
        let (train, update) = (open(&graphs.train), open(&update_graph(&SGD).unwrap()));
        let (batch, px) = (golden.batch, network.input_px);
        let classes = network.classes as f64;
        let inputs = vec![
            (
                names::IMAGES,
                vec![batch, 3, px, px],
                Data::U8(draw(100, batch * 3 * px * px, |u| (256.0 * u) as u8)),
            ),
            (names::LABELS, vec![batch], Data::I64(draw(101, batch, |u| (classes * u) as i64))),
            (names::OFFSETS, vec![batch, 3], Data::F32(draw(102, batch * 3, |u| ((u - 0.5) * 20.0) as f32))),
            (names::MEAN, vec![3, 1, 1], Data::F32(vec![127.25, 119.75, 105.0])),
            (names::VALID, vec![batch], Data::Bool((0..batch).map(|i| i < golden.valid).collect())),
            (names::GRADIENT_SCALE, vec![], Data::F32(vec![1.0 / golden.valid as f32])),
        ];
        let inputs = inputs.into_iter().map(|(name, shape, data)| (name.to_owned(), shape, data)).collect();
        let states = graphs.parameters.iter().enumerate().map(|(i, p)| {
            let weights = &graphs.parameters[i / 2 * 2];
            let inputs: usize = match weights.name.starts_with("local") {
                true => weights.shape[2],
                false => weights.shape[1..].iter().product(),
            };
            let spread = if p.kind == ParameterKind::Weight { (6.0 / inputs as f64).sqrt() } else { 0.1 };
            let weights = draw(1 + i as u64, p.len(), |u| ((2.0 * u - 1.0) * spread) as f32);
            State { weights, momentum_buffers: vec![0.0; p.len()] }
        });
        let states = states.collect();
        Self { golden, graphs, train, update, inputs, states }
    }

    /// One step; gives what the train graph put out.
    fn step(&mut self, step: usize) -> HashMap<String, Vec<f64>> {
        let mut inputs: Vec<(&str, &[usize], Data)> = self
            .inputs
            .iter()
            .map(|(name, shape, data)| (name.as_str(), shape.as_slice(), data.clone()))
            .collect();
        for (i, mask) in self.graphs.drawn.masks.iter().enumerate() {
            let count = mask.shape.iter().product();
            let values = draw((1000 + 10 * step + i) as u64, count, |u| u < mask.keep);
            inputs.push((&mask.name, &mask.shape, Data::Bool(values)));
        }
        for (parameter, state) in self.graphs.parameters.iter().zip(&self.states) {
            inputs.push((&parameter.name, &parameter.shape, Data::F32(state.weights.clone())));
        }
        let outputs = testing::run(&mut self.train, &inputs);
        for (parameter, state) in self.graphs.parameters.iter().zip(&mut self.states) {
            let gradients = outputs[&names::gradient(&parameter.name)].iter().map(|&g| g as f32).collect();
            let length = [parameter.len()];
            let list = |values: &mut Vec<f32>| Data::F32(std::mem::take(values));
            let mut new = testing::run(
                &mut self.update,
                &[
                    (names::WEIGHTS, &length, list(&mut state.weights)),
                    ("momentum_buffer", &length, list(&mut state.momentum_buffers)),
                    (names::GRADIENTS, &length, Data::F32(gradients)),
                    ("learning_rate", &[], Data::F32(vec![self.golden.rate as f32])),
                    ("momentum", &[], Data::F32(vec![0.9])),
                    ("weight_decay", &[], Data::F32(vec![0.0005])),
                ],
            );
            let mut take = |name| new.remove(name).unwrap().iter().map(|&v| v as f32).collect();
            (state.weights, state.momentum_buffers) = (take(names::NEW_WEIGHTS), take("new_momentum_buffer"));
        }
        outputs
    }
}

/// The largest difference to what was expected of samples, norm and sum, relative to the size of each.
fn difference(expected: &Summary, given: &[f64]) -> f64 {
    let spread = expected.norm / (given.len() as f64).sqrt();
    let norm = given.iter().map(|v| v * v).sum::<f64>().sqrt();
    let sum: f64 = given.iter().sum();
    let last = expected.samples.len() - 1;
    let samples = expected.samples.iter().enumerate();
    let samples = samples.map(|(i, v)| (v - given[i * (given.len() - 1) / last]).abs()).fold(0.0, f64::max);
    // Values of either sign nearly cancel in a sum: its size is at least what a random walk would give.
    let sum = (sum - expected.sum).abs() / expected.sum.abs().max(expected.norm);
    (samples / spread).max((norm / expected.norm - 1.0).abs()).max(sum)
}

/// Compares tensors by name; prints and returns the name and difference of the worst.
fn compare<'a>(
    what: &str,
    expected: &HashMap<String, Summary>,
    given: impl Iterator<Item = (&'a str, Vec<f64>)>,
) -> (String, f64) {
    let mut worst = (String::new(), 0.0);
    let mut count = 0;
    for (name, values) in given {
        let difference = difference(&expected[name], &values);
        count += 1;
        if difference.is_nan() || difference >= worst.1 {
            worst = (name.to_owned(), difference);
        }
    }
    assert_eq!(count, expected.len(), "{what}: number of tensors");
    println!("{what}: largest difference {:.1e} in {}", worst.1, worst.0);
    worst
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

/// Compares the gradients of the first step.
fn gradients_agree(run: &Run, outputs: &HashMap<String, Vec<f64>>) {
    let parameters = run.graphs.parameters.iter();
    let given = parameters.map(|p| (p.name.as_str(), outputs[&names::gradient(&p.name)].clone()));
    let (name, worst) = compare("gradients", &run.golden.gradients, given);
    assert!(worst < GRADIENT_TOLERANCE, "gradient of {name} differs by {worst:.1e}");
}

fn follows_pytorch(network: &Classifier, golden: &str, tolerance: &Tolerance) {
    let target = match testing::device() {
        Device::Cpu => Target::Cpu,
        Device::Cuda(_) => Target::Cuda,
    };
    let mut run = Run::new(network, golden, target);
    let mut worst_loss = 0.0f64;
    for step in 0..run.golden.losses.len() {
        let outputs = run.step(step);
        if step == 0 {
            gradients_agree(&run, &outputs);
        }
        let (given, expected) = (outputs[names::LOSS][0], run.golden.losses[step]);
        worst_loss = worst_loss.max((given / expected - 1.0).abs());
        let allowed = if step < tolerance.same_turns { SAME_TURNS_LOSS } else { tolerance.loss };
        assert!(worst_loss < allowed, "loss of step {step} is {given}, expected {expected}");
        assert_eq!(outputs[names::TOP1][0], run.golden.top1[step], "top-1 count of step {step}");
        if step + 1 == run.golden.early.updates {
            state_agrees(&run, &run.golden.early, &EARLY);
        }
    }
    println!("losses: largest relative difference {worst_loss:.1e}");
    state_agrees(&run, &run.golden.end, tolerance);
}

/// Compares weights and momentum buffers.
fn state_agrees(run: &Run, expected: &Noted, tolerance: &Tolerance) {
    println!("after {} updates", expected.updates);
    let tensors = |part: fn(&State) -> &[f32]| {
        let pairs = run.graphs.parameters.iter().zip(&run.states);
        pairs.map(move |(p, s)| (p.name.as_str(), widen(part(s))))
    };
    let (name, worst) = compare("weights", &expected.weights, tensors(|s| &s.weights));
    assert!(worst < tolerance.weights, "weights {name} differ by {worst:.1e}");
    let (name, worst) =
        compare("momentum_buffers", &expected.momentum_buffers, tensors(|s| &s.momentum_buffers));
    assert!(worst < tolerance.momentum_buffers, "momentum buffer {name} differ by {worst:.1e}");
}

#[test]
fn alexnet_follows_pytorch_for_twenty_steps() {
    follows_pytorch(&network("alexnet", 1000, &[]), include_str!("golden/alexnet.json"), &OTHER_TURNS);
}

#[test]
fn the_reduced_alexnet_follows_pytorch_for_twenty_steps_with_a_partial_batch() {
    follows_pytorch(
        &network(
            "demo",
            10,
            &[
                "input.image_px=32",
                "input.crop_px=32",
                "network.layer.dropout.p=0.5",
                "network.layer.lrn.alpha=1e-4",
            ],
        ),
        include_str!("golden/demo.json"),
        match testing::device() {
            Device::Cpu => &SAME_TURNS,
            // Its other roundings turn a unit over.
            Device::Cuda(_) => &OTHER_TURNS,
        },
    );
}

#[test]
fn the_cifar_network_follows_pytorch_for_twenty_steps() {
    follows_pytorch(
        &network("cifar-quick", 10, &["network.layer.lrn.lrn_alpha=printed"]),
        include_str!("golden/cifar_quick.json"),
        &SAME_TURNS,
    );
}

#[test]
fn the_cifar_network_with_locally_connected_layers_follows_pytorch_for_twenty_steps() {
    follows_pytorch(&network("cifar-11pct", 10, &[]), include_str!("golden/cifar_11pct.json"), &OTHER_TURNS);
}

#[test]
fn the_forms_chosen_for_cuda_give_the_gradients_of_pytorch() {
    for target in [Target::Cuda, Target::CudaTf32, Target::CudaF16] {
        let mut run = Run::new(&network("alexnet", 1000, &[]), include_str!("golden/alexnet.json"), target);
        let outputs = run.step(0);
        gradients_agree(&run, &outputs);
    }
}
