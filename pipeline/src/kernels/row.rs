//! A part of a row of pixels, normalised to f32: what the loops over tiles share.

use std::ops::Range;

use super::plane::{Mean, Normalize, Plane};

/// Pixels that a loop over tiles holds in f32 at a time: 256 bytes, in the first-level cache.
pub(super) const TILE: usize = 64;

/// Normalises the given columns of row `y` of the result.
#[inline(always)]
pub(super) fn normalize_row(
    plane: Plane<'_>,
    normalize: Normalize<'_>,
    y: usize,
    columns: Range<usize>,
    target: &mut [f32],
) {
    let width = columns.len();
    let first = if plane.flipped { plane.width() - columns.end } else { columns.start };
    let pixels = &plane.pixels[y * plane.stride + first..][..width];
    let target = &mut target[..width];
    let scale = normalize.scale;
    match (normalize.mean, plane.flipped) {
        (Mean::Constant(mean), false) => {
            let shift = mean - normalize.offset;
            for (target, &pixel) in target.iter_mut().zip(pixels) {
                *target = (f32::from(pixel) - shift) * scale;
            }
        }
        (Mean::Constant(mean), true) => {
            let shift = mean - normalize.offset;
            for (target, &pixel) in target.iter_mut().zip(pixels.iter().rev()) {
                *target = (f32::from(pixel) - shift) * scale;
            }
        }
        (Mean::PerPixel(means), false) => {
            let means = &means[y * plane.width() + columns.start..][..width];
            for ((target, &pixel), &mean) in target.iter_mut().zip(pixels).zip(means) {
                *target = (f32::from(pixel) - (mean - normalize.offset)) * scale;
            }
        }
        (Mean::PerPixel(means), true) => {
            let means = &means[y * plane.width() + columns.start..][..width];
            for ((target, &pixel), &mean) in target.iter_mut().zip(pixels.iter().rev()).zip(means) {
                *target = (f32::from(pixel) - (mean - normalize.offset)) * scale;
            }
        }
    }
}
