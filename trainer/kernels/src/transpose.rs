//! Transposition of small blocks.

/// Side of a block.
pub(crate) const BLOCK: usize = 8;

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
    columns.map(|column| {
        let mut values = [0.0; BLOCK];
        // SAFETY: there is room for the eight values that are written.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), column) };
        values
    })
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
}
