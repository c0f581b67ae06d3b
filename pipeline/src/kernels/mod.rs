//! The inner loops: from stored pixels to a slot of a batch.
//!
//! Each is an ordinary loop that the compiler vectorises, compiled for several instruction sets and chosen at
//! run time (`multiversion`). Where the compiler cannot vectorise, `avx512` does it by hand. [`scalar`] has
//! the same arithmetic one pixel at a time, and tests compare the two bit by bit. Values are (pixel − (mean −
//! offset)) · scale in f32, in this order, so that every processor computes the same bits.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod blend;
mod channels_last;
mod plane;
pub mod resample;
mod row;
pub mod scalar;

use half::f16;
use half::slice::HalfFloatSliceExt;
use multiversion::multiversion;

pub use blend::{WHOLE, blend_f16, blend_f32, blend_u8};
pub use channels_last::{copy_interleaved, interleave, normalize_interleaved_f16, normalize_interleaved_f32};
pub use plane::{Mean, Normalize, Plane};

use row::{TILE, normalize_row};

/// Runs a loop over rows, compiled once for 224 columns and once for any other width. With a known width a
/// row is copied by a few instructions instead of a call.
macro_rules! with_known_width {
    ($width:expr, |$name:ident| $body:block) => {
        if $width == 224 {
            let $name = 224;
            $body
        } else {
            let $name = $width;
            $body
        }
    };
}

/// Copies a plane to `u8 [H,W]`.
///
/// # Panics
/// When `target` has not the plane's size.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+ssse3"
))]
pub fn copy(plane: Plane<'_>, target: &mut [u8]) {
    assert_eq!(target.len(), plane.size.area());
    with_known_width!(plane.width(), |width| {
        for (y, target) in target.chunks_exact_mut(width).enumerate() {
            let row = &plane.pixels[y * plane.stride..][..width];
            if plane.flipped {
                for (target, &pixel) in target.iter_mut().zip(row.iter().rev()) {
                    *target = pixel;
                }
            } else {
                target.copy_from_slice(row);
            }
        }
    });
}

/// Copies a part of an image `u8 [H,W,3]` to `u8 [3,H,W]`; the plane's width counts pixels, its stride bytes.
///
/// # Panics
/// When `target` has not the size of the plane, three times.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+ssse3"
))]
pub fn deinterleave(plane: Plane<'_>, target: &mut [u8]) {
    let (area, width) = (plane.size.area(), plane.width());
    assert_eq!(target.len(), 3 * area);
    let (red, rest) = target.split_at_mut(area);
    let (green, blue) = rest.split_at_mut(area);
    for y in 0..plane.size.height as usize {
        let row = &plane.pixels[y * plane.stride..][..3 * width];
        let span = y * width..(y + 1) * width;
        let targets = red[span.clone()].iter_mut().zip(&mut green[span.clone()]).zip(&mut blue[span]);
        let pixels = row.chunks_exact(3);
        if plane.flipped {
            for (((red, green), blue), pixel) in targets.zip(pixels.rev()) {
                (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
            }
        } else {
            for (((red, green), blue), pixel) in targets.zip(pixels) {
                (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
            }
        }
    }
}

/// Normalises a plane to `f32 [H,W]`.
///
/// # Panics
/// When `target`, or the mean, has not the plane's size.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+ssse3"
))]
pub fn normalize_f32(plane: Plane<'_>, normalize: Normalize<'_>, target: &mut [f32]) {
    assert_eq!(target.len(), plane.size.area());
    with_known_width!(plane.width(), |width| {
        for (y, target) in target.chunks_exact_mut(width).enumerate() {
            normalize_row(plane, normalize, y, 0..width, target);
        }
    });
}

/// Normalises a plane to `f16 [H,W]`: computed in f32, rounded to nearest even.
///
/// # Panics
/// When `target`, or the mean, has not the plane's size.
pub fn normalize_f16(plane: Plane<'_>, normalize: Normalize<'_>, target: &mut [f16]) {
    #[cfg(target_arch = "x86_64")]
    if plane.width() >= 16 && avx512::is_available() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx512::normalize_f16(plane, normalize, target) };
    }
    normalize_f16_by_tiles(plane, normalize, target);
}

/// Normalises a part of a row to f32 and rounds it, again and again.
#[multiversion(targets("x86_64+avx2+fma", "x86_64+ssse3"))]
fn normalize_f16_by_tiles(plane: Plane<'_>, normalize: Normalize<'_>, target: &mut [f16]) {
    assert_eq!(target.len(), plane.size.area());
    let mut tile = [0.0; TILE];
    for (y, row) in target.chunks_exact_mut(plane.width()).enumerate() {
        for (number, target) in row.chunks_mut(TILE).enumerate() {
            let (start, exact) = (number * TILE, &mut tile[..target.len()]);
            normalize_row(plane, normalize, y, start..start + exact.len(), exact);
            target.convert_from_f32_slice(exact);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;
    use crate::geometry::Size;

    /// Three planes of an image `u8 [3,7,300]` that begin where `plane` does.
    fn channels(plane: Plane<'_>) -> [Plane<'_>; 3] {
        [0, 1, 2].map(|channel| Plane { pixels: &plane.pixels[channel * 2000..], ..plane })
    }

    /// Calls `check` with planes of many widths, with and without mirroring.
    fn for_many_planes(bytes_per_pixel: usize, check: impl Fn(Plane<'_>)) {
        let pixels: Vec<u8> =
            (0..3 * 300 * 7u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        // Below, at and above the width of a vector and of a tile.
        for width in (1..70).chain([127, 128, 129, 223, 224, 255, 256, 257, 300]) {
            for flipped in [false, true] {
                let size = Size { width, height: 6 };
                check(Plane { pixels: &pixels[5..], stride: 300 * bytes_per_pixel, size, flipped });
            }
        }
    }

    fn assert_same<T: PartialEq + Debug>(fast: &[T], scalar: &[T], plane: Plane<'_>) {
        let different = fast.iter().zip(scalar).position(|(fast, scalar)| fast != scalar);
        if let Some(index) = different {
            panic!(
                "width {}, flipped {}: element {index}: fast {:?}, scalar {:?}",
                plane.size.width, plane.flipped, fast[index], scalar[index]
            );
        }
    }

    #[test]
    fn copying_is_the_same_fast_and_scalar() {
        for_many_planes(1, |plane| {
            let (mut fast, mut slow) = (vec![0; plane.size.area()], vec![1; plane.size.area()]);
            copy(plane, &mut fast);
            scalar::copy(plane, &mut slow);
            assert_same(&fast, &slow, plane);
        });
    }

    #[test]
    fn deinterleaving_is_the_same_fast_and_scalar() {
        for_many_planes(3, |plane| {
            let (mut fast, mut slow) = (vec![0; 3 * plane.size.area()], vec![1; 3 * plane.size.area()]);
            deinterleave(plane, &mut fast);
            scalar::deinterleave(plane, &mut slow);
            assert_same(&fast, &slow, plane);
        });
    }

    #[test]
    fn normalizing_is_the_same_bit_by_bit_fast_and_scalar() {
        let means: Vec<f32> = (0..300 * 6).map(|i| 100.0 + (i % 97) as f32 / 7.0).collect();
        for_many_planes(1, |plane| {
            let area = plane.size.area();
            for mean in [Mean::Constant(127.3), Mean::PerPixel(&means[..area])] {
                let normalize = Normalize { mean, offset: -3.7, scale: 1.0 / 58.4 };
                let (mut fast, mut slow) = (vec![0.0; area], vec![1.0; area]);
                normalize_f32(plane, normalize, &mut fast);
                scalar::normalize_f32(plane, normalize, &mut slow);
                assert_same(&fast, &slow, plane);

                let (mut fast, mut slow) = (vec![f16::ZERO; area], vec![f16::ONE; area]);
                scalar::normalize_f16(plane, normalize, &mut slow);
                normalize_f16(plane, normalize, &mut fast);
                assert_same(&fast, &slow, plane);
                fast.fill(f16::ZERO);
                normalize_f16_by_tiles(plane, normalize, &mut fast);
                assert_same(&fast, &slow, plane);
            }
        });
    }

    #[test]
    fn interleaving_is_the_same_fast_and_scalar() {
        for_many_planes(3, |plane| {
            let (mut fast, mut slow) = (vec![0; 3 * plane.size.area()], vec![1; 3 * plane.size.area()]);
            copy_interleaved(plane, &mut fast);
            scalar::copy_interleaved(plane, &mut slow);
            assert_same(&fast, &slow, plane);
        });
        for_many_planes(1, |plane| {
            let (mut fast, mut slow) = (vec![0; 3 * plane.size.area()], vec![1; 3 * plane.size.area()]);
            interleave(channels(plane), &mut fast);
            scalar::interleave(channels(plane), &mut slow);
            assert_same(&fast, &slow, plane);
        });
    }

    #[test]
    fn normalizing_and_interleaving_is_the_same_bit_by_bit_fast_and_scalar() {
        let means: Vec<f32> = (0..300 * 6).map(|i| 100.0 + (i % 97) as f32 / 7.0).collect();
        for_many_planes(1, |plane| {
            let area = plane.size.area();
            let mean = [Mean::Constant(127.3), Mean::PerPixel(&means[..area]), Mean::Constant(-1.0)];
            let normalize = [0, 1, 2].map(|channel| {
                let number = channel as f32;
                Normalize { mean: mean[channel], offset: number - 3.7, scale: 1.0 / (58.4 + number) }
            });
            let (mut fast, mut slow) = (vec![0.0; 3 * area], vec![1.0; 3 * area]);
            normalize_interleaved_f32(channels(plane), normalize, &mut fast);
            scalar::normalize_interleaved_f32(channels(plane), normalize, &mut slow);
            assert_same(&fast, &slow, plane);

            let (mut fast, mut slow) = (vec![f16::ZERO; 3 * area], vec![f16::ONE; 3 * area]);
            normalize_interleaved_f16(channels(plane), normalize, &mut fast);
            scalar::normalize_interleaved_f16(channels(plane), normalize, &mut slow);
            assert_same(&fast, &slow, plane);
        });
    }
}
