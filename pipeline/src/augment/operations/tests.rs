//! What operations make of a small image, compared with torchvision's transforms v2.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::augment::{Augmentation, VerticalFlip};
use crate::geometry::Size;
use crate::random::sample_rng;
use crate::view::{Scratch, View};

/// Written by `golden.py`.
#[derive(Deserialize)]
struct Golden {
    magnitudes: BTreeMap<String, f32>,
    /// The results `u8 [3,H,W]` in hexadecimal.
    cases: BTreeMap<String, String>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden.json")).unwrap()
}

/// Slopes of different steepness with some noise; the same as in `golden.py`.
fn picture(size: Size) -> Vec<u8> {
    let (width, area) = (size.width as usize, size.area());
    (0..3 * area)
        .map(|i| {
            let (channel, y, x) = (i / area, i % area / width, i % width);
            (20 + 50 * channel + (9 - 3 * channel) * x + (2 + 4 * channel) * y + i * i % 23) as u8
        })
        .collect()
}

fn operation(name: &str) -> Option<Operation> {
    Operation::ALL.into_iter().find(|operation| format!("{operation:?}") == name)
}

/// What the case does, from its name.
fn change(name: &str, view: &mut View<'_>) {
    let words: Vec<&str> = name.split(' ').collect();
    let number = |i: usize| words[i].parse::<f32>().unwrap();
    match words[0] {
        "grayscale" => to_gray(view.planes_mut()),
        "brightness" => mix(Blend::Brightness, number(1), view.planes_mut()),
        "contrast" => mix(Blend::Contrast, number(1), view.planes_mut()),
        "saturation" => mix(Blend::Saturation, number(1), view.planes_mut()),
        "hue" => turn_hue(number(1), view.planes_mut()),
        "gaussian_blur" => {
            let (kernel, width) = (gaussian(number(1) as usize, number(2)), view.size().width as usize);
            view.map_planes(|_, from, to, row| smooth(&kernel, width, from, to, row));
        }
        "vertical_flip" => {
            let flip = VerticalFlip::new(serde_json::from_str(r#"{ "p": 1.0 }"#).unwrap()).unwrap();
            flip.apply(view, &mut sample_rng(0, 0, 0));
        }
        "equalize" => Operation::Equalize.apply(0.0, Interpolation::Nearest, [0; 3], view),
        other => {
            let interpolation = match words[2] {
                "nearest" => Interpolation::Nearest,
                _ => Interpolation::Bilinear,
            };
            operation(other).unwrap().apply(number(1), interpolation, [0; 3], view);
        }
    }
}

#[test]
fn operations_give_the_results_of_torchvision_up_to_rounding() {
    let golden = golden();
    assert_eq!(golden.cases.len(), 70);
    for (name, expected) in golden.cases {
        let size = match name.as_str() {
            "equalize" => Size { width: 19, height: 18 },
            _ => Size { width: 11, height: 9 },
        };
        let pixels = picture(size);
        let mut scratch = Scratch::default();
        let mut view = View::planar(&pixels, size, &mut scratch);
        change(&name, &mut view);
        let found = view.planes_mut().concat();
        let bytes = |i: usize| u8::from_str_radix(&expected[2 * i..2 * i + 2], 16).unwrap();
        assert_eq!(expected.len(), 2 * found.len());
        // torchvision cuts off where this rounds to the nearest; where lumas are mixed in, these too.
        let mixes_luma = ["contrast", "saturation", "Contrast", "Color"];
        let most = if mixes_luma.iter().any(|mixes| name.starts_with(mixes)) { 2 } else { 1 };
        let worst = (0..found.len()).max_by_key(|&i| found[i].abs_diff(bytes(i))).unwrap();
        let difference = found[worst].abs_diff(bytes(worst));
        assert!(difference <= most, "{name}: byte {worst} is {}, expected {}", found[worst], bytes(worst));
        let different = (0..found.len()).filter(|&i| found[i] != bytes(i)).count();
        let is_exact = ["Shear", "Translate", "Rotate", "Sharpness", "Posterize", "Solarize", "AutoContrast"];
        if is_exact.iter().any(|exact| name.starts_with(exact)) && name.ends_with("nearest") {
            assert_eq!(different, 0, "{name}: bytes differ");
        }
    }
}

#[test]
fn magnitudes_are_those_of_torchvision() {
    let golden = golden();
    assert_eq!(golden.magnitudes.len(), 2 * 14 * 4);
    for (name, expected) in golden.magnitudes {
        let words: Vec<&str> = name.split(' ').collect();
        let space = if words[0] == "rand" { Space::Rand } else { Space::Wide };
        let size = Size { width: 11, height: 9 };
        let operation = operation(words[1]).unwrap();
        let found = operation.magnitude(space, words[2].parse().unwrap(), 31, size);
        // A threshold is a part of the largest value there.
        let expected = if operation == Operation::Solarize { 255.0 * expected } else { expected };
        assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{name}: {found}, expected {expected}");
    }
}

#[test]
fn what_comes_from_outside_has_the_colour_of_the_fill() {
    let size = Size { width: 11, height: 9 };
    let pixels = picture(size);
    for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
        let mut scratch = Scratch::default();
        let mut view = View::planar(&pixels, size, &mut scratch);
        Operation::TranslateX.apply(4.0, interpolation, [1, 2, 3], &mut view);
        for (plane, (fill, from)) in view.planes_mut().iter().zip((1..).zip(pixels.chunks(99))) {
            for (row, from) in plane.chunks(11).zip(from.chunks(11)) {
                assert_eq!((&row[..4], &row[4..]), (&[fill; 4][..], &from[..7]));
            }
        }
    }
}
