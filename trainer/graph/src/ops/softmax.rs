//! Softmax and LogSoftmax; f16 inputs are computed in f32.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::translation::Family;
use crate::node::{Tensor, int};
use crate::operator::{FLOATS, Operator};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&SOFTMAX, None), (&LOG_SOFTMAX, None)];
static SOFTMAX: Operator = Operator::new("Softmax", 1).on_cuda(FLOATS);
static LOG_SOFTMAX: Operator = Operator::new("LogSoftmax", 1).on_cuda(FLOATS);

impl Builder {
    /// eˣ / Σ eˣ along `axis`.
    ///
    /// # Errors
    /// `x` is not floating-point or has no such axis.
    pub fn softmax(&mut self, x: Tensor, axis: usize) -> Result<Tensor> {
        self.in_f32(x, |g, x| g.emit_softmax(x, axis))
    }

    fn emit_softmax(&mut self, x: Tensor, axis: usize) -> Result<Tensor> {
        let y = self.normalised(&SOFTMAX, x, axis)?;
        self.record(&[x], &[y], move |g, up| {
            let product = g.mul(up.single(), y)?;
            let sum = g.reduce_sum(product, &[axis], true)?;
            let share = g.mul(y, sum)?;
            Ok(vec![Some(g.sub(product, share)?)])
        });
        Ok(y)
    }

    /// x − ln Σ eˣ along `axis`.
    ///
    /// # Errors
    /// `x` is not floating-point or has no such axis.
    pub fn log_softmax(&mut self, x: Tensor, axis: usize) -> Result<Tensor> {
        self.in_f32(x, |g, x| g.emit_log_softmax(x, axis))
    }

    fn emit_log_softmax(&mut self, x: Tensor, axis: usize) -> Result<Tensor> {
        let y = self.normalised(&LOG_SOFTMAX, x, axis)?;
        self.record(&[x], &[y], move |g, up| {
            let sum = g.reduce_sum(up.single(), &[axis], true)?;
            let probabilities = g.exp(y)?;
            let share = g.mul(probabilities, sum)?;
            Ok(vec![Some(g.sub(up.single(), share)?)])
        });
        Ok(y)
    }

    fn normalised(&mut self, operator: &'static Operator, x: Tensor, axis: usize) -> Result<Tensor> {
        self.floating(operator.name, x)?;
        if axis >= self.shape(x).len() {
            return Err(self.mismatch(
                operator.name,
                &[x],
                format!("axis {axis} must be an axis of the operand"),
            ));
        }
        Ok(self.emit(operator, &[x], vec![int("axis", axis as i64)], self.ty(x).clone()))
    }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients};

    #[test]
    fn gradients_of_softmax_agree_with_finite_differences() {
        for axis in [0, 1] {
            check_gradients(Case::f64("Softmax").normal([4, 5]), |g, x| g.softmax(x[0], axis));
            check_gradients(Case::f64("LogSoftmax").normal([4, 5]), |g, x| g.log_softmax(x[0], axis));
        }
    }
}
