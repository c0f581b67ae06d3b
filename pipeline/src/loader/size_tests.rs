//! Tests of the loader over images of differing sizes, against plain code that does what torchvision's
//! transforms do.

use std::sync::Arc;

use rand::RngExt;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::augment::{AugmentationConfig, Chain};
use crate::batch::Images;
use crate::eval_crops::EvalCrops;
use crate::geometry::{Rect, Size};
use crate::order::Order;
use crate::random::view_rng;
use crate::test_support::{dataset_of_sizes, sized_pixels};
use crate::{Dataset, Encoding, Split};

const SEED: u64 = 11;

/// Numbers that look random.
fn generator(mut state: u64) -> impl FnMut(u32) -> u32 {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((state >> 33) * u64::from(below)) >> 31) as u32
    }
}

/// Sizes of landscapes, portraits and squares, the longest that there may be included.
fn random_sizes(side: u32, count: usize, seed: u64) -> Vec<Size> {
    let mut random = generator(seed);
    let mut size = |number: usize| {
        let most = [side + 1, 2 * side, 10 * side, 16 * side][number % 4];
        let longer = side + random(most - side + 1);
        match random(2) {
            0 => Size { width: longer, height: side },
            _ => Size { width: side, height: longer },
        }
    };
    (0..count).map(&mut size).chain([Size { width: 16 * side, height: side }]).collect()
}

fn records(encoding: Encoding, side: u32, sizes: &[Size]) -> (TempDir, Arc<Records>) {
    let directory = dataset_of_sizes(encoding, side, sizes);
    let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
    (directory, Arc::new(records))
}

/// All views in the order of the images, each `u8 [3,H,W]`.
fn views(records: &Arc<Records>, config: LoaderConfig) -> Vec<Vec<u8>> {
    let config = LoaderConfig {
        batch_size: 4,
        workers: 2,
        seed: SEED,
        epochs: 0..1,
        order: Order::Sequential,
        last_batch: LastBatch::Pad,
        ..config
    };
    let mut views = Vec::new();
    for batch in Loader::start(Arc::clone(records), config).unwrap() {
        let batch = batch.unwrap();
        let Images::U8(pixels) = batch.images() else { panic!("u8 is the default") };
        let filled = batch.len() * batch.shape().views;
        views.extend(pixels.chunks(batch.shape().view_values()).take(filled).map(<[u8]>::to_vec));
    }
    views
}

fn chain(records: &Records, op: &str, parameters: serde_json::Value) -> Chain {
    let steps = [AugmentationConfig::new(op, parameters)];
    Chain::from_configs(&steps, records.image_sizes(), None).unwrap()
}

fn cropped(planar: &[u8], size: Size, part: Rect) -> Vec<u8> {
    let (width, area) = (size.width as usize, size.area());
    let mut result = Vec::new();
    for channel in 0..3 {
        for y in part.y..part.y + part.size.height {
            let start = channel * area + y as usize * width + part.x as usize;
            result.extend(&planar[start..start + part.size.width as usize]);
        }
    }
    result
}

/// For each new pixel along an axis the weights of the old ones: a triangle that widens when the image
/// shrinks, as with `antialias=True`.
fn weights(length: usize, start: f64, part: f64, new: usize) -> Vec<Vec<f64>> {
    let scale = part / new as f64;
    let support = scale.max(1.0);
    let of_pixel = |i: usize| {
        let center = start + (i as f64 + 0.5) * scale;
        let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - center) / support).abs()).max(0.0);
        let raw: Vec<f64> = (0..length).map(weight).collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(|weight| weight / sum).collect()
    };
    (0..new).map(of_pixel).collect()
}

/// The part of an image, resized.
fn resized(planar: &[u8], size: Size, part: Rect, new: usize) -> Vec<f64> {
    let (width, height) = (size.width as usize, size.height as usize);
    let across = weights(width, part.x.into(), part.size.width.into(), new);
    let down = weights(height, part.y.into(), part.size.height.into(), new);
    let mut result = Vec::new();
    for plane in planar.chunks(size.area()) {
        let rows: Vec<Vec<f64>> = plane
            .chunks(width)
            .map(|row| {
                across.iter().map(|of| of.iter().zip(row).map(|(w, &p)| w * f64::from(p)).sum()).collect()
            })
            .collect();
        for of in &down {
            result.extend((0..new).map(|x| of.iter().zip(&rows).map(|(w, row)| w * row[x]).sum::<f64>()));
        }
    }
    result
}

/// The box that torchvision's `RandomResizedCrop` draws.
fn drawn_box(size: Size, position: u64) -> Rect {
    let mut rng = view_rng(SEED, 0, position, 0);
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    for _ in 0..10 {
        let area = width * height * rng.random_range(0.08..=1.0);
        let ratio = rng.random_range(0.75_f64.ln()..=(4.0_f64 / 3.0).ln()).exp();
        let (w, h) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
        if w > 0.0 && w <= width && h > 0.0 && h <= height {
            let x = rng.random_range(0..=size.width - w as u32);
            let y = rng.random_range(0..=size.height - h as u32);
            return Rect { x, y, size: Size { width: w as u32, height: h as u32 } };
        }
    }
    let ratio = width / height;
    let (w, h) = match ratio {
        _ if ratio < 0.75 => (width, (width / 0.75).round()),
        _ if ratio > 4.0 / 3.0 => ((height * 4.0 / 3.0).round(), height),
        _ => (width, height),
    };
    let (x, y) = (((width - w) / 2.0).floor() as u32, ((height - h) / 2.0).floor() as u32);
    Rect { x, y, size: Size { width: w as u32, height: h as u32 } }
}

#[test]
fn random_resized_crop_samples_its_box_over_the_whole_photo() {
    for (side, new) in [(1, 8), (2, 5), (7, 12), (24, 16), (33, 12)] {
        let sizes = random_sizes(side, 40, side.into());
        let (_directory, records) = records(Encoding::Raw, side, &sizes);
        let chain = chain(&records, "random_resized_crop", json!({ "size": new }));
        let found = views(&records, LoaderConfig::training(chain));
        assert_eq!(found.len(), sizes.len());
        for (image, (found, &size)) in found.iter().zip(&sizes).enumerate() {
            let part = drawn_box(size, image as u64);
            let expected = resized(&sized_pixels(image, size), size, part, new);
            for (place, (&found, expected)) in found.iter().zip(expected).enumerate() {
                let off = (f64::from(found) - expected).abs();
                assert!(
                    off <= 1.1,
                    "image {image} of {size}, {part:?} to {new}, {place}: {found}, {expected}"
                );
            }
        }
    }
}

#[test]
fn crops_of_an_evaluation_are_those_of_the_whole_photo() {
    for (side, crop) in [(1, 1), (9, 6), (24, 24), (25, 18)] {
        let sizes = random_sizes(side, 40, side.into());
        let (_directory, records) = records(Encoding::Raw, side, &sizes);
        let square = Size::square(crop);
        let center = views(&records, LoaderConfig::evaluation(EvalCrops::Center, square));
        let ten = views(&records, LoaderConfig::evaluation(EvalCrops::TenCrop, square));
        for (image, &size) in sizes.iter().enumerate() {
            let planar = sized_pixels(image, size);
            let (right, bottom) = (size.width - crop, size.height - crop);
            let [x, y] = [right, bottom].map(|left| (f64::from(left) / 2.0).round_ties_even() as u32);
            let places = [(0, 0), (right, 0), (0, bottom), (right, bottom), (x, y)];
            let expected = places.map(|(x, y)| cropped(&planar, size, Rect { x, y, size: square }));
            assert_eq!(center[image], expected[4], "{size}");
            for (view, expected) in ten[10 * image..].iter().zip(&expected) {
                assert_eq!(view, expected, "{size}");
            }
            let mirrored: Vec<u8> =
                expected[1].chunks(crop as usize).flat_map(|row| row.iter().rev().copied()).collect();
            assert_eq!(ten[10 * image + 6], mirrored, "{size}");
        }
    }
}

#[test]
fn random_crops_reach_the_ends_of_a_panorama() {
    let sizes = [Size { width: 160, height: 10 }; 400];
    let (_directory, records) = records(Encoding::Raw, 10, &sizes);
    let chain = chain(&records, "random_crop", json!({ "size": 10 }));
    let found = views(&records, LoaderConfig::training(chain));
    // Pixels tell their column: 5·x, of which 51 repeat.
    let mut columns = [false; 151];
    for (image, view) in found.iter().enumerate() {
        let planar = sized_pixels(image, sizes[0]);
        let x = (0..=150)
            .filter(|&x| *view == cropped(&planar, sizes[0], Rect { x, y: 0, size: Size::square(10) }))
            .collect::<Vec<_>>();
        assert!(!x.is_empty(), "image {image}");
        x.into_iter().for_each(|x| columns[x as usize] = true);
    }
    let seen = columns.iter().filter(|&&is| is).count();
    assert!(columns[..4].contains(&true) && columns[147..].contains(&true) && seen > 120, "{columns:?}");
}

#[test]
fn jpeg_files_of_every_size_are_decoded_whole() {
    let sizes = random_sizes(16, 12, 3);
    let (_directory, records) = records(Encoding::Jpeg, 16, &sizes);
    let views = views(&records, LoaderConfig::evaluation(EvalCrops::Center, Size::square(16)));
    for (image, &size) in sizes.iter().enumerate() {
        let [x, y] =
            [size.width, size.height].map(|side| (f64::from(side - 16) / 2.0).round_ties_even() as u32);
        let expected = cropped(&sized_pixels(image, size), size, Rect { x, y, size: Size::square(16) });
        let off = views[image].iter().zip(&expected).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
        // Where values run over from 255 to 0 there are edges, at which JPEG is off.
        assert!(off / (expected.len() as f64) < 30.0, "{size}: {off}");
    }
}

#[test]
fn batches_are_the_same_for_any_number_of_workers() {
    let sizes = random_sizes(20, 30, 5);
    let (_directory, records) = records(Encoding::Jpeg, 20, &sizes);
    let batches = |workers| {
        let chain = chain(&records, "random_resized_crop", json!({ "size": 16 }));
        let config = LoaderConfig { batch_size: 8, workers, epochs: 0..2, ..LoaderConfig::training(chain) };
        let loader = Loader::start(Arc::clone(&records), config).unwrap();
        loader.map(|batch| batch.unwrap().image_bytes().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(batches(1), batches(3));
}

#[test]
fn augmentations_that_leave_differing_sizes_are_refused_with_the_remedy() {
    let sizes = random_sizes(10, 4, 1);
    let (_directory, records) = records(Encoding::Raw, 10, &sizes);
    for steps in [&[][..], &[AugmentationConfig::new("horizontal_flip", json!({}))]] {
        let error = Chain::from_configs(steps, records.image_sizes(), None).unwrap_err().to_string();
        for part in ["a shorter side of 10", "leave 10x10 of one and 20x10 of another", "random_resized_crop"]
        {
            assert!(error.contains(part), "{error}");
        }
    }
    let steps = [AugmentationConfig::new("random_crop", json!({ "size": 11 }))];
    let error = Chain::from_configs(&steps, records.image_sizes(), None).unwrap_err().to_string();
    assert!(error.contains("cuts 11x11 pixels out of an image of 10x10"), "{error}");
    // Made for squares.
    let config = LoaderConfig::training(Chain::empty(Size::square(10)));
    let error = Loader::start(Arc::clone(&records), config).unwrap_err().to_string();
    assert!(
        error.contains("made for images of 10x10 pixels") && error.contains("a shorter side of 10"),
        "{error}"
    );
    let config = LoaderConfig::evaluation(EvalCrops::Center, Size::square(11));
    let error = Loader::start(Arc::clone(&records), config).unwrap_err().to_string();
    assert!(error.contains("11x11 pixels out of an image of 10x10"), "{error}");
}
