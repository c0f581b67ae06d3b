//! Reading from places given by indices: Gather, GatherElements, GatherND; and OneHot, which marks them.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::limits::CONSTANT;
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{ALL_TYPES, Operator};
use crate::ops::scatter::Scatter;
use crate::types::ElementType::{Bool, F16, F32, I64};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&GATHER, Some(import_gather)),
    (&GATHER_ELEMENTS, Some(import_gather_elements)),
    (&GATHER_ND, Some(import_gather_nd)),
    (&ONE_HOT, Some(import_one_hot)),
];
static GATHER: Operator = Operator::new("Gather", 1).on_cuda(ALL_TYPES);
static GATHER_ELEMENTS: Operator = Operator::new("GatherElements", 11).on_cuda(ALL_TYPES);
static GATHER_ND: Operator = Operator::new("GatherND", 11).on_cuda(&[F16, F32, I64, Bool]);
static ONE_HOT: Operator = Operator::decomposed("OneHot", 9);

/// Largest number of values of a matrix that says which row each index takes; its product gives the gradient
/// in a fixed order of additions, and on all cores.
const SELECTION_VALUES: usize = 1 << 20;

impl Builder {
    /// Slices of `x` along `axis`, whose axis becomes those of `indices`, i64; negative ones count from the
    /// end.
    ///
    /// # Errors
    /// `indices` are not i64, or, where they are constant, out of range; or `x` has no such axis.
    pub fn gather(&mut self, x: Tensor, indices: Tensor, axis: usize) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        if axis >= ty.rank() || self.element(indices) != I64 {
            let reason = format!("indices must be i64, and axis {axis} an axis of the operand");
            return Err(self.mismatch(GATHER.name, &[x, indices], reason));
        }
        let (length, places) = (ty.shape[axis], self.shape(indices).to_vec());
        let shape = [&ty.shape[..axis], &places[..], &ty.shape[axis + 1..]].concat();
        if let Some(known) = self.known_integers(indices) {
            let reach = -(length as i64)..length as i64;
            if let Some(index) = known.iter().find(|index| !reach.contains(index)) {
                let reason = format!("index {index} exceeds axis {axis}, whose length is {length}");
                return Err(self.mismatch(GATHER.name, &[x, indices], reason));
            }
            let known: Vec<usize> =
                known.iter().map(|index| index.rem_euclid(length as i64) as usize).collect();
            let is_run = known.windows(2).all(|pair| pair[1] == pair[0] + 1);
            if let (Some(&first), Some(&last), true) = (known.first(), known.last(), is_run) {
                let run = self.slice(x, axis, first, last + 1)?;
                return self.reshape(run, &shape);
            }
        }
        let attributes = vec![int("axis", axis as i64)];
        let y = self.emit(&GATHER, &[x, indices], attributes, ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| {
            let outer: usize = ty.shape[..axis].iter().product();
            let inner: usize = ty.shape[axis + 1..].iter().product();
            let taken: usize = places.iter().product();
            let indices = g.reshape(indices, &[taken])?;
            let dx = g.in_f32(up.single(), |g, dy| {
                let dy = g.reshape(dy, &[outer, taken, inner])?;
                g.ungather(dy, indices, length)
            })?;
            Ok(vec![Some(g.reshape(dx, &ty.shape)?)])
        });
        Ok(y)
    }

    /// Adds row i of `x` `[A,T,B]` to row `indices[i]` of a tensor of zeros `[A,length,B]`.
    fn ungather(&mut self, x: Tensor, indices: Tensor, length: usize) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let (outer, taken, inner) = (ty.shape[0], ty.shape[1], ty.shape[2]);
        if taken * length > SELECTION_VALUES {
            let column = self.reshape(indices, &[1, taken, 1])?;
            let places = self.expand(column, &ty.shape)?;
            return self.scatter_add(ty.reshaped([outer, length, inner]), places, x, 1);
        }
        let [zero, end] = [0.0, length as f64].map(|value| self.scalar(I64, value));
        let negative = self.less(indices, zero)?;
        let shifted = self.add(indices, end)?;
        let indices = self.select(negative, shifted, indices)?;
        let rows = self.counting(length, &[length, 1]);
        let chosen = self.equal(rows, indices)?;
        let selection = self.cast(chosen, ty.element)?;
        if inner > 1 {
            return self.matmul(selection, x);
        }
        let x = self.reshape(x, &[outer, taken])?;
        let y = self.gemm(x, selection, None, false, true)?;
        self.reshape(y, &[outer, length, 1])
    }

    /// The value of `x` at the same place as each of `indices`, but along `axis` at the index, i64; negative
    /// ones count from the end.
    ///
    /// # Errors
    /// `indices` are not i64 with as many axes as `x`, or `x` has no such axis.
    pub fn gather_elements(&mut self, x: Tensor, indices: Tensor, axis: usize) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let fits = self.element(indices) == I64 && self.shape(indices).len() == ty.rank();
        if !fits || axis >= ty.rank() {
            let reason = format!("indices must be i64 with as many axes, and axis {axis} one of them");
            return Err(self.mismatch(GATHER_ELEMENTS.name, &[x, indices], reason));
        }
        let shape = self.shape(indices).to_vec();
        let attributes = vec![int("axis", axis as i64)];
        let y = self.emit(&GATHER_ELEMENTS, &[x, indices], attributes, ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| {
            let dx = g.in_f32(up.single(), |g, dy| {
                let ty = ty.with_element(g.element(dy));
                g.scatter_add(ty, indices, dy, axis)
            })?;
            Ok(vec![Some(dx)])
        });
        Ok(y)
    }

    /// `values[1]` at each index along a new `axis` of `depth` places, else `values[0]`; negative indices
    /// count from the end, and others that are out of range mark nothing. No gradient passes to the indices.
    ///
    /// # Errors
    /// `indices` are not i64, or have too few axes for the new one; or `depth` is 0.
    pub fn mark(
        &mut self,
        indices: Tensor,
        depth: usize,
        values: [Tensor; 2],
        axis: usize,
    ) -> Result<Tensor> {
        let rank = self.shape(indices).len();
        if self.element(indices) != I64 || axis > rank || !(1..=CONSTANT).contains(&depth) {
            let reason =
                format!("indices must be i64, with {axis} axes or more, and {depth} from 1 to {CONSTANT}");
            return Err(self.mismatch(ONE_HOT.name, &[indices], reason));
        }
        let [zero, length] = [0, depth].map(|value| self.scalar(I64, value as f64));
        let (is_negative, from_end) = (self.less(indices, zero)?, self.add(indices, length)?);
        let places = self.select(is_negative, from_end, indices)?;
        let places = self.unsqueeze(places, &[axis])?;
        let shape: Vec<usize> = (0..=rank).map(|a| if a == axis { depth } else { 1 }).collect();
        let list = self.counting(depth, &shape);
        let marked = self.equal(places, list)?;
        self.select(marked, values[1], values[0])
    }

    /// The slice of `x` at each row of `indices`, i64 `[…,D]`, which names a place along D axes after the
    /// first `batch_axes`, which `x` and `indices` share.
    ///
    /// # Errors
    /// `indices` are not i64, or shapes do not fit.
    pub fn gather_nd(&mut self, x: Tensor, indices: Tensor, batch_axes: usize) -> Result<Tensor> {
        let (ty, places) = (self.ty(x).clone(), self.shape(indices).to_vec());
        let depth = places.last().copied().unwrap_or(0);
        let fits = self.element(indices) == I64
            && depth > 0
            && batch_axes < places.len()
            && batch_axes + depth <= ty.rank()
            && places[..batch_axes] == ty.shape[..batch_axes];
        if !fits {
            let reason = format!("there must be rows of i64 indices, after {batch_axes} axes in common");
            return Err(self.mismatch(GATHER_ND.name, &[x, indices], reason));
        }
        if batch_axes > 0 {
            // The place along the common axes becomes a part of each row.
            let rows = &places[..places.len() - 1];
            let mut parts = Vec::with_capacity(batch_axes + 1);
            for axis in 0..batch_axes {
                let shape: Vec<usize> =
                    (0..places.len()).map(|a| if a == axis { places[axis] } else { 1 }).collect();
                // The first may be the batch, which may be free.
                let list = match axis {
                    0 => self.counted(places[axis], &shape)?,
                    _ => self.counting(places[axis], &shape),
                };
                parts.push(self.expand(list, &[rows, &[1]].concat())?);
            }
            parts.push(indices);
            let whole = self.concat(&parts, places.len() - 1)?;
            return self.gather_nd(x, whole, 0);
        }
        let shape = [&places[..places.len() - 1], &ty.shape[depth..]].concat();
        let y = self.emit(&GATHER_ND, &[x, indices], vec![int("batch_dims", 0)], ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| {
            let dx = g.in_f32(up.single(), |g, dy| {
                let zeros = g.zeros(ty.with_element(g.element(dy)))?;
                g.scatter_nd(zeros, indices, dy, Scatter::Add)
            })?;
            Ok(vec![Some(dx)])
        });
        Ok(y)
    }
}

/// Data and i64 indices of a node, and its axis.
fn operands<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<(Tensor, Tensor, usize)> {
    let x = file.operand(node, 0)?;
    let indices = file.operand(node, 1)?;
    let axis = file.axis(x, NodeAttributes(node).int("axis", 0));
    Ok((x, file.g.cast(indices, I64)?, axis))
}

fn import_gather<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, mut indices, axis) = operands(file, node)?;
    if let Some(constant) = file.indices_for_batch(node, x, axis) {
        indices = file.embed(&constant);
    }
    file.g.gather(x, indices, axis)
}

fn import_gather_elements<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, indices, axis) = operands(file, node)?;
    file.g.gather_elements(x, indices, axis)
}

fn import_gather_nd<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, indices, _) = operands(file, node)?;
    let batch_axes = usize::try_from(NodeAttributes(node).int("batch_dims", 0)).unwrap_or(usize::MAX);
    file.g.gather_nd(x, indices, batch_axes)
}

fn import_one_hot<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let indices = file.operand(node, 0)?;
    let indices = file.g.cast(indices, I64)?;
    let depth = file.scalar(node, 1, "depth", 0.0)?;
    let values = file.operand(node, 2)?;
    if *file.g.shape(values) != [2] {
        return Err(file.at_node(node, "has other values than one for no mark and one for a mark"));
    }
    let parts = file.g.split_evenly(values, 0, 2)?;
    let [off, on] = [parts[0], parts[1]].map(|part| file.g.squeeze(part, &[0]));
    let (axis, rank) = (NodeAttributes(node).int("axis", -1), file.g.shape(indices).len() as i64);
    let axis = usize::try_from(if axis < 0 { axis + rank + 1 } else { axis }).unwrap_or(usize::MAX);
    file.g.mark(indices, depth as usize, [off?, on?], axis)
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, Tensor, TensorType};

    fn indices(g: &mut Builder, shape: &[usize], values: &[i64]) -> Tensor {
        let list = g.integers(values);
        // Not a constant, as what a network computes.
        let list = g.identity(list).unwrap();
        g.reshape(list, shape).unwrap()
    }

    #[test]
    fn marks_are_at_the_indices_along_their_own_axis() {
        let marked = |axis: usize| {
            evaluate(Case::f64("OneHot").values([2], vec![0.0, 1.0]), |g, x| {
                let places = indices(g, &[3], &[2, -3, 7]);
                let parts = g.split(x[0], 0, &[1, 1])?;
                let (off, on) = (g.squeeze(parts[0], &[0])?, g.squeeze(parts[1], &[0])?);
                g.mark(places, 3, [off, on], axis)
            })
        };
        assert_eq!(marked(1), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let (places, zero) = (indices(&mut g, &[3], &[0, 1, 2]), g.integers(&[0]));
        assert!(g.mark(places, usize::MAX, [zero, zero], 1).is_err());
        assert_eq!(marked(0), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn gradients_of_gathers_agree_with_finite_differences() {
        let case = || Case::f32("Gather").normal([2, 4, 3]);
        for axis in 0..3 {
            check_gradients(case(), |g, x| {
                let list = indices(g, &[2, 3], &[1, 0, -1, 1, 1, 0]);
                g.gather(x[0], list, axis)
            });
        }
        check_gradients(Case::f32("Gather of many").normal([1500, 1]), |g, x| {
            let list: Vec<i64> = (0..900).map(|i| (i * 7) % 11 - 5).collect();
            let list = indices(g, &[900], &list);
            g.gather(x[0], list, 0)
        });
        check_gradients(Case::f64("Gather of one").normal([2, 4, 3]), |g, x| {
            let index = g.scalar(crate::ElementType::I64, -2.0);
            g.gather(x[0], index, 1)
        });
        check_gradients(Case::f32("GatherElements").normal([2, 4]), |g, x| {
            let list = indices(g, &[2, 3], &[0, 0, -1, 3, 2, 1]);
            g.gather_elements(x[0], list, 1)
        });
        check_gradients(Case::f32("GatherND").normal([2, 3, 4]), |g, x| {
            let list = indices(g, &[3, 2], &[0, 1, 1, -1, 0, 1]);
            g.gather_nd(x[0], list, 0)
        });
        check_gradients(Case::f32("GatherND of a batch").normal([2, 3, 4]), |g, x| {
            let list = indices(g, &[2, 2, 1], &[2, 0, 1, 1]);
            g.gather_nd(x[0], list, 1)
        });
    }

    #[test]
    fn gathered_values_are_those_at_the_indices() {
        let case = || Case::f32("Gather").values([2, 3], (0..6).map(f64::from).collect());
        let given = evaluate(case(), |g, x| {
            let list = indices(g, &[2], &[2, -3]);
            g.gather(x[0], list, 1)
        });
        assert_eq!(given, [2.0, 0.0, 5.0, 3.0]);
        let given = evaluate(case(), |g, x| {
            let list = g.integers(&[-2, -1]);
            g.gather(x[0], list, 1)
        });
        assert_eq!(given, [1.0, 2.0, 4.0, 5.0]);
        let given = evaluate(case(), |g, x| {
            let list = indices(g, &[2, 1, 1], &[2, 0]);
            g.gather_nd(x[0], list, 1)
        });
        assert_eq!(given, [2.0, 3.0]);
    }

    #[test]
    fn indices_out_of_range_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        let far = g.integers(&[0, 3]);
        let error = g.gather(x, far, 1).unwrap_err().to_string();
        assert!(error.contains("index 3 exceeds axis 1, whose length is 3"), "{error}");
        assert!(g.gather(x, far, 2).is_err());
        assert!(g.gather_elements(x, far, 0).is_err());
        assert!(g.gather_nd(x, far, 1).is_err());
    }
}
