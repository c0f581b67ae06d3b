//! The weights of an antialiased bilinear filter along one axis, as `fast_image_resize` computes them.

use std::ops::Range;

use multiversion::multiversion;

/// Bits of a weight, without the sign.
const WEIGHT_BITS: u32 = 15;
/// Bits behind the binary point, at most.
const MOST_BITS: u32 = 21;

/// For each pixel of the result along one axis: the stored pixels that it is made of, and their weights.
///
/// Weights are fixed-point numbers, of which the sum is 1. The arithmetic is that of `fast_image_resize`, so
/// that the pixels are the same to the bit.
#[derive(Debug, Default)]
pub(super) struct Taps {
    /// Stored pixels that a pixel is made of; even.
    pub count: usize,
    /// Bits of a weight behind the binary point.
    pub bits: u32,
    /// The first stored pixel of each pixel.
    pub starts: Vec<i32>,
    /// `[count, pixels]`, 0..=32767.
    pub weights: Vec<i32>,
    places: Places,
}

/// What the weights are computed with, one value for each pixel of the result.
#[derive(Debug, Default)]
struct Places {
    centers: Vec<f64>,
    starts: Vec<f64>,
    sums: Vec<f64>,
    /// `[count, pixels]`
    weights: Vec<f64>,
}

/// The stored pixels that each pixel of the result is made of, rounded up to an even number.
pub(super) fn count(part: u32, pixels: u32) -> usize {
    let reach = (f64::from(part) / f64::from(pixels)).max(1.0);
    ((2.0 * reach).ceil() as usize).next_multiple_of(2)
}

impl Taps {
    /// Computes what makes `pixels` pixels out of the part of `stored` pixels; mirrored, if so.
    pub fn fill(&mut self, stored: u32, part: Range<u32>, pixels: u32, mirrored: bool) {
        self.count = count(part.end - part.start, pixels);
        let largest = weigh(&mut self.places, self.count, stored, part, pixels, mirrored);
        self.bits = (0..MOST_BITS)
            .find(|bits| (largest * f64::from(2 << bits)).round() as i32 >= 1 << WEIGHT_BITS)
            .unwrap_or(MOST_BITS);
        self.starts.resize(pixels as usize, 0);
        self.weights.resize(self.count * pixels as usize, 0);
        round(&self.places, f64::from(1 << self.bits), &mut self.starts, &mut self.weights);
    }

    /// The stored pixels that are used.
    pub fn range(&self, stored: u32) -> Range<usize> {
        let first = self.starts.iter().min().copied().unwrap_or(0) as usize;
        let last = self.starts.iter().max().copied().unwrap_or(0) as usize;
        first..(last + self.count).min(stored as usize)
    }
}

/// Computes the places and weights, and gives the largest weight.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+sse4.1"
))]
fn weigh(
    places: &mut Places,
    count: usize,
    stored: u32,
    part: Range<u32>,
    pixels: u32,
    mirrored: bool,
) -> f64 {
    let scale = f64::from(part.end - part.start) / f64::from(pixels);
    let reach = scale.max(1.0);
    let inverse_reach = 1.0 / reach;
    let (first, end) = (f64::from(part.start), f64::from(stored));
    let last_start = (end - count as f64).max(0.0);
    let length = pixels as usize;
    let Places { centers, starts, sums, weights } = places;
    for values in [&mut *centers, &mut *starts, &mut *sums] {
        values.resize(length, 0.0);
    }
    weights.resize(count * length, 0.0);
    for (index, (center, start)) in (0_u32..).zip(centers.iter_mut().zip(starts.iter_mut())) {
        let pixel = if mirrored { pixels - 1 - index } else { index };
        *center = first + (f64::from(pixel) + 0.5) * scale - 0.5;
        // The first stored pixel whose weight is not 0, unless that is outside.
        *start = ((*center - reach).floor() + 1.0).clamp(0.0, last_start);
    }
    sums.fill(0.0);
    for (tap, weights) in weights.chunks_exact_mut(length).enumerate() {
        let places = centers.iter().zip(starts.iter()).zip(sums.iter_mut());
        for (weight, ((center, start), sum)) in weights.iter_mut().zip(places) {
            let at = start + tap as f64;
            let inside = 1.0 - ((at - center) * inverse_reach).abs();
            *weight = if at < end && inside > 0.0 { inside } else { 0.0 };
            *sum += *weight;
        }
    }
    // The bits of positive numbers are in the order of the numbers.
    let mut largest = 0;
    for weights in weights.chunks_exact_mut(length) {
        for (weight, sum) in weights.iter_mut().zip(sums.iter()) {
            *weight /= sum;
            largest = largest.max(weight.to_bits());
        }
    }
    f64::from_bits(largest)
}

/// Rounds the starts, and the weights times `one`, to integers.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+sse4.1"
))]
fn round(places: &Places, one: f64, starts: &mut [i32], weights: &mut [i32]) {
    for (rounded, start) in starts.iter_mut().zip(&places.starts) {
        *rounded = *start as i32;
    }
    for (rounded, weight) in weights.iter_mut().zip(&places.weights) {
        *rounded = (weight * one).round() as i32;
    }
}
