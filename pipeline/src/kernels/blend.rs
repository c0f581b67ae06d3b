//! Two images of a batch, each blended with the other in place.

use half::f16;
use half::slice::HalfFloatSliceExt;
use multiversion::multiversion;

use super::row::TILE;

/// What stands for the whole share in [`blend_u8`].
pub const WHOLE: u16 = 256;

/// Gives each of two images `share` of itself and the rest of the other, in units of 1/256; rounds to
/// nearest.
///
/// # Panics
/// When the images differ in length, or the share exceeds [`WHOLE`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "x86_64+ssse3"))]
pub fn blend_u8(share: u16, first: &mut [u8], second: &mut [u8]) {
    assert!(first.len() == second.len() && share <= WHOLE);
    let rest = WHOLE - share;
    for (first, second) in first.iter_mut().zip(second) {
        let (a, b) = (u16::from(*first), u16::from(*second));
        // At most 255 · 256 + 128, which u16 holds.
        *first = ((a * share + b * rest + WHOLE / 2) / WHOLE) as u8;
        *second = ((b * share + a * rest + WHOLE / 2) / WHOLE) as u8;
    }
}

/// As [`blend_u8`] for f32, with a share of 0 to 1.
///
/// # Panics
/// When the images differ in length.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "x86_64+ssse3"))]
pub fn blend_f32(share: f32, first: &mut [f32], second: &mut [f32]) {
    assert_eq!(first.len(), second.len());
    let rest = 1.0 - share;
    for (first, second) in first.iter_mut().zip(second) {
        let (a, b) = (*first, *second);
        *first = a * share + b * rest;
        *second = b * share + a * rest;
    }
}

/// As [`blend_f32`] for f16: computed in f32, rounded to nearest even.
///
/// # Panics
/// When the images differ in length.
pub fn blend_f16(share: f32, first: &mut [f16], second: &mut [f16]) {
    assert_eq!(first.len(), second.len());
    let mut tiles = [[0.0; TILE]; 2];
    for (first, second) in first.chunks_mut(TILE).zip(second.chunks_mut(TILE)) {
        let [a, b] = tiles.each_mut().map(|tile| &mut tile[..first.len()]);
        first.convert_to_f32_slice(a);
        second.convert_to_f32_slice(b);
        blend_f32(share, a, b);
        first.convert_from_f32_slice(a);
        second.convert_from_f32_slice(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, salt: u32) -> Vec<u8> {
        (0..len as u32).map(|i| ((i + salt).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    #[test]
    fn blending_bytes_is_exact_but_for_rounding_to_nearest() {
        for len in [0, 1, 15, 64, 1000] {
            for share in [0, 1, 77, 128, 200, 255, WHOLE] {
                let (a, b) = (noise(len, 1), noise(len, 5003));
                let (mut first, mut second) = (a.clone(), b.clone());
                blend_u8(share, &mut first, &mut second);
                let exact = |own: u8, other: u8| {
                    let share = f64::from(share) / 256.0;
                    (f64::from(own) * share + f64::from(other) * (1.0 - share)).round() as u8
                };
                for place in 0..len {
                    assert_eq!(first[place], exact(a[place], b[place]), "share {share}, {place} of {len}");
                    assert_eq!(second[place], exact(b[place], a[place]), "share {share}, {place} of {len}");
                }
            }
        }
    }

    #[test]
    fn blending_floats_is_the_same_bit_by_bit_fast_and_one_by_one() {
        for len in [1, 63, TILE, 3 * TILE + 5] {
            let normal = |values: Vec<u8>| values.into_iter().map(|v| (f32::from(v) - 127.3) / 58.4);
            let (a, b): (Vec<f32>, Vec<f32>) =
                (normal(noise(len, 1)).collect(), normal(noise(len, 7)).collect());
            let share = 0.285_156_25;
            let expected = |own: f32, other: f32| own * share + other * (1.0 - share);
            let (mut first, mut second) = (a.clone(), b.clone());
            blend_f32(share, &mut first, &mut second);
            let half = |values: &[f32]| values.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>();
            let (halves_a, halves_b) = (half(&a), half(&b));
            let (mut half_first, mut half_second) = (halves_a.clone(), halves_b.clone());
            blend_f16(share, &mut half_first, &mut half_second);
            for place in 0..len {
                assert_eq!(
                    first[place].to_bits(),
                    expected(a[place], b[place]).to_bits(),
                    "{place} of {len}"
                );
                assert_eq!(
                    second[place].to_bits(),
                    expected(b[place], a[place]).to_bits(),
                    "{place} of {len}"
                );
                let (own, other) = (halves_a[place].to_f32(), halves_b[place].to_f32());
                assert_eq!(half_first[place], f16::from_f32(expected(own, other)), "{place} of {len}");
                assert_eq!(half_second[place], f16::from_f32(expected(other, own)), "{place} of {len}");
            }
        }
    }
}
