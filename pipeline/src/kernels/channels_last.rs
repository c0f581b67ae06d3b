//! From stored pixels to a slot whose channels are last, `[H,W,3]`.

use half::f16;
use half::slice::HalfFloatSliceExt;
use multiversion::multiversion;

use super::plane::{Normalize, Plane};
use super::row::{TILE, normalize_row};

/// Copies a part of an image `u8 [H,W,3]` to `u8 [H,W,3]`; the plane's width counts pixels, its stride bytes.
///
/// # Panics
/// When `target` has not the size of the plane, three times.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+ssse3"
))]
pub fn copy_interleaved(plane: Plane<'_>, target: &mut [u8]) {
    let width = plane.width();
    assert_eq!(target.len(), 3 * plane.size.area());
    for (y, target) in target.chunks_exact_mut(3 * width).enumerate() {
        let row = &plane.pixels[y * plane.stride..][..3 * width];
        if plane.flipped {
            for (target, pixel) in target.chunks_exact_mut(3).zip(row.chunks_exact(3).rev()) {
                target.copy_from_slice(pixel);
            }
        } else {
            target.copy_from_slice(row);
        }
    }
}

/// Copies the planes R, G and B to `u8 [H,W,3]`.
///
/// # Panics
/// When `target` has not the size of the planes.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+ssse3"
))]
pub fn interleave(planes: [Plane<'_>; 3], target: &mut [u8]) {
    let (width, flipped) = (planes[0].width(), planes[0].flipped);
    assert_eq!(target.len(), 3 * planes[0].size.area());
    for (y, target) in target.chunks_exact_mut(3 * width).enumerate() {
        let [red, green, blue] = planes.map(|plane| &plane.pixels[y * plane.stride..][..width]);
        let pixels = red.iter().zip(green).zip(blue);
        let targets = target.chunks_exact_mut(3);
        if flipped {
            for (target, ((red, green), blue)) in targets.zip(pixels.rev()) {
                (target[0], target[1], target[2]) = (*red, *green, *blue);
            }
        } else {
            for (target, ((red, green), blue)) in targets.zip(pixels) {
                (target[0], target[1], target[2]) = (*red, *green, *blue);
            }
        }
    }
}

/// Normalises the planes R, G and B to `f32 [H,W,3]`.
///
/// # Panics
/// When `target`, or a mean, has not the size of the planes.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+ssse3"
))]
pub fn normalize_interleaved_f32(planes: [Plane<'_>; 3], normalize: [Normalize<'_>; 3], target: &mut [f32]) {
    assert_eq!(target.len(), 3 * planes[0].size.area());
    for (y, row) in target.chunks_exact_mut(3 * planes[0].width()).enumerate() {
        for (number, target) in row.chunks_mut(3 * TILE).enumerate() {
            normalize_tile(planes, normalize, y, number * TILE, target);
        }
    }
}

/// Normalises the planes R, G and B to `f16 [H,W,3]`: computed in f32, rounded to nearest even.
///
/// # Panics
/// When `target`, or a mean, has not the size of the planes.
#[multiversion(targets("x86_64+avx2+fma", "x86_64+ssse3"))]
pub fn normalize_interleaved_f16(planes: [Plane<'_>; 3], normalize: [Normalize<'_>; 3], target: &mut [f16]) {
    assert_eq!(target.len(), 3 * planes[0].size.area());
    let mut tile = [0.0; 3 * TILE];
    for (y, row) in target.chunks_exact_mut(3 * planes[0].width()).enumerate() {
        for (number, target) in row.chunks_mut(3 * TILE).enumerate() {
            let exact = &mut tile[..target.len()];
            normalize_tile(planes, normalize, y, number * TILE, exact);
            target.convert_from_f32_slice(exact);
        }
    }
}

/// Normalises a tile of row `y` that begins at column `start` to `f32 [columns,3]`.
#[inline(always)]
fn normalize_tile(
    planes: [Plane<'_>; 3],
    normalize: [Normalize<'_>; 3],
    y: usize,
    start: usize,
    target: &mut [f32],
) {
    let columns = target.len() / 3;
    let mut tiles = [[0.0; TILE]; 3];
    for ((plane, normalize), tile) in planes.into_iter().zip(normalize).zip(&mut tiles) {
        normalize_row(plane, normalize, y, start..start + columns, &mut tile[..columns]);
    }
    let [red, green, blue] = &tiles;
    for (target, ((red, green), blue)) in target.chunks_exact_mut(3).zip(red.iter().zip(green).zip(blue)) {
        (target[0], target[1], target[2]) = (*red, *green, *blue);
    }
}
