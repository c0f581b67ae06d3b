//! Comparisons, logic and selection.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::lowering::MaskForm;
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::{BOOLEAN, NUMBERS, NUMBERS_AND_BYTES, Operator};
use crate::types::{ElementType, TensorType, broadcast};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&GREATER, Some(|file, node| file.binary(node, Builder::greater))),
    (&GREATER_OR_EQUAL, Some(import_greater_or_equal)),
    (&LESS, Some(|file, node| file.binary(node, Builder::less))),
    (&LESS_OR_EQUAL, Some(|file, node| file.binary(node, Builder::less_or_equal))),
    (&EQUAL, Some(|file, node| file.binary(node, Builder::equal))),
    (&AND, Some(|file, node| file.binary(node, Builder::and))),
    (&OR, Some(|file, node| file.binary(node, Builder::or))),
    (&XOR, Some(import_xor)),
    (&NOT, Some(|file, node| file.unary(node, Builder::not))),
    (&IS_NAN, Some(import_is_nan)),
    (&IS_INF, Some(import_is_inf)),
    (&WHERE, Some(import_where)),
];
static GREATER: Operator = Operator::new("Greater", 1).on_cuda(NUMBERS);
static GREATER_OR_EQUAL: Operator = Operator::decomposed("GreaterOrEqual", 12);
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
static XOR: Operator = Operator::decomposed("Xor", 1);
static IS_NAN: Operator = Operator::decomposed("IsNaN", 9);
static IS_INF: Operator = Operator::decomposed("IsInf", 10);
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

    /// The gradient `dy` where the Boolean `mask` is true, else 0.
    pub(crate) fn keep_where(&mut self, mask: Tensor, dy: Tensor) -> Result<Tensor> {
        let element = self.element(dy);
        match self.lowering().masks {
            MaskForm::Select => {
                let zero = self.scalar(element, 0.0);
                self.select(mask, dy, zero)
            }
            MaskForm::Product => {
                let mask = self.cast(mask, element)?;
                self.mul(dy, mask)
            }
        }
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

fn import_greater_or_equal<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (a, b) = (file.operand(node, 0)?, file.operand(node, 1)?);
    file.g.less_or_equal(b, a)
}

fn import_xor<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let equal = file.binary(node, Builder::equal)?;
    file.g.not(equal)
}

/// Only what is not a number differs from itself.
fn import_is_nan<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let equal = file.g.equal(x, x)?;
    file.g.not(equal)
}

fn import_is_inf<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let is = |g: &mut Builder, value| {
        let value = g.scalar(g.element(x), value);
        g.equal(x, value)
    };
    match (attributes.int("detect_negative", 1) != 0, attributes.int("detect_positive", 1) != 0) {
        (true, false) => is(file.g, f64::NEG_INFINITY),
        (false, true) => is(file.g, f64::INFINITY),
        (both, _) => {
            let (low, high) = (is(file.g, f64::NEG_INFINITY)?, is(file.g, f64::INFINITY)?);
            let infinite = file.g.or(low, high)?;
            let wanted = file.g.scalar(ElementType::Bool, f64::from(u8::from(both)));
            file.g.and(infinite, wanted)
        }
    }
}

fn import_where<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (a, b) = (file.operand(node, 1)?, file.operand(node, 2)?);
    let condition = file.operand(node, 0)?;
    file.g.select(condition, a, b)
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
