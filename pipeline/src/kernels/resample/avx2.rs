//! Both passes by AVX2: a row is blended from stored rows, then spread over its pixels.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_cvtsi32_si128, _mm_loadu_si128, _mm256_add_epi32, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_set_m128i, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sra_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi8,
    _mm256_unpacklo_epi8,
};
use std::ops::Range;

use super::taps::Taps;
use super::{Resampler, Source};
use crate::geometry::Size;
use crate::kernels::{Plane, deinterleave};

/// Bytes in a vector, and pixels that are written at a time.
const BYTES: usize = 32;
/// Pixels whose stored pixels are loaded together.
const GROUP: usize = 4;

/// Whether this processor can run [`write`].
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
}

/// What the pass along a row needs, four vectors of eight pixels for every 32 pixels. Each half of a vector
/// loads 16 stored pixels, picks two for each of four pixels, and weighs them.
///
/// Half `h` of vector `v` has the pixels `16 h + 4 v` to `16 h + 4 v + 3`: the order in which 32 sums end as
/// 32 bytes in order.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    /// Place of the first stored pixel that each half loads.
    bases: Vec<[u32; 2]>,
    /// Where the two stored pixels of each pixel are among those loaded, as bytes that become 16-bit numbers.
    picks: Vec<[u32; 8]>,
    /// `[pairs of weights, vectors]`, the first weight of a pair in the lower half.
    weights: Vec<[u32; 8]>,
    /// Bytes of a row that are read.
    reach: usize,
}

impl Vectors {
    /// Arranges these weights for rows that begin at the stored column `first`.
    pub fn arrange(&mut self, taps: &Taps, first: usize) {
        let pixels = taps.starts.len();
        let vectors = 4 * pixels.div_ceil(BYTES);
        let pairs = taps.count / 2;
        self.bases.resize(vectors, [0; 2]);
        self.picks.resize(vectors, [0; 8]);
        self.weights.resize(pairs * vectors, [0; 8]);
        self.reach = 0;
        for vector in 0..vectors {
            for half in 0..2 {
                let begin = BYTES * (vector / 4) + 16 * half + GROUP * (vector % 4);
                // Pixels behind the end are the last one again, and thrown away.
                let all: [usize; GROUP] = std::array::from_fn(|i| (begin + i).min(pixels - 1));
                let starts = all.map(|pixel| taps.starts[pixel] as usize - first);
                let base = starts[0].min(starts[GROUP - 1]);
                self.bases[vector][half] = base as u32;
                self.reach = self.reach.max(base + 2 * (pairs - 1) + 16);
                for (i, pixel) in all.into_iter().enumerate() {
                    let lane = GROUP * half + i;
                    let from = (starts[i] - base) as u32;
                    // The bytes from, none, from + 1, none.
                    self.picks[vector][lane] = 0x8001_8000 + 0x0001_0001 * from;
                    for pair in 0..pairs {
                        let [low, high] =
                            [2 * pair, 2 * pair + 1].map(|tap| taps.weights[tap * pixels + pixel] as u32);
                        self.weights[pair * vectors + vector][lane] = low | high << 16;
                    }
                }
            }
        }
    }
}

/// As [`Resampler::write`].
#[target_feature(enable = "avx2")]
pub(super) fn write(
    resampler: &mut Resampler,
    source: Source<'_>,
    rows: Range<usize>,
    targets: [&mut [u8]; 3],
) {
    let Resampler { stored, size, columns, rows: down, across, vectors, row, planes } = resampler;
    let (width, stored_width, used) = (size.width as usize, stored.width as usize, columns.len());
    match source {
        Source::Planar(pixels) => {
            for (plane, target) in pixels.chunks_exact(stored.area()).zip(targets) {
                for (y, target) in rows.clone().zip(target.chunks_exact_mut(width)) {
                    blend(down, &plane[columns.start..], stored_width, y, &mut row[..used]);
                    spread(vectors, across, row, target);
                }
            }
        }
        Source::Interleaved(pixels) => {
            let [red, green, blue] = targets.map(|target| target.chunks_exact_mut(width));
            for (y, ((red, green), blue)) in rows.zip(red.zip(green).zip(blue)) {
                blend(down, &pixels[3 * columns.start..], 3 * stored_width, y, &mut row[..3 * used]);
                let size = Size { width: used as u32, height: 1 };
                let part = Plane { pixels: row, stride: 0, size, flipped: false };
                deinterleave(part, &mut planes[..3 * used]);
                for (channel, target) in [red, green, blue].into_iter().enumerate() {
                    spread(vectors, across, &planes[channel * used..], target);
                }
            }
        }
    }
}

/// Makes row `y` of the result out of stored rows, of which the first begins with `pixels`.
#[target_feature(enable = "avx2")]
#[inline]
fn blend(taps: &Taps, pixels: &[u8], stride: usize, y: usize, target: &mut [u8]) {
    match taps.count / 2 {
        1 => blend_pairs::<1>(taps, pixels, stride, y, target),
        2 => blend_pairs::<2>(taps, pixels, stride, y, target),
        3 => blend_pairs::<3>(taps, pixels, stride, y, target),
        _ => blend_pairs::<4>(taps, pixels, stride, y, target),
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn blend_pairs<const PAIRS: usize>(taps: &Taps, pixels: &[u8], stride: usize, y: usize, target: &mut [u8]) {
    let (length, height) = (target.len(), taps.starts.len());
    let last_row = (pixels.len() - length) / stride;
    let mut rows = [[pixels; 2]; PAIRS];
    let mut weights = [_mm256_setzero_si256(); PAIRS];
    for pair in 0..PAIRS {
        for (tap, pixels_of_row) in (2 * pair..).zip(&mut rows[pair]) {
            // Rows that are not there have the weight 0.
            let row = (taps.starts[y] as usize + tap).min(last_row);
            *pixels_of_row = &pixels[row * stride..][..length];
        }
        let (low, high) = (taps.weights[2 * pair * height + y], taps.weights[(2 * pair + 1) * height + y]);
        weights[pair] = _mm256_set1_epi32(low | high << 16);
    }
    let half = _mm256_set1_epi32(1 << (taps.bits - 1));
    let bits = _mm_cvtsi32_si128(taps.bits as i32);
    if length < BYTES {
        let mut short = [[[0; BYTES]; 2]; PAIRS];
        for (short, rows) in short.iter_mut().flatten().zip(rows.iter().flatten()) {
            short[..length].copy_from_slice(rows);
        }
        let mut longer = [[&[][..]; 2]; PAIRS];
        for (longer, short) in longer.iter_mut().flatten().zip(short.iter().flatten()) {
            *longer = short;
        }
        let mut result = [0; BYTES];
        store(&mut result, blend_vector(&longer, 0, weights, half, bits));
        target.copy_from_slice(&result[..length]);
        return;
    }
    // The last vector may overlap the one before it.
    for start in (0..length).step_by(BYTES) {
        let x = start.min(length - BYTES);
        let target = target[x..].first_chunk_mut().expect("a vector fits before the end");
        store(target, blend_vector(&rows, x, weights, half, bits));
    }
}

/// 32 bytes out of those of each row from `x` on.
#[target_feature(enable = "avx2")]
#[inline]
fn blend_vector<const PAIRS: usize>(
    rows: &[[&[u8]; 2]; PAIRS],
    x: usize,
    weights: [__m256i; PAIRS],
    half: __m256i,
    bits: __m128i,
) -> __m256i {
    let zero = _mm256_setzero_si256();
    let mut sums = [half; 4];
    for (rows, weight) in rows.iter().zip(weights) {
        let (above, below) = (load(&rows[0][x..]), load(&rows[1][x..]));
        let (low, high) = (_mm256_unpacklo_epi8(above, below), _mm256_unpackhi_epi8(above, below));
        let pairs = [
            _mm256_unpacklo_epi8(low, zero),
            _mm256_unpackhi_epi8(low, zero),
            _mm256_unpacklo_epi8(high, zero),
            _mm256_unpackhi_epi8(high, zero),
        ];
        for (sum, pairs) in sums.iter_mut().zip(pairs) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, weight));
        }
    }
    to_bytes(sums, bits)
}

/// Makes the pixels of a row.
#[target_feature(enable = "avx2")]
#[inline]
fn spread(vectors: &Vectors, taps: &Taps, row: &[u8], target: &mut [u8]) {
    match taps.count / 2 {
        1 => spread_pairs::<1>(vectors, taps.bits, row, target),
        2 => spread_pairs::<2>(vectors, taps.bits, row, target),
        3 => spread_pairs::<3>(vectors, taps.bits, row, target),
        _ => spread_pairs::<4>(vectors, taps.bits, row, target),
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn spread_pairs<const PAIRS: usize>(vectors: &Vectors, bits: u32, row: &[u8], target: &mut [u8]) {
    let half = _mm256_set1_epi32(1 << (bits - 1));
    let bits = _mm_cvtsi32_si128(bits as i32);
    assert!(vectors.reach <= row.len(), "{} of {} bytes", vectors.reach, row.len());
    let all = vectors.bases.len();
    for (number, target) in target.chunks_mut(BYTES).enumerate() {
        let mut sums = [half; 4];
        for (i, sum) in sums.iter_mut().enumerate() {
            let vector = 4 * number + i;
            let [low, high] = vectors.bases[vector];
            let pick = load_words(&vectors.picks[vector]);
            for pair in 0..PAIRS {
                // SAFETY: `reach`, the largest of `base + 2 * pair + 16`, is within the row.
                let pixels = unsafe {
                    let pixels = row.as_ptr().add(2 * pair);
                    let low = _mm_loadu_si128(pixels.add(low as usize).cast());
                    _mm256_set_m128i(_mm_loadu_si128(pixels.add(high as usize).cast()), low)
                };
                let weights = load_words(&vectors.weights[pair * all + vector]);
                let picked = _mm256_shuffle_epi8(pixels, pick);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(picked, weights));
            }
        }
        let bytes = to_bytes(sums, bits);
        if let Some(target) = target.first_chunk_mut() {
            store(target, bytes);
        } else {
            let mut all = [0; BYTES];
            store(&mut all, bytes);
            target.copy_from_slice(&all[..target.len()]);
        }
    }
}

/// The upper bits of 32 sums, as bytes; the sums are in the order of [`Vectors`].
#[target_feature(enable = "avx2")]
#[inline]
fn to_bytes(sums: [__m256i; 4], bits: __m128i) -> __m256i {
    let [a, b, c, d] = sums;
    let (a, b) = (_mm256_sra_epi32(a, bits), _mm256_sra_epi32(b, bits));
    let (c, d) = (_mm256_sra_epi32(c, bits), _mm256_sra_epi32(d, bits));
    _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d))
}

/// The first 32 bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8]) -> __m256i {
    let bytes: &[u8; BYTES] = bytes.first_chunk().expect("a vector fits before the end");
    // SAFETY: `bytes` is 32 bytes that may be read.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_words(words: &[u32; 8]) -> __m256i {
    // SAFETY: `words` is 32 bytes that may be read.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(target: &mut [u8; BYTES], bytes: __m256i) {
    // SAFETY: `target` is 32 bytes that may be written.
    unsafe { _mm256_storeu_si256(target.as_mut_ptr().cast(), bytes) }
}
