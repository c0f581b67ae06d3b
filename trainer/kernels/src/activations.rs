//! Smooth activations and their gradients: GELU and SiLU.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};
use std::ops::Range;

use multiversion::multiversion;
use multiversion::target::target_cfg_f;

use crate::lanes::add_product;
use crate::scratch::Scratch;
use crate::threads::{Shared, Threads};

/// Values of a part of the job.
const PART: usize = 1 << 12;

/// An activation of single values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x · Φ(x) with the distribution function Φ of the standard normal distribution.
    Gelu,
    /// x / (1 + e⁻ˣ).
    Silu,
}

impl Activation {
    /// Writes the activation of `x` to `y`. A `bias` is added to each of its rows before.
    pub fn forward(self, x: &[f32], bias: Option<&[f32]>, y: &mut [f32], threads: &dyn Threads) {
        each_part(y, threads, &|range, y| {
            with_bias(x, bias, range, &mut |x| match self {
                Self::Gelu => gelu(x, y),
                Self::Silu => silu(x, y),
            });
        });
    }

    /// Writes the gradient of the input `x`, or of its sum with the `bias`, to `dx`.
    pub fn gradient(self, [dy, x]: [&[f32]; 2], bias: Option<&[f32]>, dx: &mut [f32], threads: &dyn Threads) {
        each_part(dx, threads, &|range, dx| {
            with_bias(x, bias, range.clone(), &mut |x| match self {
                Self::Gelu => gelu_gradient([&dy[range.clone()], x], dx),
                Self::Silu => silu_gradient([&dy[range.clone()], x], dx),
            });
        });
    }
}

/// Calls `work` with a range of `x` plus the bias of its rows.
fn with_bias(x: &[f32], bias: Option<&[f32]>, range: Range<usize>, work: &mut dyn FnMut(&[f32])) {
    let Some(bias) = bias else { return work(&x[range]) };
    let mut sums = Scratch::new(range.len());
    let mut at = range.start;
    while at < range.end {
        let bias = &bias[at % bias.len()..];
        let end = range.end.min(at + bias.len());
        let sums = &mut sums[at - range.start..end - range.start];
        for ((sum, x), bias) in sums.iter_mut().zip(&x[at..end]).zip(bias) {
            *sum = x + bias;
        }
        at = end;
    }
    work(&sums);
}

fn each_part(
    target: &mut [f32],
    threads: &dyn Threads,
    part: &(dyn Fn(Range<usize>, &mut [f32]) + Send + Sync),
) {
    let len = target.len();
    let target = Shared::new(target);
    threads.run(len.div_ceil(PART), &|at| {
        let range = at * PART..len.min((at + 1) * PART);
        // SAFETY: each part has its own range.
        part(range.clone(), unsafe { target.range(range) });
    });
}

/// eˣ of x limited to −87..=88, to two units in the last place.
#[inline(always)]
fn exp(x: f32, fused: bool) -> f32 {
    // Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // The first bits of ln 2, whose products with small integers are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Of (eʳ − 1 − r) / r² for |r| ≤ ½ ln 2 (Cephes, expf).
    const SERIES: [f32; 6] =
        [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let limited = if x < 88.0 { x } else { 88.0 };
    let limited = if limited > -87.0 { limited } else { -87.0 };
    let shifted = limited * LOG2_E + ROUND;
    let power = shifted - ROUND;
    let rest = add_product(add_product(limited, power, -LN_2_HIGH, fused), power, -LN_2_LOW, fused);
    let mut sum = SERIES[0];
    for coefficient in &SERIES[1..] {
        sum = add_product(*coefficient, sum, rest, fused);
    }
    let value = add_product(rest, sum, rest * rest, fused) + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    let value = value * scale;
    if x.is_nan() { x } else { value }
}

/// Φ(x) and Φ′(x).
#[inline(always)]
fn normal(x: f32, fused: bool) -> [f32; 2] {
    // The complement of the error function of z ≥ 0, to 1.2e-7 of its value (Press et al., Numerical Recipes,
    // section 6.2), without its factor t · e^(−z²).
    const SERIES: [f32; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ];
    const DENSITY: f32 = 0.398_942_3;
    let z = x.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / add_product(1.0, 0.5, z, fused);
    let mut sum = SERIES[0];
    for coefficient in &SERIES[1..] {
        sum = add_product(*coefficient, sum, t, fused);
    }
    let power = -0.5 * x * x;
    let tail = 0.5 * t * exp(power + sum, fused);
    [if x < 0.0 { tail } else { 1.0 - tail }, DENSITY * exp(power, fused)]
}

/// 1 / (1 + e⁻ˣ), and what it lacks of 1.
#[inline(always)]
fn logistic(x: f32, fused: bool) -> [f32; 2] {
    let power = exp(-x, fused);
    let share = 1.0 / (1.0 + power);
    [share, power * share]
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn gelu(x: &[f32], y: &mut [f32]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for (y, x) in y.iter_mut().zip(x) {
        *y = x * normal(*x, fused)[0];
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn gelu_gradient([dy, x]: [&[f32]; 2], dx: &mut [f32]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        let [share, density] = normal(*x, fused);
        *dx = dy * add_product(share, *x, density, fused);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn silu(x: &[f32], y: &mut [f32]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for (y, x) in y.iter_mut().zip(x) {
        *y = x * logistic(*x, fused)[0];
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx2+fma", "x86_64+avx2+fma"))]
fn silu_gradient([dy, x]: [&[f32]; 2], dx: &mut [f32]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        let [share, rest] = logistic(*x, fused);
        *dx = dy * share * add_product(1.0, *x, rest, fused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Alone;

    /// ∫ of the normal density from 0 to `x`, by Simpson's rule.
    fn half_normal(x: f64) -> f64 {
        let steps = 2000;
        let width = x / f64::from(steps);
        let density = |t: f64| (-0.5 * t * t).exp() / std::f64::consts::TAU.sqrt();
        let weight = |at: i32| if at == 0 || at == steps { 1.0 } else { 2.0 + 2.0 * f64::from(at % 2) };
        (0..=steps).map(|at| weight(at) * density(f64::from(at) * width)).sum::<f64>() * width / 3.0
    }

    #[test]
    fn values_and_slopes_agree_with_the_formulas_in_double_precision() {
        let x: Vec<f32> =
            (-400..=400).map(|at| at as f32 / 40.0).chain([-90.0, 90.0, -1e4, 1e4, 0.0, -0.0]).collect();
        let ones = vec![1.0; x.len()];
        type Formula = fn(f64) -> [f64; 2];
        let cases: [(Activation, Formula); 2] = [
            (Activation::Gelu, |x| {
                let share = 0.5 + half_normal(x.clamp(-12.0, 12.0));
                let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
                [x * share, share + x * density]
            }),
            (Activation::Silu, |x| {
                let gate = 1.0 / (1.0 + (-x).exp());
                [x * gate, gate * (1.0 + x * (1.0 - gate))]
            }),
        ];
        for (activation, formula) in cases {
            let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            activation.forward(&x, None, &mut y, &Alone(1));
            activation.gradient([&ones, &x], None, &mut dx, &Alone(1));
            for (at, &x) in x.iter().enumerate() {
                let expected = formula(x.into());
                for (found, expected) in [y[at], dx[at]].into_iter().zip(expected) {
                    let error = (f64::from(found) - expected).abs();
                    assert!(
                        error < 4e-7 * expected.abs().max(1.0),
                        "{activation:?} of {x}: {found}, expected {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_bias_is_added_to_every_row() {
        // Parts of the job begin within rows.
        for (rows, width) in [(1, 1), (3, 5), (7000, 5), (50, 700)] {
            let values = |offset: f32, len: usize| -> Vec<f32> {
                (0..len).map(|at| (at * 37 % 101) as f32 / 50.0 - offset).collect()
            };
            let (x, dy, bias) = (values(1.0, rows * width), values(0.3, rows * width), values(0.7, width));
            let sums: Vec<f32> = x.iter().zip(bias.iter().cycle()).map(|(x, bias)| x + bias).collect();
            for activation in [Activation::Gelu, Activation::Silu] {
                let results = |x: &[f32], bias| {
                    let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                    activation.forward(x, bias, &mut y, &Alone(1));
                    activation.gradient([&dy, x], bias, &mut dx, &Alone(1));
                    [y, dx]
                };
                assert_eq!(results(&x, Some(&bias)), results(&sums, None), "{activation:?}, {rows} rows");
            }
        }
    }

    #[test]
    fn a_nan_is_not_lost() {
        for activation in [Activation::Gelu, Activation::Silu] {
            let mut y = [0.0; 2];
            activation.forward(&[f32::NAN, 1.0], None, &mut y, &Alone(1));
            assert!(y[0].is_nan() && y[1].is_finite(), "{activation:?}: {y:?}");
        }
    }
}
