//! The gradients of layer normalisation, and sums over rows.
//!
//! A part of the job takes some rows, so that what the second pass over a row reads is in its cache.

use multiversion::multiversion;
use multiversion::target::target_cfg_f;

use crate::lanes::add_product;
use crate::scratch::Scratch;
use crate::sums::{Sum, WIDTH};
use crate::threads::{Shared, Threads};

/// Rows of a part of the job, whose sums are in single precision.
const ROWS: usize = 64;
/// Columns of a part of the last sums.
const COLUMNS: usize = 256;

/// Operands of the gradients of a layer normalisation of rows of so many values as `scale` has.
#[derive(Clone, Copy)]
pub(crate) struct LayerNorm<'a> {
    /// The output's gradient.
    pub dy: &'a [f32],
    pub x: &'a [f32],
    pub scale: &'a [f32],
    /// Mean and inverse standard deviation of each row.
    pub mean: &'a [f32],
    pub inverse: &'a [f32],
}

impl LayerNorm<'_> {
    /// Writes the gradients of input, scale and bias (Ba et al., 2016).
    pub fn gradients(&self, dx: &mut [f32], dscale: &mut [f32], dbias: &mut [f32], threads: &dyn Threads) {
        let width = self.scale.len();
        let rows = self.mean.len();
        let parts = rows.div_ceil(ROWS);
        let mut sums = Scratch::new(parts * 2 * width);
        let (shared, dx) = (Shared::new(&mut sums), Shared::new(dx));
        threads.run(parts, &|part| {
            // SAFETY: each part has its own sums.
            let sums = unsafe { shared.range(part * 2 * width..(part + 1) * 2 * width) };
            sums.fill(0.0);
            let (along, total) = sums.split_at_mut(width);
            for row in part * ROWS..rows.min((part + 1) * ROWS) {
                // SAFETY: each part has its own rows.
                let dx = unsafe { dx.range(row * width..(row + 1) * width) };
                row_gradients(self, row, dx, along, total);
            }
        });
        add_parts(&sums, 2 * width, dscale, threads);
        add_parts(&sums[width.min(sums.len())..], 2 * width, dbias, threads);
    }
}

/// Writes the sum of all rows of `x`, which are as long as `sum`.
pub(crate) fn sum_rows(x: &[f32], sum: &mut [f32], threads: &dyn Threads) {
    let width = sum.len();
    let rows = x.len().checked_div(width).unwrap_or(0);
    let parts = rows.div_ceil(ROWS);
    let mut sums = Scratch::new(parts * width);
    let shared = Shared::new(&mut sums);
    threads.run(parts, &|part| {
        // SAFETY: each part has its own sums.
        let sums = unsafe { shared.range(part * width..(part + 1) * width) };
        sums.fill(0.0);
        for row in part * ROWS..rows.min((part + 1) * ROWS) {
            add(&x[row * width..(row + 1) * width], sums);
        }
    });
    add_parts(&sums, width, sum, threads);
}

/// Writes the sum of the beginnings of rows that are `stride` values apart in `sums`, in double precision.
fn add_parts(sums: &[f32], stride: usize, sum: &mut [f32], threads: &dyn Threads) {
    let width = sum.len();
    let target = Shared::new(sum);
    threads.run(width.div_ceil(COLUMNS), &|part| {
        let columns = part * COLUMNS..width.min((part + 1) * COLUMNS);
        let mut totals = [0.0f64; COLUMNS];
        for sums in sums.chunks(stride) {
            for (total, sum) in totals.iter_mut().zip(&sums[columns.clone()]) {
                *total += f64::from(*sum);
            }
        }
        // SAFETY: each part has its own columns.
        let target = unsafe { target.range(columns) };
        for (target, total) in target.iter_mut().zip(totals) {
            *target = total as f32;
        }
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn add(x: &[f32], sums: &mut [f32]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += x;
    }
}

/// Writes a row of the input's gradient, and adds to the sums of dy · n and of dy, with the normalised values
/// n = (x − mean) / σ.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn row_gradients(norm: &LayerNorm<'_>, row: usize, dx: &mut [f32], along: &mut [f32], total: &mut [f32]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let width = norm.scale.len();
    let (dy, x) = (&norm.dy[row * width..(row + 1) * width], &norm.x[row * width..(row + 1) * width]);
    let (mean, inverse) = (norm.mean[row], norm.inverse[row]);
    let (mut shift, mut slope) = (Sum::ZERO, Sum::ZERO);
    for ((dy, x), scale) in dy.chunks(WIDTH).zip(x.chunks(WIDTH)).zip(norm.scale.chunks(WIDTH)) {
        let (mut gradient, mut normal) = ([0.0; WIDTH], [0.0; WIDTH]);
        for (((gradient, normal), (dy, x)), scale) in
            gradient.iter_mut().zip(&mut normal).zip(dy.iter().zip(x)).zip(scale)
        {
            *gradient = dy * scale;
            *normal = (x - mean) * inverse;
        }
        shift.add(scale, dy, fused);
        slope.add(&gradient[..x.len()], &normal, fused);
    }
    let [shift, slope] = [shift, slope].map(|sum| (sum.total() / width as f64) as f32);
    let parameters = norm.scale.iter().zip(along.iter_mut().zip(total));
    for (((dx, dy), x), (scale, (along, total))) in dx.iter_mut().zip(dy).zip(x).zip(parameters) {
        let normal = (x - mean) * inverse;
        *dx = inverse * add_product(add_product(-shift, *dy, *scale, fused), normal, -slope, fused);
        *along = add_product(*along, *dy, normal, fused);
        *total += dy;
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::threads::Alone;

    fn close(found: f32, expected: f64, what: &str) {
        assert!(
            (f64::from(found) - expected).abs() < 2e-5 * expected.abs().max(1.0),
            "{what}: {found}, expected {expected}"
        );
    }

    fn draw(seed: u64, len: usize, offset: f32) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..len).map(|_| random.random::<f32>() + offset).collect()
    }

    #[test]
    fn gradients_agree_with_the_formulas_in_double_precision() {
        // Rows and widths that are no multiples of a part, of a vector and of a block of columns.
        for (rows, width) in [(1, 1), (3, 7), (64, 64), (130, 96), (2, 700), (65, 257)] {
            let (x, dy) = (draw(1, rows * width, 3.0), draw(2, rows * width, -0.3));
            let scale = draw(3, width, 0.5);
            let row = |at: usize| x[at * width..(at + 1) * width].iter().map(|x| f64::from(*x));
            let center: Vec<f64> = (0..rows).map(|at| row(at).sum::<f64>() / width as f64).collect();
            let inverse: Vec<f64> = (0..rows)
                .map(|at| {
                    let squares: f64 = row(at).map(|x| (x - center[at]).powi(2)).sum();
                    (squares / width as f64 + 1e-3).sqrt().recip()
                })
                .collect();
            let narrow = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<_>>();
            let (mean, of_deviation) = (narrow(&center), narrow(&inverse));
            let norm = LayerNorm { dy: &dy, x: &x, scale: &scale, mean: &mean, inverse: &of_deviation };
            let (mut dx, mut dscale, mut dbias) = (vec![0.0; x.len()], vec![0.0; width], vec![0.0; width]);
            norm.gradients(&mut dx, &mut dscale, &mut dbias, &Alone(1));

            let at = |row: usize, column: usize| row * width + column;
            let normal =
                |row: usize, column: usize| (f64::from(x[at(row, column)]) - center[row]) * inverse[row];
            let gradient =
                |row: usize, column: usize| f64::from(dy[at(row, column)]) * f64::from(scale[column]);
            for column in 0..width {
                let dy = |row| f64::from(dy[at(row, column)]);
                close(dbias[column], (0..rows).map(dy).sum(), "bias");
                close(dscale[column], (0..rows).map(|row| dy(row) * normal(row, column)).sum(), "scale");
            }
            for row in 0..rows {
                let average = |f: &dyn Fn(usize) -> f64| (0..width).map(f).sum::<f64>() / width as f64;
                let shift = average(&|column| gradient(row, column));
                let slope = average(&|column| gradient(row, column) * normal(row, column));
                for column in 0..width {
                    let rest = gradient(row, column) - shift - normal(row, column) * slope;
                    close(dx[at(row, column)], inverse[row] * rest, "input");
                }
            }
        }
    }

    #[test]
    fn rows_of_any_number_and_length_are_added() {
        for (rows, width) in [(0, 3), (1, 1), (63, 5), (65, 257), (200, 96)] {
            let x = draw(4, rows * width, -0.5);
            let mut found = vec![f32::NAN; width];
            sum_rows(&x, &mut found, &Alone(1));
            for (column, found) in found.iter().enumerate() {
                let expected = (0..rows).map(|row| f64::from(x[row * width + column])).sum();
                close(*found, expected, "sum");
            }
        }
    }
}
