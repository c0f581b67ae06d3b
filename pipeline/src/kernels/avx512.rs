//! Rounding to f16 sixteen pixels at a time: what the compiler does not find by itself, since stable Rust has
//! no f16.

use std::arch::x86_64::{
    __m512, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_set_epi8, _mm_shuffle_epi8, _mm256_storeu_si256,
    _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtps_ph, _mm512_loadu_ps, _mm512_mul_ps,
    _mm512_set1_ps, _mm512_sub_ps,
};

use half::f16;

use super::{Mean, Normalize, Plane};

/// Pixels in a vector.
const LANES: usize = 16;

/// Whether this processor can run [`normalize_f16`].
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("ssse3")
}

/// As [`super::normalize_f16`], for planes of at least 16 columns.
///
/// # Panics
/// When `target`, or the mean, has not the plane's size, or the plane is narrower.
#[target_feature(enable = "avx512f,ssse3")]
pub fn normalize_f16(plane: Plane<'_>, normalize: Normalize<'_>, target: &mut [f16]) {
    let width = plane.width();
    assert!(width >= LANES && target.len() == plane.size.area());
    for (y, target) in target.chunks_exact_mut(width).enumerate() {
        let pixels = &plane.pixels[y * plane.stride..][..width];
        let mean = match normalize.mean {
            Mean::Constant(mean) => Mean::Constant(mean),
            Mean::PerPixel(means) => Mean::PerPixel(&means[y * width..][..width]),
        };
        // The last vector may overlap the one before it.
        for start in (0..width).step_by(LANES) {
            let x = start.min(width - LANES);
            let values = vector(plane.flipped, Normalize { mean, ..normalize }, pixels, x);
            let rounded = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
            let place: &mut [f16; LANES] =
                target[x..].first_chunk_mut().expect("a vector fits before the end");
            // SAFETY: `place` is 32 bytes that may be written; any bytes are values of f16.
            unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), rounded) };
        }
    }
}

/// The values of columns `x..x + 16` of a row; the means are those of the row.
#[target_feature(enable = "avx512f,ssse3")]
fn vector(flipped: bool, normalize: Normalize<'_>, pixels: &[u8], x: usize) -> __m512 {
    let first = if flipped { pixels.len() - LANES - x } else { x };
    let pixels: &[u8; LANES] = pixels[first..].first_chunk().expect("a vector fits before the end");
    // SAFETY: `pixels` is 16 bytes that may be read.
    let mut pixels = unsafe { _mm_loadu_si128(pixels.as_ptr().cast()) };
    if flipped {
        pixels = _mm_shuffle_epi8(pixels, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    }
    let offset = _mm512_set1_ps(normalize.offset);
    let mean = match normalize.mean {
        Mean::Constant(mean) => _mm512_set1_ps(mean),
        Mean::PerPixel(means) => {
            let means: &[f32; LANES] = means[x..].first_chunk().expect("a vector fits before the end");
            // SAFETY: `means` is 64 bytes that may be read.
            unsafe { _mm512_loadu_ps(means.as_ptr()) }
        }
    };
    let shift = _mm512_sub_ps(mean, offset);
    let value = _mm512_sub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(pixels)), shift);
    _mm512_mul_ps(value, _mm512_set1_ps(normalize.scale))
}
