//! Buffers that the forward pass writes and noises that it reads, tested with a network that has both.

use std::sync::Arc;

use fovea_graph::{
    Buffer, BufferUse, Builder, Distribution, ElementType, Forward, GraphError, Init, Mode, Network, Noise,
    Parameter, ParameterKind, Result as GraphResult, Tensor as Node, TensorType, unknown_tap,
};

use super::*;
use crate::backend::fill_noise;
use crate::models::Classifier;
use crate::recipe::TrainedNames;

const CLASSES: usize = 2;
/// Share of the batch in the running mean.
const SHARE: f32 = 0.25;

/// Keeps the running mean of each channel, and classifies by the difference from it; keeps the mean of the
/// noise of each step.
#[derive(Debug)]
struct RunningMean;

impl Network for RunningMean {
    fn name(&self) -> &str {
        "running mean"
    }

    fn forward(&self, g: &mut Builder, x: Node, mode: Mode) -> GraphResult<Forward> {
        let running = g.input("running", TensorType::f32([3]))?;
        let mean = g.reduce_mean(x, &[2, 3], false)?;
        let centred = g.sub(mean, running)?;
        let w = g.input("w", TensorType::f32([CLASSES, 3]))?;
        let b = g.input("b", TensorType::f32([CLASSES]))?;
        let mut forward = Forward::new(g.linear(centred, w, b)?);
        for (name, tensor, kind) in [("w", w, ParameterKind::Weight), ("b", b, ParameterKind::Bias)] {
            let (shape, init) = (g.shape(tensor).to_vec(), Init::Constant(0.1));
            forward
                .parameters
                .push((Parameter { name: name.into(), shape, kind, init, weight_decay: None }, tensor));
        }
        let new = match mode {
            Mode::Evaluate => None,
            Mode::Train => {
                let of_batch = g.reduce_mean(mean, &[0], false)?;
                let share = g.scalar(ElementType::F32, SHARE.into());
                let change = g.sub(of_batch, running)?;
                let change = g.mul(change, share)?;
                Some(g.add(running, change)?)
            }
        };
        let buffer = Buffer { name: "running".into(), shape: vec![3], init: Init::Constant(8.0) };
        forward.buffers.push(BufferUse { buffer, value: running, new });
        let value = g.input("noise", TensorType::f32([3]))?;
        let buffer = Buffer { name: "noise".into(), shape: vec![3], init: Init::Constant(0.0) };
        let new = match mode {
            Mode::Evaluate => None,
            Mode::Train => {
                let (name, shape) = ("drawn".to_owned(), vec![g.shape(x)[0], 3]);
                let noise = g.input(&name, TensorType::f32(shape.clone()))?;
                forward.drawn.noises.push(Noise { name, shape, distribution: Distribution::Normal });
                Some(g.reduce_mean(noise, &[0], false)?)
            }
        };
        forward.buffers.push(BufferUse { buffer, value, new });
        Ok(forward)
    }

    fn taps(&self) -> Vec<String> {
        Vec::new()
    }

    fn last_hidden(&self) -> Option<String> {
        None
    }

    fn forward_with_tap(&self, _: &mut Builder, _: Node, tap: &str) -> Result<(Forward, Node), GraphError> {
        Err(unknown_tap(self, tap))
    }
}

fn backend(rows: usize) -> OrtBackend {
    let overrides = ["input.mean=none", "input.scale=1", "input.crop_px=2", "input.image_px=2"];
    let recipe = Recipe::load("demo", &overrides.map(str::to_owned)).unwrap();
    let trained = TrainedNames::default();
    let network = Classifier {
        network: Arc::new(RunningMean),
        input_px: 2,
        classes: CLASSES,
        trained,
        kept_head: Vec::new(),
        file: None,
    };
    let setup = Setup { recipe: &recipe, network, batch_rows: rows, mean: &[], seed: 1, place: (0, 1) };
    OrtBackend::new(testing::runtime(), &setup, OrtOptions::new(testing::device())).unwrap()
}

fn running(backend: &mut OrtBackend) -> Vec<f32> {
    buffer(backend, "running")
}

fn buffer(backend: &mut OrtBackend, name: &str) -> Vec<f32> {
    let mut found = Vec::new();
    backend
        .export(&mut |tensors| {
            found = tensors.iter().find(|(other, _)| *other == name).unwrap().1.values.to_vec();
        })
        .unwrap();
    found
}

/// Four images, each of one colour: 1, 2, 3, 4 times (10, 20, 30).
fn images() -> Vec<u8> {
    (1..=4u8).flat_map(|row| [10, 20, 30].map(|colour| [row * colour; 4]).concat()).collect()
}

fn accumulate(backend: &mut OrtBackend, range: Range<usize>) {
    let images = images();
    let rows = Rows {
        images: &images[12 * range.start..12 * range.end],
        color_offsets: &[[0.0; 3]; 4][range.clone()],
        targets: Targets::Classes(&[0, 1, 0, 1][range.clone()]),
    };
    let id = RowsId { epoch: 0, batch: 0, first_row: range.start as u64 };
    let micro_batch = MicroBatch { seed: 1, step: 0, id, gradient_scale: 0.25 };
    backend.accumulate(rows, micro_batch).unwrap();
}

const UPDATE: Update = Update::new(0.01, 0);

#[test]
fn a_step_writes_buffers_as_it_updates_parameters_for_any_micro_batches() {
    // The means of the batch are 25, 50 and 75.
    let expected = [25.0, 50.0, 75.0].map(|mean| 8.0 + SHARE * (mean - 8.0));
    for rows in [4, 2] {
        let mut backend = backend(rows);
        assert_eq!(running(&mut backend), [8.0; 3]);
        for first in (0..4).step_by(rows) {
            accumulate(&mut backend, first..first + rows);
        }
        assert_eq!(running(&mut backend), [8.0; 3], "before the update");
        assert_eq!(backend.update(UPDATE).unwrap(), Updated::Done);
        assert_eq!(running(&mut backend), expected);
    }
}

#[test]
fn a_step_reads_the_noises_of_its_rows_for_any_micro_batches() {
    let id = RowsId { epoch: 0, batch: 0, first_row: 0 };
    let batch = MicroBatch { seed: 1, step: 0, id, gradient_scale: 0.25 };
    let mut noise = [0.0; 4 * 3];
    fill_noise(&batch, 0, Distribution::Normal, 3, &mut noise);
    let expected: [f32; 3] = std::array::from_fn(|at| noise.iter().skip(at).step_by(3).sum::<f32>() / 4.0);
    for rows in [4, 2] {
        let mut backend = backend(rows);
        for first in (0..4).step_by(rows) {
            accumulate(&mut backend, first..first + rows);
        }
        assert_eq!(backend.update(UPDATE).unwrap(), Updated::Done);
        for (given, expected) in buffer(&mut backend, "noise").iter().zip(expected) {
            assert!((given - expected).abs() < 1e-6, "{given} for {expected}, {rows} rows at once");
        }
    }
}

#[test]
fn an_abandoned_step_leaves_buffers_unchanged_and_a_saved_state_holds_them() {
    let mut first = backend(4);
    accumulate(&mut first, 0..4);
    first.reset_gradients();
    assert_eq!(running(&mut first), [8.0; 3]);
    accumulate(&mut first, 0..4);
    assert_eq!(first.update(UPDATE).unwrap(), Updated::Done);
    let mut state = std::collections::BTreeMap::new();
    first
        .export(&mut |tensors| {
            for (name, tensor) in tensors {
                let (shape, values) = (tensor.shape.to_vec(), tensor.values.to_vec());
                state.insert((*name).to_owned(), crate::state::Tensor { shape, values });
            }
        })
        .unwrap();
    let mut second = backend(4);
    second.import(Tensors::new("state".as_ref(), state)).unwrap();
    assert_eq!(running(&mut second), running(&mut first));
    // Evaluation uses them: the same probabilities, which differ from those of the initial values.
    let evaluate = |backend: &mut OrtBackend| {
        let images = images();
        let mut probabilities = [0.0; 4 * CLASSES];
        let rows = Rows { images: &images, color_offsets: &[], targets: Targets::Classes(&[0; 4]) };
        backend.evaluate(rows, &mut probabilities).unwrap();
        probabilities
    };
    assert_eq!(evaluate(&mut second), evaluate(&mut first));
    lock(&second.flats.weights).modify(|values| values[second.layout.buffers.clone()].fill(8.0)).unwrap();
    assert_ne!(evaluate(&mut second), evaluate(&mut first));
}
