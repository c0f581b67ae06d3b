//! Conformance tests: one suite, run for every backend.

use std::path::Path;

use fovea_runtime::{Device, testing};

use super::*;
use crate::checkpoint;
use crate::collective::sum_in_tree;
use crate::recipe::Recipe;
use crate::state::StateError;

mod against_reference;
mod half_precision;

const ROWS: usize = 6;
const CLASSES: usize = 7;
const PX: usize = 13;
const UPDATE: Update = Update::new(0.02, 0);

/// A network with every kind of layer, groups, padding, overlapping pools, and a layer with its own weight
/// decay.
fn recipe(overrides: &[&str]) -> Recipe {
    let text = format!(
        r#"
        name = "conformance"
        description = "every kind of layer, small"
        input = {{ image_px = {PX}, crop_px = {PX}, mean = "image", std = [1.0, 1.25, 0.8], scale = 0.015625 }}
        augmentation = {{ train = [] }}
        optimizer = {{ learning_rate = 0.02, momentum = 0.9, weight_decay = 0.01, bias_lr_mult = 2.0, bias_decay = false }}
        schedule = {{ kind = "multi_step", gamma = 0.1, milestones = [] }}
        training = {{ batch_size = {ROWS}, epochs = 1 }}
        evaluation = {{ every_epoch = "center", at_end = "center" }}
        [network]
        layer = [
            {{ name = "conv1", kind = "conv", out = 8, kernel = 5, stride = 2, pad = 1, weight_std = 0.1, bias = 0.1 }},
            {{ name = "relu1", kind = "activation", function = "relu" }},
            {{ name = "norm1", kind = "lrn", size = 5, k = 2.0, alpha = 0.1, beta = 0.75 }},
            {{ name = "pool1", kind = "pool", kernel = 3, stride = 1 }},
            {{ name = "conv2", kind = "conv", out = 6, kernel = 3, pad = 1, groups = 2, weight_std = 0.2 }},
            {{ name = "tanh2", kind = "activation", function = "tanh" }},
            {{ name = "pool2", kind = "pool", mode = "avg", kernel = 2, stride = 2, pad = 1 }},
            {{ name = "local3", kind = "local", out = 5, kernel = 2, pad = 1, weight_std = 0.2, bias = 0.1 }},
            {{ name = "norm3", kind = "lrn", region = "pixels", size = 3, k = 1.0, alpha = 0.1, beta = 0.75 }},
            {{ name = "pool3", kind = "pool", kernel = 3, stride = 2, ceil = true }},
            {{ name = "local4", kind = "local", out = 4, kernel = 2, pad = 1, init = "fan_in_uniform" }},
            {{ name = "pool4", kind = "pool", mode = "avg", kernel = 2, stride = 2, ceil = true }},
            {{ name = "fc3", kind = "linear", out = 10, weight_std = 0.3, bias = 0.1, weight_decay = 0.1 }},
            {{ name = "sigmoid3", kind = "activation", function = "sigmoid" }},
            {{ name = "drop3", kind = "dropout", p = 0.5 }},
            {{ name = "fc4", kind = "linear", out = 9, weight_std = 0.3 }},
            {{ name = "drop4", kind = "dropout", p = 0.3, scaling = "inverted" }},
            {{ name = "fc5", kind = "linear", weight_std = 0.3 }},
        ]
        "#
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conformance.toml");
    std::fs::write(&path, text).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Recipe::load(path.to_str().unwrap(), &overrides).unwrap_or_else(|error| panic!("{error}"))
}

/// Images, offsets and labels of a batch.
struct Batch {
    images: Vec<u8>,
    offsets: Vec<[f32; 3]>,
    labels: Vec<i64>,
}

impl Batch {
    fn new(salt: usize) -> Self {
        let noise = |i: usize| (i * 7919 + salt * 104_729 + i * i % 613) % 1009;
        Self {
            images: (0..ROWS * 3 * PX * PX).map(|i| (noise(i) % 256) as u8).collect(),
            offsets: (0..ROWS).map(|i| [0, 1, 2].map(|c| (noise(3 * i + c) % 21) as f32 - 10.0)).collect(),
            labels: (0..ROWS).map(|i| (noise(i) % CLASSES) as i64).collect(),
        }
    }

    fn rows(&self) -> Rows<'_> {
        self.part(0..ROWS)
    }

    fn part(&self, range: std::ops::Range<usize>) -> Rows<'_> {
        let bytes = 3 * PX * PX;
        Rows {
            images: &self.images[range.start * bytes..range.end * bytes],
            color_offsets: &self.offsets[range.clone()],
            targets: Targets::Classes(&self.labels[range]),
        }
    }
}

/// The rows of a step, or the first of its micro-batches.
fn whole(step: u64) -> MicroBatch {
    let id = RowsId { epoch: 0, batch: step, first_row: 0 };
    MicroBatch { seed: 5, step, id, gradient_scale: 1.0 / ROWS as f32 }
}

/// The micro-batch of a step that starts at `first_row`.
fn part(step: u64, first_row: usize) -> MicroBatch {
    let first = whole(step);
    MicroBatch { id: RowsId { first_row: first_row as u64, ..first.id }, ..first }
}

fn mean() -> Vec<f32> {
    (0..3 * PX * PX).map(|i| 100.0 + (i % 37) as f32).collect()
}

type Make = fn(&Setup<'_>) -> Box<dyn TrainingBackend>;

fn make(backend: Make, overrides: &[&str]) -> Box<dyn TrainingBackend> {
    let (recipe, mean) = (recipe(overrides), mean());
    backend(&Setup::new(&recipe, CLASSES, ROWS, &mean, 3).unwrap())
}

fn ort(setup: &Setup<'_>) -> Box<dyn TrainingBackend> {
    let backend = OrtBackend::new(testing::runtime(), setup, OrtOptions::new(testing::device()));
    Box::new(backend.unwrap_or_else(|error| panic!("{error}")))
}

/// A backend that fetches images, with a fake driver whose GPU is the processor.
#[cfg(target_os = "linux")]
fn ort_fetching(setup: &Setup<'_>) -> Box<dyn TrainingBackend> {
    use fovea_runtime::testing::FakeDriver;

    use super::ort::tests::fetching::fetch_over;

    let mut backend = OrtBackend::new(testing::runtime(), setup, OrtOptions::new(Device::Cpu)).unwrap();
    fetch_over(&FakeDriver::new(), &mut backend);
    Box::new(backend)
}

fn ort_f16(setup: &Setup<'_>) -> Box<dyn TrainingBackend> {
    let options = OrtOptions { precision: Precision::F16, ..OrtOptions::new(testing::device()) };
    let backend = OrtBackend::new(testing::runtime(), setup, options);
    Box::new(backend.unwrap_or_else(|error| panic!("{error}")))
}

fn reference(setup: &Setup<'_>) -> Box<dyn TrainingBackend> {
    Box::new(ReferenceBackend::new(setup).unwrap_or_else(|error| panic!("{error}")))
}

fn null(setup: &Setup<'_>) -> Box<dyn TrainingBackend> {
    Box::new(NullBackend::new(setup))
}

/// Name and values of every tensor of the state.
type State = Vec<(String, Vec<f32>)>;

fn state(backend: &mut dyn TrainingBackend) -> State {
    let mut state = State::new();
    backend
        .export(&mut |tensors| {
            state =
                tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.values.to_vec())).collect();
        })
        .unwrap();
    state
}

fn step(backend: &mut dyn TrainingBackend, batch: &Batch, at: u64) -> BatchMetrics {
    let sums = backend.accumulate(batch.rows(), whole(at)).unwrap();
    assert_eq!(backend.update(UPDATE).unwrap(), Updated::Done);
    sums
}

/// The largest difference of two states, relative to the root mean square of each tensor, and its position.
fn difference(a: &State, b: &State) -> (f64, String) {
    assert_eq!(a.len(), b.len());
    let mut worst = (0.0, String::new());
    for ((name, a), (other, b)) in a.iter().zip(b) {
        assert_eq!(name, other);
        let size = (a.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / a.len() as f64).sqrt();
        for (place, (&a, &b)) in a.iter().zip(b).enumerate() {
            let difference = f64::from(a - b).abs() / size.max(1e-12);
            assert!(difference.is_finite(), "{name} [{place}]: {a} against {b}");
            if difference > worst.0 {
                worst = (difference, format!("{name} [{place}]: {a} against {b}"));
            }
        }
    }
    worst
}

fn saved(backend: &mut dyn TrainingBackend, folder: &Path) -> Tensors {
    let meta = checkpoint::tests::meta(1);
    backend.export(&mut |tensors| checkpoint::save(folder, &meta, tensors).unwrap()).unwrap();
    checkpoint::load(folder).unwrap().1
}

fn rows_that_do_not_fit_are_refused(backend: Make) {
    let mut backend = make(backend, &[]);
    assert_eq!(backend.batch_rows(), ROWS);
    let batch = Batch::new(1);
    let rows = batch.rows();
    let (long, wrong, negative) = ([0; ROWS + 1], [0, CLASSES as i64], [-1]);
    let cases = [
        ("rows of a batch: 7, expected 1 to 6", Rows { targets: Targets::Classes(&long), ..rows }),
        ("rows of a batch: 0", Rows { targets: Targets::Classes(&[]), ..rows }),
        ("bytes of images: 3041, expected 6 images", Rows { images: &batch.images[1..], ..rows }),
        ("label: 7 in row 1, expected 0 to 6", Rows { targets: Targets::Classes(&wrong), ..rows }),
        ("label: -1 in row 0", Rows { targets: Targets::Classes(&negative), ..rows }),
        ("colour offsets: 5, expected 6", Rows { color_offsets: &batch.offsets[1..], ..rows }),
    ];
    let mut probabilities = vec![0.0; ROWS * CLASSES];
    for (message, rows) in cases {
        let error = backend.accumulate(rows, whole(0)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        if !message.contains("offsets") {
            let error = backend.evaluate(rows, &mut probabilities).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
    let error = backend.evaluate(rows, &mut probabilities[1..]).unwrap_err().to_string();
    assert!(error.contains("room for probabilities: 41, expected 42"), "{error}");
    assert_eq!(backend.accumulate(rows, whole(0)).unwrap().rows, ROWS as u64);
    assert_eq!(backend.evaluate(rows, &mut probabilities).unwrap().rows, ROWS as u64);
}

fn a_repeated_batch_is_learnt(backend: Make) {
    let mut backend = make(backend, &["network.layer.dropout.p=0", "optimizer.learning_rate=0.05"]);
    let batch = Batch::new(1);
    let mut probabilities = vec![0.0; ROWS * CLASSES];
    let mut loss = |backend: &mut dyn TrainingBackend| {
        let rows = Rows { color_offsets: &[], ..batch.rows() };
        backend.evaluate(rows, &mut probabilities).unwrap().loss
    };
    let before = loss(&mut *backend);
    let first = step(&mut *backend, &batch, 0).loss;
    assert!(first > 0.0);
    for at in 1..40 {
        step(&mut *backend, &batch, at);
    }
    let after = loss(&mut *backend);
    assert!(after < 0.9 * before, "loss {before} before, {after} after");
}

fn only_given_rows_count(backend: Make) {
    let mut backend = make(backend, &[]);
    let batch = Batch::new(2);
    let mut all = vec![0.0; ROWS * CLASSES];
    let whole = backend.evaluate(batch.rows(), &mut all).unwrap();
    for row in all.chunks(CLASSES) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
    }
    let (mut sums, mut some) = (BatchMetrics::default(), Vec::new());
    for range in [0..4, 4..ROWS] {
        let mut probabilities = vec![-1.0; ROWS * CLASSES];
        let rows = range.len();
        // There may be images of the whole batch, though only the first count.
        let part = Rows { images: &batch.images[range.start * 3 * PX * PX..], ..batch.part(range) };
        let part_metrics = backend.evaluate(part, &mut probabilities).unwrap();
        assert_eq!(part_metrics.rows, rows as u64);
        assert!(probabilities[rows * CLASSES..].iter().all(|&p| p == -1.0));
        some.extend_from_slice(&probabilities[..rows * CLASSES]);
        sums.rows += part_metrics.rows;
        sums.loss += part_metrics.loss;
        sums.top1 += part_metrics.top1;
        sums.top5 += part_metrics.top5;
    }
    assert_eq!((sums.rows, sums.top1, sums.top5), (whole.rows, whole.top1, whole.top5));
    assert!((sums.loss - whole.loss).abs() < 1e-4, "{} against {}", sums.loss, whole.loss);
    let worst = all.iter().zip(&some).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-6, "probabilities differ by {worst}");
}

fn micro_batches_give_the_step_of_the_whole_batch_including_dropout(backend: Make) {
    let (mut undivided, mut parts) = (make(backend, &[]), make(backend, &[]));
    for at in 0..3 {
        let batch = Batch::new(at as usize);
        let sums = step(&mut *undivided, &batch, at);
        let mut loss = 0.0;
        for range in [0..2, 2..3, 3..ROWS] {
            let micro_batch = part(at, range.start);
            loss += parts.accumulate(batch.part(range), micro_batch).unwrap().loss;
        }
        assert_eq!(parts.update(UPDATE).unwrap(), Updated::Done);
        assert!((sums.loss - loss).abs() < 1e-4 * sums.loss, "loss {} against {loss}", sums.loss);
    }
    let (worst, place) = difference(&state(&mut *undivided), &state(&mut *parts));
    println!("largest difference {worst:.1e} at {place}");
    assert!(worst < 1e-4, "{worst:.1e} at {place}");
}

fn gradients_that_are_reset_leave_no_trace(backend: Make) {
    let (mut plain, mut other) = (make(backend, &[]), make(backend, &[]));
    other.accumulate(Batch::new(4).rows(), whole(0)).unwrap();
    other.reset_gradients();
    for backend in [&mut plain, &mut other] {
        step(&mut **backend, &Batch::new(1), 0);
    }
    assert_eq!(state(&mut *plain), state(&mut *other));
}

fn images_fetched_ahead_change_nothing(backend: Make) {
    let (mut plain, mut ahead) = (make(backend, &[]), make(backend, &[]));
    let batches = [0, 1, 2, 3].map(Batch::new);
    let bytes = batches[0].images.len();
    let mut memory = ahead.batch_memory().unwrap();
    let mut images = [0, 1, 2, 3].map(|_| memory.allocate(bytes).unwrap());
    for (to, from) in images.iter_mut().zip(&batches) {
        to.bytes_mut()[..bytes].copy_from_slice(&from.images);
    }
    let rows_ahead = |at: usize| Rows { images: &images[at % 4].bytes()[..bytes], ..batches[at % 4].rows() };
    let mut probabilities = vec![0.0; ROWS * CLASSES];
    let mut at = 0;
    // The first run of each kind may be recorded; the later ones are what counts.
    for (step, parts) in [1, 2, 1, 2, 3, 1, 1].into_iter().enumerate() {
        for part in 0..parts {
            // Whole batches in place of parts: their number distinguishes them.
            let id = |at: usize| RowsId { epoch: 0, batch: at as u64, first_row: 0 };
            let micro_batch = MicroBatch { id: id(at), ..whole(step as u64) };
            let next = NextImages { id: id(at + 1), images: rows_ahead(at + 1).images };
            let expected = plain.accumulate(batches[at % 4].rows(), micro_batch).unwrap();
            let found = ahead.accumulate_and_fetch(rows_ahead(at), micro_batch, next).unwrap();
            assert_eq!(found, expected, "step {step}, part {part}");
            at += 1;
        }
        for backend in [&mut plain, &mut ahead] {
            assert_eq!(backend.update(UPDATE).unwrap(), Updated::Done);
        }
        // Between the fetch of a batch and its step.
        ahead.evaluate(rows_ahead(at + 2), &mut probabilities).unwrap();
    }
    assert_eq!(state(&mut *plain), state(&mut *ahead));
    ahead.reset_gradients();
}

fn gradients_can_be_exchanged(backend: Make) {
    let (mut lent, mut scaled) = (make(backend, &[]), make(backend, &[]));
    let batch = Batch::new(1);
    lent.accumulate(batch.rows(), whole(0)).unwrap();
    lent.lend_gradients(&mut |gradients, _| gradients.iter_mut().for_each(|gradient| *gradient *= 2.0))
        .unwrap();
    let double = MicroBatch { gradient_scale: 2.0 / ROWS as f32, ..whole(0) };
    scaled.accumulate(batch.rows(), double).unwrap();
    let mut copies = [Vec::new(), Vec::new()];
    for (backend, copy) in [&mut lent, &mut scaled].into_iter().zip(&mut copies) {
        backend.lend_gradients(&mut |gradients, _| copy.extend_from_slice(gradients)).unwrap();
        assert_eq!(backend.update(UPDATE).unwrap(), Updated::Done);
    }
    assert!(copies[0].iter().any(|&gradient| gradient != 0.0));
    assert_eq!(copies[0].len(), copies[1].len());
    let (worst, place) = difference(&state(&mut *scaled), &state(&mut *lent));
    assert!(worst < 1e-5, "{worst:.1e} at {place}");
}

fn a_restored_state_continues_to_the_same_bits(backend: Make) {
    let folder = tempfile::tempdir().unwrap();
    let mut first = make(backend, &[]);
    for at in 0..3 {
        step(&mut *first, &Batch::new(at as usize), at);
    }
    let saved = saved(&mut *first, &folder.path().join("step"));
    let mut second = make(backend, &[]);
    // The import replaces everything, including gradients of a step that had begun.
    second.accumulate(Batch::new(9).rows(), whole(9)).unwrap();
    second.import(saved).unwrap();
    for at in 3..6 {
        let sums =
            [&mut first, &mut second].map(|backend| step(&mut **backend, &Batch::new(at as usize), at));
        assert_eq!(sums[0], sums[1]);
    }
    assert_eq!(state(&mut *first), state(&mut *second));
}

fn a_state_of_another_network_is_refused(backend: Make) {
    let folder = tempfile::tempdir().unwrap();
    let other = saved(&mut *make(backend, &["network.layer.fc3.out=11"]), &folder.path().join("other"));
    let error = make(backend, &[]).import(other).unwrap_err();
    assert!(matches!(error, BackendError::State(StateError::Shape { .. })), "{error}");
}

fn dropout_depends_on_seed_and_step(backend: Make) {
    let after = |seed: u64, at: u64| {
        let mut backend = make(backend, &[]);
        backend.accumulate(Batch::new(1).rows(), MicroBatch { seed, ..whole(at) }).unwrap();
        assert_eq!(backend.update(UPDATE).unwrap(), Updated::Done);
        state(&mut *backend)
    };
    assert_eq!(after(1, 1), after(1, 1));
    assert_ne!(after(1, 1), after(1, 2));
    assert_ne!(after(1, 1), after(2, 1));
}

fn extremes_cover_every_parameter(backend: Make) {
    let mut backend = make(backend, &[]);
    backend.accumulate(Batch::new(1).rows(), whole(0)).unwrap();
    let extremes = backend.extremes().unwrap();
    assert_eq!(extremes.len(), 14);
    for (extreme, (name, weights)) in extremes.iter().zip(state(&mut *backend).iter().step_by(2)) {
        assert_eq!(&extreme.name, name);
        assert_eq!(extreme.weight, largest_magnitude(weights));
        assert!(extreme.gradient.is_finite() && extreme.gradient > 0.0, "{extreme:?}");
    }
    let not_a_number = MicroBatch { gradient_scale: f32::NAN, ..whole(1) };
    backend.accumulate(Batch::new(1).rows(), not_a_number).unwrap();
    assert!(backend.extremes().unwrap().iter().all(|extreme| extreme.gradient.is_nan()));
}

fn equal_outputs_are_ranked_by_class(backend: Make) {
    let mut backend = make(backend, &["network.layer.fc5.weight_std=0"]);
    let batch = Batch { labels: vec![0, 0, 1, 4, 5, 6], ..Batch::new(1) };
    let trained = backend.accumulate(batch.rows(), whole(0)).unwrap();
    let evaluated = backend.evaluate(batch.rows(), &mut [0.0; ROWS * CLASSES]).unwrap();
    for sums in [trained, evaluated] {
        assert_eq!((sums.top1, sums.top5), (2, 4));
    }
}

/// The settings of every optimizer.
pub(crate) const OPTIMIZERS: [&str; 6] = [
    "optimizer={ learning_rate = 0.02, momentum = 0.9, weight_decay = 0.01 }",
    "optimizer={ learning_rate = 0.02, momentum = 0.9, nesterov = true, weight_decay = 0.01 }",
    "optimizer={ kind = \"adamw\", learning_rate = 0.02, epsilon = 0.01, weight_decay = 0.01 }",
    "optimizer={ kind = \"rmsprop\", learning_rate = 0.02, momentum = 0.5, epsilon = 0.01, weight_decay = 0.01 }",
    "optimizer={ kind = \"lars\", learning_rate = 0.02, weight_decay = 0.01, trust_coefficient = 0.1 }",
    "optimizer={ kind = \"lamb\", learning_rate = 0.02, epsilon = 0.01, weight_decay = 0.01, \
     group = [{ axes = 1, weight_decay = 0, learning_rate_factor = 2 }] }",
];

fn every_optimizer_continues_from_a_restored_state_to_the_same_bits(backend: Make) {
    for optimizer in OPTIMIZERS {
        let folder = tempfile::tempdir().unwrap();
        let update = |backend: &mut dyn TrainingBackend, at: u64| {
            let _ = backend.accumulate(Batch::new(at as usize).rows(), whole(at)).unwrap();
            assert_eq!(backend.update(Update { step: at, ..UPDATE }).unwrap(), Updated::Done);
        };
        let (mut first, mut second) = (make(backend, &[optimizer]), make(backend, &[optimizer]));
        let before = state(&mut *first);
        (0..2).for_each(|at| update(&mut *first, at));
        let saved = saved(&mut *first, &folder.path().join("step"));
        second.import(saved).unwrap();
        for backend in [&mut first, &mut second] {
            (2..4).for_each(|at| update(&mut **backend, at));
        }
        assert_eq!(state(&mut *first), state(&mut *second), "{optimizer}");
        let unchanged = before.iter().zip(state(&mut *first)).find(|(before, after)| **before == *after);
        assert_eq!(unchanged, None, "{optimizer}");
    }
}

fn frozen_parameters_keep_their_values_and_have_no_slots(backend: Make) {
    let freeze = ["network.freeze=[\"conv*\", \"fc4.bias\"]", "network.train=[\"conv2.bias\"]"];
    let (mut frozen, mut free) = (make(backend, &freeze), make(backend, &[]));
    let before = state(&mut *frozen);
    let names: Vec<&str> = before.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names[..5],
        ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "conv2.bias.momentum"]
    );
    for backend in [&mut frozen, &mut free] {
        step(&mut **backend, &Batch::new(1), 0);
    }
    let (after, free) = (state(&mut *frozen), state(&mut *free));
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let kept = ["conv1.weight", "conv1.bias", "conv2.weight", "fc4.bias"].contains(&name.as_str());
        assert_eq!(before == after, kept, "{name}");
        // What is trained takes the step that it takes where nothing is frozen.
        let (_, whole) = free.iter().find(|(other, _)| other == name).unwrap();
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * (1.0 + a.abs());
        assert!(kept || after.iter().zip(whole).all(near), "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let saved = saved(&mut *frozen, &folder.path().join("step"));
    let mut second = make(backend, &freeze);
    second.import(saved).unwrap();
    for backend in [&mut frozen, &mut second] {
        step(&mut **backend, &Batch::new(2), 1);
        assert_eq!(backend.extremes().unwrap().len(), 10);
    }
    assert_eq!(state(&mut *frozen), state(&mut *second));
}

fn the_norm_of_gradients_stays_under_its_limit(backend: Make) {
    // Weights move by their gradients alone.
    let plain = "optimizer={ learning_rate = 0.02, momentum = 0, weight_decay = 0, \
                 group = [{ match = [\"*\"], weight_decay = 0 }] }";
    // The batch is cut into parts at these rows.
    let moved = |set: &[&str], cuts: &[usize]| {
        let mut backend = make(backend, &[&[plain], set].concat());
        let before = state(&mut *backend);
        let bounds = [&[0], cuts, &[ROWS]].concat();
        for pair in bounds.windows(2) {
            let _ = backend.accumulate(Batch::new(1).part(pair[0]..pair[1]), part(0, pair[0])).unwrap();
        }
        assert_eq!(backend.update(UPDATE).unwrap(), Updated::Done);
        let after = state(&mut *backend);
        let pairs = before.iter().zip(&after).filter(|((name, _), _)| !name.contains("momentum"));
        let squares =
            pairs.flat_map(|((_, a), (_, b))| a.iter().zip(b)).map(|(a, b)| f64::from(a - b).powi(2));
        (squares.sum::<f64>().sqrt() / UPDATE.learning_rate, after)
    };
    let (norm, free) = moved(&[], &[]);
    assert_eq!(moved(&["training.clip_norm=1000"], &[]).1, free);
    let limit = norm / 3.0;
    let set = format!("training.clip_norm={limit}");
    for cuts in [&[][..], &[2]] {
        let (clipped, _) = moved(&[&set], cuts);
        assert!((clipped / limit - 1.0).abs() < 1e-3, "{clipped}, expected {limit} ({norm} without a limit)");
    }
    // Frozen parameters do not count.
    let frozen = ["network.freeze=[\"conv*\", \"local*\"]"];
    let (norm, _) = moved(&frozen, &[]);
    let (clipped, _) = moved(&[frozen[0], &format!("training.clip_norm={}", norm * 0.9)], &[]);
    assert!((clipped / norm / 0.9 - 1.0).abs() < 1e-3, "{clipped} of {norm}");
}

fn evaluation_uses_the_running_average_of_the_weights(backend: Make) {
    let set = ["training.ema=0.75", "network.freeze=[\"conv1.*\"]"];
    let mut averaged = make(backend, &set);
    let weights = |backend: &mut dyn TrainingBackend, ending: &str| -> State {
        let is_asked = |(name, _): &(String, Vec<f32>)| {
            name.strip_suffix(ending).is_some_and(|name| name.ends_with("weight") || name.ends_with("bias"))
        };
        state(backend).into_iter().filter(is_asked).collect()
    };
    let mut expected = weights(&mut *averaged, ".ema");
    assert_eq!(expected.len(), 12);
    for at in 0..3 {
        step(&mut *averaged, &Batch::new(at as usize), at);
        let new = weights(&mut *averaged, "");
        for (name, average) in &mut expected {
            let (_, new) = new.iter().find(|(other, _)| *name == format!("{other}.ema")).unwrap();
            average.iter_mut().zip(new).for_each(|(average, new)| *average += 0.25 * (new - *average));
        }
    }
    let (worst, place) = difference(&expected, &weights(&mut *averaged, ".ema"));
    assert!(worst < 1e-6, "{worst:.1e} at {place}");
    // A backend whose weights are the averages gives the same predictions.
    let mut tensors = std::collections::BTreeMap::new();
    averaged
        .export(&mut |all| {
            for (name, tensor) in all.iter().filter(|(name, _)| !name.ends_with(".ema")) {
                let average = all.iter().find(|(other, _)| *other == format!("{name}.ema"));
                let values = average.map_or(tensor.values, |(_, average)| average.values).to_vec();
                let shape = tensor.shape.to_vec();
                tensors.insert((*name).to_owned(), crate::state::Tensor { shape, values });
            }
        })
        .unwrap();
    let mut plain = make(backend, &set[1..]);
    plain.import(Tensors::new("state".as_ref(), tensors)).unwrap();
    let evaluate = |backend: &mut dyn TrainingBackend| {
        let mut probabilities = [0.0; ROWS * CLASSES];
        let _ = backend.evaluate(Batch::new(5).rows(), &mut probabilities).unwrap();
        probabilities
    };
    assert_eq!(evaluate(&mut *averaged), evaluate(&mut *plain));
    let mut own = make(backend, &set);
    let folder = tempfile::tempdir().unwrap();
    own.import(saved(&mut *averaged, &folder.path().join("step"))).unwrap();
    assert_eq!(state(&mut *own), state(&mut *averaged));
}

fn gradients(backend: &mut dyn TrainingBackend) -> Vec<f32> {
    let mut lent = Vec::new();
    backend.lend_gradients(&mut |gradients, _| lent = gradients.to_vec()).unwrap();
    lent
}

/// Gradients of single parts, one step each.
fn gradients_of_parts(backend: &mut dyn TrainingBackend, batch: &Batch, rows: usize) -> Vec<Vec<f32>> {
    (0..ROWS)
        .step_by(rows)
        .map(|first| {
            backend.reset_gradients();
            backend.accumulate(batch.part(first..first + rows), part(0, first)).unwrap();
            gradients(backend)
        })
        .collect()
}

fn parts_are_added_in_a_tree_to_the_bit(backend: Make) {
    let mut backend = make(backend, &[]);
    let batch = Batch::new(4);
    let add = |sum: &mut Vec<f32>, part: Vec<f32>| {
        sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    };
    for rows in [1, 2, 3] {
        let parts = gradients_of_parts(&mut *backend, &batch, rows);
        let expected = sum_in_tree(parts, add).unwrap();
        backend.reset_gradients();
        for first in (0..ROWS).step_by(rows) {
            backend.accumulate(batch.part(first..first + rows), part(0, first)).unwrap();
            backend.end_part().unwrap();
        }
        assert_eq!(gradients(&mut *backend), expected, "parts of {rows} rows");
        let _ = backend.update(UPDATE).unwrap();
    }
}

fn a_part_without_rows_is_zeros(backend: Make) {
    let mut backend = make(backend, &[]);
    let batch = Batch::new(4);
    let [first, _, third] = &gradients_of_parts(&mut *backend, &batch, 2)[..] else { panic!("three parts") };
    let expected: Vec<f32> = first.iter().zip(third).map(|(a, b)| a + b).collect();
    backend.reset_gradients();
    // What a step before leaves in the buffers does not count.
    for _ in 0..2 {
        backend.accumulate(batch.part(0..2), part(0, 0)).unwrap();
        backend.end_part().unwrap();
        backend.end_part().unwrap();
        backend.accumulate(batch.part(4..6), part(0, 4)).unwrap();
        backend.end_part().unwrap();
        assert_eq!(gradients(&mut *backend), expected);
        backend.reset_gradients();
    }
}

/// One test for each property of a backend.
macro_rules! conforms {
    ($backend:ident: $($property:ident),+ $(,)?) => {
        mod $backend {
            $(
                #[test]
                fn $property() {
                    super::$property(super::$backend);
                }
            )+
        }
    };
    ($backend:ident) => {
        conforms!(
            $backend: rows_that_do_not_fit_are_refused,
            a_repeated_batch_is_learnt,
            only_given_rows_count,
            micro_batches_give_the_step_of_the_whole_batch_including_dropout,
            gradients_that_are_reset_leave_no_trace,
            images_fetched_ahead_change_nothing,
            gradients_can_be_exchanged,
            parts_are_added_in_a_tree_to_the_bit,
            a_part_without_rows_is_zeros,
            a_restored_state_continues_to_the_same_bits,
            a_state_of_another_network_is_refused,
            dropout_depends_on_seed_and_step,
            extremes_cover_every_parameter,
            every_optimizer_continues_from_a_restored_state_to_the_same_bits,
            frozen_parameters_keep_their_values_and_have_no_slots,
            the_norm_of_gradients_stays_under_its_limit,
            evaluation_uses_the_running_average_of_the_weights,
            equal_outputs_are_ranked_by_class,
        );
    };
}

conforms!(ort);
conforms!(reference);
conforms!(
    ort_f16: rows_that_do_not_fit_are_refused,
    a_repeated_batch_is_learnt,
    gradients_that_are_reset_leave_no_trace,
    images_fetched_ahead_change_nothing,
    a_restored_state_continues_to_the_same_bits,
    a_state_of_another_network_is_refused,
    dropout_depends_on_seed_and_step,
);
conforms!(null: rows_that_do_not_fit_are_refused);
#[cfg(target_os = "linux")]
conforms!(ort_fetching: images_fetched_ahead_change_nothing);

#[test]
fn a_missing_gpu_is_one_clear_error() {
    if fovea_runtime::check_gpu(true).is_ok() {
        println!("skipped: there is a GPU");
        return;
    }
    let (recipe, mean) = (recipe(&[]), mean());
    let setup = Setup::new(&recipe, CLASSES, ROWS, &mean, 3).unwrap();
    let Err(error) = OrtBackend::new(testing::runtime(), &setup, OrtOptions::new(Device::Cuda(0))) else {
        panic!("a session for a GPU was made without one");
    };
    let message = error.to_string();
    assert!(matches!(error, BackendError::Cuda { id: 0, .. }), "{message}");
    assert!(message.contains("--device cpu") && !message.contains('\n'), "{message}");
}

#[test]
fn a_mean_of_another_size_is_refused() {
    let recipe = recipe(&[]);
    let setup = Setup::new(&recipe, CLASSES, ROWS, &[0.0; 3], 3).unwrap();
    let error = ReferenceBackend::new(&setup).unwrap_err().to_string();
    assert!(error.contains("values of the mean: 3, expected 507"), "{error}");
}
