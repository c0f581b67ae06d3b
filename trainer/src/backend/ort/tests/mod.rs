//! Behaviour that the interface of backends does not show.

mod buffers;
#[cfg(target_os = "linux")]
pub mod fetching;

use fovea_runtime::testing;

use super::*;
use crate::backend::{RowsId, Targets};
use crate::recipe::Recipe;

const ROWS: usize = 4;

fn backend(recipe: &Recipe) -> OrtBackend {
    let px = recipe.input.crop_px;
    let mean = vec![100.0; 3 * px * px];
    let setup = Setup::new(recipe, 10, ROWS, &mean, 1).unwrap();
    OrtBackend::new(testing::runtime(), &setup, OrtOptions::new(Device::Cpu)).unwrap()
}

#[test]
fn the_cpu_reads_the_images_of_a_whole_batch_where_they_are() {
    let recipe = Recipe::load("demo", &["network.layer.dropout.p=0".to_owned()]).unwrap();
    let mut backend = backend(&recipe);
    let row_bytes = 3 * recipe.input.crop_px * recipe.input.crop_px;
    let images: Vec<u8> = (0..ROWS * row_bytes).map(|i| (i * 7919 % 251) as u8 | 1).collect();
    let (offsets, labels) = ([[0.0; 3]; ROWS], [0, 3, 5, 9]);
    let whole = Rows { images: &images, color_offsets: &offsets, targets: Targets::Classes(&labels) };
    let id = RowsId { epoch: 0, batch: 0, first_row: 0 };
    let micro_batch = MicroBatch { seed: 1, step: 0, id, gradient_scale: 0.25 };
    let loss = |sums: BatchMetrics| sums.loss;
    let mut probabilities = vec![0.0; ROWS * 10];

    let in_place = [
        loss(backend.accumulate(whole, micro_batch).unwrap()),
        loss(backend.accumulate(whole, micro_batch).unwrap()),
        loss(backend.evaluate(whole, &mut probabilities).unwrap()),
    ];
    assert!(backend.batch.images.copied().iter().all(|&byte| byte == 0), "images were copied");

    // A part of a batch has no memory behind its last row, and is copied.
    let part = Rows { images: &images[..3 * row_bytes], targets: Targets::Classes(&labels[..3]), ..whole };
    backend.accumulate(part, micro_batch).unwrap();
    assert!(backend.batch.images.copied().starts_with(part.images));
    assert!(backend.batch.images.copied()[part.images.len()..].iter().all(|&byte| byte == 0));

    let copied: Vec<f64> = (0..ROWS)
        .map(|row| {
            let images = &images[row * row_bytes..(row + 1) * row_bytes];
            let one =
                Rows { images, color_offsets: &offsets, targets: Targets::Classes(&labels[row..row + 1]) };
            loss(backend.accumulate(one, micro_batch).unwrap())
        })
        .collect();
    let sum: f64 = copied.iter().sum();
    for loss in in_place {
        assert!((loss / sum - 1.0).abs() < 1e-5, "{loss} against {sum}");
    }
}
