//! Convolution and its two gradients as products over the whole batch.
//!
//! The windows that a kernel meets are one factor of the product; they are collected a panel at a time, in
//! the cache, and never lie in memory as a whole. Positions of all images follow each other, so that small
//! planes fill panels as well as large ones.

use std::ops::Range;

use crate::product::{COLUMNS, ROWS, multiply};
use crate::scratch::Scratch;
use crate::threads::{Shared, Threads};
use crate::transpose::{self, BLOCK, Block};

/// Steps along the inner dimension whose panels stay in the cache.
const DEPTH: usize = 384;
/// Parts of a job that keep a usual number of threads busy.
const PARTS: usize = 16;
/// Values that may be written after a run, since runs are copied in whole vectors.
const SLACK: usize = 2 * BLOCK;

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
    /// Values of a plane.
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

/// Positions in one row of one image.
struct Run {
    /// Place of the first among those that are looked at.
    at: usize,
    image: usize,
    row: usize,
    column: usize,
    len: usize,
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
        let source = self.padded_input(x, threads);
        let taps = self.taps(source.width);
        let grid = Grid { sides: self.output, strides: self.strides, start: [0; 2], steps: [1; 2] };
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
        let source = Padded::new(dy, self.images, self.output, (before, ends), 1, threads);
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
        let source = self.padded_input(x, threads);
        let taps = self.taps(source.width);
        let grid = Grid { sides: self.output, strides: self.strides, start: [0; 2], steps: [1; 2] };
        let (filters, channels) = (self.filters / self.groups, self.channels / self.groups);
        let (depth, positions) = (channels * self.size(), self.images * grid.area());
        let (panels, tiles) = (filters.div_ceil(ROWS), depth.div_ceil(COLUMNS));
        let gradients = self.gradient_panels(dy, threads);
        let chunks = positions.div_ceil(DEPTH);
        let parts = PARTS.div_ceil(self.groups * tiles).min(chunks);
        let size = panels * ROWS * COLUMNS;
        let mut sums = Scratch::new(self.groups * tiles * parts * size);
        let shared = Shared::new(&mut sums);
        threads.run(self.groups * tiles * parts, &|job| {
            let (group, tile, part) = (job / parts / tiles, job / parts % tiles, job % parts);
            // SAFETY: each part has its own range.
            let sums = unsafe { shared.range(job * size..(job + 1) * size) };
            sums.fill(0.0);
            let mut windows = Scratch::new((DEPTH + SLACK) * COLUMNS);
            // Columns after the last element repeat the first.
            let places: [usize; COLUMNS] = std::array::from_fn(|column| {
                let at = if tile * COLUMNS + column < depth { tile * COLUMNS + column } else { 0 };
                (group * channels + at / self.size()) * source.plane + taps.places[at % self.size()]
            });
            for chunk in chunks * part / parts..chunks * (part + 1) / parts {
                let range = chunk * DEPTH..positions.min((chunk + 1) * DEPTH);
                for run in grid.runs(range.clone()) {
                    let place = source.place(&grid, &run);
                    collect_columns(
                        &source.values,
                        place,
                        &places,
                        grid.strides[1],
                        run.len,
                        &mut windows[run.at * COLUMNS..],
                    );
                }
                for (panel, tile) in sums.chunks_exact_mut(ROWS * COLUMNS).enumerate() {
                    let a = &gradients[((group * panels + panel) * positions + range.start) * ROWS..];
                    multiply(range.len(), a, &windows, tile);
                }
            }
        });
        let dw = Shared::new(dw);
        threads.run(self.filters, &|filter| {
            let (group, row) = (filter / filters, filter % filters);
            // SAFETY: each part has its own range.
            let dw = unsafe { dw.range(filter * depth..(filter + 1) * depth) };
            for (tile, dw) in dw.chunks_mut(COLUMNS).enumerate() {
                dw.fill(0.0);
                for part in 0..parts {
                    let start = ((group * tiles + tile) * parts + part) * size + row * COLUMNS;
                    for (dw, sum) in dw.iter_mut().zip(&sums[start..start + COLUMNS]) {
                        *dw += sum;
                    }
                }
            }
        });
    }

    /// Elements of a kernel's plane.
    fn size(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn padded_input(&self, x: &[f32], threads: &dyn Threads) -> Padded {
        let sides = [0, 1].map(|axis| {
            (self.output[axis] - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1
        });
        let border = (self.pads.map(usize::cast_signed), sides);
        Padded::new(x, self.images, self.input, border, self.strides[1], threads)
    }

    /// All elements of the kernel, in planes of `width` columns.
    fn taps(&self, width: usize) -> Taps {
        let elements = 0..self.size();
        let place = |at: usize| {
            at / self.kernel[1] * self.dilations[0] * width + at % self.kernel[1] * self.dilations[1]
        };
        Taps { places: elements.clone().map(place).collect(), elements: elements.collect() }
    }

    /// The positions' gradients in panels of [`ROWS`] filters.
    fn gradient_panels(&self, dy: &[f32], threads: &dyn Threads) -> Scratch {
        let (filters, area) = (self.filters / self.groups, self.output[0] * self.output[1]);
        let (panels, positions) = (filters.div_ceil(ROWS), self.images * area);
        let mut gradients = Scratch::new(self.groups * panels * positions * ROWS);
        let shared = Shared::new(&mut gradients);
        threads.run(self.groups * panels * self.images, &|job| {
            let (panel, image) = (job / self.images, job % self.images);
            let (group, first) = (panel / panels, panel % panels * ROWS);
            // SAFETY: each part has its own range.
            let target = unsafe { shared.range(job * area * ROWS..(job + 1) * area * ROWS) };
            let count = ROWS.min(filters - first);
            if count < ROWS {
                target.fill(0.0);
            }
            let start = (image * self.filters + group * filters + first) * area;
            for row in 0..count {
                let plane = &dy[start + row * area..][..area];
                for (target, value) in target[row..].iter_mut().step_by(ROWS).zip(plane) {
                    *target = *value;
                }
            }
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
        let panels = sides.rows.div_ceil(ROWS);
        let factors = self.weight_panels(weights, taps, sides, threads);
        let positions = self.images * grid.area();
        let tiles = positions.div_ceil(COLUMNS);
        let area = target_sides[0] * target_sides[1];
        let places: Vec<usize> = (0..sides.inner)
            .flat_map(|channel| taps.places.iter().map(move |place| channel * source.plane + place))
            .collect();
        threads.run(self.groups * tiles, &|job| {
            let (group, tile) = (job / tiles, job % tiles);
            let range = tile * COLUMNS..positions.min((tile + 1) * COLUMNS);
            let runs: Vec<Run> = grid.runs(range).collect();
            let channel = group * sides.inner * source.plane;
            let pieces: Vec<Piece> = runs
                .iter()
                .flat_map(|run| {
                    let start = source.place(grid, run) + channel;
                    let piece = move |at| Piece { from: start + at * grid.strides[1], to: run.at + at };
                    (0..run.len).step_by(BLOCK).map(piece)
                })
                .collect();
            let mut sums = Scratch::new(panels * ROWS * COLUMNS);
            for (row, sums) in sums.chunks_exact_mut(COLUMNS).enumerate() {
                let bias = bias.filter(|_| row < sides.rows);
                sums.fill(bias.map_or(0.0, |bias| bias[group * sides.rows + row]));
            }
            let mut windows = Scratch::new(DEPTH * COLUMNS + SLACK);
            for start in (0..depth).step_by(DEPTH) {
                let places = &places[start..depth.min(start + DEPTH)];
                collect_rows(&source.values, places, grid.strides[1], &pieces, &mut windows);
                for (panel, tile) in sums.chunks_exact_mut(ROWS * COLUMNS).enumerate() {
                    let a = &factors[((group * panels + panel) * depth + start) * ROWS..];
                    multiply(places.len(), a, &windows, tile);
                }
            }
            for (row, sums) in sums.chunks_exact(COLUMNS).enumerate().take(sides.rows) {
                for run in &runs {
                    let plane = (run.image * self.groups + group) * sides.rows + row;
                    let line = grid.start[0] + run.row * grid.steps[0];
                    let column = grid.start[1] + run.column * grid.steps[1];
                    let at = plane * area + line * target_sides[1] + column;
                    // SAFETY: no other part writes these positions of the row.
                    let target = unsafe { target.range(at..at + (run.len - 1) * grid.steps[1] + 1) };
                    let sums = &sums[run.at..run.at + run.len];
                    if grid.steps[1] == 1 {
                        target.copy_from_slice(sums);
                    } else {
                        for (target, sum) in target.iter_mut().step_by(grid.steps[1]).zip(sums) {
                            *target = *sum;
                        }
                    }
                }
            }
        });
    }

    /// The weights in panels of [`ROWS`] rows.
    fn weight_panels(&self, weights: &[f32], taps: &Taps, sides: &Sides, threads: &dyn Threads) -> Scratch {
        let (panels, depth) = (sides.rows.div_ceil(ROWS), sides.inner * taps.elements.len());
        let mut factors = Scratch::new(self.groups * panels * depth * ROWS);
        let shared = Shared::new(&mut factors);
        let group_size = weights.len() / self.groups;
        threads.run(self.groups * panels, &|panel| {
            let (group, first) = (panel / panels, panel % panels * ROWS);
            // SAFETY: each part has its own range.
            let factors = unsafe { shared.range(panel * depth * ROWS..(panel + 1) * depth * ROWS) };
            let count = ROWS.min(sides.rows - first);
            if count < ROWS {
                factors.fill(0.0);
            }
            for row in 0..count {
                let weights = &weights[group * group_size + (first + row) * sides.strides[0]..];
                let mut factors = factors[row..].iter_mut().step_by(ROWS);
                for channel in 0..sides.inner {
                    let weights = &weights[channel * sides.strides[1]..];
                    for (element, factor) in taps.elements.iter().zip(&mut factors) {
                        *factor = weights[*element];
                    }
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

    /// A range of the positions of all images, row by row.
    fn runs(&self, range: Range<usize>) -> impl Iterator<Item = Run> {
        let [rows, columns] = self.sides;
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
    /// all; a vector of values that are `step` apart can be read from every one.
    fn new(
        source: &[f32],
        images: usize,
        sides: [usize; 2],
        (before, ends): ([isize; 2], [usize; 2]),
        step: usize,
        threads: &dyn Threads,
    ) -> Self {
        let (area, plane) = (sides[0] * sides[1], ends[0] * ends[1]);
        let planes = source.len() / area;
        let mut values = Scratch::new(planes * plane + BLOCK * step);
        let shared = Shared::new(&mut values);
        // What is read after the last plane is not used, but must be there.
        let inside = |axis: usize| {
            let start = before[axis].max(0).cast_unsigned().min(ends[axis]);
            let end = (before[axis] + sides[axis].cast_signed()).max(0).cast_unsigned().min(ends[axis]);
            start..end.max(start)
        };
        let (rows, columns) = (inside(0), inside(1));
        threads.run(planes, &|at| {
            // SAFETY: each part has its own plane.
            let target = unsafe { shared.range(at * plane..(at + 1) * plane) };
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

    /// Place of the first position of a run in the first plane of its image.
    fn place(&self, grid: &Grid, run: &Run) -> usize {
        run.image * self.image + run.row * grid.strides[0] * self.width + run.column * grid.strides[1]
    }
}

/// Neighbouring positions of a tile, a vector of them.
struct Piece {
    /// Place of the first in the source.
    from: usize,
    /// Its column.
    to: usize,
}

/// Writes what the positions of a tile meet at each of `places`, a step of the panel for each. Up to a vector
/// more is written after the last position of a run, where the next run or the next step follows.
fn collect_rows(source: &[f32], places: &[usize], step: usize, pieces: &[Piece], windows: &mut [f32]) {
    let last = |of: fn(&Piece) -> usize| pieces.iter().map(of).max().unwrap_or(0);
    let (from, to) = (last(|piece| piece.from), last(|piece| piece.to));
    let place = places.iter().max().copied().unwrap_or(0);
    assert!(from + place + (BLOCK - 1) * step < source.len());
    assert!(places.len().saturating_sub(1) * COLUMNS + to + BLOCK <= windows.len());
    for (at, place) in places.iter().enumerate() {
        for piece in pieces {
            // SAFETY: the places are not beyond those that were looked at above.
            unsafe {
                let (source, target) = (
                    source.as_ptr().add(place + piece.from),
                    windows.as_mut_ptr().add(at * COLUMNS + piece.to),
                );
                match step {
                    1 => target.cast::<Block>().write_unaligned(source.cast::<Block>().read_unaligned()),
                    _ => (0..BLOCK).for_each(|value| *target.add(value) = *source.add(value * step)),
                }
            }
        }
    }
}

/// Writes, for each of `len` positions that are `step` apart, the values at `places` from there; up to a
/// vector of positions more is written.
fn collect_columns(
    source: &[f32],
    start: usize,
    places: &[usize; COLUMNS],
    step: usize,
    len: usize,
    target: &mut [f32],
) {
    if step == 1 {
        collect_neighbours(source, start, places, len, target);
    } else {
        for (at, target) in target.chunks_exact_mut(COLUMNS).enumerate().take(len) {
            for (target, place) in target.iter_mut().zip(places) {
                *target = source[start + place + at * step];
            }
        }
    }
}

/// [`collect_columns`] of neighbouring positions.
fn collect_neighbours(
    source: &[f32],
    start: usize,
    places: &[usize; COLUMNS],
    len: usize,
    target: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn by_avx2(source: &[f32], start: usize, places: &[usize; COLUMNS], len: usize, target: &mut [f32]) {
            collect_blocks(source, start, places, len, target, |rows| transpose::avx2(rows));
        }
        // SAFETY: the processor has AVX2.
        return unsafe { by_avx2(source, start, places, len, target) };
    }
    collect_blocks(source, start, places, len, target, transpose::plain);
}

#[inline(always)]
fn collect_blocks(
    source: &[f32],
    start: usize,
    places: &[usize; COLUMNS],
    len: usize,
    target: &mut [f32],
    transpose: impl Fn([&Block; BLOCK]) -> [Block; BLOCK],
) {
    for at in (0..len).step_by(BLOCK) {
        for (block, places) in places.as_chunks::<BLOCK>().0.iter().enumerate() {
            let rows =
                places.map(|place| source[start + place + at..].first_chunk().expect("there is slack"));
            for (row, values) in transpose(rows).iter().enumerate() {
                target[(at + row) * COLUMNS + block * BLOCK..][..BLOCK].copy_from_slice(values);
            }
        }
    }
}
