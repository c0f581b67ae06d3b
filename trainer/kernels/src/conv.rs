//! Convolution and its two gradients as products over the whole batch.
//!
//! One factor of the product is the windows that a kernel meets: they are read where they are, in planes with
//! a border. The other, weights or gradients, lies in panels of filters or channels. Positions of all images
//! follow each other, so that small planes fill tiles as well as large ones.

use std::ops::Range;

use crate::product::{Met, Panel, Panels, ROWS};
use crate::scratch::Scratch;
use crate::threads::{Shared, Threads};
use crate::transpose::{self, Rows, Target};

/// Steps along the inner dimension whose part of a panel stays in the cache.
const DEPTH: usize = 128;
/// Parts of a job that keep a usual number of threads busy.
const PARTS: usize = 64;
/// Most rows of a product in a part; their sums stay in the cache.
const BAND: usize = 16 * ROWS;
/// Channels whose weights are laid out by a part.
const CHANNELS: usize = 8;

/// Sizes of a convolution `[N,C,H,W]` → `[N,O,P,Q]`; two lengths are along H and W.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conv {
    pub images: usize,
    pub channels: usize,
    pub filters: usize,
    pub groups: usize,
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub pads: [usize; 2],
    pub dilations: [usize; 2],
}

/// Planes with a border of zeros, or without some of their rows and columns.
struct Padded {
    values: Scratch,
    /// Values of an image.
    image: usize,
    /// Distance from one plane to the next.
    plane: usize,
    /// Columns of a plane.
    width: usize,
}

/// The positions of a target that a product computes, and what they meet in its source.
struct Grid {
    /// Rows and columns of positions.
    sides: [usize; 2],
    /// Steps from one to the next in the source.
    strides: [usize; 2],
    /// Row and column of the first in the target, and steps from one to the next.
    start: [usize; 2],
    steps: [usize; 2],
}

/// Neighbouring positions of one image.
struct Run {
    /// Place of the first among those that are looked at.
    at: usize,
    image: usize,
    row: usize,
    column: usize,
    len: usize,
}

/// A part of a product: a band of its rows and a panel.
struct Part {
    panel: Panel,
    rows: Range<usize>,
}

/// The elements of a kernel that positions meet, each with its place in the source.
struct Taps {
    elements: Vec<usize>,
    places: Vec<usize>,
}

/// One side of the product: so many rows, which are filters or channels, from a sum over so many others.
struct Sides {
    rows: usize,
    inner: usize,
    /// Distance between the weights of neighbouring rows, and of neighbouring inner channels.
    strides: [usize; 2],
}

impl Conv {
    /// Writes the convolution of `x` with `weights` `[O,C/g,k,k]`, plus `bias` `[O]`, to `y`.
    pub fn forward(
        &self,
        x: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
        threads: &dyn Threads,
    ) {
        let (source, taps, grid) = self.windows(x, threads);
        let inner = self.channels / self.groups;
        let sides =
            Sides { rows: self.filters / self.groups, inner, strides: [inner * self.size(), self.size()] };
        let target = (Shared::new(y), self.output);
        self.correlate(&source, &taps, &grid, &sides, (weights, bias), &target, threads);
    }

    /// Writes the gradient of the input to `dx`, from `dy` and `weights`.
    pub fn data_gradient(&self, dy: &[f32], weights: &[f32], dx: &mut [f32], threads: &dyn Threads) {
        // The positions of the input whose distance is a multiple of the strides meet the same kernel
        // elements.
        let met: [Vec<Vec<(usize, isize)>>; 2] = [0, 1].map(|axis| {
            let (stride, pad) = (self.strides[axis] as isize, self.pads[axis] as isize);
            let of_rest = |rest: usize| {
                let place = |element: usize| rest as isize + pad - (element * self.dilations[axis]) as isize;
                let elements =
                    (0..self.kernel[axis]).filter(|&element| place(element).rem_euclid(stride) == 0);
                elements.map(|element| (element, place(element).div_euclid(stride))).collect()
            };
            (0..self.strides[axis]).map(of_rest).collect()
        });
        let count =
            |axis: usize, rest: usize| (self.input[axis].saturating_sub(rest)).div_ceil(self.strides[axis]);
        let before =
            [0, 1].map(|axis| -met[axis].iter().flatten().map(|&(_, place)| place).min().unwrap_or(0));
        let ends = [0, 1].map(|axis| {
            let end = |(rest, met): (usize, &Vec<(usize, isize)>)| {
                met.iter().map(|&(_, place)| count(axis, rest) as isize + place + before[axis]).max()
            };
            met[axis].iter().enumerate().filter_map(end).max().unwrap_or(1).max(1).cast_unsigned()
        });
        if met.iter().flatten().any(Vec::is_empty) {
            dx.fill(0.0);
        }
        let source = Padded::new(dy, self.images, self.output, (before, ends), threads);
        let rows = self.channels / self.groups;
        let inner = self.filters / self.groups;
        let sides = Sides { rows, inner, strides: [self.size(), rows * self.size()] };
        let target = (Shared::new(dx), self.input);
        for (top, rows) in met[0].iter().enumerate() {
            for (left, columns) in met[1].iter().enumerate() {
                let mut taps = Taps { elements: Vec::new(), places: Vec::new() };
                for (i, down) in rows {
                    for (j, right) in columns {
                        taps.elements.push(i * self.kernel[1] + j);
                        let place = [down + before[0], right + before[1]].map(isize::cast_unsigned);
                        taps.places.push(place[0] * source.width + place[1]);
                    }
                }
                let grid = Grid {
                    sides: [count(0, top), count(1, left)],
                    strides: [1; 2],
                    start: [top, left],
                    steps: self.strides,
                };
                if !taps.places.is_empty() && !grid.sides.contains(&0) {
                    self.correlate(&source, &taps, &grid, &sides, (weights, None), &target, threads);
                }
            }
        }
    }

    /// Writes the gradient of the weights to `dw` `[O,C/g,k,k]`, from `x` and `dy`.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32], threads: &dyn Threads) {
        let (source, taps, grid) = self.windows(x, threads);
        let (filters, channels) = (self.filters / self.groups, self.channels / self.groups);
        let (depth, positions) = (channels * self.size(), self.images * grid.area());
        let panels = Panels::of(filters, self.groups);
        let gradients = self.gradient_panels(dy, &panels, threads);
        let steps = grid.places(&source, 0..positions);
        let products = parts(&panels, depth);
        // Where there are few, each is a sum over several parts of the positions.
        let chunks = positions.div_ceil(DEPTH);
        let addends = PARTS.div_ceil(products.len()).min(chunks);
        let size = panels.width() * depth;
        let mut sums = Scratch::new(addends * size);
        let sums = Shared::new(&mut sums);
        let place = |Part { panel, rows }: &Part, addend: usize| {
            let start = addend * size + panel.start * depth;
            start + rows.start * panel.width..start + rows.end * panel.width
        };
        threads.run(products.len() * addends, &|job| {
            let (part, addend) = (&products[job / addends], job % addends);
            let Part { panel, rows } = part;
            // SAFETY: each part has its own range.
            let sums = unsafe { sums.range(place(part, addend)) };
            sums.fill(0.0);
            let channel = |row: usize| (panel.group * channels + row / self.size()) * source.plane;
            let rows: Vec<usize> =
                rows.clone().map(|row| channel(row) + taps.places[row % self.size()]).collect();
            let gradients = &gradients[panel.start * positions..];
            for chunk in chunks * addend / addends..chunks * (addend + 1) / addends {
                let range = chunk * DEPTH..positions.min((chunk + 1) * DEPTH);
                let met = Met { source: &source.values, rows: &rows, steps: &steps[range.clone()] };
                met.add_product(&gradients[range.start * panel.width..], panel.width, sums);
            }
        });
        let dw = Shared::new(dw);
        threads.run(products.len(), &|job| {
            let part @ Part { panel, rows } = &products[job];
            // SAFETY: each part has its own ranges.
            let total = unsafe { sums.range(place(part, 0)) };
            for addend in 1..addends {
                // SAFETY: as above.
                let sums = unsafe { sums.range(place(part, addend)) };
                total.iter_mut().zip(sums).for_each(|(total, sum)| *total += *sum);
            }
            let start = (panel.group * filters + panel.first) * depth + rows.start;
            let target = Target { values: &dw, start, stride: depth, count: panel.columns };
            // SAFETY: no other part writes these places.
            unsafe { transpose::write_rows(total, panel.width, target) };
        });
    }

    /// Elements of a kernel's plane.
    fn size(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The input with its border, the places of all elements of the kernel there, and the positions.
    fn windows(&self, x: &[f32], threads: &dyn Threads) -> (Padded, Taps, Grid) {
        let sides = [0, 1].map(|axis| {
            (self.output[axis] - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1
        });
        let border = (self.pads.map(usize::cast_signed), sides);
        let source = Padded::new(x, self.images, self.input, border, threads);
        let place = |at: usize| {
            at / self.kernel[1] * self.dilations[0] * source.width + at % self.kernel[1] * self.dilations[1]
        };
        let elements = 0..self.size();
        let taps = Taps { places: elements.clone().map(place).collect(), elements: elements.collect() };
        let grid = Grid { sides: self.output, strides: self.strides, start: [0; 2], steps: [1; 2] };
        (source, taps, grid)
    }

    /// The positions' gradients in panels of filters.
    fn gradient_panels(&self, dy: &[f32], panels: &Panels, threads: &dyn Threads) -> Scratch {
        let (filters, area) = (self.filters / self.groups, self.output[0] * self.output[1]);
        let positions = self.images * area;
        let mut gradients = Scratch::new(panels.width() * positions);
        let shared = Shared::new(&mut gradients);
        threads.run(panels.count() * self.images, &|job| {
            let (panel, image) = (panels.panel(job / self.images), job % self.images);
            let start = panel.start * positions + image * area * panel.width;
            // SAFETY: each part has its own range.
            let target = unsafe { shared.range(start..start + area * panel.width) };
            let values = &dy[(image * self.filters + panel.group * filters + panel.first) * area..];
            let rows = Rows { values, stride: area, count: panel.columns };
            transpose::write_columns(rows, area, target, panel.width);
        });
        gradients
    }

    /// Writes, at each position of the grid, the sum over what the taps meet.
    #[allow(clippy::too_many_arguments)] // Two matrices, what they come from and where they go.
    fn correlate(
        &self,
        source: &Padded,
        taps: &Taps,
        grid: &Grid,
        sides: &Sides,
        (weights, bias): (&[f32], Option<&[f32]>),
        (target, target_sides): &(Shared<'_>, [usize; 2]),
        threads: &dyn Threads,
    ) {
        let depth = sides.inner * taps.places.len();
        let panels = Panels::of(sides.rows, self.groups);
        let factors = self.weight_panels(weights, taps, sides, &panels, threads);
        let area = target_sides[0] * target_sides[1];
        let steps: Vec<usize> = (0..sides.inner)
            .flat_map(|channel| taps.places.iter().map(move |place| channel * source.plane + place))
            .collect();
        let parts = parts(&panels, self.images * grid.area());
        threads.run(parts.len(), &|job| {
            let Part { panel, rows: positions } = &parts[job];
            let mut sums = Scratch::new(positions.len() * panel.width);
            sums.fill(0.0);
            if let Some(bias) = bias {
                let bias = &bias[panel.group * sides.rows + panel.first..][..panel.columns];
                sums.chunks_exact_mut(panel.width).for_each(|sums| sums[..bias.len()].copy_from_slice(bias));
            }
            let mut rows = grid.places(source, positions.clone());
            rows.iter_mut().for_each(|row| *row += panel.group * sides.inner * source.plane);
            for first in (0..depth).step_by(DEPTH) {
                let steps = &steps[first..depth.min(first + DEPTH)];
                let met = Met { source: &source.values, rows: &rows, steps };
                met.add_product(
                    &factors[panel.start * depth + first * panel.width..],
                    panel.width,
                    &mut sums,
                );
            }
            let is_whole = grid.steps == [1, 1];
            for run in grid.runs(positions.clone(), is_whole) {
                let sums = &sums[run.at * panel.width..(run.at + run.len) * panel.width];
                let plane = (run.image * self.groups + panel.group) * sides.rows + panel.first;
                let line = grid.start[0] + run.row * grid.steps[0];
                let column = grid.start[1] + run.column * grid.steps[1];
                let start = plane * area + line * target_sides[1] + column;
                if is_whole {
                    let target = Target { values: target, start, stride: area, count: panel.columns };
                    // SAFETY: no other part writes these places.
                    unsafe { transpose::write_rows(sums, panel.width, target) };
                    continue;
                }
                for row in 0..panel.columns {
                    let start = start + row * area;
                    // SAFETY: no other part writes these positions of the row.
                    let target = unsafe { target.range(start..start + (run.len - 1) * grid.steps[1] + 1) };
                    let sums = sums[row..].iter().step_by(panel.width);
                    for (target, sum) in target.iter_mut().step_by(grid.steps[1]).zip(sums) {
                        *target = *sum;
                    }
                }
            }
        });
    }

    /// The weights in panels of rows.
    fn weight_panels(
        &self,
        weights: &[f32],
        taps: &Taps,
        sides: &Sides,
        panels: &Panels,
        threads: &dyn Threads,
    ) -> Scratch {
        let size = taps.elements.len();
        let depth = sides.inner * size;
        let mut factors = Scratch::new(panels.width() * depth);
        let shared = Shared::new(&mut factors);
        let group_size = weights.len() / self.groups;
        let blocks = sides.inner.div_ceil(CHANNELS);
        threads.run(panels.count() * blocks, &|job| {
            let (panel, block) = (panels.panel(job / blocks), job % blocks);
            let channels = block * CHANNELS..sides.inner.min((block + 1) * CHANNELS);
            let place = |channel: usize| panel.start * depth + channel * size * panel.width;
            // SAFETY: each part has its own range.
            let factors = unsafe { shared.range(place(channels.start)..place(channels.end)) };
            let weights = &weights[panel.group * group_size + panel.first * sides.strides[0]..];
            let rows = |channel: usize| Rows {
                values: &weights[channel * sides.strides[1]..],
                stride: sides.strides[0],
                count: panel.columns,
            };
            let is_whole = size == self.size();
            if is_whole && sides.strides[1] == size {
                let len = channels.len() * size;
                return transpose::write_columns(rows(channels.start), len, factors, panel.width);
            }
            for (channel, factors) in channels.zip(factors.chunks_exact_mut(size * panel.width)) {
                let rows = rows(channel);
                if is_whole {
                    transpose::write_columns(rows, size, factors, panel.width);
                    continue;
                }
                for (element, factors) in taps.elements.iter().zip(factors.chunks_exact_mut(panel.width)) {
                    let rows = Rows { values: &rows.values[*element..], ..rows };
                    transpose::write_columns(rows, 1, factors, panel.width);
                }
            }
        });
        factors
    }
}

impl Grid {
    fn area(&self) -> usize {
        self.sides[0] * self.sides[1]
    }

    /// The places in the source of a range of the positions of all images.
    fn places(&self, source: &Padded, range: Range<usize>) -> Vec<usize> {
        let mut places = Vec::with_capacity(range.len());
        for run in self.runs(range, false) {
            let [row, column] = [run.row * self.strides[0], run.column * self.strides[1]];
            let first = run.image * source.image + row * source.width + column;
            places.extend((0..run.len).map(|at| first + at * self.strides[1]));
        }
        places
    }

    /// A range of the positions of all images, row by row; or, where rows follow each other, image by image.
    fn runs(&self, range: Range<usize>, is_whole: bool) -> impl Iterator<Item = Run> {
        let [rows, columns] = if is_whole { [1, self.area()] } else { self.sides };
        let mut next = range.start;
        std::iter::from_fn(move || {
            (next < range.end).then(|| {
                let (line, column) = (next / columns, next % columns);
                let len = (columns - column).min(range.end - next);
                let run = Run { at: next - range.start, image: line / rows, row: line % rows, column, len };
                next += len;
                run
            })
        })
    }
}

impl Padded {
    /// `source` with so many rows and columns of zeros before its own (or without so many), of so many in
    /// all.
    fn new(
        source: &[f32],
        images: usize,
        sides: [usize; 2],
        (before, ends): ([isize; 2], [usize; 2]),
        threads: &dyn Threads,
    ) -> Self {
        let (area, size) = (sides[0] * sides[1], ends[0] * ends[1]);
        let plane = distance(size);
        let planes = source.len() / area;
        let mut values = Scratch::new(planes * plane);
        let shared = Shared::new(&mut values);
        let inside = |axis: usize| {
            let start = before[axis].max(0).cast_unsigned().min(ends[axis]);
            let end = (before[axis] + sides[axis].cast_signed()).max(0).cast_unsigned().min(ends[axis]);
            start..end.max(start)
        };
        let (rows, columns) = (inside(0), inside(1));
        threads.run(planes, &|at| {
            // SAFETY: each part has its own plane.
            let target = unsafe { shared.range(at * plane..at * plane + size) };
            for (row, target) in target.chunks_exact_mut(ends[1]).enumerate() {
                if !rows.contains(&row) || columns.is_empty() {
                    target.fill(0.0);
                    continue;
                }
                let line = (row.cast_signed() - before[0]).cast_unsigned();
                let first = (columns.start.cast_signed() - before[1]).cast_unsigned();
                target[..columns.start].fill(0.0);
                let source = &source[at * area + line * sides[1] + first..];
                target[columns.clone()].copy_from_slice(&source[..columns.len()]);
                target[columns.end..].fill(0.0);
            }
        });
        Self { values, image: planes / images * plane, plane, width: ends[1] }
    }
}

/// The distance between planes of so many values: what is read of many planes at once is not kept in the same
/// few places of a cache, as where the distance is a multiple of a power of two.
fn distance(size: usize) -> usize {
    const LINE: usize = 16;
    let lines = size.div_ceil(LINE);
    if lines.is_multiple_of(4) { (lines + 1) * LINE } else { size }
}

/// The parts of a product of so many rows with each panel.
fn parts(panels: &Panels, rows: usize) -> Vec<Part> {
    let band = (panels.count() * rows).div_ceil(PARTS).next_multiple_of(ROWS).clamp(2 * ROWS, BAND);
    let bands = || (0..rows).step_by(band).map(|start| start..rows.min(start + band));
    (0..panels.count())
        .flat_map(|at| bands().map(move |rows| Part { panel: panels.panel(at), rows }))
        .collect()
}
