//! Comparisons, logic and selection.

use super::arithmetic::broadcast;
use crate::builder::Builder;
use crate::error::Result;
use crate::node::Tensor;
use crate::types::{ElementType, TensorType};

impl Builder {
    /// a > b, Boolean, with broadcasting.
    ///
    /// # Errors
    /// Element types differ or shapes do not broadcast; so for the other comparisons.
    pub fn greater(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.comparison("Greater", a, b)
    }

    /// a < b, Boolean, with broadcasting.
    ///
    /// # Errors
    /// See [`greater`](Self::greater).
    pub fn less(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.comparison("Less", a, b)
    }

    /// a ≤ b, Boolean, with broadcasting; false where either is NaN.
    ///
    /// # Errors
    /// See [`greater`](Self::greater).
    pub fn less_or_equal(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.comparison("LessOrEqual", a, b)
    }

    /// a = b, Boolean, with broadcasting.
    ///
    /// # Errors
    /// See [`greater`](Self::greater).
    pub fn equal(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.comparison("Equal", a, b)
    }

    /// Logical and of two Booleans, with broadcasting.
    ///
    /// # Errors
    /// An operand is not Boolean or shapes do not broadcast.
    pub fn and(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        if self.element(a) != ElementType::Bool {
            return Err(self.mismatch("And", &[a, b], "operands must be Boolean"));
        }
        self.comparison("And", a, b)
    }

    /// Logical or of two Booleans, with broadcasting.
    ///
    /// # Errors
    /// An operand is not Boolean or shapes do not broadcast.
    pub fn or(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        if self.element(a) != ElementType::Bool {
            return Err(self.mismatch("Or", &[a, b], "operands must be Boolean"));
        }
        self.comparison("Or", a, b)
    }

    /// Logical negation.
    ///
    /// # Errors
    /// The operand is not Boolean.
    pub fn not(&mut self, a: Tensor) -> Result<Tensor> {
        if self.element(a) != ElementType::Bool {
            return Err(self.mismatch("Not", &[a], "the operand must be Boolean"));
        }
        Ok(self.emit("Not", &[a], vec![], self.ty(a).clone()))
    }

    /// `a` where `condition` holds, else `b`, with broadcasting.
    ///
    /// # Errors
    /// `condition` is not Boolean, element types of `a` and `b` differ, or shapes do not broadcast.
    pub fn select(&mut self, condition: Tensor, a: Tensor, b: Tensor) -> Result<Tensor> {
        let operands = [condition, a, b];
        if self.element(condition) != ElementType::Bool || self.element(a) != self.element(b) {
            let reason = "the condition must be Boolean and both branches of one type";
            return Err(self.mismatch("Where", &operands, reason));
        }
        let shape =
            broadcast(self.shape(a), self.shape(b)).and_then(|s| broadcast(&s, self.shape(condition)));
        let Some(shape) = shape else {
            return Err(self.mismatch("Where", &operands, "shapes must broadcast"));
        };
        let ty = self.ty(a).reshaped(shape);
        let y = self.emit("Where", &operands, vec![], ty);
        self.record(&[a, b], &[y], move |g, up| {
            let dy = up.single();
            let zero = g.scalar(g.element(dy), 0.0);
            let da = g.when(up.wanted[0], |g| {
                let kept = g.select(condition, dy, zero)?;
                g.sum_to(kept, a)
            })?;
            let db = g.when(up.wanted[1], |g| {
                let kept = g.select(condition, zero, dy)?;
                g.sum_to(kept, b)
            })?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    fn comparison(&mut self, operator: &'static str, a: Tensor, b: Tensor) -> Result<Tensor> {
        let shape = broadcast(self.shape(a), self.shape(b));
        match shape {
            Some(shape) if self.element(a) == self.element(b) => {
                let ty = TensorType::new(ElementType::Bool, shape);
                Ok(self.emit(operator, &[a, b], vec![], ty))
            }
            Some(_) => Err(self.mismatch(operator, &[a, b], "element types must be equal")),
            None => Err(self.mismatch(operator, &[a, b], "shapes must broadcast")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{Case, gradients_agree};

    #[test]
    fn the_gradient_of_a_selection_goes_to_the_branch_that_was_taken() {
        gradients_agree(Case::f64("Where").normal([3, 4]).normal([4]), |g, x| {
            let zero = g.scalar(g.element(x[0]), 0.0);
            let condition = g.greater(x[0], zero)?;
            g.select(condition, x[0], x[1])
        });
    }
}
