//! The inner loops one pixel at a time: what the fast ones are compared with.

use half::f16;

use super::{Mean, Normalize, Plane};

/// The pixel that lands at column `x` of row `y`.
fn pixel(plane: Plane<'_>, y: usize, x: usize) -> u8 {
    let x = if plane.flipped { plane.size.width as usize - 1 - x } else { x };
    plane.pixels[y * plane.stride + x]
}

fn positions(plane: Plane<'_>) -> impl Iterator<Item = (usize, usize)> {
    let (width, height) = (plane.size.width as usize, plane.size.height as usize);
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}

/// As [`copy`](super::copy).
pub fn copy(plane: Plane<'_>, target: &mut [u8]) {
    for ((y, x), target) in positions(plane).zip(target) {
        *target = pixel(plane, y, x);
    }
}

/// As [`deinterleave`](super::deinterleave).
pub fn deinterleave(plane: Plane<'_>, target: &mut [u8]) {
    let area = plane.size.area();
    for (index, (y, x)) in positions(plane).enumerate() {
        let x = if plane.flipped { plane.size.width as usize - 1 - x } else { x };
        for channel in 0..3 {
            target[channel * area + index] = plane.pixels[y * plane.stride + 3 * x + channel];
        }
    }
}

/// As [`normalize_f32`](super::normalize_f32).
pub fn normalize_f32(plane: Plane<'_>, normalize: Normalize<'_>, target: &mut [f32]) {
    for (index, (y, x)) in positions(plane).enumerate() {
        let mean = match normalize.mean {
            Mean::Constant(mean) => mean,
            Mean::PerPixel(means) => means[index],
        };
        target[index] = (f32::from(pixel(plane, y, x)) - (mean - normalize.offset)) * normalize.scale;
    }
}

/// As [`normalize_f16`](super::normalize_f16).
pub fn normalize_f16(plane: Plane<'_>, normalize: Normalize<'_>, target: &mut [f16]) {
    let mut exact = vec![0.0; target.len()];
    normalize_f32(plane, normalize, &mut exact);
    for (target, exact) in target.iter_mut().zip(exact) {
        *target = f16::from_f32_const(exact);
    }
}

/// As [`copy_interleaved`](super::copy_interleaved).
pub fn copy_interleaved(plane: Plane<'_>, target: &mut [u8]) {
    for (index, (y, x)) in positions(plane).enumerate() {
        let x = if plane.flipped { plane.size.width as usize - 1 - x } else { x };
        for channel in 0..3 {
            target[3 * index + channel] = plane.pixels[y * plane.stride + 3 * x + channel];
        }
    }
}

/// As [`interleave`](super::interleave).
pub fn interleave(planes: [Plane<'_>; 3], target: &mut [u8]) {
    for (channel, plane) in planes.into_iter().enumerate() {
        for (index, (y, x)) in positions(plane).enumerate() {
            target[3 * index + channel] = pixel(plane, y, x);
        }
    }
}

/// As [`normalize_interleaved_f32`](super::normalize_interleaved_f32).
pub fn normalize_interleaved_f32(planes: [Plane<'_>; 3], normalize: [Normalize<'_>; 3], target: &mut [f32]) {
    for channel in 0..3 {
        let mut values = vec![0.0; target.len() / 3];
        normalize_f32(planes[channel], normalize[channel], &mut values);
        for (index, value) in values.into_iter().enumerate() {
            target[3 * index + channel] = value;
        }
    }
}

/// As [`normalize_interleaved_f16`](super::normalize_interleaved_f16).
pub fn normalize_interleaved_f16(planes: [Plane<'_>; 3], normalize: [Normalize<'_>; 3], target: &mut [f16]) {
    let mut exact = vec![0.0; target.len()];
    normalize_interleaved_f32(planes, normalize, &mut exact);
    for (target, exact) in target.iter_mut().zip(exact) {
        *target = f16::from_f32_const(exact);
    }
}
