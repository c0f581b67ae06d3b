//! Planes of sixteen channels side by side: a vector holds one position of each.
//!
//! In this layout a depthwise convolution of any geometry is products of whole vectors, and sums over
//! positions need no sums within a vector.

use crate::transpose::{self, BLOCK, Block};

/// Channels in a vector.
pub(crate) const LANES: usize = 16;

/// The values of sixteen channels at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(crate) struct Lanes(pub [f32; LANES]);

impl Lanes {
    pub const ZERO: Self = Self([0.0; LANES]);

    /// Adds a · b; with `fused`, rounded once.
    #[inline(always)]
    pub fn add_product(&mut self, a: &Self, b: &Self, fused: bool) {
        for lane in 0..LANES {
            self.0[lane] = add_product(self.0[lane], a.0[lane], b.0[lane], fused);
        }
    }
}

/// sum + a · b; with `fused`, rounded once.
#[inline(always)]
pub(crate) fn add_product(sum: f32, a: f32, b: f32, fused: bool) -> f32 {
    if fused { a.mul_add(b, sum) } else { sum + a * b }
}

/// Up to sixteen planes of equal length, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a> {
    /// All values.
    pub values: &'a [f32],
    /// Distance from one plane to the next.
    pub stride: usize,
    /// Number of planes.
    pub count: usize,
}

/// Writes positions `start..start + target.len()` of `planes` side by side; lanes without a plane become 0.
pub(crate) fn interleave(planes: Planes<'_>, start: usize, target: &mut [Lanes]) {
    let whole = if planes.count == LANES { target.len() / BLOCK * BLOCK } else { 0 };
    let (blocks, rest) = target.split_at_mut(whole);
    interleave_whole(planes, start, blocks);
    interleave_one_by_one(planes, start + whole, rest);
}

fn interleave_whole(planes: Planes<'_>, start: usize, target: &mut [Lanes]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn by_avx2(planes: Planes<'_>, start: usize, target: &mut [Lanes]) {
            interleave_blocks(planes, start, target, |rows| transpose::avx2(rows));
        }
        // SAFETY: the processor has AVX2.
        return unsafe { by_avx2(planes, start, target) };
    }
    interleave_blocks(planes, start, target, transpose::plain);
}

#[inline(always)]
fn interleave_blocks(
    planes: Planes<'_>,
    start: usize,
    target: &mut [Lanes],
    transpose: impl Fn([&Block; BLOCK]) -> [Block; BLOCK],
) {
    for (at, target) in target.chunks_exact_mut(BLOCK).enumerate() {
        for half in 0..LANES / BLOCK {
            let row = |row| (half * BLOCK + row) * planes.stride + start + at * BLOCK;
            let rows =
                std::array::from_fn(|at| planes.values[row(at)..].first_chunk().expect("planes are whole"));
            for (target, values) in target.iter_mut().zip(transpose(rows)) {
                target.0[half * BLOCK..][..BLOCK].copy_from_slice(&values);
            }
        }
    }
}

fn interleave_one_by_one(planes: Planes<'_>, start: usize, target: &mut [Lanes]) {
    if planes.count < LANES {
        target.fill(Lanes::ZERO);
    }
    for lane in 0..planes.count {
        let plane = &planes.values[lane * planes.stride + start..][..target.len()];
        for (target, value) in target.iter_mut().zip(plane) {
            target.0[lane] = *value;
        }
    }
}

/// Writes `source` to positions `start..` of `count` planes, which are `stride` values apart in `target`.
pub(crate) fn separate(source: &[Lanes], target: &mut [f32], stride: usize, count: usize, start: usize) {
    let whole = if count == LANES { source.len() / BLOCK * BLOCK } else { 0 };
    separate_whole(&source[..whole], target, stride, start);
    separate_one_by_one(&source[whole..], target, stride, count, start + whole);
}

fn separate_whole(source: &[Lanes], target: &mut [f32], stride: usize, start: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn by_avx2(source: &[Lanes], target: &mut [f32], stride: usize, start: usize) {
            separate_blocks(source, target, stride, start, |rows| transpose::avx2(rows));
        }
        // SAFETY: the processor has AVX2.
        return unsafe { by_avx2(source, target, stride, start) };
    }
    separate_blocks(source, target, stride, start, transpose::plain);
}

#[inline(always)]
fn separate_blocks(
    source: &[Lanes],
    target: &mut [f32],
    stride: usize,
    start: usize,
    transpose: impl Fn([&Block; BLOCK]) -> [Block; BLOCK],
) {
    for (at, source) in source.chunks_exact(BLOCK).enumerate() {
        for half in 0..LANES / BLOCK {
            let rows = std::array::from_fn(|row| {
                source[row].0[half * BLOCK..].first_chunk().expect("vectors have two halves")
            });
            for (column, values) in transpose(rows).iter().enumerate() {
                target[(half * BLOCK + column) * stride + start + at * BLOCK..][..BLOCK]
                    .copy_from_slice(values);
            }
        }
    }
}

fn separate_one_by_one(source: &[Lanes], target: &mut [f32], stride: usize, count: usize, start: usize) {
    for lane in 0..count {
        let plane = &mut target[lane * stride + start..][..source.len()];
        for (target, source) in plane.iter_mut().zip(source) {
            *target = source.0[lane];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_of_any_length_and_number_come_side_by_side_and_back() {
        for (count, length, start, taken) in
            [(16, 49, 0, 49), (16, 49, 3, 40), (16, 7, 0, 7), (5, 23, 2, 17), (16, 8, 0, 8)]
        {
            let stride = length + 1;
            let values: Vec<f32> = (0..count * stride).map(|i| i as f32).collect();
            let mut lanes = vec![Lanes([-1.0; LANES]); taken];
            interleave(Planes { values: &values, stride, count }, start, &mut lanes);
            for (at, found) in lanes.iter().enumerate() {
                let expected: [f32; LANES] =
                    std::array::from_fn(
                        |lane| if lane < count { values[lane * stride + start + at] } else { 0.0 },
                    );
                assert_eq!(found.0, expected, "{count} planes of {length}, position {at}");
            }
            let mut back = vec![-1.0; values.len()];
            separate(&lanes, &mut back, stride, count, start);
            for (at, found) in back.iter().enumerate() {
                let is_taken = (start..start + taken).contains(&(at % stride));
                assert_eq!(
                    *found,
                    if is_taken { values[at] } else { -1.0 },
                    "{count} planes of {length}, value {at}"
                );
            }
        }
    }
}
