//! Maximum over windows, and its gradient.
//!
//! Sixteen channels are computed at once, side by side (`lanes.rs`).

use std::ops::Range;

use multiversion::multiversion;

use crate::lanes::{LANES, Lanes, interleave, separate};
use crate::threads::{Shared, Threads};
use crate::transpose::Rows;

/// Sizes of a pooling `[N,C,H,W]` → `[N,C,P,Q]`; two lengths are along H and W.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MaxPool {
    pub images: usize,
    pub channels: usize,
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub pads: [usize; 2],
}

impl MaxPool {
    /// Writes the maxima of `x` to `y`; a window with a NaN has the maximum NaN.
    pub fn forward(&self, x: &[f32], y: &mut [f32], threads: &dyn Threads) {
        let (from, to) = (area(self.input), area(self.output));
        let y = Shared::new(y);
        self.run(threads, &|first, count| {
            let mut source = vec![Lanes::ZERO; from];
            let mut maxima = vec![Lanes::ZERO; to];
            interleave(planes(x, first, count, from), 0, &mut source);
            forward(self, &source, &mut maxima);
            // SAFETY: each part has its own planes.
            let y = unsafe { y.range(first * to..(first + count) * to) };
            separate(&maxima, y, to, count, 0);
        });
    }

    /// Writes the gradient of the input `x` to `dx`: the first of equal maxima of a window gets its `dy`.
    pub fn gradient(&self, [dy, x]: [&[f32]; 2], dx: &mut [f32], threads: &dyn Threads) {
        let (from, to) = (area(self.input), area(self.output));
        let dx = Shared::new(dx);
        self.run(threads, &|first, count| {
            let mut source = vec![Lanes::ZERO; from];
            let mut gradients = vec![Lanes::ZERO; to];
            let mut sums = vec![Lanes::ZERO; from];
            interleave(planes(x, first, count, from), 0, &mut source);
            interleave(planes(dy, first, count, to), 0, &mut gradients);
            gradient(self, &source, &gradients, &mut sums);
            // SAFETY: each part has its own planes.
            let dx = unsafe { dx.range(first * from..(first + count) * from) };
            separate(&sums, dx, from, count, 0);
        });
    }

    /// Calls `part` with the first and the number of the planes of each block of channels.
    fn run(&self, threads: &dyn Threads, part: &(dyn Fn(usize, usize) + Send + Sync)) {
        let planes = self.images * self.channels;
        threads.run(planes.div_ceil(LANES), &|block| part(block * LANES, LANES.min(planes - block * LANES)));
    }

    /// The elements along `axis` of the window at `position`.
    #[inline(always)]
    fn window(&self, axis: usize, position: usize) -> Range<usize> {
        let start = position * self.strides[axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.pads[axis]).min(self.input[axis]);
        start.saturating_sub(self.pads[axis]).min(end)..end
    }
}

fn area(sides: [usize; 2]) -> usize {
    sides[0] * sides[1]
}

fn planes(values: &[f32], first: usize, count: usize, stride: usize) -> Rows<'_> {
    Rows { values: &values[first * stride..(first + count) * stride], stride, count }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn forward(pool: &MaxPool, source: &[Lanes], maxima: &mut [Lanes]) {
    let columns = pool.output[1];
    for (at, target) in maxima.iter_mut().enumerate() {
        *target = maximum(pool, source, [at / columns, at % columns]);
    }
}

#[inline(always)]
fn maximum(pool: &MaxPool, source: &[Lanes], [row, column]: [usize; 2]) -> Lanes {
    let columns = pool.window(1, column);
    let mut found = Lanes([f32::NEG_INFINITY; LANES]);
    for row in pool.window(0, row) {
        for value in &source[row * pool.input[1]..][columns.clone()] {
            for lane in 0..LANES {
                let (best, value) = (found.0[lane], value.0[lane]);
                found.0[lane] = if best >= value || best.is_nan() { best } else { value };
            }
        }
    }
    found
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn gradient(pool: &MaxPool, source: &[Lanes], gradients: &[Lanes], sums: &mut [Lanes]) {
    let columns = pool.output[1];
    for (at, gradient) in gradients.iter().enumerate() {
        let position = [at / columns, at % columns];
        let maximum = maximum(pool, source, position);
        let columns = pool.window(1, position[1]);
        // What the first maximum takes is not there for others.
        let mut rest = *gradient;
        for row in pool.window(0, position[0]) {
            let start = row * pool.input[1];
            let sums = &mut sums[start..][columns.clone()];
            for (sum, value) in sums.iter_mut().zip(&source[start..][columns.clone()]) {
                for lane in 0..LANES {
                    let is_it = value.0[lane] == maximum.0[lane];
                    sum.0[lane] += if is_it { rest.0[lane] } else { 0.0 };
                    rest.0[lane] = if is_it { 0.0 } else { rest.0[lane] };
                }
            }
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
    fn maxima_and_the_places_of_the_first_of_them_are_found_in_any_windows() {
        for (kernel, stride, pad, input, output) in [
            (3, 2, 0, [9, 7], [4, 3]),
            (3, 2, 1, [8, 7], [4, 4]),
            (2, 2, 0, [5, 6], [2, 3]),
            // The last windows extend past the end.
            (3, 2, 0, [6, 8], [3, 4]),
            (3, 1, 1, [1, 4], [1, 4]),
        ] {
            let [images, channels] = [3, 7];
            let pool = MaxPool {
                images,
                channels,
                input,
                output,
                kernel: [kernel; 2],
                strides: [stride; 2],
                pads: [pad; 2],
            };
            let mut random = ChaCha8Rng::seed_from_u64(3);
            // Few values: many are equal.
            let x: Vec<f32> = (0..images * channels * area(input))
                .map(|_| (random.random::<f32>() * 4.0).floor() - 4.0)
                .collect();
            let dy: Vec<f32> = (0..images * channels * area(output)).map(|_| random.random()).collect();
            let (mut expected_y, mut expected_dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            for (at, y) in expected_y.iter_mut().enumerate() {
                let (plane, row, column) = (at / area(output), at % area(output) / output[1], at % output[1]);
                let mut first = None;
                for (i, j) in (0..kernel).flat_map(|i| (0..kernel).map(move |j| (i, j))) {
                    let row = (row * stride + i).checked_sub(pad).filter(|&row| row < input[0]);
                    let column = (column * stride + j).checked_sub(pad).filter(|&column| column < input[1]);
                    let (Some(row), Some(column)) = (row, column) else { continue };
                    let place = plane * area(input) + row * input[1] + column;
                    if first.is_none_or(|first| x[place] > x[first]) {
                        first = Some(place);
                    }
                }
                let place = first.unwrap();
                *y = x[place];
                expected_dx[place] += dy[at];
            }
            let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
            pool.forward(&x, &mut y, &Alone(1));
            pool.gradient([&dy, &x], &mut dx, &Alone(1));
            assert_eq!(y, expected_y, "{pool:?}");
            assert_eq!(dx, expected_dx, "{pool:?}");
        }
    }

    #[test]
    fn a_nan_is_not_lost() {
        let pool = MaxPool {
            images: 1,
            channels: 1,
            input: [1, 4],
            output: [1, 2],
            kernel: [1, 2],
            strides: [1, 2],
            pads: [0; 2],
        };
        let mut y = [0.0; 2];
        pool.forward(&[f32::NAN, 1.0, 1.0, f32::NAN], &mut y, &Alone(1));
        assert!(y.iter().all(|y| y.is_nan()), "{y:?}");
    }
}
