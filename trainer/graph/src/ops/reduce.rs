//! ReduceSum and ReduceMean; f16 inputs are reduced in f32.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, NUMBERS, Operator};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&REDUCE_SUM, Some(|file, node| import_reduction(file, node, Builder::reduce_sum))),
    (&REDUCE_MEAN, Some(|file, node| import_reduction(file, node, Builder::reduce_mean))),
];
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
        let (kept, shape) = self.reduced_shapes(operator, x, axes, keep)?;
        if self.lowering().reduce_by_runs {
            let mut runs: Vec<Vec<usize>> = Vec::new();
            for axis in (0..ty.rank()).filter(|axis| axes.contains(axis)) {
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

    /// The shape of `x` with `axes` of length 1, and that of a reduction over them.
    pub(super) fn reduced_shapes(
        &self,
        operator: &'static Operator,
        x: Tensor,
        axes: &[usize],
        keep: bool,
    ) -> Result<(Vec<usize>, Vec<usize>)> {
        let shape = self.shape(x);
        let listed = |i: &usize| axes.contains(i);
        let all = 0..shape.len();
        if axes.is_empty()
            || axes.iter().any(|a| !all.contains(a))
            || all.clone().filter(listed).count() != axes.len()
        {
            let reason = format!("axes {axes:?} must be distinct axes of the operand");
            return Err(self.mismatch(operator.name, &[x], reason));
        }
        let kept: Vec<usize> = all.clone().map(|i| if listed(&i) { 1 } else { shape[i] }).collect();
        let rest = all.filter(|i| !listed(i)).map(|i| shape[i]).collect();
        Ok((kept.clone(), if keep { kept } else { rest }))
    }
}

/// A reduction over the axes in an operand or an attribute; without axes over all, or over none if the node
/// says so.
pub(super) fn import_reduction<'a>(
    file: &mut Translation<'a>,
    node: &'a NodeProto,
    reduce: fn(&mut Builder, Tensor, &[usize], bool) -> Result<Tensor>,
) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let axes = file.axes(node, x, 1)?.unwrap_or_default();
    let keep = attributes.int("keepdims", 1) != 0;
    let rank = file.g.shape(x).len();
    if !axes.is_empty() {
        return reduce(file.g, x, &axes, keep);
    }
    if rank == 0 || attributes.int("noop_with_empty_axes", 0) != 0 {
        // What a reduction does to each value, if anything, is what it does to an axis of length 1.
        let single = file.g.unsqueeze(x, &[rank])?;
        return reduce(file.g, single, &[rank], false);
    }
    let all: Vec<usize> = (0..rank).collect();
    reduce(file.g, x, &all, keep)
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
