//! Changes of shape or order: Reshape, Flatten, Transpose, Squeeze, Unsqueeze, Expand.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::fold::reshaped;
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int, ints};
use crate::onnx::NodeProto;
use crate::operator::{ALL_TYPES, Operator};
use crate::types::{TensorType, broadcast};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&RESHAPE, Some(import_reshape)),
    (&FLATTEN, Some(import_flatten)),
    (&TRANSPOSE, Some(import_transpose)),
    (&SQUEEZE, Some(import_squeeze)),
    (&UNSQUEEZE, Some(import_unsqueeze)),
    (&EXPAND, Some(import_expand)),
    // Files have the shapes of a batch, which are known; see `free_batch`.
    (&SHAPE, None),
];
pub(crate) static SHAPE: Operator = Operator::new("Shape", 1).on_cuda(ALL_TYPES);
static RESHAPE: Operator = Operator::new("Reshape", 1).on_cuda(ALL_TYPES);
static FLATTEN: Operator = Operator::new("Flatten", 1).on_cuda(ALL_TYPES);
static TRANSPOSE: Operator = Operator::new("Transpose", 1).on_cuda(ALL_TYPES);
static SQUEEZE: Operator = Operator::new("Squeeze", 1).on_cuda(ALL_TYPES);
static UNSQUEEZE: Operator = Operator::new("Unsqueeze", 1).on_cuda(ALL_TYPES);
static EXPAND: Operator = Operator::new("Expand", 8).on_cuda(ALL_TYPES);

impl Builder {
    /// `x` with the same elements in another shape.
    ///
    /// # Errors
    /// The number of elements differs.
    pub fn reshape(&mut self, x: Tensor, shape: &[usize]) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        if ty.shape == shape {
            return Ok(x);
        }
        if ty.len() != shape.iter().product::<usize>() {
            let reason = format!("shape {shape:?} must have as many elements as the operand");
            return Err(self.mismatch(RESHAPE.name, &[x], reason));
        }
        // A first axis that stays is a 0: the node is then the same for every batch size.
        let keeps_first = shape.len() > 1 && ty.shape.first() == shape.first();
        let mut lengths = shape.to_vec();
        lengths.iter_mut().take(usize::from(keeps_first)).for_each(|length| *length = 0);
        let target = self.sizes(&lengths);
        let y = self.emit(&RESHAPE, &[x, target], vec![], ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.reshape(up.single(), &ty.shape)?)]));
        Ok(y)
    }

    /// `x` as a matrix: the axes before `axis` become rows, the others columns.
    ///
    /// # Errors
    /// `axis` is greater than the number of axes.
    pub fn flatten(&mut self, x: Tensor, axis: usize) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        if axis > ty.rank() {
            return Err(self.mismatch(
                FLATTEN.name,
                &[x],
                format!("axis {axis} must be an axis of the operand"),
            ));
        }
        let shape = [ty.shape[..axis].iter().product(), ty.shape[axis..].iter().product::<usize>()];
        let y = self.emit(&FLATTEN, &[x], vec![int("axis", axis as i64)], ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.reshape(up.single(), &ty.shape)?)]));
        Ok(y)
    }

    /// `x` with axis `order[i]` as axis i.
    ///
    /// # Errors
    /// `order` is not a permutation of the axes.
    pub fn transpose(&mut self, x: Tensor, order: &[usize]) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let mut inverse = vec![usize::MAX; ty.rank()];
        for (to, &from) in order.iter().enumerate() {
            if from < inverse.len() {
                inverse[from] = to;
            }
        }
        if order.len() != ty.rank() || inverse.contains(&usize::MAX) {
            let reason = format!("{order:?} must be a permutation of the axes");
            return Err(self.mismatch(TRANSPOSE.name, &[x], reason));
        }
        let shape: Vec<usize> = order.iter().map(|&a| ty.shape[a]).collect();
        let y = self.emit(&TRANSPOSE, &[x], vec![ints("perm", order)], ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.transpose(up.single(), &inverse)?)]));
        Ok(y)
    }

    /// The matrix whose transpose a node of this graph made `x`.
    pub(super) fn transposed_matrix(&self, x: Tensor) -> Option<Tensor> {
        let node = self.node_of(x)?;
        let is_it = *node.operator == TRANSPOSE && node.attributes == [ints("perm", &[1, 0])];
        is_it.then(|| node.inputs[0])
    }

    /// `x` without `axes`, which must have length 1.
    ///
    /// # Errors
    /// An axis is out of range or longer than 1.
    pub fn squeeze(&mut self, x: Tensor, axes: &[usize]) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        if axes.iter().any(|&a| ty.shape.get(a) != Some(&1)) {
            return Err(self.mismatch(SQUEEZE.name, &[x], format!("axes {axes:?} must have length 1")));
        }
        let shape: Vec<usize> = (0..ty.rank()).filter(|i| !axes.contains(i)).map(|i| ty.shape[i]).collect();
        let list = self.sizes(axes);
        let y = self.emit(&SQUEEZE, &[x, list], vec![], ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.reshape(up.single(), &ty.shape)?)]));
        Ok(y)
    }

    /// `x` with new axes of length 1, which are `axes` of the result.
    ///
    /// # Errors
    /// `axes` are not distinct axes of the result.
    pub fn unsqueeze(&mut self, x: Tensor, axes: &[usize]) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let rank = ty.rank() + axes.len();
        if (0..rank).filter(|i| axes.contains(i)).count() != axes.len() {
            let reason = format!("axes {axes:?} must be distinct axes of the result");
            return Err(self.mismatch(UNSQUEEZE.name, &[x], reason));
        }
        let mut rest = ty.shape.iter();
        let shape: Vec<usize> = (0..rank)
            .map(|i| if axes.contains(&i) { 1 } else { *rest.next().expect("counted above") })
            .collect();
        let list = self.sizes(axes);
        let y = self.emit(&UNSQUEEZE, &[x, list], vec![], ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.reshape(up.single(), &ty.shape)?)]));
        Ok(y)
    }

    /// `x` broadcast to `shape`.
    ///
    /// # Errors
    /// `x` does not broadcast to it.
    pub fn expand(&mut self, x: Tensor, shape: &[usize]) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        if ty.shape == shape {
            return Ok(x);
        }
        if broadcast(&ty.shape, shape).as_deref() != Some(shape) {
            return Err(self.mismatch(EXPAND.name, &[x], format!("the operand must broadcast to {shape:?}")));
        }
        let target = self.sizes(shape);
        let y = self.emit(&EXPAND, &[x, target], vec![], ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| Ok(vec![Some(g.sum_to(up.single(), x)?)]));
        Ok(y)
    }

    /// A tensor of zeros, expanded when the graph runs, so that it takes no space in the file.
    pub(crate) fn zeros(&mut self, ty: TensorType) -> Result<Tensor> {
        let zero = self.scalar(ty.element, 0.0);
        self.expand(zero, &ty.shape)
    }
}

fn import_flatten<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let axis = file.axis(x, NodeAttributes(node).int("axis", 1));
    file.g.flatten(x, axis)
}

fn import_transpose<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let reversed = (0..file.g.shape(x).len()).rev().collect();
    let order = NodeAttributes(node).sizes("perm").unwrap_or(reversed);
    file.g.transpose(x, &order)
}

fn import_reshape<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let target = match file.integers(node, 1)? {
        Some(target) => target,
        // Operator sets below 5 have it as an attribute.
        None => match NodeAttributes(node).ints("shape") {
            Some(target) => target,
            None => return Err(file.at_node(node, "has no shape")),
        },
    };
    let from = file.g.shape(x).to_vec();
    let target = file.target_shape(node, 1, target, from.iter().product());
    let allow_zero = NodeAttributes(node).int("allowzero", 0) != 0;
    let shape = match file.reshaped_for_batch(node, x) {
        Some(shape) => shape,
        None => reshaped(&from, &target, allow_zero)
            .map_err(|reason| file.at_node(node, format!("{reason}{}", file.batch_remedy())))?,
    };
    // Flatten is the same node for every batch size.
    if shape.len() == 2 && shape[0] == from[0] { file.g.flatten(x, 1) } else { file.g.reshape(x, &shape) }
}

/// Without axes, all axes of length 1 go.
fn import_squeeze<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let axes = match file.axes(node, x, 1)? {
        Some(axes) => axes,
        None => (0..file.g.shape(x).len()).filter(|&axis| file.g.shape(x)[axis] == 1).collect(),
    };
    if axes.is_empty() { Ok(x) } else { file.g.squeeze(x, &axes) }
}

/// Negative axes count from the end of the result.
fn import_unsqueeze<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let axes = file.integers(node, 1)?.or_else(|| NodeAttributes(node).ints("axes")).unwrap_or_default();
    let rank = (file.g.shape(x).len() + axes.len()) as i64;
    let from_front = |axis: i64| if axis < 0 { axis + rank } else { axis };
    let mut axes: Vec<usize> =
        axes.into_iter().map(|axis| usize::try_from(from_front(axis)).unwrap_or(usize::MAX)).collect();
    axes.sort_unstable();
    if axes.is_empty() { Ok(x) } else { file.g.unsqueeze(x, &axes) }
}

/// A length of 1 keeps the operand's.
fn import_expand<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let mut target = file.integers(node, 1)?.unwrap_or_default();
    let (has_images, batch) = (file.expands_to_images(node, x), file.batch as i64);
    if let Some(first) = target.first_mut().filter(|_| has_images) {
        *first = batch;
    }
    let target: Vec<usize> = target.into_iter().map(|length| usize::try_from(length).unwrap_or(0)).collect();
    let shape = broadcast(file.g.shape(x), &target).unwrap_or(target);
    file.g.expand(x, &shape)
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, TensorType};

    #[test]
    fn gradients_of_layout_changes_agree_with_finite_differences() {
        let case = |name: &str| Case::f64(name).normal([2, 1, 3, 4]);
        check_gradients(case("Reshape"), |g, x| g.reshape(x[0], &[4, 6]));
        check_gradients(case("Flatten"), |g, x| g.flatten(x[0], 1));
        check_gradients(case("Transpose"), |g, x| g.transpose(x[0], &[3, 0, 2, 1]));
        check_gradients(case("Squeeze"), |g, x| g.squeeze(x[0], &[1]));
        check_gradients(case("Unsqueeze"), |g, x| g.unsqueeze(x[0], &[0, 3]));
        check_gradients(case("Expand"), |g, x| g.expand(x[0], &[5, 2, 2, 3, 4]));
    }

    #[test]
    fn a_transposed_matrix_has_its_rows_as_columns() {
        let case = Case::f64("Transpose").values([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(evaluate(case, |g, x| g.transpose(x[0], &[1, 0])), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn impossible_layouts_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        assert!(g.reshape(x, &[5]).is_err());
        assert!(g.flatten(x, 3).is_err());
        assert!(g.transpose(x, &[0, 0]).is_err());
        assert!(g.transpose(x, &[0, 2]).is_err());
        assert!(g.squeeze(x, &[1]).is_err());
        assert!(g.unsqueeze(x, &[4]).is_err());
        assert!(g.expand(x, &[3, 3]).is_err());
    }
}
