//! Products of matrices that lie in panels.
//!
//! A panel of the first factor has [`ROWS`] values for each step along the inner dimension, one of the second
//! [`COLUMNS`]; their product is a tile. The sums of a tile fill the registers of AVX-512.

use crate::lanes::add_product;

/// Rows of a tile.
pub(crate) const ROWS: usize = 8;
/// Columns of a tile.
pub(crate) const COLUMNS: usize = 48;

/// Adds the product of two panels of `depth` steps to `tile`, row after row.
pub(crate) fn multiply(depth: usize, a: &[f32], b: &[f32], tile: &mut [f32]) {
    assert!(a.len() >= depth * ROWS && b.len() >= depth * COLUMNS && tile.len() >= ROWS * COLUMNS);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function uses, and the panels have their lengths.
            return unsafe { x86::whole(depth, a.as_ptr(), b.as_ptr(), tile.as_mut_ptr()) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { x86::quarters(depth, a.as_ptr(), b.as_ptr(), tile.as_mut_ptr()) };
        }
    }
    plain(depth, a, b, tile, cfg!(target_arch = "aarch64"));
}

fn plain(depth: usize, a: &[f32], b: &[f32], tile: &mut [f32], fused: bool) {
    for (row, tile) in tile.chunks_exact_mut(COLUMNS).enumerate().take(ROWS) {
        let mut sums = [0.0f32; COLUMNS];
        for (a, b) in a.chunks_exact(ROWS).zip(b.chunks_exact(COLUMNS)).take(depth) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = add_product(*sum, a[row], *b, fused);
            }
        }
        for (tile, sum) in tile.iter_mut().zip(sums) {
            *tile += sum;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{COLUMNS, ROWS};

    /// # Safety
    /// The panels have `depth` steps and the tile is whole.
    #[target_feature(enable = "avx512f,fma")]
    pub unsafe fn whole(depth: usize, a: *const f32, b: *const f32, tile: *mut f32) {
        const LANES: usize = 16;
        let mut sums = [[_mm512_setzero_ps(); 3]; ROWS];
        for step in 0..depth {
            // SAFETY: the panels have `depth` steps.
            let (a, b) = unsafe { (a.add(step * ROWS), b.add(step * COLUMNS)) };
            // SAFETY: a step of `b` has three vectors.
            let columns = unsafe { [0, 1, 2].map(|vector| _mm512_loadu_ps(b.add(vector * LANES))) };
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: a step of `a` has so many rows.
                let value = _mm512_set1_ps(unsafe { *a.add(row) });
                sums[0] = _mm512_fmadd_ps(value, columns[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(value, columns[1], sums[1]);
                sums[2] = _mm512_fmadd_ps(value, columns[2], sums[2]);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                // SAFETY: the tile is whole.
                unsafe {
                    let place = tile.add(row * COLUMNS + half * LANES);
                    _mm512_storeu_ps(place, _mm512_add_ps(_mm512_loadu_ps(place), *sum));
                }
            }
        }
    }

    /// Half the rows and columns at a time, for half as many registers of half the length.
    ///
    /// # Safety
    /// The panels have `depth` steps and the tile is whole.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn quarters(depth: usize, a: *const f32, b: *const f32, tile: *mut f32) {
        for (row, column) in [(0, 0), (0, COLUMNS / 2), (ROWS / 2, 0), (ROWS / 2, COLUMNS / 2)] {
            // SAFETY: these are places in panels and tile.
            unsafe { quarter(depth, a.add(row), b.add(column), tile.add(row * COLUMNS + column)) };
        }
    }

    /// # Safety
    /// `a`, `b` and `tile` are places in whole panels and a tile, half of whose rows and columns follow.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn quarter(depth: usize, a: *const f32, b: *const f32, tile: *mut f32) {
        const LANES: usize = 8;
        let mut sums = [[_mm256_setzero_ps(); 3]; ROWS / 2];
        for step in 0..depth {
            // SAFETY: the panels have `depth` steps.
            let (a, b) = unsafe { (a.add(step * ROWS), b.add(step * COLUMNS)) };
            // SAFETY: half a step of `b` has three vectors.
            let columns = unsafe { [0, 1, 2].map(|vector| _mm256_loadu_ps(b.add(vector * LANES))) };
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: half a step of `a` has so many rows.
                let value = _mm256_set1_ps(unsafe { *a.add(row) });
                sums[0] = _mm256_fmadd_ps(value, columns[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(value, columns[1], sums[1]);
                sums[2] = _mm256_fmadd_ps(value, columns[2], sums[2]);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                // SAFETY: the tile is whole.
                unsafe {
                    let place = tile.add(row * COLUMNS + half * LANES);
                    _mm256_storeu_ps(place, _mm256_add_ps(_mm256_loadu_ps(place), *sum));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_adds_the_product_of_its_panels() {
        // Small integers: no form rounds.
        let depth = 5;
        let a: Vec<f32> = (0..depth * ROWS).map(|i| (i % 7) as f32).collect();
        let b: Vec<f32> = (0..depth * COLUMNS).map(|i| (i % 11) as f32).collect();
        let check = |what: &str, form: &dyn Fn(&mut [f32])| {
            let mut tile = vec![0.5; ROWS * COLUMNS];
            form(&mut tile);
            for (at, found) in tile.iter().enumerate() {
                let (row, column) = (at / COLUMNS, at % COLUMNS);
                let product: f32 = (0..depth).map(|k| a[k * ROWS + row] * b[k * COLUMNS + column]).sum();
                assert_eq!(*found, 0.5 + product, "{what}, row {row}, column {column}");
            }
        };
        check("chosen", &|tile| multiply(depth, &a, &b, tile));
        check("plain", &|tile| plain(depth, &a, &b, tile, false));
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has what the function uses.
            check("AVX2", &|tile| unsafe { x86::quarters(depth, a.as_ptr(), b.as_ptr(), tile.as_mut_ptr()) });
        }
    }
}
