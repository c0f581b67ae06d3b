//! Writing into places given by indices: ScatterElements and ScatterND.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::node::{Attribute, Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{ALL_TYPES, Operator};
use crate::types::{ElementType, TensorType};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&SCATTER_ELEMENTS, Some(import_scatter_elements)),
    (&SCATTER, Some(import_scatter_elements)),
    (&SCATTER_ND, Some(import_scatter_nd)),
];
static SCATTER_ELEMENTS: Operator = Operator::new("ScatterElements", 11).on_cuda(ALL_TYPES);
static SCATTER: Operator = Operator::decomposed("Scatter", 9);
static SCATTER_ND: Operator = Operator::new("ScatterND", 11).on_cuda(ALL_TYPES);

/// What is done with a value that is already at the place of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scatter {
    /// The update replaces it; no two updates may have the same place.
    Replace,
    /// The update is added to it.
    Add,
}

impl Scatter {
    fn attribute(self) -> (&'static str, Attribute) {
        ("reduction", Attribute::Text(if self == Self::Add { "add" } else { "none" }))
    }
}

impl Builder {
    /// `data` with each of `updates` at the same place but for `axis`, where it is at its entry of `indices`,
    /// i64 in the shape of `updates`; negative ones count from the end.
    ///
    /// # Errors
    /// Types do not fit, or `indices` and `updates` differ in shape.
    pub fn scatter_elements(
        &mut self,
        data: Tensor,
        indices: Tensor,
        updates: Tensor,
        axis: usize,
        scatter: Scatter,
    ) -> Result<Tensor> {
        let fits = self.element(data) == self.element(updates)
            && self.element(indices) == ElementType::I64
            && self.shape(indices) == self.shape(updates)
            && self.shape(data).len() == self.shape(indices).len()
            && axis < self.shape(data).len();
        if !fits {
            let reason = "there must be an i64 index for each update, along an axis of the data";
            return Err(self.mismatch(SCATTER_ELEMENTS.name, &[data, indices, updates], reason));
        }
        let attributes = vec![int("axis", axis as i64), scatter.attribute()];
        let ty = self.ty(data).clone();
        let y = self.emit(&SCATTER_ELEMENTS, &[data, indices, updates], attributes, ty);
        self.record(&[data, updates], &[y], move |g, up| {
            let dy = up.single();
            let ddata = g.when(up.wanted[0], |g| match scatter {
                Scatter::Add => Ok(dy),
                Scatter::Replace => {
                    let zeros = g.zeros(g.ty(updates).clone())?;
                    g.scatter_elements(dy, indices, zeros, axis, scatter)
                }
            })?;
            let dupdates = g.when(up.wanted[1], |g| g.gather_elements(dy, indices, axis))?;
            Ok(vec![ddata, dupdates])
        });
        Ok(y)
    }

    /// `updates` added up in a tensor of zeros, at places as in [`scatter_elements`](Self::scatter_elements).
    pub(super) fn scatter_add(
        &mut self,
        ty: TensorType,
        indices: Tensor,
        updates: Tensor,
        axis: usize,
    ) -> Result<Tensor> {
        let zeros = self.zeros(ty)?;
        self.scatter_elements(zeros, indices, updates, axis, Scatter::Add)
    }

    /// `data` with each of `updates` at the place that a row of `indices`, i64 `[…,D]`, names along the first
    /// D axes; negative indices count from the end.
    ///
    /// # Errors
    /// Types or shapes do not fit.
    pub fn scatter_nd(
        &mut self,
        data: Tensor,
        indices: Tensor,
        updates: Tensor,
        scatter: Scatter,
    ) -> Result<Tensor> {
        let (shape, places) = (self.shape(data).to_vec(), self.shape(indices).to_vec());
        let fits = self.element(data) == self.element(updates)
            && self.element(indices) == ElementType::I64
            && places.last().is_some_and(|&depth| {
                depth <= shape.len()
                    && *self.shape(updates) == [&places[..places.len() - 1], &shape[depth..]].concat()
            });
        if !fits {
            let reason = "there must be a row of i64 indices for each update";
            return Err(self.mismatch(SCATTER_ND.name, &[data, indices, updates], reason));
        }
        let ty = self.ty(data).clone();
        let y = self.emit(&SCATTER_ND, &[data, indices, updates], vec![scatter.attribute()], ty);
        self.record(&[data, updates], &[y], move |g, up| {
            let dy = up.single();
            let ddata = g.when(up.wanted[0], |g| match scatter {
                Scatter::Add => Ok(dy),
                Scatter::Replace => {
                    let zeros = g.zeros(g.ty(updates).clone())?;
                    g.scatter_nd(dy, indices, zeros, scatter)
                }
            })?;
            let dupdates = g.when(up.wanted[1], |g| g.gather_nd(dy, indices, 0))?;
            Ok(vec![ddata, dupdates])
        });
        Ok(y)
    }
}

fn reduction(file: &Translation<'_>, node: &NodeProto) -> Result<Scatter> {
    match NodeAttributes(node).text("reduction").as_str() {
        "" | "none" => Ok(Scatter::Replace),
        "add" => Ok(Scatter::Add),
        other => Err(file.at_node(node, format!("has the reduction `{other}`, expected none or add"))),
    }
}

fn import_scatter_elements<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let scatter = reduction(file, node)?;
    let data = file.operand(node, 0)?;
    let (indices, updates) = (file.operand(node, 1)?, file.operand(node, 2)?);
    let axis = file.axis(data, NodeAttributes(node).int("axis", 0));
    let indices = file.g.cast(indices, ElementType::I64)?;
    file.g.scatter_elements(data, indices, updates, axis, scatter)
}

fn import_scatter_nd<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let scatter = reduction(file, node)?;
    let data = file.operand(node, 0)?;
    let (indices, updates) = (file.operand(node, 1)?, file.operand(node, 2)?);
    file.g.scatter_nd(data, indices, updates, scatter)
}

#[cfg(test)]
mod tests {
    use super::Scatter;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, ElementType, Lowering, Target, Tensor, TensorType};

    fn matrix(g: &mut Builder, shape: [usize; 2], values: &[i64]) -> Tensor {
        let list = g.integers(values);
        g.reshape(list, &shape).unwrap()
    }

    #[test]
    fn gradients_of_scatters_agree_with_finite_differences() {
        for (scatter, places) in [(Scatter::Replace, [0, -1, 2, 1, 0, 2]), (Scatter::Add, [0, 0, 2, 1, 1, 1])]
        {
            let case = Case::f32("ScatterElements").normal([2, 4]).normal([2, 3]);
            check_gradients(case, |g, x| {
                let indices = matrix(g, [2, 3], &places);
                g.scatter_elements(x[0], indices, x[1], 1, scatter)
            });
        }
        for (scatter, rows) in [(Scatter::Replace, [2, 0]), (Scatter::Add, [1, 1])] {
            check_gradients(Case::f32("ScatterND").normal([3, 4]).normal([2, 4]), |g, x| {
                let indices = matrix(g, [2, 1], &rows);
                g.scatter_nd(x[0], indices, x[1], scatter)
            });
        }
    }

    #[test]
    fn updates_replace_values_or_are_added() {
        let case = || Case::f32("scatter").values([3], vec![1.0, 2.0, 3.0]).values([2], vec![10.0, 20.0]);
        let given = evaluate(case(), |g, x| {
            let indices = g.integers(&[-1, 0]);
            g.scatter_elements(x[0], indices, x[1], 0, Scatter::Replace)
        });
        assert_eq!(given, [20.0, 2.0, 10.0]);
        let given = evaluate(case(), |g, x| {
            let indices = matrix(g, [2, 1], &[1, 1]);
            g.scatter_nd(x[0], indices, x[1], Scatter::Add)
        });
        assert_eq!(given, [1.0, 32.0, 3.0]);
    }

    #[test]
    fn indices_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        let i = g.input("i", TensorType::new(ElementType::I64, [2, 2])).unwrap();
        assert!(g.scatter_elements(x, i, x, 1, Scatter::Add).is_err());
        assert!(g.scatter_elements(x, x, x, 1, Scatter::Add).is_err());
        assert!(g.scatter_nd(x, i, x, Scatter::Add).is_err());
    }
}
