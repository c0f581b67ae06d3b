//! Depthwise convolution, each channel by its own kernel, and its two gradients.
//!
//! Sixteen channels are computed at once, side by side (`lanes.rs`). A band of rows is copied into a buffer
//! with its padding, so that no position is a special case.

use std::ops::Range;

use multiversion::multiversion;
use multiversion::target::target_cfg_f;

use crate::lanes::{LANES, Lanes, interleave, separate};
use crate::threads::{Shared, Threads};
use crate::transpose::Rows;

/// Largest number of vectors of a band: half of a usual second-level cache.
const BAND: usize = 8192;
/// Images whose weight gradients are summed by one part of the job.
const IMAGES: usize = 4;
/// Positions that are computed together, to keep as many sums in registers.
const TOGETHER: usize = 8;

/// Sizes of a depthwise convolution `[N,C,H,W]` → `[N,C,P,Q]`; two lengths are along H and W.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Depthwise {
    pub images: usize,
    pub channels: usize,
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub pads: [usize; 2],
    pub dilations: [usize; 2],
}

/// Which positions of a source a kernel element meets: position p of the target meets p · stride + element ·
/// dilation − pad of the source, whose values are `gap` positions apart.
#[derive(Clone, Copy)]
struct Correlation {
    source: [usize; 2],
    target: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [isize; 2],
    gaps: [usize; 2],
}

/// Rows of a source, side by side with their padding.
#[derive(Default)]
struct Band {
    lanes: Vec<Lanes>,
    width: usize,
    stage: Vec<Lanes>,
}

impl Depthwise {
    /// Writes the convolution of `x` with `weights` `[C,1,k,k]`, plus `bias` `[C]`, to `y`.
    pub fn forward(
        &self,
        x: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
        threads: &dyn Threads,
    ) {
        self.correlate(&self.correlation(), x, weights, bias, y, threads);
    }

    /// Writes the gradient of the input to `dx`, from `dy` and `weights`.
    pub fn data_gradient(&self, dy: &[f32], weights: &[f32], dx: &mut [f32], threads: &dyn Threads) {
        let size = self.kernel[0] * self.kernel[1];
        let flipped: Vec<f32> =
            weights.chunks_exact(size).flat_map(|kernel| kernel.iter().rev().copied()).collect();
        let reach = |axis: usize| ((self.kernel[axis] - 1) * self.dilations[axis]) as isize;
        let correlation = Correlation {
            source: self.output,
            target: self.input,
            kernel: self.kernel,
            strides: [1; 2],
            dilations: self.dilations,
            pads: [0, 1].map(|axis| reach(axis) - self.pads[axis] as isize),
            gaps: self.strides,
        };
        self.correlate(&correlation, dy, &flipped, None, dx, threads);
    }

    /// Writes the gradient of the weights to `dw` `[C,1,k,k]`, from `x` and `dy`.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32], threads: &dyn Threads) {
        let (blocks, size) = (self.channels.div_ceil(LANES), self.kernel[0] * self.kernel[1]);
        let chunks = self.images.div_ceil(IMAGES);
        let correlation = self.correlation();
        let mut sums = vec![0.0; blocks * chunks * size * LANES];
        let shared = Shared::new(&mut sums);
        threads.run(blocks * chunks, &|part| {
            let (block, chunk) = (part / chunks, part % chunks);
            let mut total = vec![Lanes::ZERO; size];
            let mut band = Band::default();
            let mut gradients = Vec::new();
            for image in chunk * IMAGES..self.images.min((chunk + 1) * IMAGES) {
                let x = self.planes(x, image, block, self.input);
                let dy = self.planes(dy, image, block, self.output);
                for rows in correlation.bands() {
                    band.fill(&correlation, x, &rows);
                    let width = self.output[1];
                    gradients.resize(rows.len() * width, Lanes::ZERO);
                    interleave(dy, rows.start * width, &mut gradients);
                    correlation.accumulate(&band, &gradients, &mut total);
                }
            }
            // SAFETY: each part has its own range.
            let sums = unsafe { shared.range(part * size * LANES..(part + 1) * size * LANES) };
            for (sums, total) in sums.chunks_exact_mut(LANES).zip(&total) {
                sums.copy_from_slice(&total.0);
            }
        });
        for (channel, dw) in dw.chunks_exact_mut(size).enumerate() {
            for (element, dw) in dw.iter_mut().enumerate() {
                let of_chunk =
                    |chunk| ((channel / LANES * chunks + chunk) * size + element) * LANES + channel % LANES;
                *dw = (0..chunks).map(|chunk| sums[of_chunk(chunk)]).sum();
            }
        }
    }

    /// What positions of the output meet in the input.
    fn correlation(&self) -> Correlation {
        Correlation {
            source: self.input,
            target: self.output,
            kernel: self.kernel,
            strides: self.strides,
            dilations: self.dilations,
            pads: self.pads.map(|pad| pad as isize),
            gaps: [1; 2],
        }
    }

    /// The planes of a block of channels of an image.
    fn planes<'a>(&self, values: &'a [f32], image: usize, block: usize, sides: [usize; 2]) -> Rows<'a> {
        let (first, stride) = (block * LANES, sides[0] * sides[1]);
        let count = LANES.min(self.channels - first);
        let start = (image * self.channels + first) * stride;
        Rows { values: &values[start..start + count * stride], stride, count }
    }

    fn correlate(
        &self,
        correlation: &Correlation,
        source: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        target: &mut [f32],
        threads: &dyn Threads,
    ) {
        let (blocks, size) = (self.channels.div_ceil(LANES), self.kernel[0] * self.kernel[1]);
        let area = correlation.target[0] * correlation.target[1];
        let shared = Shared::new(target);
        threads.run(self.images * blocks, &|part| {
            let (image, block) = (part / blocks, part % blocks);
            let (first, count) = (block * LANES, LANES.min(self.channels - block * LANES));
            let mut kernel = vec![Lanes::ZERO; size];
            interleave(Rows { values: &weights[first * size..], stride: size, count }, 0, &mut kernel);
            let mut start = Lanes::ZERO;
            if let Some(bias) = bias {
                start.0[..count].copy_from_slice(&bias[first..first + count]);
            }
            let planes = self.planes(source, image, block, correlation.source);
            let at = (image * self.channels + first) * area;
            // SAFETY: each part writes the planes of its own channels.
            let target = unsafe { shared.range(at..at + count * area) };
            let mut band = Band::default();
            let mut sums = Vec::new();
            for rows in correlation.bands() {
                band.fill(correlation, planes, &rows);
                let width = correlation.target[1];
                sums.resize(rows.len() * width, Lanes::ZERO);
                correlation.convolve(&band, &kernel, &start, &mut sums);
                separate(&sums, target, area, count, rows.start * width);
            }
        });
    }
}

impl Correlation {
    /// The target's rows in bands whose source fits into the cache.
    fn bands(&self) -> impl Iterator<Item = Range<usize>> {
        let height = self.target[0];
        let reach = (self.kernel[0] - 1) * self.dilations[0] + 1;
        let rows = (BAND / self.band_width()).saturating_sub(reach) / self.strides[0] + 1;
        (0..height).step_by(rows).map(move |start| start..height.min(start + rows))
    }

    /// Columns of a band.
    fn band_width(&self) -> usize {
        (self.target[1] - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilations[1] + 1
    }

    /// Writes the sums over the kernel to `sums`, a row of the target after the other, beginning with
    /// `start`.
    fn convolve(&self, band: &Band, kernel: &[Lanes], start: &Lanes, sums: &mut [Lanes]) {
        let width = self.target[1];
        let rows = sums.len() / width;
        assert!(kernel.len() == self.kernel[0] * self.kernel[1] && sums.len() == rows * width);
        assert!(band.lanes.len() >= self.rows(rows) * band.width && band.width == self.band_width());
        convolve(self, &band.lanes, kernel, start, sums);
    }

    /// Adds to `total`, for each kernel element, the products of what it meets with `gradients`.
    fn accumulate(&self, band: &Band, gradients: &[Lanes], total: &mut [Lanes]) {
        let width = self.target[1];
        let rows = gradients.len() / width;
        assert!(total.len() == self.kernel[0] * self.kernel[1] && gradients.len() == rows * width);
        assert!(band.lanes.len() >= self.rows(rows) * band.width && band.width == self.band_width());
        accumulate(self, &band.lanes, gradients, total);
    }

    /// Rows of a band for so many rows of the target.
    fn rows(&self, target: usize) -> usize {
        (target - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] + 1
    }
}

impl Band {
    /// Takes what the rows `target` need of `planes`.
    fn fill(&mut self, correlation: &Correlation, planes: Rows<'_>, target: &Range<usize>) {
        let [height, width] = correlation.source;
        let [gap, step] = correlation.gaps;
        self.width = correlation.band_width();
        let rows = correlation.rows(target.len());
        let first = (target.start * correlation.strides[0]) as isize - correlation.pads[0];
        // Rows of the source that lie in the band.
        let held = |row: isize| row.clamp(0, (height * gap) as isize) as usize;
        let (from, to) = (held(first).div_ceil(gap), held(first + rows as isize).div_ceil(gap));
        self.stage.resize((to - from) * width, Lanes::ZERO);
        interleave(planes, from * width, &mut self.stage);
        self.lanes.resize(rows * self.width, Lanes::ZERO);
        // Columns of the source that lie in the band.
        let pad = correlation.pads[1];
        let left = (-pad).max(0) as usize;
        let columns =
            left.div_ceil(step)..width.min((self.width as isize - pad).max(0).cast_unsigned().div_ceil(step));
        for (row, lanes) in self.lanes.chunks_exact_mut(self.width).enumerate() {
            let at = first + row as isize;
            let inside =
                at >= 0 && at.cast_unsigned().is_multiple_of(gap) && at.cast_unsigned() / gap < height;
            if !inside || columns.is_empty() {
                lanes.fill(Lanes::ZERO);
                continue;
            }
            let source = &self.stage[(at.cast_unsigned() / gap - from) * width..][columns.clone()];
            let start = (columns.start * step).strict_add_signed(pad);
            if step == 1 {
                lanes[..start].fill(Lanes::ZERO);
                lanes[start..start + source.len()].copy_from_slice(source);
                lanes[start + source.len()..].fill(Lanes::ZERO);
            } else {
                lanes.fill(Lanes::ZERO);
                for (lanes, source) in lanes[start..].iter_mut().step_by(step).zip(source) {
                    *lanes = *source;
                }
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn convolve(correlation: &Correlation, band: &[Lanes], kernel: &[Lanes], start: &Lanes, sums: &mut [Lanes]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let (width, band_width) = (correlation.target[1], correlation.band_width());
    for (row, sums) in sums.chunks_exact_mut(width).enumerate() {
        let band = &band[row * correlation.strides[0] * band_width..];
        let mut at = 0;
        while at < width {
            let band = &band[at * correlation.strides[1]..];
            let sums = &mut sums[at..];
            at += match sums.len() {
                TOGETHER.. => some::<TOGETHER>(correlation, band, kernel, start, sums, fused),
                4.. => some::<4>(correlation, band, kernel, start, sums, fused),
                2.. => some::<2>(correlation, band, kernel, start, sums, fused),
                _ => some::<1>(correlation, band, kernel, start, sums, fused),
            };
        }
    }
}

/// Computes the next `N` positions of a row and returns their number.
#[inline(always)]
fn some<const N: usize>(
    correlation: &Correlation,
    band: &[Lanes],
    kernel: &[Lanes],
    start: &Lanes,
    sums: &mut [Lanes],
    fused: bool,
) -> usize {
    let width = correlation.band_width();
    let step = correlation.strides[1];
    let mut sum = [*start; N];
    for (i, kernel) in kernel.chunks_exact(correlation.kernel[1]).enumerate() {
        let row = &band[i * correlation.dilations[0] * width..];
        for (j, weight) in kernel.iter().enumerate() {
            let met = &row[j * correlation.dilations[1]..][..(N - 1) * step + 1];
            for (at, sum) in sum.iter_mut().enumerate() {
                // SAFETY: `at` is below N, and `met` has (N − 1) · step + 1 vectors.
                sum.add_product(unsafe { met.get_unchecked(at * step) }, weight, fused);
            }
        }
    }
    sums[..N].copy_from_slice(&sum);
    N
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn accumulate(correlation: &Correlation, band: &[Lanes], gradients: &[Lanes], total: &mut [Lanes]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let [rows, columns] = correlation.kernel;
    let is_dense = correlation.dilations[1] == 1;
    match (rows, columns) {
        (3, 3) if is_dense => elements::<3, 3>(correlation, band, gradients, total, [0, 0], fused),
        (_, 3) if is_dense => {
            (0..rows).for_each(|i| elements::<1, 3>(correlation, band, gradients, total, [i, 0], fused))
        }
        (_, 5) if is_dense => {
            (0..rows).for_each(|i| elements::<1, 5>(correlation, band, gradients, total, [i, 0], fused))
        }
        (_, 7) if is_dense => {
            (0..rows).for_each(|i| elements::<1, 7>(correlation, band, gradients, total, [i, 0], fused))
        }
        _ => {
            for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                elements::<1, 1>(correlation, band, gradients, total, [i, j], fused);
            }
        }
    }
}

/// Adds the products for `ROWS` × `COLUMNS` elements of the kernel, the first at `[row, column]`.
#[inline(always)]
fn elements<const ROWS: usize, const COLUMNS: usize>(
    correlation: &Correlation,
    band: &[Lanes],
    gradients: &[Lanes],
    total: &mut [Lanes],
    [row, column]: [usize; 2],
    fused: bool,
) {
    let (width, band_width) = (correlation.target[1], correlation.band_width());
    let [down, step] = correlation.strides;
    let [dilation, spread] = correlation.dilations;
    let mut sums = [[Lanes::ZERO; COLUMNS]; ROWS];
    for (at, gradients) in gradients.chunks_exact(width).enumerate() {
        let met: [&[Lanes]; ROWS] = std::array::from_fn(|i| {
            let start = (at * down + (row + i) * dilation) * band_width + column * spread;
            &band[start..][..(width - 1) * step + COLUMNS]
        });
        for (at, gradient) in gradients.iter().enumerate() {
            for (met, sums) in met.iter().zip(&mut sums) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: `at` is below the width, and `met` has (width − 1) · step + COLUMNS vectors.
                    sum.add_product(unsafe { met.get_unchecked(at * step + j) }, gradient, fused);
                }
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, sum) in sums.iter().enumerate() {
            let total = &mut total[(row + i) * correlation.kernel[1] + column + j];
            total.add_product(sum, &Lanes([1.0; LANES]), fused);
        }
    }
}
