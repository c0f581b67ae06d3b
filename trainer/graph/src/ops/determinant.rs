//! The determinant of small matrices: Det.

use crate::builder::{Builder, Upstream};
use crate::error::Result;
use crate::import::translation::Family;
use crate::node::Tensor;
use crate::operator::Operator;
use crate::types::TensorType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&DET, Some(|file, node| file.unary(node, Builder::det)))];
static DET: Operator = Operator::decomposed("Det", 11);

/// Most rows of a matrix: the sums of products that make its determinant lose digits with each.
const ROWS: usize = 8;

impl Builder {
    /// The determinants of matrices `[…,M,M]`: `[…]`.
    ///
    /// By the method of Faddeev and Le Verrier, which gives the adjugate too: its transpose is the gradient,
    /// of singular matrices as well.
    ///
    /// # Errors
    /// `x` is not floating-point, or has other matrices than square ones of at most 8 rows.
    pub fn det(&mut self, x: Tensor) -> Result<Tensor> {
        self.floating(DET.name, x)?;
        let shape = self.shape(x).to_vec();
        let rank = shape.len();
        if rank < 2 || shape[rank - 1] != shape[rank - 2] || !(1..=ROWS).contains(&shape[rank - 1]) {
            let reason = format!("the matrices must be square, of at most {ROWS} rows");
            return Err(self.mismatch(DET.name, &[x], reason));
        }
        self.in_f32(x, |g, x| {
            let outputs = g.composite(&[x], |g| {
                let [determinant, adjugate] = g.determinant_and_adjugate(x)?;
                let rule = move |g: &mut Self, up: &Upstream| {
                    let dy = g.unsqueeze(up.single(), &[rank - 2, rank - 1])?;
                    let cofactors = g.swap_last(adjugate)?;
                    Ok(vec![Some(g.mul(cofactors, dy)?)])
                };
                Ok((vec![determinant], rule))
            })?;
            Ok(outputs[0])
        })
    }

    /// Of matrices A of M rows: from M₁ = I, Mₖ₊₁ = A·Mₖ − tr(A·Mₖ)/k·I; the last trace is the determinant,
    /// the last Mₖ the adjugate, both but for the sign.
    fn determinant_and_adjugate(&mut self, x: Tensor) -> Result<[Tensor; 2]> {
        let (shape, element) = (self.shape(x).to_vec(), self.element(x));
        let (rank, rows) = (shape.len(), shape[shape.len() - 1]);
        let values: Vec<f64> = (0..rows * rows).map(|at| f64::from(at % (rows + 1) == 0)).collect();
        let identity = self.floats(TensorType::new(element, [rows, rows]), &values);
        let mut adjugate = self.expand(identity, &shape)?;
        let mut step = 1;
        loop {
            let product = self.matmul(x, adjugate)?;
            let diagonal = self.mul(product, identity)?;
            let trace = self.reduce_sum(diagonal, &[rank - 2, rank - 1], true)?;
            let mean = self.scale(trace, 1.0 / step as f64)?;
            if step == rows {
                let determinant = self.reshape(mean, &shape[..rank - 2])?;
                let sign = if rows % 2 == 0 { -1.0 } else { 1.0 };
                return Ok([self.scale(determinant, sign)?, self.scale(adjugate, sign)?]);
            }
            let shift = self.mul(identity, mean)?;
            adjugate = self.sub(product, shift)?;
            step += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate, gradient};
    use crate::{Builder, Lowering, Target, TensorType};

    #[test]
    fn gradients_of_determinants_agree_with_finite_differences() {
        for shape in [vec![1, 1], vec![2, 2], vec![2, 3, 3], vec![2, 1, 4, 4], vec![5, 5]] {
            check_gradients(Case::f64("Det").normal(shape), |g, x| g.det(x[0]));
        }
    }

    #[test]
    fn determinants_of_known_matrices() {
        let case = || Case::f32("Det").values([2, 2, 2], vec![3.0, 1.0, 2.0, 4.0, 1.0, 2.0, 2.0, 4.0]);
        assert_eq!(evaluate(case(), |g, x| g.det(x[0])), [10.0, 0.0]);
        // The second has no inverse, but a gradient.
        assert_eq!(gradient(case(), |g, x| g.det(x[0])), [4.0, -2.0, -1.0, 3.0, 4.0, -2.0, -2.0, 1.0]);
        let vandermonde = vec![1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 1.0, 3.0, 9.0];
        assert_eq!(evaluate(Case::f32("Det").values([3, 3], vandermonde), |g, x| g.det(x[0])), [2.0]);
    }

    #[test]
    fn matrices_that_are_not_square_or_large_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        for shape in [vec![4], vec![2, 3], vec![2, 9, 9]] {
            let x = g.input(&format!("{shape:?}"), TensorType::f32(shape)).unwrap();
            assert!(g.det(x).is_err());
        }
    }
}
