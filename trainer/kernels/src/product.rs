//! Products of a matrix whose values lie anywhere in a buffer with panels of vectors.
//!
//! Row r of the first factor meets, at step s along the inner dimension, the value `source[rows[r] +
//! steps[s]]`, so that the windows of a convolution are read where they are. A panel of the second factor has
//! a vector of neighbouring columns for each step. The sums of a tile fill the registers.

use crate::lanes::{LANES, add_product};

/// Most columns of a panel.
pub(crate) const WIDEST: usize = 4 * LANES;
/// A number of rows that tiles of every width divide.
pub(crate) const ROWS: usize = 24;

/// Most rows of a tile.
const TILE: usize = 8;

/// The columns of second factors, one for each group, cut into panels whose widths are multiples of
/// [`LANES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panels {
    columns: usize,
    groups: usize,
}

/// One panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    pub group: usize,
    /// The first of its columns.
    pub first: usize,
    /// Number of columns.
    pub columns: usize,
    /// Columns with those that fill the last vector.
    pub width: usize,
    /// Widths of all panels before it.
    pub start: usize,
}

impl Panels {
    pub fn of(columns: usize, groups: usize) -> Self {
        Self { columns, groups }
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.groups * self.of_group()
    }

    /// Widths of all panels together.
    pub fn width(&self) -> usize {
        self.groups * self.columns.next_multiple_of(LANES)
    }

    /// The panel of that number; widths in a group differ by a vector at most.
    pub fn panel(&self, at: usize) -> Panel {
        let (group, at) = (at / self.of_group(), at % self.of_group());
        let first = |at: usize| self.columns.div_ceil(LANES) * at / self.of_group() * LANES;
        let (first, end) = (first(at), first(at + 1));
        let start = group * self.columns.next_multiple_of(LANES) + first;
        Panel { group, first, columns: end.min(self.columns) - first, width: end - first, start }
    }

    fn of_group(&self) -> usize {
        self.columns.div_ceil(WIDEST)
    }
}

/// The first factor, each place of which is in `source`.
#[derive(Clone, Copy)]
pub(crate) struct Met<'a> {
    pub source: &'a [f32],
    pub rows: &'a [usize],
    pub steps: &'a [usize],
}

impl Met<'_> {
    /// Adds the product with a panel of vectors of `width` to `sums`, row after row. A sum is over the steps
    /// in their order and then added, whatever the width and the processor.
    pub fn add_product(&self, panel: &[f32], width: usize, sums: &mut [f32]) {
        let Self { source, rows, steps } = *self;
        let last = |places: &[usize]| places.iter().max().copied().unwrap_or(0);
        assert!(rows.is_empty() || steps.is_empty() || last(rows) + last(steps) < source.len());
        assert!(panel.len() >= steps.len() * width && sums.len() >= rows.len() * width);
        let tile = Tile::of(width);
        let (whole, rest) = rows.split_at(rows.len() / tile.rows * tile.rows);
        let (sums, rest_sums) = sums[..rows.len() * width].split_at_mut(whole.len() * width);
        for (rows, sums) in whole.chunks_exact(tile.rows).zip(sums.chunks_exact_mut(tile.rows * width)) {
            // SAFETY: the places are in the source, and so many steps and rows in panel and sums.
            unsafe { (tile.multiply)(source, rows, steps, panel, sums) };
        }
        if let Some(first) = rest.first() {
            // Rows that are missing repeat the first.
            let mut places = [*first; TILE];
            places[..rest.len()].copy_from_slice(rest);
            let mut sums = [0.0; TILE * WIDEST];
            sums[..rest_sums.len()].copy_from_slice(rest_sums);
            // SAFETY: as above.
            unsafe { (tile.multiply)(source, &places[..tile.rows], steps, panel, &mut sums) };
            rest_sums.copy_from_slice(&sums[..rest_sums.len()]);
        }
    }
}

/// How a tile is computed.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    /// From source, rows, steps and panel, added to the sums.
    ///
    /// # Safety
    /// The places are in the source; panel and sums have so many steps and rows of the tile's width.
    multiply: Multiply,
}

type Multiply = unsafe fn(&[f32], &[usize], &[usize], &[f32], &mut [f32]);

impl Tile {
    /// The one for panels of that width on this processor.
    fn of(width: usize) -> Self {
        assert!(width > 0 && width <= WIDEST && width.is_multiple_of(LANES));
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("fma") {
            if is_x86_feature_detected!("avx512f") {
                return Self::by_avx512(width);
            }
            if is_x86_feature_detected!("avx2") {
                return Self::by_avx2(width);
            }
        }
        Self::plain(width, cfg!(target_arch = "aarch64"))
    }

    #[cfg(target_arch = "x86_64")]
    fn by_avx512(width: usize) -> Self {
        match width / LANES {
            1 => Self { rows: 8, multiply: x86::whole::<1, 8> },
            2 => Self { rows: 8, multiply: x86::whole::<2, 8> },
            3 => Self { rows: 8, multiply: x86::whole::<3, 8> },
            _ => Self { rows: 6, multiply: x86::whole::<4, 6> },
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn by_avx2(width: usize) -> Self {
        let multiply = match width / LANES {
            1 => x86::halves::<1>,
            2 => x86::halves::<2>,
            3 => x86::halves::<3>,
            _ => x86::halves::<4>,
        };
        Self { rows: 6, multiply }
    }

    fn plain(width: usize, fused: bool) -> Self {
        let multiply = match (width / LANES, fused) {
            (1, false) => plain::<1, false>,
            (2, false) => plain::<2, false>,
            (3, false) => plain::<3, false>,
            (_, false) => plain::<4, false>,
            (1, true) => plain::<1, true>,
            (2, true) => plain::<2, true>,
            (3, true) => plain::<3, true>,
            (_, true) => plain::<4, true>,
        };
        Self { rows: 4, multiply }
    }
}

/// A vector of columns at a time.
fn plain<const VECTORS: usize, const FUSED: bool>(
    source: &[f32],
    rows: &[usize],
    steps: &[usize],
    panel: &[f32],
    sums: &mut [f32],
) {
    let (panel, sums) = (panel.as_chunks::<LANES>().0, sums.as_chunks_mut::<LANES>().0);
    for vector in 0..VECTORS {
        let mut totals = [[0.0f32; LANES]; 4];
        for (place, values) in steps.iter().zip(panel[vector..].iter().step_by(VECTORS)) {
            for (totals, row) in totals.iter_mut().zip(rows) {
                let met = source[row + place];
                for (total, value) in totals.iter_mut().zip(values) {
                    *total = add_product(*total, met, *value, FUSED);
                }
            }
        }
        for (sums, totals) in sums[vector..].iter_mut().step_by(VECTORS).zip(totals) {
            for (sum, total) in sums.iter_mut().zip(totals) {
                *sum += total;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::array::from_fn;

    use super::LANES;

    /// # Safety
    /// The places are in the source; panel and sums have so many steps and rows of so many vectors.
    #[target_feature(enable = "avx512f,fma")]
    pub unsafe fn whole<const VECTORS: usize, const ROWS: usize>(
        source: &[f32],
        rows: &[usize],
        steps: &[usize],
        panel: &[f32],
        sums: &mut [f32],
    ) {
        // SAFETY: the places are in the source.
        let met: [*const f32; ROWS] = from_fn(|row| unsafe { source.as_ptr().add(rows[row]) });
        let mut totals = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        for (step, place) in steps.iter().enumerate() {
            let at = |vector| (step * VECTORS + vector) * LANES;
            // SAFETY: the panel has a vector of so many steps.
            let values: [_; VECTORS] =
                from_fn(|vector| unsafe { _mm512_loadu_ps(panel.as_ptr().add(at(vector))) });
            for (totals, met) in totals.iter_mut().zip(met) {
                // SAFETY: the places are in the source.
                let met = _mm512_set1_ps(unsafe { *met.add(*place) });
                for (total, value) in totals.iter_mut().zip(values) {
                    *total = _mm512_fmadd_ps(met, value, *total);
                }
            }
        }
        for (at, total) in totals.as_flattened().iter().enumerate() {
            // SAFETY: the sums have so many rows of so many vectors.
            unsafe {
                let sums = sums.as_mut_ptr().add(at * LANES);
                _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), *total));
            }
        }
    }

    /// For half as many registers of half the length.
    ///
    /// # Safety
    /// As above, for six rows.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn halves<const VECTORS: usize>(
        source: &[f32],
        rows: &[usize],
        steps: &[usize],
        panel: &[f32],
        sums: &mut [f32],
    ) {
        const ROWS: usize = 6;
        // SAFETY: the places are in the source.
        let met: [*const f32; ROWS] = from_fn(|row| unsafe { source.as_ptr().add(rows[row]) });
        for vector in 0..VECTORS {
            let mut totals = [[_mm256_setzero_ps(); 2]; ROWS];
            for (step, place) in steps.iter().enumerate() {
                let at = |half| (step * VECTORS + vector) * LANES + half * LANES / 2;
                // SAFETY: the panel has a vector of so many steps.
                let values = [0, 1].map(|half| unsafe { _mm256_loadu_ps(panel.as_ptr().add(at(half))) });
                for (totals, met) in totals.iter_mut().zip(met) {
                    // SAFETY: the places are in the source.
                    let met = _mm256_set1_ps(unsafe { *met.add(*place) });
                    for (total, value) in totals.iter_mut().zip(values) {
                        *total = _mm256_fmadd_ps(met, value, *total);
                    }
                }
            }
            for (row, totals) in totals.iter().enumerate() {
                for (half, total) in totals.iter().enumerate() {
                    // SAFETY: the sums have so many rows of so many vectors.
                    unsafe {
                        let at = (row * VECTORS + vector) * LANES + half * LANES / 2;
                        let sums = sums.as_mut_ptr().add(at);
                        _mm256_storeu_ps(sums, _mm256_add_ps(_mm256_loadu_ps(sums), *total));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_adds_the_product_of_what_is_met() {
        // Small integers: no form rounds.
        let source: Vec<f32> = (0..400).map(|i| (i % 7) as f32).collect();
        let steps = [0, 5, 2, 90, 31];
        for width in [16, 32, 48, 64] {
            let panel: Vec<f32> = (0..steps.len() * width).map(|i| (i % 11) as f32).collect();
            let mut forms = vec![Tile::of(width), Tile::plain(width, false), Tile::plain(width, true)];
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                forms.push(Tile::by_avx2(width));
            }
            for Tile { rows, multiply } in forms {
                let rows: Vec<usize> = (0..rows).map(|row| row * 37 % 29).collect();
                let mut sums = vec![0.5; rows.len() * width];
                // SAFETY: the places are in the source, and panel and sums are whole.
                unsafe { multiply(&source, &rows, &steps, &panel, &mut sums) };
                for (at, found) in sums.iter().enumerate() {
                    let (row, column) = (at / width, at % width);
                    let product = |(step, place): (usize, &usize)| {
                        source[rows[row] + place] * panel[step * width + column]
                    };
                    let expected = 0.5 + steps.iter().enumerate().map(product).sum::<f32>();
                    assert_eq!(
                        *found,
                        expected,
                        "{} rows of {width}, row {row}, column {column}",
                        rows.len()
                    );
                }
            }
        }
    }

    #[test]
    fn a_number_of_rows_that_no_tile_divides_is_computed_whole_and_alone() {
        let source: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let rows: Vec<usize> = (0..ROWS + 5).collect();
        let panel = vec![2.0; 3 * WIDEST];
        let mut sums = vec![1.0; (rows.len() + 1) * WIDEST];
        Met { source: &source, rows: &rows, steps: &[0, 1, 30] }.add_product(&panel, WIDEST, &mut sums);
        for (at, found) in sums.iter().enumerate() {
            let row = at / WIDEST;
            let expected = if row < rows.len() { 1.0 + 2.0 * (3 * row + 31) as f32 } else { 1.0 };
            assert_eq!(*found, expected, "row {row}");
        }
    }

    #[test]
    #[should_panic(expected = "source.len()")]
    fn a_place_beyond_the_source_is_refused() {
        Met { source: &[0.0; 9], rows: &[3], steps: &[6] }.add_product(&[0.0; 16], 16, &mut [0.0; 16]);
    }

    #[test]
    fn panels_have_all_columns_and_widths_that_differ_by_a_vector_at_most() {
        for (columns, groups) in (1..=300).map(|columns| (columns, 1 + columns % 3)) {
            let panels = Panels::of(columns, groups);
            let all: Vec<Panel> = (0..panels.count()).map(|at| panels.panel(at)).collect();
            let (mut next, mut start) = ((0, 0), 0);
            for panel in &all {
                assert_eq!(((panel.group, panel.first), panel.start), (next, start), "{columns} columns");
                assert!(panel.columns <= panel.width && panel.width <= WIDEST, "{columns} columns");
                let end = panel.first + panel.columns;
                next = if end == columns { (panel.group + 1, 0) } else { (panel.group, end) };
                start += panel.width;
            }
            assert_eq!((next, start), ((groups, 0), panels.width()), "{columns} columns");
            let widths = || all.iter().map(|panel| panel.width);
            assert!(widths().max().unwrap() - widths().min().unwrap() <= LANES, "{columns} columns");
        }
    }
}
