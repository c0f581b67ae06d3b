//! Smoothing by a Gaussian kernel.

use multiversion::multiversion;

use super::bytes::to_byte;

/// The weights of a Gaussian of standard deviation `sigma` pixels at `size` pixels around its centre.
pub fn gaussian(size: usize, sigma: f32) -> Vec<f32> {
    let reach = (size / 2) as f32;
    let weights = (0..size).map(|i| (-0.5 * ((i as f32 - reach) / sigma).powi(2)).exp());
    let sum: f32 = weights.clone().sum();
    weights.map(|weight| weight / sum).collect()
}

/// Makes the plane `to` out of the plane `from`, of `width` columns, by a kernel that is the same along both
/// axes. Outside the image its mirror image continues. `row` is memory.
///
/// # Panics
/// When the image is not larger than the kernel reaches.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+sse4.1"
))]
pub fn smooth(kernel: &[f32], width: usize, from: &[u8], to: &mut [u8], row: &mut Vec<f32>) {
    let (reach, height) = (kernel.len() / 2, from.len() / width);
    assert!(reach < width && reach < height, "a kernel of {} in {width}x{height} pixels", kernel.len());
    // Of the pixels before the first, at it, and behind it; the last is its own mirror image.
    let mirrored = |place: usize, length: usize| {
        let place = place.abs_diff(reach);
        place.min(2 * (length - 1) - place)
    };
    row.resize(width + 2 * reach + width, 0.0);
    let (padded, sums) = row.split_at_mut(width + 2 * reach);
    for (y, target) in to.chunks_exact_mut(width).enumerate() {
        let middle = &mut padded[reach..reach + width];
        middle.fill(0.0);
        for (i, &weight) in kernel.iter().enumerate() {
            let source = &from[mirrored(y + i, height) * width..][..width];
            for (sum, &value) in middle.iter_mut().zip(source) {
                *sum += weight * f32::from(value);
            }
        }
        for i in 0..reach {
            padded[reach - 1 - i] = padded[reach + 1 + i];
            padded[reach + width + i] = padded[reach + width - 2 - i];
        }
        sums.fill(0.0);
        for (i, &weight) in kernel.iter().enumerate() {
            for (sum, &value) in sums.iter_mut().zip(&padded[i..i + width]) {
                *sum += weight * value;
            }
        }
        for (target, &sum) in target.iter_mut().zip(sums.iter()) {
            *target = to_byte(sum);
        }
    }
}
