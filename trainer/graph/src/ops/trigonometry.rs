//! Trigonometric and hyperbolic functions and their inverses.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::translation::Family;
use crate::node::Tensor;
use crate::operator::{FLOATS, Operator};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&SIN, Some(|file, node| file.unary(node, Builder::sin))),
    (&COS, Some(|file, node| file.unary(node, Builder::cos))),
    (&TAN, Some(|file, node| file.unary(node, Builder::tan))),
    (&ASIN, Some(|file, node| file.unary(node, Builder::asin))),
    (&ACOS, Some(|file, node| file.unary(node, Builder::acos))),
    (&ATAN, Some(|file, node| file.unary(node, Builder::atan))),
    (&SINH, Some(|file, node| file.unary(node, Builder::sinh))),
    (&COSH, Some(|file, node| file.unary(node, Builder::cosh))),
    (&ASINH, Some(|file, node| file.unary(node, Builder::asinh))),
    (&ACOSH, Some(|file, node| file.unary(node, Builder::acosh))),
    (&ATANH, Some(|file, node| file.unary(node, Builder::atanh))),
];
static SIN: Operator = Operator::new("Sin", 7).on_cuda(FLOATS);
static COS: Operator = Operator::new("Cos", 7).on_cuda(FLOATS);
static TAN: Operator = Operator::decomposed("Tan", 7);
static ASIN: Operator = Operator::new("Asin", 7);
static ACOS: Operator = Operator::new("Acos", 7);
static ATAN: Operator = Operator::new("Atan", 7);
static SINH: Operator = Operator::new("Sinh", 9);
static COSH: Operator = Operator::new("Cosh", 9);
static ASINH: Operator = Operator::new("Asinh", 9);
static ACOSH: Operator = Operator::new("Acosh", 9);
static ATANH: Operator = Operator::new("Atanh", 9);

impl Builder {
    /// Sine.
    ///
    /// # Errors
    /// `x` is not floating-point. The same holds for the other functions of this family.
    pub fn sin(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&SIN, x, |g, x| g.cos(x))
    }

    /// Cosine.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn cos(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&COS, x, |g, x| {
            let sine = g.sin(x)?;
            g.neg(sine)
        })
    }

    /// Tangent.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn tan(&mut self, x: Tensor) -> Result<Tensor> {
        let (sine, cosine) = (self.sin(x)?, self.cos(x)?);
        self.div(sine, cosine)
    }

    /// Inverse of the sine.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn asin(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&ASIN, x, |g, x| g.inverse_root(x, -1.0, 1.0))
    }

    /// Inverse of the cosine.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn acos(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&ACOS, x, |g, x| {
            let slope = g.inverse_root(x, -1.0, 1.0)?;
            g.neg(slope)
        })
    }

    /// Inverse of the tangent.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn atan(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&ATAN, x, |g, x| {
            let denominator = g.square_plus(x, 1.0, 1.0)?;
            g.reciprocal(denominator)
        })
    }

    /// Hyperbolic sine.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn sinh(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&SINH, x, |g, x| g.cosh(x))
    }

    /// Hyperbolic cosine.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn cosh(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&COSH, x, |g, x| g.sinh(x))
    }

    /// Inverse of the hyperbolic sine.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn asinh(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&ASINH, x, |g, x| g.inverse_root(x, 1.0, 1.0))
    }

    /// Inverse of the hyperbolic cosine.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn acosh(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&ACOSH, x, |g, x| g.inverse_root(x, 1.0, -1.0))
    }

    /// Inverse of the hyperbolic tangent.
    ///
    /// # Errors
    /// See [`sin`](Self::sin).
    pub fn atanh(&mut self, x: Tensor) -> Result<Tensor> {
        self.with_slope(&ATANH, x, |g, x| {
            let denominator = g.square_plus(x, -1.0, 1.0)?;
            g.reciprocal(denominator)
        })
    }

    /// A function of one operand, with its slope.
    fn with_slope(
        &mut self,
        operator: &'static Operator,
        x: Tensor,
        slope: fn(&mut Self, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let y = self.unary(operator, x)?;
        self.record(&[x], &[y], move |g, up| {
            let slope = slope(g, x)?;
            Ok(vec![Some(g.mul(up.single(), slope)?)])
        });
        Ok(y)
    }

    /// `factor` · x² + `constant`.
    fn square_plus(&mut self, x: Tensor, factor: f64, constant: f64) -> Result<Tensor> {
        let square = self.mul(x, x)?;
        let scaled = self.scale(square, factor)?;
        let constant = self.scalar(self.element(x), constant);
        self.add(scaled, constant)
    }

    /// 1 / √(`factor` · x² + `constant`).
    fn inverse_root(&mut self, x: Tensor, factor: f64, constant: f64) -> Result<Tensor> {
        let square = self.square_plus(x, factor, constant)?;
        let root = self.sqrt(square)?;
        self.reciprocal(root)
    }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients};

    #[test]
    fn gradients_of_trigonometric_functions_agree_with_finite_differences() {
        let within = |name: &str| Case::f32(name).values([5], vec![-0.8, -0.3, 0.1, 0.4, 0.7]);
        let above = |name: &str| Case::f32(name).values([3], vec![1.5, 2.0, 3.0]);
        check_gradients(within("Sin"), |g, x| g.sin(x[0]));
        check_gradients(within("Cos"), |g, x| g.cos(x[0]));
        check_gradients(within("Tan"), |g, x| g.tan(x[0]));
        check_gradients(within("Asin"), |g, x| g.asin(x[0]));
        check_gradients(within("Acos"), |g, x| g.acos(x[0]));
        check_gradients(within("Atan"), |g, x| g.atan(x[0]));
        check_gradients(within("Sinh"), |g, x| g.sinh(x[0]));
        check_gradients(within("Cosh"), |g, x| g.cosh(x[0]));
        check_gradients(within("Asinh"), |g, x| g.asinh(x[0]));
        check_gradients(above("Acosh"), |g, x| g.acosh(x[0]));
        check_gradients(within("Atanh"), |g, x| g.atanh(x[0]));
    }
}
