//! Blends of pixels with a smoothed image.

use multiversion::multiversion;

use super::bytes::cut_to_byte;

/// Makes the plane `to` out of the plane `from`, of `width` columns: every pixel away from (factor above 1)
/// or towards (below 1) the mean of its neighbours, of which it counts five times itself. Pixels at the edge
/// stay.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+sse4.1"
))]
pub fn sharpen(factor: f32, width: usize, from: &[u8], to: &mut [u8]) {
    to.copy_from_slice(from);
    if width <= 2 {
        return;
    }
    for (rows, target) in from.windows(3 * width).step_by(width).zip(to[width..].chunks_exact_mut(width)) {
        let (above, rest) = rows.split_at(width);
        let (row, below) = rest.split_at(width);
        let triples = above.windows(3).zip(row.windows(3)).zip(below.windows(3));
        for (target, ((above, row), below)) in target[1..width - 1].iter_mut().zip(triples) {
            let [above, row_sum, below] =
                [above, row, below].map(|three| three.iter().map(|&value| u32::from(value)).sum::<u32>());
            let (sum, value) = (above + row_sum + below + 4 * u32::from(row[1]), f32::from(row[1]));
            // Rounded to the nearest, which is never half-way between two.
            let smooth = ((2 * sum + 13) / 26) as f32;
            *target = cut_to_byte((value + (1.0 - factor) * (smooth - value)).clamp(0.0, 255.0));
        }
    }
}
