//! Max and Min, element by element of several tensors, and ReduceMax and ReduceMin along axes.
//!
//! Equal extrema share the gradient evenly, as in PyTorch's `maximum` and `amax`.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{NUMBERS, Operator};
use crate::ops::reduce::import_reduction;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&MAX, Some(|file, node| import_all(file, node, Builder::max))),
    (&MIN, Some(|file, node| import_all(file, node, Builder::min))),
    (&REDUCE_MAX, Some(|file, node| import_reduction(file, node, Builder::reduce_max))),
    (&REDUCE_MIN, Some(|file, node| import_reduction(file, node, Builder::reduce_min))),
    (&SUM, Some(|file, node| import_all(file, node, Builder::add))),
    (&MEAN, Some(import_mean)),
];
static MAX: Operator = Operator::new("Max", 1).on_cuda(NUMBERS);
static MIN: Operator = Operator::new("Min", 1).on_cuda(NUMBERS);
static REDUCE_MAX: Operator = Operator::new("ReduceMax", 1).on_cuda(NUMBERS);
static REDUCE_MIN: Operator = Operator::new("ReduceMin", 1).on_cuda(NUMBERS);
static SUM: Operator = Operator::decomposed("Sum", 1);
static MEAN: Operator = Operator::decomposed("Mean", 1);

impl Builder {
    /// The larger of a and b, with broadcasting.
    ///
    /// # Errors
    /// Element types differ or shapes do not broadcast.
    pub fn max(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.extremum(&MAX, a, b, Self::greater)
    }

    /// The smaller of a and b, with broadcasting.
    ///
    /// # Errors
    /// Element types differ or shapes do not broadcast.
    pub fn min(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.extremum(&MIN, a, b, Self::less)
    }

    fn extremum(
        &mut self,
        operator: &'static Operator,
        a: Tensor,
        b: Tensor,
        beats: fn(&mut Self, Tensor, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let y = self.broadcasting(operator, a, b)?;
        self.record(&[a, b], &[y], move |g, up| {
            let dy = up.single();
            let half = g.scale(dy, 0.5)?;
            let zero = g.scalar(g.element(dy), 0.0);
            let equal = g.equal(a, b)?;
            let tied = g.select(equal, half, zero)?;
            let side = |g: &mut Self, one, other| {
                let wins = beats(g, one, other)?;
                let part = g.select(wins, dy, tied)?;
                g.sum_to(part, one)
            };
            let da = g.when(up.wanted[0], |g| side(g, a, b))?;
            let db = g.when(up.wanted[1], |g| side(g, b, a))?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    /// Maximum over `axes`, which are kept with length 1 if `keep`.
    ///
    /// # Errors
    /// An axis is out of range or repeated.
    pub fn reduce_max(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.reduce_extremum(&REDUCE_MAX, x, axes, keep)
    }

    /// Minimum over `axes`, which are kept with length 1 if `keep`.
    ///
    /// # Errors
    /// An axis is out of range or repeated.
    pub fn reduce_min(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.reduce_extremum(&REDUCE_MIN, x, axes, keep)
    }

    fn reduce_extremum(
        &mut self,
        operator: &'static Operator,
        x: Tensor,
        axes: &[usize],
        keep: bool,
    ) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let (kept, shape) = self.reduced_shapes(operator, x, axes, keep)?;
        let list = self.sizes(axes);
        let y = self.emit(operator, &[x, list], vec![int("keepdims", keep.into())], ty.reshaped(shape));
        let axes = axes.to_vec();
        self.record(&[x], &[y], move |g, up| {
            let (best, dy) = (g.reshape(y, &kept)?, g.reshape(up.single(), &kept)?);
            let equal = g.equal(x, best)?;
            let chosen = g.cast(equal, ty.element)?;
            let count = g.reduce_sum(chosen, &axes, true)?;
            let share = g.div(dy, count)?;
            Ok(vec![Some(g.mul(chosen, share)?)])
        });
        Ok(y)
    }
}

/// Joins all operands of a node, the first two first.
fn import_all<'a>(
    file: &mut Translation<'a>,
    node: &'a NodeProto,
    join: fn(&mut Builder, Tensor, Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut y = file.operand(node, 0)?;
    for at in 1..node.input.len() {
        let next = file.operand(node, at)?;
        y = join(file.g, y, next)?;
    }
    Ok(y)
}

fn import_mean<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let sum = import_all(file, node, Builder::add)?;
    file.g.scale(sum, 1.0 / node.input.len() as f64)
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate, gradient};

    #[test]
    fn gradients_of_extrema_agree_with_finite_differences() {
        let pair = |name: &str| Case::f64(name).distinct([3, 4]).values([4], vec![0.37, 0.12, 0.62, 0.87]);
        check_gradients(pair("Max"), |g, x| g.max(x[0], x[1]));
        check_gradients(pair("Min"), |g, x| g.min(x[0], x[1]));
        for (axes, keep) in [(vec![1], false), (vec![0, 2], true), (vec![0, 1, 2], false)] {
            let case = |name: &str| Case::f64(name).distinct([3, 2, 4]);
            check_gradients(case("ReduceMax"), |g, x| g.reduce_max(x[0], &axes, keep));
            check_gradients(case("ReduceMin"), |g, x| g.reduce_min(x[0], &axes, keep));
        }
    }

    #[test]
    fn equal_extrema_share_the_gradient_evenly() {
        let pair = || Case::f64("tie").values([3], vec![1.0, 2.0, 3.0]).values([3], vec![2.0, 2.0, 2.0]);
        assert_eq!(evaluate(pair(), |g, x| g.max(x[0], x[1])), [2.0, 2.0, 3.0]);
        assert_eq!(gradient(pair(), |g, x| g.max(x[0], x[1])), [0.0, 0.5, 1.0]);
        assert_eq!(gradient(pair(), |g, x| g.min(x[0], x[1])), [1.0, 0.5, 0.0]);
        let list = || Case::f64("tie").values([2, 3], vec![1.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
        let third = 1.0 / 3.0;
        let given = gradient(list(), |g, x| g.reduce_max(x[0], &[1], false));
        assert_eq!(given, [0.0, 0.5, 0.5, third, third, third]);
        let given = gradient(list(), |g, x| g.reduce_min(x[0], &[1], true));
        assert_eq!(given, [1.0, 0.0, 0.0, third, third, third]);
    }
}
