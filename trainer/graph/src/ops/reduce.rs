//! ReduceSum and ReduceMean; f16 inputs are reduced in f32.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::translation::Family;
use crate::node::{Tensor, int};
use crate::operator::{FLOATS, NUMBERS, Operator};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&REDUCE_SUM, None), (&REDUCE_MEAN, None)];
static REDUCE_SUM: Operator = Operator::new("ReduceSum", 1).on_cuda(NUMBERS);
static REDUCE_MEAN: Operator = Operator::new("ReduceMean", 1).on_cuda(FLOATS);

impl Builder {
    /// Sum over `axes`, which are kept with length 1 if `keep`.
    ///
    /// # Errors
    /// An axis is out of range or repeated.
    pub fn reduce_sum(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.in_f32(x, |g, x| g.reduce(&REDUCE_SUM, x, axes, keep))
    }

    /// Mean over `axes`, which are kept with length 1 if `keep`.
    ///
    /// # Errors
    /// An axis is out of range or repeated.
    pub fn reduce_mean(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.in_f32(x, |g, x| g.reduce(&REDUCE_MEAN, x, axes, keep))
    }

    /// Sum of all elements, a scalar.
    ///
    /// # Errors
    /// None.
    pub fn sum(&mut self, x: Tensor) -> Result<Tensor> {
        let axes: Vec<usize> = (0..self.shape(x).len()).collect();
        if axes.is_empty() { Ok(x) } else { self.reduce_sum(x, &axes, false) }
    }

    fn reduce(
        &mut self,
        operator: &'static Operator,
        x: Tensor,
        axes: &[usize],
        keep: bool,
    ) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let listed = |i: usize| axes.contains(&i);
        if axes.is_empty()
            || axes.iter().any(|&a| a >= ty.rank())
            || (0..ty.rank()).filter(|&i| listed(i)).count() != axes.len()
        {
            return Err(self.mismatch(
                operator.name,
                &[x],
                format!("axes {axes:?} must be distinct axes of the operand"),
            ));
        }
        if self.lowering().reduce_by_runs {
            let mut runs: Vec<Vec<usize>> = Vec::new();
            for axis in (0..ty.rank()).filter(|&axis| listed(axis)) {
                match runs.last_mut() {
                    Some(run) if run.last() == Some(&(axis - 1)) => run.push(axis),
                    _ => runs.push(vec![axis]),
                }
            }
            if runs.len() > 1 {
                // Starting with the last run, so that the earlier axes keep their indices.
                return runs.iter().rev().try_fold(x, |x, run| self.reduce(operator, x, run, keep));
            }
        }
        let kept: Vec<usize> = (0..ty.rank()).map(|i| if listed(i) { 1 } else { ty.shape[i] }).collect();
        let shape = if keep {
            kept.clone()
        } else {
            (0..ty.rank()).filter(|&i| !listed(i)).map(|i| ty.shape[i]).collect()
        };
        let axes_input = self.sizes(axes);
        let y = self.emit(operator, &[x, axes_input], vec![int("keepdims", keep.into())], ty.reshaped(shape));
        let count: usize = axes.iter().map(|&a| ty.shape[a]).product();
        let factor = if *operator == REDUCE_MEAN { 1.0 / count as f64 } else { 1.0 };
        self.record(&[x], &[y], move |g, up| {
            let dy = g.scale(up.single(), factor)?;
            let dy = g.reshape(dy, &kept)?;
            Ok(vec![Some(g.expand(dy, &ty.shape)?)])
        });
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients};
    use crate::{Builder, Lowering, Target, TensorType};

    #[test]
    fn gradients_of_reductions_agree_with_finite_differences() {
        for (axes, keep) in [
            (vec![0], false),
            (vec![1, 2], true),
            (vec![0, 2], false),
            (vec![2, 0], true),
            (vec![0, 1, 2], false),
        ] {
            let case = |name: &str| Case::f64(name).normal([3, 2, 4]);
            check_gradients(case("ReduceSum"), |g, x| g.reduce_sum(x[0], &axes, keep));
            check_gradients(case("ReduceMean"), |g, x| g.reduce_mean(x[0], &axes, keep));
        }
    }

    #[test]
    fn axes_out_of_range_or_repeated_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        assert!(g.reduce_sum(x, &[2], false).is_err());
        assert!(g.reduce_sum(x, &[1, 1], false).is_err());
    }
}
