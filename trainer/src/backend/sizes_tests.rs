//! Training on images of other sizes than those of evaluation.

use fovea_runtime::testing;

use super::*;
use crate::checkpoint;
use crate::recipe::Recipe;

const ROWS: usize = 4;
const CLASSES: usize = 5;
const CROP_PX: usize = 13;

/// A network with as many values before its last layer for images of 12, 13 and 14 pixels, and a mask of
/// another shape for each.
fn recipe() -> Recipe {
    let text = format!(
        r#"
        name = "sizes"
        description = "three sizes"
        input = {{ image_px = 14, crop_px = {CROP_PX}, mean = "channel", scale = 0.015625 }}
        augmentation = {{ train = [{{ op = "random_crop" }}], sizes = [{{ after = 1, crop_px = 12 }}, {{ after = 2, crop_px = 14 }}] }}
        optimizer = {{ learning_rate = 0.02, momentum = 0.9, weight_decay = 0.01 }}
        schedule = {{ kind = "multi_step", gamma = 0.1, milestones = [] }}
        training = {{ batch_size = {ROWS}, epochs = 3, ema = 0.9, clip_norm = 1.0 }}
        evaluation = {{ every_epoch = "center", at_end = "center" }}
        [network]
        layer = [
            {{ name = "conv1", kind = "conv", out = 4, kernel = 3, pad = 1, weight_std = 0.2, bias = 0.1 }},
            {{ name = "relu1", kind = "activation", function = "relu" }},
            {{ name = "drop1", kind = "dropout", p = 0.4 }},
            {{ name = "pool1", kind = "pool", kernel = 3, stride = 3 }},
            {{ name = "fc2", kind = "linear", weight_std = 0.2 }},
        ]
        "#
    );
    Recipe::from_toml(&text, "sizes").unwrap_or_else(|error| panic!("{error}"))
}

fn backends(recipe: &Recipe) -> [Box<dyn TrainingBackend>; 2] {
    let setup = Setup::new(recipe, CLASSES, ROWS, &[110.0, 120.0, 130.0], 3).unwrap();
    let ort = OrtBackend::new(testing::runtime(), &setup, OrtOptions::new(testing::device())).unwrap();
    [Box::new(ort), Box::new(ReferenceBackend::new(&setup).unwrap())]
}

/// The rows `rows` of a batch of images of `px` pixels.
fn with_rows<R>(px: usize, salt: usize, rows: std::ops::Range<usize>, then: impl FnOnce(Rows<'_>) -> R) -> R {
    let noise = |i: usize| (i * 7919 + salt * 104_729 + i * i % 613) % 1009;
    let images: Vec<u8> = (0..ROWS * 3 * px * px).map(|i| (noise(i) % 256) as u8).collect();
    let labels: Vec<i64> = (0..ROWS).map(|i| (noise(i) % CLASSES) as i64).collect();
    let offsets: Vec<[f32; 3]> = (0..ROWS).map(|i| [i as f32, -1.0, 2.0]).collect();
    let bytes = 3 * px * px;
    then(Rows {
        images: &images[rows.start * bytes..rows.end * bytes],
        color_offsets: &offsets[rows.clone()],
        targets: Targets::Classes(&labels[rows]),
    })
}

/// Step number `at` in two micro-batches; its loss.
fn step(backend: &mut dyn TrainingBackend, px: usize, at: u64) -> f64 {
    let mut loss = 0.0;
    for rows in [0..3, 3..ROWS] {
        let id = RowsId { epoch: 0, batch: at, first_row: rows.start as u64 };
        let micro_batch = MicroBatch { seed: 5, step: at, id, gradient_scale: 1.0 / ROWS as f32 };
        loss += with_rows(px, at as usize, rows, |rows| backend.accumulate(rows, micro_batch)).unwrap().loss;
    }
    assert_eq!(backend.update(Update::new(0.02, at)).unwrap(), Updated::Done);
    loss
}

fn evaluated(backend: &mut dyn TrainingBackend) -> Vec<f32> {
    let mut probabilities = vec![0.0; ROWS * CLASSES];
    let _ = with_rows(CROP_PX, 77, 0..ROWS, |rows| backend.evaluate(rows, &mut probabilities)).unwrap();
    probabilities
}

fn state(backend: &mut dyn TrainingBackend) -> Vec<(String, Vec<f32>)> {
    let mut state = Vec::new();
    let mut keep = |tensors: &[(&str, TensorRef<'_>)]| {
        state = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.values.to_vec())).collect();
    };
    backend.export(&mut keep).unwrap();
    state
}

/// Gives the state of one backend to another.
fn restore(from: &mut dyn TrainingBackend, to: &mut dyn TrainingBackend) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    let meta = checkpoint::tests::meta(1);
    from.export(&mut |tensors| checkpoint::save(&path, &meta, tensors).unwrap()).unwrap();
    to.import(checkpoint::load(&path).unwrap().1).unwrap();
}

#[test]
fn steps_on_images_of_several_sizes_follow_the_reference() {
    let [mut ort, mut reference] = backends(&recipe());
    for (at, px) in [13, 12, 12, 14, 13, 14].into_iter().enumerate() {
        for backend in [&mut ort, &mut reference] {
            backend.set_training_px(px).unwrap();
        }
        let losses = [&mut ort, &mut reference].map(|backend| step(&mut **backend, px, at as u64));
        assert!((losses[0] / losses[1] - 1.0).abs() < 1e-5, "step {at} of {px} pixels: {losses:?}");
        let given = [&mut ort, &mut reference].map(|backend| evaluated(&mut **backend));
        let worst = given[0].iter().zip(&given[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "step {at} of {px} pixels: {worst:.1e}");
    }
}

#[test]
fn another_size_leaves_the_state_as_it_is() {
    for at in 0..2 {
        let recipe = recipe();
        let mut kept = backends(&recipe).into_iter().nth(at).unwrap();
        let mut begun_anew = backends(&recipe).into_iter().nth(at).unwrap();
        for (number, px) in [12, 14, 13].into_iter().enumerate() {
            let before = state(&mut *kept);
            kept.set_training_px(px).unwrap();
            assert_eq!(state(&mut *kept), before);
            restore(&mut *kept, &mut *begun_anew);
            begun_anew.set_training_px(px).unwrap();
            let losses = [&mut kept, &mut begun_anew].map(|backend| step(&mut **backend, px, number as u64));
            assert_eq!(losses[0], losses[1]);
            assert_eq!(state(&mut *kept), state(&mut *begun_anew), "{px} pixels");
            assert_eq!(evaluated(&mut *kept), evaluated(&mut *begun_anew), "{px} pixels");
            // What has begun has another state than the next one that is restored.
            begun_anew = backends(&recipe).into_iter().nth(at).unwrap();
        }
    }
}

#[test]
fn gradients_of_a_step_that_was_left_do_not_enter_one_of_another_size() {
    for (mut left, mut plain) in backends(&recipe()).into_iter().zip(backends(&recipe())) {
        let id = RowsId { epoch: 0, batch: 9, first_row: 0 };
        let micro_batch = MicroBatch { seed: 5, step: 9, id, gradient_scale: 1.0 };
        let _ = with_rows(CROP_PX, 9, 0..ROWS, |rows| left.accumulate(rows, micro_batch)).unwrap();
        left.end_part().unwrap();
        for backend in [&mut left, &mut plain] {
            backend.set_training_px(14).unwrap();
            step(&mut **backend, 14, 0);
        }
        assert_eq!(state(&mut *left), state(&mut *plain));
    }
}

#[test]
fn images_that_are_too_small_for_the_size_are_refused() {
    let null = |recipe: &Recipe| -> Box<dyn TrainingBackend> {
        Box::new(NullBackend::new(&Setup::new(recipe, CLASSES, ROWS, &[0.0; 3], 3).unwrap()))
    };
    let recipe = recipe();
    for mut backend in backends(&recipe).into_iter().chain([null(&recipe)]) {
        backend.set_training_px(14).unwrap();
        let id = RowsId { epoch: 0, batch: 0, first_row: 0 };
        let micro_batch = MicroBatch { seed: 5, step: 0, id, gradient_scale: 1.0 };
        let given = with_rows(13, 0, 0..ROWS, |rows| backend.accumulate(rows, micro_batch));
        let error = given.unwrap_err().to_string();
        assert_eq!(error, "bytes of images: 2028, expected 4 images of 588 bytes");
    }
}

#[test]
fn networks_that_take_one_size_only_are_refused_by_the_name_of_a_layer() {
    let refused = |name: &str, px: usize| {
        let set = format!("augmentation.sizes=[{{after=1, crop_px={px}}}]");
        let mean = "input.mean='channel'".to_owned();
        let recipe = Recipe::load(name, &[mean, set]).unwrap();
        Setup::new(&recipe, 1000, 2, &[0.0; 3], 0).map(drop)
    };
    for (name, px, expected) in [
        ("alexnet", 192, "the shape of `fc6.weight` is [4096, 9216] for these and [4096, 6400] for those"),
        ("alexnet", 32, "node `pool5/MaxPool`"),
        ("vit-small", 192, "the shape of `pos_embed` is [1, 197, 384] for these and [1, 145, 384] for those"),
    ] {
        let error = refused(name, px).unwrap_err();
        assert!(error.is_usage());
        let error = error.to_string();
        assert!(error.contains(expected) && error.contains("`augmentation.sizes`"), "{name}: {error}");
    }
    for name in ["resnet18", "mobilenet-v3-small", "convnext-tiny"] {
        refused(name, 160).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
