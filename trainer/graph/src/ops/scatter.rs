//! Writing into places given by indices: ScatterElements and ScatterND.

use crate::builder::{Builder, Upstream};
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
    /// It is multiplied by the update.
    Multiply,
    /// The larger of both stays; equal ones share the gradient.
    Max,
    /// The smaller of both stays; equal ones share the gradient.
    Min,
}

impl Scatter {
    /// Their names in files.
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Replace, "none"),
        (Self::Add, "add"),
        (Self::Multiply, "mul"),
        (Self::Max, "max"),
        (Self::Min, "min"),
    ];

    fn attribute(self) -> (&'static str, Attribute) {
        let name = Self::NAMES.iter().find(|(scatter, _)| *scatter == self).map_or("none", |(_, name)| name);
        ("reduction", Attribute::Text(name))
    }
}

/// Where updates go.
#[derive(Clone, Copy)]
enum Places {
    /// Along an axis, to the entry of the indices.
    Elements(Tensor, usize),
    /// To what a row of the indices names.
    Rows(Tensor),
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
            g.scatter_gradients(Places::Elements(indices, axis), scatter, [data, updates, y], up)
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
            g.scatter_gradients(Places::Rows(indices), scatter, [data, updates, y], up)
        });
        Ok(y)
    }

    fn scatter(&mut self, data: Tensor, places: Places, updates: Tensor, scatter: Scatter) -> Result<Tensor> {
        match places {
            Places::Elements(indices, axis) => self.scatter_elements(data, indices, updates, axis, scatter),
            Places::Rows(indices) => self.scatter_nd(data, indices, updates, scatter),
        }
    }

    /// The values of `x` at the places of the updates.
    fn at_places(&mut self, x: Tensor, places: Places) -> Result<Tensor> {
        match places {
            Places::Elements(indices, axis) => self.gather_elements(x, indices, axis),
            Places::Rows(indices) => self.gather_nd(x, indices, 0),
        }
    }

    /// The gradients of data and updates; `values` are these and what has become of them.
    fn scatter_gradients(
        &mut self,
        places: Places,
        scatter: Scatter,
        values: [Tensor; 3],
        up: &Upstream,
    ) -> Result<Vec<Option<Tensor>>> {
        let ([data, updates, y], dy) = (values, up.single());
        let [of_data, of_updates] = [up.wanted[0], up.wanted[1]];
        Ok(match scatter {
            Scatter::Replace => {
                let ddata = self.when(of_data, |g| {
                    let zeros = g.zeros(g.ty(updates).clone())?;
                    g.scatter(dy, places, zeros, scatter)
                })?;
                vec![ddata, self.when(of_updates, |g| g.at_places(dy, places))?]
            }
            Scatter::Add => vec![Some(dy), self.when(of_updates, |g| g.at_places(dy, places))?],
            Scatter::Multiply => {
                let ddata = self.when(of_data, |g| g.scatter(dy, places, updates, scatter))?;
                vec![ddata, self.when(of_updates, |g| g.factor_gradient(places, data, updates, dy))?]
            }
            Scatter::Max | Scatter::Min => {
                let element = self.element(dy);
                let here = self.at_places(y, places)?;
                let (is_update, is_data) = (self.equal(updates, here)?, self.equal(data, y)?);
                let (from_updates, from_data) =
                    (self.cast(is_update, element)?, self.cast(is_data, element)?);
                let count = self.scatter(from_data, places, from_updates, Scatter::Add)?;
                let share = self.div(dy, count)?;
                let ddata = self.when(of_data, |g| g.mul(share, from_data))?;
                let dupdates = self.when(of_updates, |g| {
                    let share = g.at_places(share, places)?;
                    g.mul(share, from_updates)
                })?;
                vec![ddata, dupdates]
            }
        })
    }

    /// The gradient of `updates` that are multiplied: the product of all others at their places, also where
    /// some are 0.
    fn factor_gradient(
        &mut self,
        places: Places,
        data: Tensor,
        updates: Tensor,
        dy: Tensor,
    ) -> Result<Tensor> {
        let element = self.element(dy);
        let [zero, one] = [0.0, 1.0].map(|value| self.scalar(element, value));
        let is_zero = self.equal(updates, zero)?;
        let factors = self.select(is_zero, one, updates)?;
        let product = self.scatter(data, places, factors, Scatter::Multiply)?;
        let product = self.mul(product, dy)?;
        let product = self.at_places(product, places)?;
        let others = self.div(product, factors)?;
        let is_zero = self.cast(is_zero, element)?;
        let zeros = self.zeros(self.ty(data).clone())?;
        let count = self.scatter(zeros, places, is_zero, Scatter::Add)?;
        let count = self.at_places(count, places)?;
        // No other update at the place is 0.
        let is_alone = self.equal(count, is_zero)?;
        self.select(is_alone, others, zero)
    }
}

fn reduction(file: &Translation<'_>, node: &NodeProto) -> Result<Scatter> {
    let given = NodeAttributes(node).text("reduction");
    let name = if given.is_empty() { "none" } else { given.as_str() };
    let known = Scatter::NAMES.iter().find(|(_, known)| *known == name);
    known.map(|(scatter, _)| *scatter).ok_or_else(|| {
        file.at_node(node, format!("has the reduction `{given}`, expected none, add, mul, max or min"))
    })
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
    use crate::gradcheck::{Case, check_gradients, evaluate, gradient};
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
        for scatter in [Scatter::Multiply, Scatter::Max, Scatter::Min] {
            let case = Case::f32("ScatterElements").normal([2, 4]).normal([2, 3]);
            check_gradients(case, |g, x| {
                let indices = matrix(g, [2, 3], &[0, 0, 2, 1, 1, 1]);
                g.scatter_elements(x[0], indices, x[1], 1, scatter)
            });
            check_gradients(Case::f32("ScatterND").normal([3, 4]).normal([2, 4]), |g, x| {
                let indices = matrix(g, [2, 1], &[1, 1]);
                g.scatter_nd(x[0], indices, x[1], scatter)
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
    fn equal_extremes_share_the_gradient_and_factors_of_0_have_the_product_of_the_others() {
        // Two values, and the updates of the first and of the second.
        let of = |scatter, values: [f64; 6]| {
            gradient(Case::f32("scatter").values([6], values.to_vec()), |g, x| {
                let indices = g.integers(&[0, 0, 1, 1]);
                let (data, updates) = (g.slice(x[0], 0, 0, 2)?, g.slice(x[0], 0, 2, 6)?);
                g.scatter_elements(data, indices, updates, 0, scatter)
            })
        };
        assert_eq!(of(Scatter::Max, [3.0, 1.0, 3.0, 2.0, 4.0, 4.0]), [0.5, 0.0, 0.5, 0.0, 0.5, 0.5]);
        assert_eq!(of(Scatter::Multiply, [3.0, 5.0, 0.0, 2.0, 0.0, 0.0]), [0.0, 0.0, 6.0, 0.0, 0.0, 0.0]);
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
