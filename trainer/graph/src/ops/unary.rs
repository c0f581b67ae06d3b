//! Element-wise functions of one operand: Relu, Tanh, Sigmoid, Exp, Log, Sqrt, Reciprocal, Neg, Identity,
//! Cast.

use crate::builder::{Builder, IDENTITY};
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{ALL_TYPES, FLOATS, NUMBERS, Operator};
use crate::types::ElementType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&RELU, Some(|file, node| file.unary(node, Builder::relu))),
    (&TANH, Some(|file, node| file.unary(node, Builder::tanh))),
    (&SIGMOID, Some(|file, node| file.unary(node, Builder::sigmoid))),
    (&EXP, Some(|file, node| file.unary(node, Builder::exp))),
    (&LOG, Some(|file, node| file.unary(node, Builder::log))),
    (&SQRT, Some(|file, node| file.unary(node, Builder::sqrt))),
    (&RECIPROCAL, Some(|file, node| file.unary(node, Builder::reciprocal))),
    (&NEG, Some(|file, node| file.unary(node, Builder::neg))),
    (&IDENTITY, Some(|file, node| file.operand(node, 0))),
    (&CAST, Some(import_cast)),
    (&CAST_LIKE, Some(import_cast_like)),
];
static RELU: Operator = Operator::new("Relu", 1).on_cuda(FLOATS);
static TANH: Operator = Operator::new("Tanh", 1).on_cuda(FLOATS);
pub(super) static SIGMOID: Operator = Operator::new("Sigmoid", 1).on_cuda(FLOATS);
static EXP: Operator = Operator::new("Exp", 1).on_cuda(FLOATS);
static LOG: Operator = Operator::new("Log", 1).on_cuda(FLOATS);
static SQRT: Operator = Operator::new("Sqrt", 1).on_cuda(FLOATS);
static RECIPROCAL: Operator = Operator::new("Reciprocal", 1).on_cuda(FLOATS);
static NEG: Operator = Operator::new("Neg", 1).on_cuda(NUMBERS);
static CAST: Operator = Operator::new("Cast", 1).on_cuda(ALL_TYPES);
static CAST_LIKE: Operator = Operator::decomposed("CastLike", 15);

impl Builder {
    /// max(x, 0); the gradient at 0 is 0.
    ///
    /// # Errors
    /// `x` is not floating-point. The same holds for the other functions of this family.
    pub fn relu(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.unary(&RELU, x)?;
        self.record(&[x], &[y], move |g, up| {
            if let Some(dx) = g.own_clip_gradient(up.single(), y, [0.0, f64::INFINITY]) {
                return Ok(vec![Some(dx)]);
            }
            let zero = g.scalar(g.element(y), 0.0);
            let mask = g.greater(y, zero)?;
            Ok(vec![Some(g.keep_where(mask, up.single())?)])
        });
        Ok(y)
    }

    /// Hyperbolic tangent.
    ///
    /// # Errors
    /// See [`relu`](Self::relu).
    pub fn tanh(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.unary(&TANH, x)?;
        self.record(&[x], &[y], move |g, up| {
            let one = g.scalar(g.element(y), 1.0);
            let square = g.mul(y, y)?;
            let slope = g.sub(one, square)?;
            Ok(vec![Some(g.mul(up.single(), slope)?)])
        });
        Ok(y)
    }

    /// 1 / (1 + e⁻ˣ).
    ///
    /// # Errors
    /// See [`relu`](Self::relu).
    pub fn sigmoid(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.unary(&SIGMOID, x)?;
        self.record(&[x], &[y], move |g, up| {
            let one = g.scalar(g.element(y), 1.0);
            let rest = g.sub(one, y)?;
            let slope = g.mul(y, rest)?;
            Ok(vec![Some(g.mul(up.single(), slope)?)])
        });
        Ok(y)
    }

    /// eˣ.
    ///
    /// # Errors
    /// See [`relu`](Self::relu).
    pub fn exp(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.unary(&EXP, x)?;
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.mul(up.single(), y)?)]));
        Ok(y)
    }

    /// Natural logarithm.
    ///
    /// # Errors
    /// See [`relu`](Self::relu).
    pub fn log(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.unary(&LOG, x)?;
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.div(up.single(), x)?)]));
        Ok(y)
    }

    /// Square root.
    ///
    /// # Errors
    /// See [`relu`](Self::relu).
    pub fn sqrt(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.unary(&SQRT, x)?;
        self.record(&[x], &[y], move |g, up| {
            let half = g.scale(up.single(), 0.5)?;
            Ok(vec![Some(g.div(half, y)?)])
        });
        Ok(y)
    }

    /// 1 / x.
    ///
    /// # Errors
    /// See [`relu`](Self::relu).
    pub fn reciprocal(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.unary(&RECIPROCAL, x)?;
        self.record(&[x], &[y], move |g, up| {
            let square = g.mul(y, y)?;
            let product = g.mul(up.single(), square)?;
            Ok(vec![Some(g.neg(product)?)])
        });
        Ok(y)
    }

    /// −x.
    ///
    /// # Errors
    /// See [`relu`](Self::relu).
    pub fn neg(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.unary(&NEG, x)?;
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.neg(up.single())?)]));
        Ok(y)
    }

    /// x as another value.
    ///
    /// # Errors
    /// None.
    pub fn identity(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.emit(&IDENTITY, &[x], vec![], self.ty(x).clone());
        self.record(&[x], &[y], |_, up| Ok(vec![Some(up.single())]));
        Ok(y)
    }

    /// x, through which no gradient passes.
    pub(super) fn stop_gradient(&mut self, x: Tensor) -> Tensor {
        let y = self.emit(&IDENTITY, &[x], vec![], self.ty(x).clone());
        self.record(&[x], &[y], |_, _| Ok(vec![None]));
        y
    }

    /// x in another element type; differentiable between floating-point types.
    ///
    /// # Errors
    /// None.
    pub fn cast(&mut self, x: Tensor, to: ElementType) -> Result<Tensor> {
        let from = self.element(x);
        if from == to {
            return Ok(x);
        }
        let ty = self.ty(x).with_element(to);
        let y = self.emit(&CAST, &[x], vec![int("to", to.onnx().into())], ty);
        if from.is_float() && to.is_float() {
            self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.cast(up.single(), from)?)]));
        }
        Ok(y)
    }

    /// `compute` on x. If x is f16, whose precision and range are too small for sums, powers and
    /// exponentials, it is computed in f32 and the result is rounded to f16.
    pub(crate) fn in_f32(
        &mut self,
        x: Tensor,
        compute: impl FnOnce(&mut Self, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if self.element(x) != ElementType::F16 {
            return compute(self, x);
        }
        let wide = self.cast(x, ElementType::F32)?;
        let y = compute(self, wide)?;
        self.cast(y, ElementType::F16)
    }

    /// Checks that the operand is floating-point.
    pub(crate) fn floating(&self, operator: &'static str, x: Tensor) -> Result<()> {
        if self.element(x).is_float() {
            return Ok(());
        }
        Err(self.mismatch(operator, &[x], "the operand must be floating-point"))
    }

    /// A node of an operator without attributes on a floating-point operand; it has no gradient rule yet.
    pub(super) fn unary(&mut self, operator: &'static Operator, x: Tensor) -> Result<Tensor> {
        self.floating(operator.name, x)?;
        Ok(self.emit(operator, &[x], vec![], self.ty(x).clone()))
    }
}

/// Floating-point types all become the type that the network computes in.
fn import_cast<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let number = NodeAttributes(node).int("to", 0);
    let to = match i32::try_from(number).ok().and_then(ElementType::of_onnx) {
        Some(to) if to.is_float() => file.element(),
        Some(to) => to,
        None => {
            return Err(
                file.at_node(node, format!("casts to the element type {number}, which is not supported"))
            );
        }
    };
    file.g.cast(x, to)
}

fn import_cast_like<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, like) = (file.operand(node, 0)?, file.operand(node, 1)?);
    let to = file.g.element(like);
    file.g.cast(x, to)
}

#[cfg(test)]
mod tests {
    use crate::ElementType;
    use crate::gradcheck::{Case, check_gradients, evaluate};

    #[test]
    fn gradients_of_unary_functions_agree_with_finite_differences() {
        let case = |name: &str| Case::f64(name).normal([4, 5]);
        check_gradients(case("Relu"), |g, x| g.relu(x[0]));
        check_gradients(case("Tanh"), |g, x| g.tanh(x[0]));
        check_gradients(case("Sigmoid"), |g, x| g.sigmoid(x[0]));
        check_gradients(case("Exp"), |g, x| g.exp(x[0]));
        check_gradients(case("Neg"), |g, x| g.neg(x[0]));
        check_gradients(case("Identity"), |g, x| g.identity(x[0]));
        check_gradients(Case::f64("Log").positive([4, 5]), |g, x| g.log(x[0]));
        check_gradients(Case::f64("Reciprocal").positive([4, 5]), |g, x| g.reciprocal(x[0]));
        check_gradients(Case::f64("Sqrt").positive([4, 5]), |g, x| g.sqrt(x[0]));
    }

    #[test]
    fn a_cast_carries_the_gradient_back_in_the_type_of_its_operand() {
        check_gradients(Case::f32("Cast").normal([7]), |g, x| {
            let wide = g.cast(x[0], ElementType::F64)?;
            let square = g.mul(wide, wide)?;
            g.cast(square, ElementType::F32)
        });
    }

    #[test]
    fn relu_changes_only_negative_values() {
        let relu = evaluate(Case::f64("Relu").values([3], vec![-1.0, 0.0, 2.0]), |g, x| g.relu(x[0]));
        assert_eq!(relu, [0.0, 0.0, 2.0]);
    }
}
