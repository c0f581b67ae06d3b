//! Add, Sub, Mul, Div, Pow, Mod with broadcasting.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::model::DOMAIN;
use crate::node::{Attributes, Tensor, int, ints};
use crate::onnx::NodeProto;
use crate::operator::{NUMBERS, Operator};
use crate::types::{ElementType, TensorType, broadcast};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&ADD, Some(|file, node| file.binary(node, Builder::add))),
    (&SUB, Some(|file, node| file.binary(node, Builder::sub))),
    (&MUL, Some(|file, node| file.binary(node, Builder::mul))),
    (&DIV, Some(|file, node| file.binary(node, Builder::div))),
    (&POW, Some(import_pow)),
    (&MOD, Some(import_mod)),
    (&SUM_ROWS, None),
];
pub(crate) static ADD: Operator = Operator::new("Add", 1).on_cuda(NUMBERS);
static SUB: Operator = Operator::new("Sub", 1).on_cuda(NUMBERS);
pub(crate) static MUL: Operator = Operator::new("Mul", 1).on_cuda(NUMBERS);
pub(super) static DIV: Operator = Operator::new("Div", 1).on_cuda(NUMBERS);
static POW: Operator = Operator::new("Pow", 1).on_cuda(NUMBERS);
static MOD: Operator = Operator::new("Mod", 10).on_cuda(NUMBERS);
static SUM_ROWS: Operator = Operator::new("SumRows", 1).in_domain(DOMAIN);

impl Builder {
    /// a + b with broadcasting.
    ///
    /// # Errors
    /// Element types differ or shapes do not broadcast. The same holds for the other operators of this
    /// family.
    pub fn add(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let y = self.broadcasting(&ADD, a, b)?;
        self.record(&[a, b], &[y], move |g, up| {
            let dy = up.single();
            let da = g.when(up.wanted[0], |g| g.sum_to(dy, a))?;
            let db = g.when(up.wanted[1], |g| g.sum_to(dy, b))?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    /// a − b with broadcasting.
    ///
    /// # Errors
    /// See [`add`](Self::add).
    pub fn sub(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let y = self.broadcasting(&SUB, a, b)?;
        self.record(&[a, b], &[y], move |g, up| {
            let dy = up.single();
            let da = g.when(up.wanted[0], |g| g.sum_to(dy, a))?;
            let db = g.when(up.wanted[1], |g| {
                let db = g.sum_to(dy, b)?;
                g.neg(db)
            })?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    /// a · b with broadcasting.
    ///
    /// # Errors
    /// See [`add`](Self::add).
    pub fn mul(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        if let Some(y) = self.own_activation(a, b) {
            return Ok(y);
        }
        let y = self.broadcasting(&MUL, a, b)?;
        self.record(&[a, b], &[y], move |g, up| {
            let dy = up.single();
            let side = |g: &mut Self, other, to| {
                let product = g.mul(dy, other)?;
                g.sum_to(product, to)
            };
            let da = g.when(up.wanted[0], |g| side(g, b, a))?;
            let db = g.when(up.wanted[1], |g| side(g, a, b))?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    /// a / b with broadcasting.
    ///
    /// # Errors
    /// See [`add`](Self::add).
    pub fn div(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let y = self.broadcasting(&DIV, a, b)?;
        self.record(&[a, b], &[y], move |g, up| {
            let over = g.div(up.single(), b)?;
            let da = g.when(up.wanted[0], |g| g.sum_to(over, a))?;
            let db = g.when(up.wanted[1], |g| {
                let product = g.mul(over, y)?;
                let sum = g.sum_to(product, b)?;
                g.neg(sum)
            })?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    /// aᵇ with broadcasting; the gradient with respect to `b` needs a > 0.
    ///
    /// # Errors
    /// See [`add`](Self::add).
    pub fn pow(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let y = self.broadcasting(&POW, a, b)?;
        self.record(&[a, b], &[y], move |g, up| {
            let dy = up.single();
            let da = g.when(up.wanted[0], |g| {
                let one = g.scalar(g.element(b), 1.0);
                let lower = g.sub(b, one)?;
                let power = g.pow(a, lower)?;
                let slope = g.mul(power, b)?;
                let product = g.mul(dy, slope)?;
                g.sum_to(product, a)
            })?;
            let db = g.when(up.wanted[1], |g| {
                let log = g.log(a)?;
                let slope = g.mul(y, log)?;
                let product = g.mul(dy, slope)?;
                g.sum_to(product, b)
            })?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    /// What remains of a divided by b, with broadcasting: with the sign of a if `truncated`, else with that
    /// of b.
    ///
    /// # Errors
    /// See [`add`](Self::add).
    pub fn modulo(&mut self, a: Tensor, b: Tensor, truncated: bool) -> Result<Tensor> {
        if !truncated && self.element(a).is_float() {
            // The operator has no such form for floating-point operands.
            let ratio = self.div(a, b)?;
            let times = self.floor(ratio)?;
            let whole = self.mul(times, b)?;
            return self.sub(a, whole);
        }
        let y = self.broadcasting_with(&MOD, a, b, vec![int("fmod", truncated.into())])?;
        self.record(&[a, b], &[y], move |g, up| {
            let dy = up.single();
            let da = g.when(up.wanted[0], |g| g.sum_to(dy, a))?;
            let db = g.when(up.wanted[1], |g| {
                // y = a − b · trunc(a / b).
                let whole = g.sub(y, a)?;
                let slope = g.div(whole, b)?;
                let product = g.mul(dy, slope)?;
                g.sum_to(product, b)
            })?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    /// x · factor.
    ///
    /// # Errors
    /// `x` is not floating-point.
    pub fn scale(&mut self, x: Tensor, factor: f64) -> Result<Tensor> {
        if factor == 1.0 {
            return Ok(x);
        }
        let factor = self.scalar(self.element(x), factor);
        self.mul(x, factor)
    }

    /// Sums `gradient` over the axes along which `operand` was broadcast.
    pub(crate) fn sum_to(&mut self, gradient: Tensor, operand: Tensor) -> Result<Tensor> {
        let (from, to) = (self.shape(gradient).to_vec(), self.shape(operand).to_vec());
        if from == to {
            return Ok(gradient);
        }
        let added = from.len() - to.len();
        let axes: Vec<usize> =
            (0..from.len()).filter(|&i| i < added || (to[i - added] == 1 && from[i] != 1)).collect();
        if self.sums_rows(gradient, &to) {
            return Ok(self.emit(&SUM_ROWS, &[gradient], vec![ints("shape", &to)], TensorType::f32(to)));
        }
        let sum = if axes.is_empty() { gradient } else { self.reduce_sum(gradient, &axes, true)? };
        self.reshape(sum, &to)
    }

    /// Whether the operator of the domain [`DOMAIN`] adds up `x` to the shape `to`: its last axes are left.
    fn sums_rows(&self, x: Tensor, to: &[usize]) -> bool {
        let first = to.iter().take_while(|&&length| length == 1).count();
        let (from, kept) = (self.shape(x), &to[first..]);
        let is_fitting = !kept.is_empty() && from.ends_with(kept) && self.ty(x).len() > kept.iter().product();
        is_fitting && self.lowering().has_own(&SUM_ROWS) && self.element(x) == ElementType::F32
    }

    /// Runs `emit` if `wanted`.
    pub(crate) fn when(
        &mut self,
        wanted: bool,
        emit: impl FnOnce(&mut Self) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        wanted.then(|| emit(self)).transpose()
    }

    /// A node of two operands that broadcast; it has no gradient rule yet.
    pub(super) fn broadcasting(
        &mut self,
        operator: &'static Operator,
        a: Tensor,
        b: Tensor,
    ) -> Result<Tensor> {
        self.broadcasting_with(operator, a, b, vec![])
    }

    fn broadcasting_with(
        &mut self,
        operator: &'static Operator,
        a: Tensor,
        b: Tensor,
        attributes: Attributes,
    ) -> Result<Tensor> {
        if self.element(a) != self.element(b) {
            return Err(self.mismatch(operator.name, &[a, b], "element types must be equal"));
        }
        let Some(shape) = broadcast(self.shape(a), self.shape(b)) else {
            return Err(self.mismatch(operator.name, &[a, b], "shapes must broadcast"));
        };
        let ty = self.ty(a).reshaped(shape);
        Ok(self.emit(operator, &[a, b], attributes, ty))
    }
}

/// Common exponents have cheaper forms, which also are exact for bases below 0.
fn import_pow<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let exponent = file.scalar(node, 1, "exponent", 1.0).ok();
    match exponent {
        Some(1.0) => Ok(x),
        Some(2.0) => file.g.mul(x, x),
        Some(3.0) => {
            let square = file.g.mul(x, x)?;
            file.g.mul(square, x)
        }
        Some(0.5) => file.g.sqrt(x),
        Some(-1.0) => file.g.reciprocal(x),
        Some(-0.5) => {
            let root = file.g.sqrt(x)?;
            file.g.reciprocal(root)
        }
        Some(exponent) => {
            let exponent = file.g.scalar(file.g.element(x), exponent);
            file.g.pow(x, exponent)
        }
        None => {
            let exponent = file.operand(node, 1)?;
            let exponent = file.g.cast(exponent, file.g.element(x))?;
            file.g.pow(x, exponent)
        }
    }
}

fn import_mod<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (a, b) = (file.operand(node, 0)?, file.operand(node, 1)?);
    file.g.modulo(a, b, NodeAttributes(node).int("fmod", 0) != 0)
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients};
    use crate::{Builder, ElementType, GraphError, Lowering, Target, TensorType};

    #[test]
    fn gradients_of_binary_operators_agree_with_finite_differences() {
        for (a, b) in [(vec![3, 4], vec![3, 4]), (vec![2, 3, 4], vec![3, 1]), (vec![1, 4], vec![5, 1])] {
            let case = |name: &str| Case::f64(name).positive(a.clone()).positive(b.clone());
            check_gradients(case("Add"), |g, x| g.add(x[0], x[1]));
            check_gradients(case("Sub"), |g, x| g.sub(x[0], x[1]));
            check_gradients(case("Mul"), |g, x| g.mul(x[0], x[1]));
            check_gradients(case("Div"), |g, x| g.div(x[0], x[1]));
            check_gradients(case("Pow"), |g, x| g.pow(x[0], x[1]));
        }
        let case = Case::f64("Mod").values([3], vec![-7.25, 1.5, 6.5]).values([3], vec![2.0, -4.0, 3.0]);
        check_gradients(case, |g, x| g.modulo(x[0], x[1], true));
        let case = Case::f64("Mod").values([3], vec![-7.25, 1.5, 6.5]).values([3], vec![2.0, -4.0, 3.0]);
        check_gradients(case, |g, x| g.modulo(x[0], x[1], false));
    }

    #[test]
    fn gradients_of_rows_are_added_by_one_operator_where_only_last_axes_are_left() {
        let own = Lowering { own_operators: true, ..Lowering::training(Target::Cpu) };
        let cases: [(&[usize], &str); 7] = [
            (&[4], "SumRows"),
            (&[3, 4], "SumRows"),
            (&[1, 1, 4], "SumRows"),
            (&[1, 3, 4], "SumRows"),
            (&[3, 1], "ReduceSum"),
            (&[2, 1, 4], "ReduceSum"),
            (&[1], "ReduceSum"),
        ];
        for (shape, expected) in cases {
            let mut g = Builder::new("test", own);
            let a = g.input("a", TensorType::f32([2, 3, 4])).unwrap();
            let b = g.input("b", TensorType::f32(shape)).unwrap();
            let y = g.mul(a, b).unwrap();
            let loss = g.sum(y).unwrap();
            let gradient = g.grad(loss, &[b]).unwrap()[0];
            assert_eq!(g.shape(gradient), shape);
            g.output("gradient", gradient).unwrap();
            let graph = g.finish();
            let sums = ["SumRows", "ReduceSum"]
                .map(|name| graph.nodes().filter(|(operator, ..)| operator.name == name).count());
            assert_eq!(sums, if expected == "SumRows" { [1, 0] } else { [0, 1] }, "{shape:?}");
            let case = Case::f32("Mul, own").normal([2, 3, 4]).normal(shape).lowering(own);
            check_gradients(case, |g, x| g.mul(x[0], x[1]));
        }
        // One row is not a sum.
        let case = Case::f32("Mul, own").normal([1, 4]).normal([4]).lowering(own);
        check_gradients(case, |g, x| g.mul(x[0], x[1]));
    }

    #[test]
    fn a_value_used_twice_collects_both_gradients() {
        check_gradients(Case::f64("x·x + x").normal([3, 2]), |g, x| {
            let square = g.mul(x[0], x[0])?;
            g.add(square, x[0])
        });
    }

    #[test]
    fn a_mismatch_names_node_operator_and_both_shapes() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let a = g.input("a", TensorType::f32([2, 3])).unwrap();
        let b = g.input("b", TensorType::f32([4])).unwrap();
        let c = g.input("c", TensorType::new(ElementType::I64, [2, 3])).unwrap();
        let error = g.scope("fc1", |g| g.add(a, b)).unwrap_err();
        assert_eq!(error.to_string(), "node `fc1/Add` (Add): shapes must broadcast; given f32[2,3], f32[4]");
        assert!(matches!(g.add(a, c), Err(GraphError::Operands { .. })));
    }
}
