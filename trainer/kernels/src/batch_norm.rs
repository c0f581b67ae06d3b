//! Batch normalisation by the statistics of the batch, and its gradients.
//!
//! A channel is computed by one thread, so that what the second pass reads is in its cache.

use multiversion::multiversion;
use multiversion::target::target_cfg_f;

use crate::lanes::add_product;
use crate::sums::{Sum, WIDTH};
use crate::threads::{Shared, Threads};

/// Sizes and constant of a batch normalisation of `[N,C,…]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchNorm {
    pub images: usize,
    pub channels: usize,
    /// Values of a channel of an image.
    pub plane: usize,
    /// What is added to variances.
    pub epsilon: f64,
}

/// Results for each channel.
pub(crate) struct Statistics<'a> {
    pub mean: &'a mut [f32],
    /// Biased.
    pub variance: &'a mut [f32],
}

/// The gradients of scale and bias.
pub(crate) struct Parameters<'a> {
    pub scale: &'a mut [f32],
    pub bias: &'a mut [f32],
}

impl BatchNorm {
    /// Normalises `x` into `y`.
    pub fn forward(
        &self,
        x: &[f32],
        scale: &[f32],
        bias: &[f32],
        y: &mut [f32],
        found: Statistics<'_>,
        threads: &dyn Threads,
    ) {
        let (y, mean, variance) = (Shared::new(y), Shared::new(found.mean), Shared::new(found.variance));
        threads.run(self.channels, &|channel| {
            let center = (sum(self, x, channel) / self.count()) as f32;
            let spread = squares(self, x, channel, center) / self.count();
            let gain = f64::from(scale[channel]) / (spread + self.epsilon).sqrt();
            // SAFETY: each part has its own channel.
            let planes = (0..self.images)
                .map(|image| (self.range(image, channel), unsafe { y.range(self.range(image, channel)) }));
            for (range, y) in planes {
                normalise(&x[range], center, gain as f32, bias[channel], y);
            }
            // SAFETY: each part has its own channel.
            unsafe {
                mean.range(channel..channel + 1)[0] = center;
                variance.range(channel..channel + 1)[0] = spread as f32;
            }
        });
    }

    /// Writes the gradients of input, scale and bias, from the output's gradient `dy`, the input `x` and its
    /// statistics (Ioffe & Szegedy 2015, section 3).
    pub fn gradients(
        &self,
        [dy, x]: [&[f32]; 2],
        scale: &[f32],
        [mean, variance]: [&[f32]; 2],
        dx: &mut [f32],
        of: Parameters<'_>,
        threads: &dyn Threads,
    ) {
        let (dx, dscale, dbias) = (Shared::new(dx), Shared::new(of.scale), Shared::new(of.bias));
        threads.run(self.channels, &|channel| {
            let center = mean[channel];
            let [total, along] = gradient_sums(self, dy, x, channel, center);
            let variance = f64::from(variance[channel]) + self.epsilon;
            let deviation = variance.sqrt();
            let gain = f64::from(scale[channel]) / deviation;
            // dx = gain · (dy − shift − slope · (x − mean))
            let (shift, slope) = (total / self.count(), along / (variance * self.count()));
            for image in 0..self.images {
                let range = self.range(image, channel);
                // SAFETY: each part has its own channel.
                let dx = unsafe { dx.range(range.clone()) };
                rest(
                    [&dy[range.clone()], &x[range]],
                    center,
                    [gain, shift, slope].map(|value| value as f32),
                    dx,
                );
            }
            // SAFETY: as above.
            unsafe {
                dscale.range(channel..channel + 1)[0] = (along / deviation) as f32;
                dbias.range(channel..channel + 1)[0] = total as f32;
            }
        });
    }

    /// Values of a channel.
    fn count(&self) -> f64 {
        (self.images * self.plane) as f64
    }

    fn range(&self, image: usize, channel: usize) -> std::ops::Range<usize> {
        let start = (image * self.channels + channel) * self.plane;
        start..start + self.plane
    }
}

const ONES: [f32; WIDTH] = [1.0; WIDTH];

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn sum(norm: &BatchNorm, x: &[f32], channel: usize) -> f64 {
    let mut sum = Sum::ZERO;
    for image in 0..norm.images {
        for x in x[norm.range(image, channel)].chunks(WIDTH) {
            sum.add(x, &ONES, false);
        }
    }
    sum.total()
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn squares(norm: &BatchNorm, x: &[f32], channel: usize, center: f32) -> f64 {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let mut sum = Sum::ZERO;
    for image in 0..norm.images {
        for x in x[norm.range(image, channel)].chunks(WIDTH) {
            let mut centred = [0.0; WIDTH];
            for (centred, x) in centred.iter_mut().zip(x) {
                *centred = x - center;
            }
            sum.add(&centred[..x.len()], &centred, fused);
        }
    }
    sum.total()
}

/// Σ dy and Σ dy · (x − mean).
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn gradient_sums(norm: &BatchNorm, dy: &[f32], x: &[f32], channel: usize, center: f32) -> [f64; 2] {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let (mut total, mut along) = (Sum::ZERO, Sum::ZERO);
    for image in 0..norm.images {
        let range = norm.range(image, channel);
        for (dy, x) in dy[range.clone()].chunks(WIDTH).zip(x[range].chunks(WIDTH)) {
            let mut centred = [0.0; WIDTH];
            for (centred, x) in centred.iter_mut().zip(x) {
                *centred = x - center;
            }
            total.add(dy, &ONES, false);
            along.add(dy, &centred, fused);
        }
    }
    [total.total(), along.total()]
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn normalise(x: &[f32], center: f32, gain: f32, bias: f32, y: &mut [f32]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for (y, x) in y.iter_mut().zip(x) {
        *y = add_product(bias, x - center, gain, fused);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn rest([dy, x]: [&[f32]; 2], center: f32, [gain, shift, slope]: [f32; 3], dx: &mut [f32]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        *dx = gain * add_product(dy - shift, center - x, slope, fused);
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
        // The mean is large beside the deviation; a plane is no multiple of a vector.
        for (images, channels, plane) in [(4, 3, 49), (2, 1, 700), (3, 5, 1)] {
            let norm = BatchNorm { images, channels, plane, epsilon: 1e-3 };
            let mut random = ChaCha8Rng::seed_from_u64(5);
            let mut draw = |len: usize, offset: f32| -> Vec<f32> {
                (0..len).map(|_| random.random::<f32>() + offset).collect()
            };
            let (x, dy) = (draw(images * channels * plane, 3.0), draw(images * channels * plane, -0.3));
            let (scale, bias) = (draw(channels, 0.5), draw(channels, -0.5));
            let (mut y, mut mean, mut variance) =
                (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]);
            norm.forward(
                &x,
                &scale,
                &bias,
                &mut y,
                Statistics { mean: &mut mean, variance: &mut variance },
                &Alone(1),
            );
            let (mut dx, mut dscale, mut dbias) =
                (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]);
            let of = Parameters { scale: &mut dscale, bias: &mut dbias };
            norm.gradients([&dy, &x], &scale, [&mean, &variance], &mut dx, of, &Alone(1));

            let close = |found: f32, expected: f64, what: &str| {
                assert!(
                    (f64::from(found) - expected).abs() < 1e-5 * expected.abs().max(1.0),
                    "{norm:?}, {what}: {found}, expected {expected}"
                );
            };
            for channel in 0..channels {
                let places: Vec<usize> = (0..images).flat_map(|image| norm.range(image, channel)).collect();
                let count = places.len() as f64;
                let average = |f: &dyn Fn(usize) -> f64| places.iter().map(|&at| f(at)).sum::<f64>() / count;
                let center = average(&|at| x[at].into());
                let centred = |at: usize| f64::from(x[at]) - center;
                let spread = average(&|at| centred(at).powi(2));
                let deviation = (spread + norm.epsilon).sqrt();
                let (total, along) =
                    (average(&|at| dy[at].into()), average(&|at| f64::from(dy[at]) * centred(at)));
                close(mean[channel], center, "mean");
                close(variance[channel], spread, "variance");
                close(dbias[channel], total * count, "bias");
                close(dscale[channel], along * count / deviation, "scale");
                let gain = f64::from(scale[channel]) / deviation;
                for &at in &places {
                    close(y[at], centred(at) * gain + f64::from(bias[channel]), "output");
                    let expected =
                        gain * (f64::from(dy[at]) - total - centred(at) * along / deviation.powi(2));
                    close(dx[at], expected, "input");
                }
            }
        }
    }
}
