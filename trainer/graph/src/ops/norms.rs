//! Norms and other reductions: ReduceL1, ReduceL2, ReduceSumSquare, ReduceProd, ReduceLogSum,
//! ReduceLogSumExp, LpNormalization.

use crate::builder::{Builder, Upstream};
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, Operator};
use crate::ops::reduce::import_reduction;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&REDUCE_L1, Some(|file, node| import_reduction(file, node, Builder::reduce_l1))),
    (&REDUCE_L2, Some(|file, node| import_reduction(file, node, Builder::reduce_l2))),
    (&REDUCE_SUM_SQUARE, Some(|file, node| import_reduction(file, node, Builder::reduce_sum_square))),
    (&REDUCE_PROD, Some(|file, node| import_reduction(file, node, Builder::reduce_prod))),
    (&REDUCE_LOG_SUM, Some(|file, node| import_reduction(file, node, Builder::reduce_log_sum))),
    (&REDUCE_LOG_SUM_EXP, Some(|file, node| import_reduction(file, node, Builder::reduce_log_sum_exp))),
    (&LP_NORMALIZATION, Some(import_lp_normalization)),
];
static REDUCE_L1: Operator = Operator::decomposed("ReduceL1", 1);
static REDUCE_L2: Operator = Operator::decomposed("ReduceL2", 1);
static REDUCE_SUM_SQUARE: Operator = Operator::decomposed("ReduceSumSquare", 1);
static REDUCE_PROD: Operator = Operator::new("ReduceProd", 1).on_cuda(FLOATS);
static REDUCE_LOG_SUM: Operator = Operator::decomposed("ReduceLogSum", 1);
static REDUCE_LOG_SUM_EXP: Operator = Operator::decomposed("ReduceLogSumExp", 1);
static LP_NORMALIZATION: Operator = Operator::decomposed("LpNormalization", 1);

impl Builder {
    /// Σ |x| over `axes`, which are kept with length 1 if `keep`.
    ///
    /// # Errors
    /// `x` is not floating-point, or an axis is out of range or repeated. The same holds for the other
    /// reductions.
    pub fn reduce_l1(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        let size = self.abs(x)?;
        self.reduce_sum(size, axes, keep)
    }

    /// Σ x² over `axes`, which are kept with length 1 if `keep`.
    ///
    /// # Errors
    /// See [`reduce_l1`](Self::reduce_l1).
    pub fn reduce_sum_square(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.in_f32(x, |g, x| {
            let square = g.mul(x, x)?;
            g.reduce_sum(square, axes, keep)
        })
    }

    /// √Σ x² over `axes`, which are kept with length 1 if `keep`; the gradient is 0 where the norm is.
    ///
    /// # Errors
    /// See [`reduce_l1`](Self::reduce_l1).
    pub fn reduce_l2(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.in_f32(x, |g, x| {
            let outputs = g.composite(&[x], |g| {
                let sum = g.reduce_sum_square(x, axes, true)?;
                let norm = g.sqrt(sum)?;
                let y = g.without_axes(norm, axes, keep)?;
                let rule = move |g: &mut Self, up: &Upstream| {
                    let kept = g.shape(norm).to_vec();
                    let dy = g.reshape(up.single(), &kept)?;
                    let [zero, one] = [0.0, 1.0].map(|value| g.scalar(g.element(norm), value));
                    let positive = g.greater(norm, zero)?;
                    let divisor = g.select(positive, norm, one)?;
                    let share = g.div(dy, divisor)?;
                    Ok(vec![Some(g.mul(x, share)?)])
                };
                Ok((vec![y], rule))
            })?;
            Ok(outputs[0])
        })
    }

    /// Product over `axes`, which are kept with length 1 if `keep`.
    ///
    /// # Errors
    /// See [`reduce_l1`](Self::reduce_l1).
    pub fn reduce_prod(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.in_f32(x, |g, x| {
            let ty = g.ty(x).clone();
            let (kept, shape) = g.reduced_shapes(&REDUCE_PROD, x, axes, keep)?;
            let list = g.sizes(axes);
            let attributes = vec![int("keepdims", keep.into())];
            let y = g.emit(&REDUCE_PROD, &[x, list], attributes, ty.reshaped(shape));
            let axes = axes.to_vec();
            g.record(&[x], &[y], move |g, up| {
                // The slope is the product of the others: that of all values but zeros, divided by x, if
                // there is no zero; that product itself at the only zero; else 0.
                let dy = g.reshape(up.single(), &kept)?;
                let [zero, one] = [0.0, 1.0].map(|value| g.scalar(ty.element, value));
                let is_zero = g.equal(x, zero)?;
                let mark = g.cast(is_zero, ty.element)?;
                let zeros = g.reduce_sum(mark, &axes, true)?;
                let others = g.select(is_zero, one, x)?;
                let list = g.sizes(&axes);
                let attributes = vec![int("keepdims", 1)];
                let product = g.emit(&REDUCE_PROD, &[others, list], attributes, ty.reshaped(kept.clone()));
                let (none, single) = (g.equal(zeros, zero)?, g.equal(zeros, one)?);
                let at_zero = g.select(single, product, zero)?;
                let elsewhere = g.select(none, product, zero)?;
                let elsewhere = g.div(elsewhere, others)?;
                let slope = g.select(is_zero, at_zero, elsewhere)?;
                Ok(vec![Some(g.mul(dy, slope)?)])
            });
            Ok(y)
        })
    }

    /// ln Σ x over `axes`, which are kept with length 1 if `keep`.
    ///
    /// # Errors
    /// See [`reduce_l1`](Self::reduce_l1).
    pub fn reduce_log_sum(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.in_f32(x, |g, x| {
            let sum = g.reduce_sum(x, axes, keep)?;
            g.log(sum)
        })
    }

    /// ln Σ eˣ over `axes`, which are kept with length 1 if `keep`.
    ///
    /// # Errors
    /// See [`reduce_l1`](Self::reduce_l1).
    pub fn reduce_log_sum_exp(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.in_f32(x, |g, x| {
            let outputs = g.composite(&[x], |g| {
                let largest = g.reduce_max(x, axes, true)?;
                let shifted = g.sub(x, largest)?;
                let powers = g.exp(shifted)?;
                let sum = g.reduce_sum(powers, axes, true)?;
                let log = g.log(sum)?;
                let total = g.add(log, largest)?;
                let y = g.without_axes(total, axes, keep)?;
                let rule = move |g: &mut Self, up: &Upstream| {
                    let kept = g.shape(sum).to_vec();
                    let dy = g.reshape(up.single(), &kept)?;
                    let share = g.div(dy, sum)?;
                    Ok(vec![Some(g.mul(powers, share)?)])
                };
                Ok((vec![y], rule))
            })?;
            Ok(outputs[0])
        })
    }

    /// x divided by its norm along `axis`, Σ |x| or √Σ x²; 0 where the norm is.
    ///
    /// # Errors
    /// See [`reduce_l1`](Self::reduce_l1).
    pub fn lp_normalization(&mut self, x: Tensor, axis: usize, squares: bool) -> Result<Tensor> {
        let reduce = if squares { Self::reduce_l2 } else { Self::reduce_l1 };
        let norm = reduce(self, x, &[axis], true)?;
        let [zero, one] = [0.0, 1.0].map(|value| self.scalar(self.element(x), value));
        let empty = self.equal(norm, zero)?;
        let divisor = self.select(empty, one, norm)?;
        self.div(x, divisor)
    }

    /// `x` with `axes` of length 1, or without them unless `keep`.
    fn without_axes(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        if keep { Ok(x) } else { self.squeeze(x, axes) }
    }
}

fn import_lp_normalization<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let axis = file.axis(x, attributes.int("axis", -1));
    match attributes.int("p", 2) {
        p @ (1 | 2) => file.g.lp_normalization(x, axis, p == 2),
        p => Err(file.at_node(node, format!("has the norm {p}, expected 1 or 2"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate, gradient};

    #[test]
    fn gradients_of_norms_agree_with_finite_differences() {
        for (axes, keep) in [(vec![1], false), (vec![0, 2], true), (vec![0, 1, 2], false)] {
            let case = |name: &str| Case::f64(name).normal([3, 2, 4]);
            check_gradients(case("ReduceL1"), |g, x| g.reduce_l1(x[0], &axes, keep));
            check_gradients(case("ReduceL2"), |g, x| g.reduce_l2(x[0], &axes, keep));
            check_gradients(case("ReduceSumSquare"), |g, x| g.reduce_sum_square(x[0], &axes, keep));
            check_gradients(case("ReduceLogSumExp"), |g, x| g.reduce_log_sum_exp(x[0], &axes, keep));
            check_gradients(Case::f64("ReduceLogSum").positive([3, 2, 4]), |g, x| {
                g.reduce_log_sum(x[0], &axes, keep)
            });
            check_gradients(Case::f32("ReduceProd").normal([3, 2, 2]), |g, x| {
                g.reduce_prod(x[0], &axes, keep)
            });
        }
        for squares in [false, true] {
            check_gradients(Case::f64("LpNormalization").normal([3, 4]), |g, x| {
                g.lp_normalization(x[0], 1, squares)
            });
        }
    }

    #[test]
    fn values_of_norms_are_those_of_their_definitions() {
        let case = || Case::f32("norm").values([1, 2], vec![-3.0, 4.0]);
        assert_eq!(evaluate(case(), |g, x| g.reduce_l1(x[0], &[1], false)), [7.0]);
        assert_eq!(evaluate(case(), |g, x| g.reduce_l2(x[0], &[1], false)), [5.0]);
        assert_eq!(evaluate(case(), |g, x| g.reduce_prod(x[0], &[1], false)), [-12.0]);
        let large = || Case::f32("norm").values([2], vec![1000.0, 1000.0]);
        let given = evaluate(large(), |g, x| g.reduce_log_sum_exp(x[0], &[0], false));
        assert!((given[0] - 1_000.693_15).abs() < 1e-3, "{given:?}");
    }

    #[test]
    fn gradients_at_zeros_are_those_of_pytorch() {
        let zeros = || Case::f32("zeros").values([2], vec![0.0, 0.0]);
        assert_eq!(gradient(zeros(), |g, x| g.reduce_l2(x[0], &[0], false)), [0.0, 0.0]);
        assert_eq!(gradient(zeros(), |g, x| g.reduce_prod(x[0], &[0], false)), [0.0, 0.0]);
        let one = Case::f32("one zero").values([3], vec![2.0, 0.0, 3.0]);
        assert_eq!(gradient(one, |g, x| g.reduce_prod(x[0], &[0], false)), [0.0, 6.0, 0.0]);
    }
}
