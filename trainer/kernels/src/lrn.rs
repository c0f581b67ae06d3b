//! Local response normalisation over neighbouring channels, and its gradient (Krizhevsky et al. 2012, section
//! 3.3).
//!
//! yᵢ = xᵢ / sᵢᵝ with sᵢ = k + α · Σⱼ xⱼ² over the channels around i and β = ¾, by square roots. Some
//! positions of all channels are computed at once, so that they stay in the cache.

use multiversion::multiversion;
use multiversion::target::target_cfg_f;

use crate::lanes::add_product;
use crate::scratch::Scratch;
use crate::threads::{Shared, Threads};

/// Positions that are computed at once.
const WIDTH: usize = 64;
/// The exponent.
const BETA: f32 = 0.75;

type Row = [f32; WIDTH];

/// Sizes and constants of a normalisation of `[N,C,…]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lrn {
    pub images: usize,
    pub channels: usize,
    /// Values of a channel of an image.
    pub plane: usize,
    /// Channels in a sum, odd.
    pub size: usize,
    /// Factor of the sum of squares.
    pub alpha: f32,
    /// Constant in the denominator.
    pub k: f32,
}

impl Lrn {
    /// Writes the normalised `x` to `y`.
    pub fn forward(&self, x: &[f32], y: &mut [f32], threads: &dyn Threads) {
        let y = Shared::new(y);
        self.run(threads, &|image, start, count| {
            let mut scratch = Scratch::new(2 * self.channels * WIDTH);
            let (rows, rest) = scratch.as_chunks_mut().0.split_at_mut(self.channels);
            self.gather(x, image, start, count, rows);
            let sums = &mut rest[..self.channels];
            normalise(self, rows, sums);
            for (channel, row) in sums.iter().enumerate() {
                let at = self.at(image, channel, start);
                // SAFETY: each part has its own positions.
                unsafe { y.range(at..at + count) }.copy_from_slice(&row[..count]);
            }
        });
    }

    /// Writes the gradient of the input `x` to `dx`, from `dy`.
    pub fn gradient(&self, [dy, x]: [&[f32]; 2], dx: &mut [f32], threads: &dyn Threads) {
        let dx = Shared::new(dx);
        self.run(threads, &|image, start, count| {
            let mut scratch = Scratch::new(3 * self.channels * WIDTH);
            let (rows, rest) = scratch.as_chunks_mut().0.split_at_mut(self.channels);
            let (upper, rest) = rest.split_at_mut(self.channels);
            self.gather(x, image, start, count, rows);
            self.gather(dy, image, start, count, upper);
            let ratios = &mut rest[..self.channels];
            slopes(self, rows, upper, ratios);
            for (channel, row) in upper.iter().enumerate() {
                let at = self.at(image, channel, start);
                // SAFETY: each part has its own positions.
                unsafe { dx.range(at..at + count) }.copy_from_slice(&row[..count]);
            }
        });
    }

    /// Calls `part` with an image, the first position and the number of positions.
    fn run(&self, threads: &dyn Threads, part: &(dyn Fn(usize, usize, usize) + Send + Sync)) {
        let blocks = self.plane.div_ceil(WIDTH);
        threads.run(self.images * blocks, &|job| {
            let start = job % blocks * WIDTH;
            part(job / blocks, start, WIDTH.min(self.plane - start));
        });
    }

    fn at(&self, image: usize, channel: usize, position: usize) -> usize {
        (image * self.channels + channel) * self.plane + position
    }

    /// Positions of all channels, with zeros after the last.
    fn gather(&self, values: &[f32], image: usize, start: usize, count: usize, rows: &mut [Row]) {
        for (channel, row) in rows.iter_mut().enumerate() {
            row[..count].copy_from_slice(&values[self.at(image, channel, start)..][..count]);
            row[count..].fill(0.0);
        }
    }

    /// The channels in the sum of `channel`.
    fn around(&self, channel: usize) -> std::ops::Range<usize> {
        let reach = self.size / 2;
        channel.saturating_sub(reach)..(channel + reach + 1).min(self.channels)
    }
}

/// sᵢ.
#[inline(always)]
fn scale(lrn: &Lrn, x: &[Row], channel: usize, fused: bool) -> Row {
    let mut squares = [0.0; WIDTH];
    for row in &x[lrn.around(channel)] {
        for (square, x) in squares.iter_mut().zip(row) {
            *square = add_product(*square, *x, *x, fused);
        }
    }
    squares.map(|square| add_product(lrn.k, lrn.alpha, square, fused))
}

/// s^¾.
#[inline(always)]
fn power(scale: f32) -> f32 {
    let root = scale.sqrt();
    root * root.sqrt()
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn normalise(lrn: &Lrn, x: &[Row], y: &mut [Row]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for (channel, y) in y.iter_mut().enumerate() {
        let scale = scale(lrn, x, channel, fused);
        for at in 0..WIDTH {
            y[at] = x[channel][at] / power(scale[at]);
        }
    }
}

/// Replaces the gradients in `dy` by those of `x`: dx = dy / sᵝ − x · 2αβ · Σⱼ dyⱼ · xⱼ / sⱼᵝ⁺¹ over the same
/// neighbours.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn slopes(lrn: &Lrn, x: &[Row], dy: &mut [Row], ratios: &mut [Row]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for (channel, dy) in dy.iter_mut().enumerate() {
        let scale = scale(lrn, x, channel, fused);
        for at in 0..WIDTH {
            dy[at] /= power(scale[at]);
            ratios[channel][at] = dy[at] * x[channel][at] / scale[at];
        }
    }
    let factor = -2.0 * lrn.alpha * BETA;
    for (channel, dy) in dy.iter_mut().enumerate() {
        let mut sums = [0.0; WIDTH];
        for row in &ratios[lrn.around(channel)] {
            for (sum, ratio) in sums.iter_mut().zip(row) {
                *sum += ratio;
            }
        }
        for at in 0..WIDTH {
            dy[at] = add_product(dy[at], factor * x[channel][at], sums[at], fused);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::threads::Alone;

    #[test]
    fn results_agree_with_the_formulas_in_double_precision() {
        for (channels, plane, size) in [(7, 70, 5), (2, 9, 5), (1, 1, 3), (9, 130, 3)] {
            let lrn = Lrn { images: 2, channels, plane, size, alpha: 0.5, k: 2.0 };
            let mut random = ChaCha8Rng::seed_from_u64(3);
            let mut draw = || -> Vec<f32> {
                (0..2 * channels * plane).map(|_| random.random::<f32>() * 4.0 - 2.0).collect()
            };
            let (x, dy) = (draw(), draw());
            let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            lrn.forward(&x, &mut y, &Alone(1));
            lrn.gradient([&dy, &x], &mut dx, &Alone(1));

            let value = |values: &[f32], image, channel, at| f64::from(values[lrn.at(image, channel, at)]);
            let scale = |image, channel, at| {
                2.0 + 0.5 * lrn.around(channel).map(|near| value(&x, image, near, at).powi(2)).sum::<f64>()
            };
            for (image, channel) in
                (0..2).flat_map(|image| (0..channels).map(move |channel| (image, channel)))
            {
                for at in 0..plane {
                    let s = scale(image, channel, at);
                    let expected = value(&x, image, channel, at) / s.powf(0.75);
                    assert!((value(&y, image, channel, at) - expected).abs() < 1e-6, "{lrn:?}");
                    let ratio = |near| {
                        let s: f64 = scale(image, near, at);
                        value(&dy, image, near, at) * value(&x, image, near, at) / s.powf(1.75)
                    };
                    let sum: f64 = lrn.around(channel).map(ratio).sum();
                    let expected = value(&dy, image, channel, at) / s.powf(0.75)
                        - value(&x, image, channel, at) * 0.75 * sum;
                    assert!((value(&dx, image, channel, at) - expected).abs() < 2e-6, "{lrn:?}");
                }
            }
        }
    }
}
