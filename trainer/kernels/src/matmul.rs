//! Products of matrices, by the crate `gemm`.

use std::ops::Range;

use gemm::{Parallelism, gemm};

use crate::threads::{Shared, Threads};

/// Fewest rows and columns of a part: with fewer, laying out the factors takes longer than the products gain.
const SMALLEST: usize = 96;

/// A product `[M,K]` · `[K,N]` → `[M,N]`, whose factors may lie transposed in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatMul {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
    /// Whether the first lies as `[K,M]`, and the second as `[N,K]`.
    pub transposed: [bool; 2],
}

impl MatMul {
    /// Writes the product of `a` and `b`, plus `bias` `[N]`, to `y`. A sum over the inner dimension is the
    /// same for any number of threads.
    pub fn compute(&self, [a, b]: [&[f32]; 2], bias: Option<&[f32]>, y: &mut [f32], threads: &dyn Threads) {
        let Self { rows, inner, columns, transposed } = *self;
        assert!(a.len() == rows * inner && b.len() == inner * columns && y.len() == rows * columns);
        assert!(bias.is_none_or(|bias| bias.len() == columns));
        // Distances between rows and between columns.
        let [a_steps, b_steps] = [(transposed[0], rows, inner), (transposed[1], inner, columns)]
            .map(|(is_transposed, rows, columns)| if is_transposed { [1, rows] } else { [columns, 1] });
        let grid = grid(rows, columns, threads.count());
        let y = Shared::new(y);
        threads.run(grid[0] * grid[1], &|part| {
            let (row, column) = (part % grid[0], part / grid[0]);
            let (part_rows, part_columns) = (share(rows, grid[0], row), share(columns, grid[1], column));
            let start = part_rows.start * columns + part_columns.start;
            if let Some(bias) = bias {
                for row in part_rows.clone() {
                    let place = row * columns;
                    // SAFETY: no other part uses these columns of these rows.
                    let y = unsafe { y.range(place + part_columns.start..place + part_columns.end) };
                    y.copy_from_slice(&bias[part_columns.clone()]);
                }
            }
            // SAFETY: the factors have their lengths, and no other part uses these columns of these rows.
            unsafe {
                gemm(
                    part_rows.len(),
                    part_columns.len(),
                    inner,
                    y.as_mut_ptr().add(start),
                    1,
                    columns.cast_signed(),
                    bias.is_some(),
                    a.as_ptr().add(part_rows.start * a_steps[0]),
                    a_steps[1].cast_signed(),
                    a_steps[0].cast_signed(),
                    b.as_ptr().add(part_columns.start * b_steps[1]),
                    b_steps[1].cast_signed(),
                    b_steps[0].cast_signed(),
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    Parallelism::None,
                );
            }
        });
    }
}

/// Rows and columns of parts, of which there are so many or more, unless these would be too small.
fn grid(rows: usize, columns: usize, count: usize) -> [usize; 2] {
    let mut grid = [1, 1];
    while grid[0] * grid[1] < count {
        let sides = [rows / grid[0], columns / grid[1]];
        let longer = usize::from(sides[1] > sides[0]);
        if sides[longer] < 2 * SMALLEST {
            break;
        }
        grid[longer] += 1;
    }
    grid
}

/// The share `at` of `length`, which is cut into `count`.
fn share(length: usize, count: usize, at: usize) -> Range<usize> {
    length * at / count..length * (at + 1) / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Alone;

    /// Factors of the sizes of a product, and a bias.
    fn draw(of: MatMul) -> [Vec<f32>; 3] {
        let values = |len: usize, factor: usize| {
            (0..len).map(|at| ((at * factor + 7) % 1009) as f32 / 1009.0 - 0.5).collect()
        };
        [values(of.rows * of.inner, 31), values(of.inner * of.columns, 57), values(of.columns, 11)]
    }

    #[test]
    fn products_of_any_orientation_agree_with_sums_in_double_precision() {
        for (rows, inner, columns) in
            [(1, 1, 1), (5, 3, 70), (130, 40, 9), (97, 1, 200), (3, 0, 4), (0, 3, 4)]
        {
            for transposed in [[false, false], [false, true], [true, false], [true, true]] {
                let product = MatMul { rows, inner, columns, transposed };
                let [a, b, bias] = draw(product);
                for bias in [None, Some(&bias[..])] {
                    let mut y = vec![f32::NAN; rows * columns];
                    product.compute([&a, &b], bias, &mut y, &Alone(3));
                    for (at, found) in y.iter().enumerate() {
                        let (row, column) = (at / columns, at % columns);
                        let a = |k| a[if transposed[0] { k * rows + row } else { row * inner + k }];
                        let b = |k| b[if transposed[1] { column * inner + k } else { k * columns + column }];
                        let sum: f64 = (0..inner).map(|k| f64::from(a(k)) * f64::from(b(k))).sum();
                        let expected = sum + bias.map_or(0.0, |bias| f64::from(bias[column]));
                        assert!((f64::from(*found) - expected).abs() < 1e-5, "{product:?}, {row}, {column}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_product_has_the_same_bits_in_any_number_of_parts() {
        for (rows, inner, columns) in [(1600, 700, 200), (230, 2000, 500), (97, 1100, 1300)] {
            for transposed in [[false, false], [false, true], [true, false]] {
                let product = MatMul { rows, inner, columns, transposed };
                let [a, b, bias] = draw(product);
                let compute = |count: usize| {
                    let mut y = vec![f32::NAN; rows * columns];
                    product.compute([&a, &b], Some(&bias), &mut y, &Alone(count));
                    y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let whole = compute(1);
                for count in [2, 3, 5, 16, 64] {
                    assert!(compute(count) == whole, "{product:?} in {count} parts");
                }
            }
        }
    }

    #[test]
    fn parts_are_as_many_as_threads_unless_they_would_be_small() {
        assert_eq!(grid(1600, 3072, 1), [1, 1]);
        assert_eq!(grid(1600, 3072, 4), [2, 2]);
        assert_eq!(grid(1600, 200, 4), [4, 1]);
        assert_eq!(grid(100, 150, 64), [1, 1]);
        assert_eq!((0..3).map(|at| share(10, 3, at).len()).collect::<Vec<_>>(), [3, 3, 4]);
    }
}
