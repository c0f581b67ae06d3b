//! Softmax, LogSoftmax and Hardmax; f16 inputs are computed in f32.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, Operator};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&SOFTMAX, Some(|file, node| import_along(file, node, Builder::softmax))),
    (&LOG_SOFTMAX, Some(|file, node| import_along(file, node, Builder::log_softmax))),
    (&HARDMAX, Some(|file, node| import_along(file, node, Builder::hardmax))),
];
static SOFTMAX: Operator = Operator::new("Softmax", 1).on_cuda(FLOATS);
static LOG_SOFTMAX: Operator = Operator::new("LogSoftmax", 1).on_cuda(FLOATS);
static HARDMAX: Operator = Operator::decomposed("Hardmax", 1);

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

/// Along an axis; before operator set 13 along this axis and all later ones together.
fn import_along<'a>(
    file: &mut Translation<'a>,
    node: &'a NodeProto,
    emit: fn(&mut Builder, Tensor, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let is_joint = file.opset() < 13;
    let axis = file.axis(x, NodeAttributes(node).int("axis", if is_joint { 1 } else { -1 }));
    let shape = file.g.shape(x).to_vec();
    if !is_joint || axis + 1 >= shape.len() {
        return emit(file.g, x, axis);
    }
    let rows: usize = shape[..axis].iter().product();
    let columns: usize = shape[axis..].iter().product();
    let matrix = file.g.reshape(x, &[rows, columns])?;
    let y = emit(file.g, matrix, 1)?;
    file.g.reshape(y, &shape)
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
