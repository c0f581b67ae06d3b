//! TopK, and the places of extrema: ArgMax, ArgMin, Hardmax.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, NUMBERS, Operator};
use crate::ops::scatter::Scatter;
use crate::types::ElementType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&TOP_K, Some(import_top_k)),
    (&ARG_MAX, Some(|file, node| import_arg(file, node, &ARG_MAX))),
    (&ARG_MIN, Some(|file, node| import_arg(file, node, &ARG_MIN))),
];
static TOP_K: Operator = Operator::new("TopK", 1).on_cuda(NUMBERS);
static ARG_MAX: Operator = Operator::new("ArgMax", 1).on_cuda(FLOATS);
static ARG_MIN: Operator = Operator::new("ArgMin", 1).on_cuda(FLOATS);

impl Builder {
    /// The `count` largest values of `x` along `axis`, or the smallest, in order, and their i64 indices.
    ///
    /// # Errors
    /// `x` has no such axis, or fewer values along it.
    pub fn top_k(&mut self, x: Tensor, count: usize, axis: usize, largest: bool) -> Result<[Tensor; 2]> {
        let ty = self.ty(x).clone();
        if ty.shape.get(axis).is_none_or(|&length| length < count) {
            let reason = format!("axis {axis} must have {count} values or more");
            return Err(self.mismatch(TOP_K.name, &[x], reason));
        }
        let mut shape = ty.shape.clone();
        shape[axis] = count;
        let number = self.sizes(&[count]);
        let attributes = vec![int("axis", axis as i64), int("largest", largest.into()), int("sorted", 1)];
        let types = vec![ty.reshaped(shape.clone()), ty.with_element(ElementType::I64).reshaped(shape)];
        let outputs = self.emit_many(&TOP_K, &[x, number], attributes, types);
        let (values, indices) = (outputs[0], outputs[1]);
        self.record(&[x], &[values], move |g, up| {
            let zeros = g.zeros(ty.clone())?;
            Ok(vec![Some(g.scatter_elements(zeros, indices, up.single(), axis, Scatter::Replace)?)])
        });
        Ok([values, indices])
    }

    /// The i64 index of the largest value along `axis`, which is kept with length 1 if `keep`; of equal ones
    /// the first.
    ///
    /// # Errors
    /// `x` has no such axis.
    pub fn arg_max(&mut self, x: Tensor, axis: usize, keep: bool) -> Result<Tensor> {
        self.place_of(&ARG_MAX, x, axis, keep, false)
    }

    fn place_of(
        &mut self,
        operator: &'static Operator,
        x: Tensor,
        axis: usize,
        keep: bool,
        last: bool,
    ) -> Result<Tensor> {
        let (_, shape) = self.reduced_shapes(operator, x, &[axis], keep)?;
        let attributes = vec![
            int("axis", axis as i64),
            int("keepdims", keep.into()),
            int("select_last_index", last.into()),
        ];
        let ty = self.ty(x).with_element(ElementType::I64).reshaped(shape);
        Ok(self.emit(operator, &[x], attributes, ty))
    }

    /// 1 at the first largest value along `axis`, else 0; the gradient is 0.
    ///
    /// # Errors
    /// `x` is not floating-point or has no such axis.
    pub fn hardmax(&mut self, x: Tensor, axis: usize) -> Result<Tensor> {
        self.floating("Hardmax", x)?;
        let place = self.arg_max(x, axis, true)?;
        let (rank, length) = (self.shape(x).len(), self.shape(x)[axis]);
        let along: Vec<usize> = (0..rank).map(|a| if a == axis { length } else { 1 }).collect();
        let list = self.counting(length, &along);
        let chosen = self.equal(list, place)?;
        self.cast(chosen, self.element(x))
    }
}

fn import_top_k<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let count = match file.integers(node, 1)?.as_deref() {
        Some(&[count]) => count,
        _ => attributes.int("k", 0),
    };
    let Ok(count) = usize::try_from(count) else {
        return Err(file.at_node(node, format!("takes {count} values")));
    };
    let axis = file.axis(x, attributes.int("axis", -1));
    let [values, indices] = file.g.top_k(x, count, axis, attributes.int("largest", 1) != 0)?;
    if let Some(name) = node.output.get(1) {
        file.define(name, indices);
    }
    Ok(values)
}

fn import_arg<'a>(
    file: &mut Translation<'a>,
    node: &'a NodeProto,
    operator: &'static Operator,
) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let axis = file.axis(x, attributes.int("axis", 0));
    let flag = |name, default| attributes.int(name, default) != 0;
    file.g.place_of(operator, x, axis, flag("keepdims", 1), flag("select_last_index", 0))
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, ElementType, Lowering, Target, TensorType};

    #[test]
    fn gradients_of_the_largest_values_agree_with_finite_differences() {
        for largest in [true, false] {
            check_gradients(Case::f64("TopK").distinct([3, 5, 2]), |g, x| {
                Ok(g.top_k(x[0], 2, 1, largest)?[0])
            });
        }
    }

    #[test]
    fn places_are_those_of_the_largest_values() {
        let case = || Case::f32("places").values([2, 3], vec![1.0, 5.0, 5.0, 7.0, 2.0, 3.0]);
        let top = evaluate(case(), |g, x| Ok(g.top_k(x[0], 2, 1, true)?[0]));
        assert_eq!(top, [5.0, 5.0, 7.0, 3.0]);
        let place = evaluate(case(), |g, x| {
            let place = g.arg_max(x[0], 1, false)?;
            g.cast(place, ElementType::F32)
        });
        assert_eq!(place, [1.0, 0.0]);
        assert_eq!(evaluate(case(), |g, x| g.hardmax(x[0], 1)), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn more_values_than_there_are_is_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        assert!(g.top_k(x, 4, 1, true).is_err());
        assert!(g.arg_max(x, 2, true).is_err());
        assert!(g.hardmax(x, 2).is_err());
    }
}
