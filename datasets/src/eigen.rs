//! Eigenvalues of a symmetric 3×3 matrix.

type Matrix = [[f64; 3]; 3];

/// Sweeps after which the cyclic Jacobi method has long converged for a 3×3 matrix; it needs four to six.
const MAX_SWEEPS: usize = 30;

/// Eigenvalues, largest first, and their unit eigenvectors, each with its largest component positive.
///
/// Cyclic Jacobi rotations (Golub and Van Loan, *Matrix Computations*, section 8.5).
pub(crate) fn symmetric_eigen(matrix: Matrix) -> ([f64; 3], Matrix) {
    let mut a = matrix;
    // Columns become the eigenvectors.
    let mut v = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for _ in 0..MAX_SWEEPS {
        if a[0][1] == 0.0 && a[0][2] == 0.0 && a[1][2] == 0.0 {
            break;
        }
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            rotate(&mut a, &mut v, p, q);
        }
    }
    let mut order = [0, 1, 2];
    order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
    let values = order.map(|k| a[k][k]);
    let vectors = order.map(|k| with_positive_largest([v[0][k], v[1][k], v[2][k]]));
    (values, vectors)
}

/// Makes `a[p][q]` zero by a rotation in the plane of axes `p` and `q`, and applies it to `v`.
fn rotate(a: &mut Matrix, v: &mut Matrix, p: usize, q: usize) {
    if a[p][q] == 0.0 {
        return;
    }
    let tau = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    // Roots are the same on every processor, which those of `hypot` are not.
    let t = tau.signum() / (tau.abs() + (tau * tau + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for row in a.iter_mut().chain(v.iter_mut()) {
        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
    }
    let (row_p, row_q) = (a[p], a[q]);
    a[p] = std::array::from_fn(|k| c * row_p[k] - s * row_q[k]);
    a[q] = std::array::from_fn(|k| s * row_p[k] + c * row_q[k]);
    // Zero by construction; rounding must not keep the sweeps going.
    (a[p][q], a[q][p]) = (0.0, 0.0);
}

fn with_positive_largest(vector: [f64; 3]) -> [f64; 3] {
    let largest = vector.into_iter().fold(0.0, |best: f64, x| if x.abs() > best.abs() { x } else { best });
    if largest < 0.0 { vector.map(|x| -x) } else { vector }
}

#[cfg(test)]
mod tests {
    use fovea_pipeline::ColorStatistics;

    use super::*;

    /// The largest |A·v − λ·v| and |vᵢ·vⱼ − δᵢⱼ|.
    fn residual(matrix: Matrix) -> f64 {
        let (values, vectors) = symmetric_eigen(matrix);
        let mut worst: f64 = 0.0;
        for (k, vector) in vectors.iter().enumerate() {
            for i in 0..3 {
                let product: f64 = (0..3).map(|j| matrix[i][j] * vector[j]).sum();
                worst = worst.max((product - values[k] * vector[i]).abs());
            }
            for (l, other) in vectors.iter().enumerate() {
                let dot: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                worst = worst.max((dot - f64::from(u8::from(k == l))).abs());
            }
        }
        worst
    }

    #[test]
    fn eigenvectors_solve_the_equation_and_are_orthonormal() {
        let matrices: [Matrix; 4] = [
            [[2.0, -1.0, 0.5], [-1.0, 3.0, 0.25], [0.5, 0.25, -4.0]],
            [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
            [[5.0, 0.0, 0.0], [0.0, 5.0, 1e-9], [0.0, 1e-9, 5.0]],
            [[0.0; 3]; 3],
        ];
        for matrix in matrices {
            let worst = residual(matrix);
            assert!(worst < 1e-12, "{matrix:?}: residual {worst}");
        }
    }

    #[test]
    fn values_come_largest_first_and_vectors_with_their_largest_component_positive() {
        let (values, vectors) = symmetric_eigen([[1.0, -2.0, 0.0], [-2.0, 4.0, 0.0], [0.0, 0.0, 7.0]]);
        assert!((values[0] - 7.0).abs() < 1e-12 && (values[1] - 5.0).abs() < 1e-12, "{values:?}");
        assert!(values[2].abs() < 1e-12, "{values:?}");
        for vector in vectors {
            let largest = vector.into_iter().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
            assert!(largest > 0.0, "{vector:?}");
        }
    }

    #[test]
    fn the_published_axes_of_imagenet_are_found_again() {
        let published = ColorStatistics::imagenet();
        let (values, vectors) = symmetric_eigen(published.covariance);
        for k in 0..3 {
            let ratio = values[k] / published.eigenvalues[k];
            assert!((ratio - 1.0).abs() < 1e-3, "eigenvalue {k}: ratio {ratio}");
            for (found, expected) in vectors[k].iter().zip(published.eigenvectors[k]) {
                let difference = (found - expected).abs();
                assert!(difference < 1e-3, "eigenvector {k}: {found}, expected {expected}");
            }
        }
    }
}
