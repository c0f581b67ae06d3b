//! Comparisons, logic and selection.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::translation::Family;
use crate::node::Tensor;
use crate::operator::{BOOLEAN, NUMBERS, NUMBERS_AND_BYTES, Operator};
use crate::types::{ElementType, TensorType, broadcast};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&GREATER, None),
    (&LESS, None),
    (&LESS_OR_EQUAL, None),
    (&EQUAL, None),
    (&AND, None),
    (&OR, None),
    (&NOT, None),
    (&WHERE, None),
];
static GREATER: Operator = Operator::new("Greater", 1).on_cuda(NUMBERS);
static LESS: Operator = Operator::new("Less", 1).on_cuda(NUMBERS);
static LESS_OR_EQUAL: Operator = Operator::new("LessOrEqual", 12).on_cuda(NUMBERS);
static EQUAL: Operator = Operator::new("Equal", 1).on_cuda(&[
    ElementType::F16,
    ElementType::F32,
    ElementType::I64,
    ElementType::Bool,
]);
static AND: Operator = Operator::new("And", 1).on_cuda(BOOLEAN);
static OR: Operator = Operator::new("Or", 1).on_cuda(BOOLEAN);
static NOT: Operator = Operator::new("Not", 1).on_cuda(BOOLEAN);
static WHERE: Operator = Operator::new("Where", 9).on_cuda(NUMBERS_AND_BYTES);

impl Builder {
    /// a > b, Boolean, with broadcasting.
    ///
    /// # Errors
    /// Element types differ or shapes do not broadcast. The same holds for the other comparisons.
    pub fn greater(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.comparison(&GREATER, a, b)
    }

    /// a < b, Boolean, with broadcasting.
    ///
    /// # Errors
    /// See [`greater`](Self::greater).
    pub fn less(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.comparison(&LESS, a, b)
    }

    /// a ≤ b, Boolean, with broadcasting; false where either is NaN.
    ///
    /// # Errors
    /// See [`greater`](Self::greater).
    pub fn less_or_equal(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.comparison(&LESS_OR_EQUAL, a, b)
    }

    /// a = b, Boolean, with broadcasting.
    ///
    /// # Errors
    /// See [`greater`](Self::greater).
    pub fn equal(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.comparison(&EQUAL, a, b)
    }

    /// Logical and of two Booleans, with broadcasting.
    ///
    /// # Errors
    /// An operand is not Boolean or shapes do not broadcast.
    pub fn and(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        if self.element(a) != ElementType::Bool {
            return Err(self.mismatch(AND.name, &[a, b], "operands must be Boolean"));
        }
        self.comparison(&AND, a, b)
    }

    /// Logical or of two Booleans, with broadcasting.
    ///
    /// # Errors
    /// An operand is not Boolean or shapes do not broadcast.
    pub fn or(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        if self.element(a) != ElementType::Bool {
            return Err(self.mismatch(OR.name, &[a, b], "operands must be Boolean"));
        }
        self.comparison(&OR, a, b)
    }

    /// Logical negation.
    ///
    /// # Errors
    /// The operand is not Boolean.
    pub fn not(&mut self, a: Tensor) -> Result<Tensor> {
        if self.element(a) != ElementType::Bool {
            return Err(self.mismatch(NOT.name, &[a], "the operand must be Boolean"));
        }
        Ok(self.emit(&NOT, &[a], vec![], self.ty(a).clone()))
    }

    /// `a` where `condition` is true, else `b`, with broadcasting.
    ///
    /// # Errors
    /// `condition` is not Boolean, element types of `a` and `b` differ, or shapes do not broadcast.
    pub fn select(&mut self, condition: Tensor, a: Tensor, b: Tensor) -> Result<Tensor> {
        let operands = [condition, a, b];
        if self.element(condition) != ElementType::Bool || self.element(a) != self.element(b) {
            let reason = "the condition must be Boolean and both branches of one type";
            return Err(self.mismatch(WHERE.name, &operands, reason));
        }
        let shape =
            broadcast(self.shape(a), self.shape(b)).and_then(|s| broadcast(&s, self.shape(condition)));
        let Some(shape) = shape else {
            return Err(self.mismatch(WHERE.name, &operands, "shapes must broadcast"));
        };
        let ty = self.ty(a).reshaped(shape);
        let y = self.emit(&WHERE, &operands, vec![], ty);
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

    fn comparison(&mut self, operator: &'static Operator, a: Tensor, b: Tensor) -> Result<Tensor> {
        let shape = broadcast(self.shape(a), self.shape(b));
        match shape {
            Some(shape) if self.element(a) == self.element(b) => {
                let ty = TensorType::new(ElementType::Bool, shape);
                Ok(self.emit(operator, &[a, b], vec![], ty))
            }
            Some(_) => Err(self.mismatch(operator.name, &[a, b], "element types must be equal")),
            None => Err(self.mismatch(operator.name, &[a, b], "shapes must broadcast")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients};

    #[test]
    fn the_gradient_of_a_selection_goes_to_the_selected_branch() {
        check_gradients(Case::f64("Where").normal([3, 4]).normal([4]), |g, x| {
            let zero = g.scalar(g.element(x[0]), 0.0);
            let condition = g.greater(x[0], zero)?;
            g.select(condition, x[0], x[1])
        });
    }
}
