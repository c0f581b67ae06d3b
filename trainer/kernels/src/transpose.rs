//! Transposition, by small blocks.

use std::ops::Range;

use crate::threads::Shared;

/// Side of a block.
pub(crate) const BLOCK: usize = 8;

/// Values that are written to a row at once.
const LINE: usize = 2 * BLOCK;
/// Columns that are written before the next: they stay in the cache.
const CHUNK: usize = 8 * BLOCK;

/// A row or a column of a block.
pub(crate) type Block = [f32; BLOCK];

/// The columns of a block, from its rows.
#[inline(always)]
pub(crate) fn plain(rows: [&Block; BLOCK]) -> [Block; BLOCK] {
    std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]))
}

/// The same, in registers.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn avx2(rows: [&Block; BLOCK]) -> [Block; BLOCK] {
    use std::arch::x86_64::*;

    // SAFETY: a row has the eight values that are read.
    let [a, b, c, d, e, f, g, h] = rows.map(|row| unsafe { _mm256_loadu_ps(row.as_ptr()) });
    // Pairs of rows, then fours, then all eight.
    let pairs = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let ((ab, ab_high), (cd, cd_high)) = (pairs(a, b), pairs(c, d));
    let ((ef, ef_high), (gh, gh_high)) = (pairs(e, f), pairs(g, h));
    let fours = |a, b| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xEE>(a, b));
    let ((s0, s1), (s2, s3)) = (fours(ab, cd), fours(ab_high, cd_high));
    let ((t0, t1), (t2, t3)) = (fours(ef, gh), fours(ef_high, gh_high));
    let low = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
    let high = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
    let columns = [
        low(s0, t0),
        low(s1, t1),
        low(s2, t2),
        low(s3, t3),
        high(s0, t0),
        high(s1, t1),
        high(s2, t2),
        high(s3, t3),
    ];
    // SAFETY: a vector is its eight values.
    columns.map(|column| unsafe { std::mem::transmute::<__m256, Block>(column) })
}

/// Rows of a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// All values.
    pub values: &'a [f32],
    /// Distance from one row to the next.
    pub stride: usize,
    /// Number of rows.
    pub count: usize,
}

/// Rows that are written.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// What holds them.
    pub values: &'a Shared<'a>,
    /// Place of the first.
    pub start: usize,
    /// Distance from one row to the next.
    pub stride: usize,
    /// Number of rows.
    pub count: usize,
}

/// Writes the first `len` columns of `rows` to `target`, one after the other: `width` values each, a multiple
/// of [`BLOCK`]. Those without a row become 0.
pub(crate) fn write_columns(rows: Rows<'_>, len: usize, target: &mut [f32], width: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn by_avx2(rows: Rows<'_>, len: usize, target: &mut [f32], width: usize) {
            write_columns_by(rows, len, target, width, |rows| avx2(rows));
        }
        // SAFETY: the processor has AVX2.
        return unsafe { by_avx2(rows, len, target, width) };
    }
    write_columns_by(rows, len, target, width, plain);
}

#[inline(always)]
fn write_columns_by(
    rows: Rows<'_>,
    len: usize,
    target: &mut [f32],
    width: usize,
    transpose: impl Fn([&Block; BLOCK]) -> [Block; BLOCK],
) {
    for (start, target) in (0..len).step_by(CHUNK).zip(target.chunks_mut(CHUNK * width)) {
        let len = CHUNK.min(len - start);
        for first in (0..width).step_by(BLOCK) {
            let count = rows.count.saturating_sub(first).min(BLOCK);
            let place = |row: usize, column: usize| (first + row) * rows.stride + start + column;
            let whole = if count == BLOCK { len / BLOCK * BLOCK } else { 0 };
            for column in (0..whole).step_by(BLOCK) {
                let block = |row| rows.values[place(row, column)..].first_chunk().expect("rows are whole");
                for (at, values) in transpose(std::array::from_fn(block)).iter().enumerate() {
                    target[(column + at) * width + first..][..BLOCK].copy_from_slice(values);
                }
            }
            for column in whole..len {
                let target = &mut target[column * width + first..][..BLOCK];
                for (row, target) in target.iter_mut().enumerate() {
                    *target = if row < count { rows.values[place(row, column)] } else { 0.0 };
                }
            }
        }
    }
}

/// Writes `columns` of a matrix, which lie one after the other, `width` values each, to the rows of `target`.
///
/// # Safety
/// Nobody else uses these places of the target at the same time.
pub(crate) unsafe fn write_rows(columns: &[f32], width: usize, target: Target<'_>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        unsafe fn by_avx2(columns: &[f32], width: usize, target: Target<'_>) {
            // SAFETY: as the caller promises.
            unsafe { write_rows_by(columns, width, target, |rows| avx2(rows)) };
        }
        // SAFETY: the processor has AVX2; the rest as the caller promises.
        return unsafe { by_avx2(columns, width, target) };
    }
    // SAFETY: as the caller promises.
    unsafe { write_rows_by(columns, width, target, plain) };
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn write_rows_by(
    columns: &[f32],
    width: usize,
    target: Target<'_>,
    transpose: impl Fn([&Block; BLOCK]) -> [Block; BLOCK],
) {
    let len = columns.len() / width;
    for first in (0..target.count).step_by(BLOCK) {
        let count = (target.count - first).min(BLOCK);
        let part = |row: usize, columns: Range<usize>| {
            let start = target.start + (first + row) * target.stride;
            // SAFETY: nobody else uses these places, as the caller promises.
            unsafe { target.values.range(start + columns.start..start + columns.end) }
        };
        let whole = if count == BLOCK { len / LINE * LINE } else { 0 };
        for column in (0..whole).step_by(LINE) {
            let block =
                |at| columns[(column + at) * width + first..].first_chunk().expect("columns are whole");
            if target.count >= first + 2 * BLOCK {
                (0..BLOCK).for_each(|row| fetch(part(row + BLOCK, column..column + LINE)));
            }
            let [low, high] = [0, BLOCK].map(|half| transpose(std::array::from_fn(|at| block(half + at))));
            for (row, (low, high)) in low.iter().zip(&high).enumerate() {
                let target = part(row, column..column + LINE);
                target[..BLOCK].copy_from_slice(low);
                target[BLOCK..].copy_from_slice(high);
            }
        }
        for row in 0..count {
            for (target, column) in part(row, whole..len).iter_mut().zip(whole..) {
                *target = columns[column * width + first + row];
            }
        }
    }
}

/// Has the line where `values` begin fetched, as they are written soon: few rows are written at once, and
/// each is too short for the processor to see where it goes.
#[inline(always)]
fn fetch(values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a hint changes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(values.as_mut_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let rows: [Block; BLOCK] =
            std::array::from_fn(|row| std::array::from_fn(|column| (row * 10 + column) as f32));
        let expected: [Block; BLOCK] =
            std::array::from_fn(|row| std::array::from_fn(|column| (column * 10 + row) as f32));
        assert_eq!(plain(rows.each_ref()), expected);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            assert_eq!(unsafe { avx2(rows.each_ref()) }, expected);
        }
    }

    #[test]
    fn rows_of_any_length_and_number_become_columns_and_come_back() {
        for (count, len, width) in
            [(16, 49, 16), (16, 7, 16), (5, 23, 16), (16, 8, 24), (37, 19, 48), (1, 1, 8), (24, 150, 24)]
        {
            let stride = len + 3;
            let values: Vec<f32> = (0..count * stride).map(|i| i as f32).collect();
            let mut columns = vec![-1.0; len * width];
            write_columns(Rows { values: &values, stride, count }, len, &mut columns, width);
            for (at, found) in columns.iter().enumerate() {
                let (column, row) = (at / width, at % width);
                let expected = if row < count { values[row * stride + column] } else { 0.0 };
                assert_eq!(*found, expected, "{count} rows of {len} in {width}, row {row}, column {column}");
            }
            let mut back = vec![-1.0; 2 + count * stride];
            let target = Target { values: &Shared::new(&mut back), start: 2, stride, count };
            // SAFETY: nobody else has the buffer.
            unsafe { write_rows(&columns, width, target) };
            for (at, found) in back[2..].iter().enumerate() {
                let expected = if at % stride < len { values[at] } else { -1.0 };
                assert_eq!(*found, expected, "{count} rows of {len} in {width}, value {at}");
            }
            assert_eq!(back[..2], [-1.0; 2]);
        }
    }
}
