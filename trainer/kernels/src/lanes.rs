//! Planes of sixteen channels side by side: a vector holds one position of each.
//!
//! In this layout a depthwise convolution of any geometry is products of whole vectors, and sums over
//! positions need no sums within a vector.

use std::slice;

use crate::threads::Shared;
use crate::transpose::{self, Rows, Target};

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

/// Writes positions `start..start + target.len()` of up to sixteen planes side by side; lanes without a plane
/// become 0.
pub(crate) fn interleave(planes: Rows<'_>, start: usize, target: &mut [Lanes]) {
    let planes = Rows { values: &planes.values[start..], ..planes };
    // SAFETY: vectors are their values and nothing else.
    let values = unsafe { slice::from_raw_parts_mut(target.as_mut_ptr().cast(), target.len() * LANES) };
    transpose::write_columns(planes, target.len(), values, LANES);
}

/// Writes `source` to positions `start..` of `count` planes, which are `stride` values apart in `target`.
pub(crate) fn separate(source: &[Lanes], target: &mut [f32], stride: usize, count: usize, start: usize) {
    // SAFETY: vectors are their values and nothing else.
    let values = unsafe { slice::from_raw_parts(source.as_ptr().cast(), source.len() * LANES) };
    let target = Target { values: &Shared::new(target), start, stride, count };
    // SAFETY: the target is borrowed mutably.
    unsafe { transpose::write_rows(values, LANES, target) };
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
            interleave(Rows { values: &values, stride, count }, start, &mut lanes);
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
