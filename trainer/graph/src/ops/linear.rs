//! Matrix products: Gemm and MatMul.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation, given};
use crate::model::DOMAIN;
use crate::node::{Tensor, int, ints};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, Operator};
use crate::types::{ElementType, TensorType, broadcast};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family =
    &[(&GEMM, Some(import_gemm)), (&MAT_MUL, Some(import_matmul)), (&OWN_MAT_MUL, None)];
static GEMM: Operator = Operator::new("Gemm", 1).on_cuda(FLOATS);
static MAT_MUL: Operator = Operator::new("MatMul", 1).on_cuda(FLOATS);
static OWN_MAT_MUL: Operator = Operator::new("MatMul", 1).in_domain(DOMAIN);

/// Fewest products of numbers in a matrix product for an operator of our own: below, it takes longer to
/// begin.
const PRODUCTS: usize = 1 << 22;
/// Fewest rows of the result where the second factor lies transposed in memory: it is laid out anew first.
const ROWS: usize = 256;

impl Builder {
    /// A fully connected layer: x `[N,I]` · wᵀ with w `[O,I]`, plus b `[O]`.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn linear(&mut self, x: Tensor, w: Tensor, b: Tensor) -> Result<Tensor> {
        if self.shape(b).len() != 1 {
            return Err(self.mismatch(GEMM.name, &[x, w, b], "the bias must have one axis"));
        }
        self.gemm(x, w, Some(b), false, true)
    }

    /// op(a) · op(b) + c, where op transposes if its flag is set; `c` broadcasts to the product.
    ///
    /// # Errors
    /// Operands are not matrices, inner axes differ, or `c` does not broadcast.
    pub fn gemm(
        &mut self,
        a: Tensor,
        b: Tensor,
        c: Option<Tensor>,
        transpose_a: bool,
        transpose_b: bool,
    ) -> Result<Tensor> {
        let operands: Vec<Tensor> = [a, b].into_iter().chain(c).collect();
        let (left, right) = (self.ty(a).clone(), self.ty(b).clone());
        if left.rank() != 2 || right.rank() != 2 || left.element != right.element || !left.element.is_float()
        {
            return Err(self.mismatch(
                GEMM.name,
                &operands,
                "operands must be floating-point matrices of one type",
            ));
        }
        let oriented =
            |shape: &[usize], swap: bool| if swap { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
        let ((rows, inner), (other, columns)) =
            (oriented(&left.shape, transpose_a), oriented(&right.shape, transpose_b));
        if inner != other {
            let reason = format!("inner axes {inner} and {other} must be equal");
            return Err(self.mismatch(GEMM.name, &operands, reason));
        }
        if let Some(c) = c
            && (self.element(c) != left.element
                || broadcast(self.shape(c), &[rows, columns]) != Some(vec![rows, columns]))
        {
            return Err(self.mismatch(
                GEMM.name,
                &operands,
                format!("the bias must broadcast to [{rows},{columns}]"),
            ));
        }
        let attributes = vec![int("transA", transpose_a.into()), int("transB", transpose_b.into())];
        let ty = left.reshaped([rows, columns]);
        let has_own_bias = c.is_none_or(|c| self.shape(c) == [columns]);
        let y = match has_own_bias && self.is_own_product(left.element, [rows, inner, columns], transpose_b) {
            true => self.own_product(&operands, [transpose_a, transpose_b], ty),
            false => self.emit(&GEMM, &operands, attributes, ty),
        };
        self.record(&operands, &[y], move |g, up| {
            let dy = up.single();
            let da = g.when(up.wanted[0], |g| match transpose_a {
                false => g.gemm(dy, b, None, false, !transpose_b),
                true => g.gemm(b, dy, None, transpose_b, true),
            })?;
            let db = g.when(up.wanted[1], |g| match transpose_b {
                false => g.gemm(a, dy, None, !transpose_a, false),
                true => g.gemm(dy, a, None, true, transpose_a),
            })?;
            let mut gradients = vec![da, db];
            if let Some(c) = c {
                gradients.push(g.when(up.wanted[2], |g| g.sum_to(dy, c))?);
            }
            Ok(gradients)
        });
        Ok(y)
    }

    /// alpha · op(a) · op(b) + beta · c.
    fn scaled_gemm(
        &mut self,
        a: Tensor,
        b: Tensor,
        c: Option<Tensor>,
        [transpose_a, transpose_b]: [bool; 2],
        [alpha, beta]: [f64; 2],
    ) -> Result<Tensor> {
        let c = c.map(|c| self.scale(c, beta)).transpose()?;
        if alpha == 1.0 {
            return self.gemm(a, b, c, transpose_a, transpose_b);
        }
        let product = self.gemm(a, b, None, transpose_a, transpose_b)?;
        let product = self.scale(product, alpha)?;
        match c {
            Some(c) => self.add(product, c),
            None => Ok(product),
        }
    }

    /// Matrix product of the last two axes; the axes before them broadcast.
    ///
    /// # Errors
    /// An operand has fewer than two axes, inner axes differ, or outer axes do not broadcast.
    pub fn matmul(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let (left, right) = (self.ty(a).clone(), self.ty(b).clone());
        if left.rank() < 2 || right.rank() < 2 || left.element != right.element || !left.element.is_float() {
            let reason = "operands must be floating-point tensors of one type with two axes or more";
            return Err(self.mismatch(MAT_MUL.name, &[a, b], reason));
        }
        let (left_outer, left_matrix) = left.shape.split_at(left.rank() - 2);
        let (right_outer, right_matrix) = right.shape.split_at(right.rank() - 2);
        let outer = broadcast(left_outer, right_outer).filter(|_| left_matrix[1] == right_matrix[0]);
        let Some(mut shape) = outer else {
            return Err(self.mismatch(
                MAT_MUL.name,
                &[a, b],
                "inner axes must be equal and outer axes broadcast",
            ));
        };
        shape.extend([left_matrix[0], right_matrix[1]]);
        let ty = left.reshaped(shape);
        if let Some((factors, transposed)) = self.own_factors(a, b, &ty) {
            return self.own_matmul(factors, transposed, ty);
        }
        let y = self.emit(&MAT_MUL, &[a, b], vec![], ty);
        self.record(&[a, b], &[y], move |g, up| {
            let dy = up.single();
            let da = g.when(up.wanted[0], |g| {
                let bt = g.swap_last(b)?;
                let product = g.matmul(dy, bt)?;
                g.sum_to(product, a)
            })?;
            let db = g.when(up.wanted[1], |g| {
                if right.rank() == 2 && left.rank() > 2 {
                    return g.product_over_rows(a, dy);
                }
                let at = g.swap_last(a)?;
                let product = g.matmul(at, dy)?;
                g.sum_to(product, b)
            })?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    /// Whether a product `[M,K]` · `[K,N]` of these sizes has an operator of its own.
    fn is_own_product(
        &self,
        element: ElementType,
        [rows, inner, columns]: [usize; 3],
        transpose_b: bool,
    ) -> bool {
        self.lowering().has_own(&OWN_MAT_MUL)
            && element == ElementType::F32
            && rows * inner * columns >= PRODUCTS
            && (rows >= ROWS || !transpose_b)
    }

    /// The factors of a product with one matrix that has an operator of its own, as they lie in memory, and
    /// whether each lies transposed.
    fn own_factors(&self, a: Tensor, b: Tensor, ty: &TensorType) -> Option<([Tensor; 2], [bool; 2])> {
        if self.shape(b).len() != 2 {
            return None;
        }
        let (mut factors, mut transposed) = ([a, b], [false; 2]);
        for (factor, is_transposed) in factors.iter_mut().zip(&mut transposed) {
            while let Some(of) = self.transposed_matrix(*factor) {
                (*factor, *is_transposed) = (of, !*is_transposed);
            }
        }
        let (columns, rows) = ty.shape.split_last()?;
        let sizes = [rows.iter().product(), self.shape(b)[0], *columns];
        self.is_own_product(ty.element, sizes, transposed[1]).then_some((factors, transposed))
    }

    /// The product of factors that [`own_factors`](Self::own_factors) found, with gradients that lie as they
    /// do.
    fn own_matmul(&mut self, [a, b]: [Tensor; 2], transposed: [bool; 2], ty: TensorType) -> Result<Tensor> {
        if ty.rank() == 2 {
            return self.gemm(a, b, None, transposed[0], transposed[1]);
        }
        let y = self.own_product(&[a, b], transposed, ty);
        self.record(&[a, b], &[y], move |g, up| {
            let dy = up.single();
            let da = g.when(up.wanted[0], |g| {
                let bt = if transposed[1] { b } else { g.swap_last(b)? };
                g.matmul(dy, bt)
            })?;
            let db = g.when(up.wanted[1], |g| match transposed[1] {
                false => g.product_over_rows(a, dy),
                true => g.product_over_rows(dy, a),
            })?;
            Ok(vec![da, db])
        });
        Ok(y)
    }

    /// The product by an operator of the domain [`DOMAIN`], which adds a bias itself.
    fn own_product(&mut self, operands: &[Tensor], transposed: [bool; 2], ty: TensorType) -> Tensor {
        let [a, b] = transposed.map(i64::from);
        let attributes = vec![int("transA", a), int("transB", b), ints("shape", &ty.shape)];
        self.emit(&OWN_MAT_MUL, operands, attributes, ty)
    }

    /// aᵀ · b over the last axes of `a` and `b`, with all earlier ones as rows of one product: a product for
    /// each matrix would need memory for all of them, and a sum.
    fn product_over_rows(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let [a, b] = [a, b].map(|x| {
            let (columns, rows) = self.shape(x).split_last().expect("operands have two axes or more");
            self.reshape(x, &[rows.iter().product(), *columns])
        });
        self.gemm(a?, b?, None, true, false)
    }

    /// `x` with its last two axes swapped.
    pub(super) fn swap_last(&mut self, x: Tensor) -> Result<Tensor> {
        let rank = self.shape(x).len();
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank - 2, rank - 1);
        self.transpose(x, &order)
    }
}

fn import_gemm<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let (alpha, beta) = (attributes.float("alpha", 1.0), attributes.float("beta", 1.0));
    let (a, b) = (file.operand(node, 0)?, file.weight(node, 1)?);
    let c = if given(node, 2) && beta != 0.0 { Some(file.bias(node, 2)?) } else { None };
    let [transpose_a, transpose_b] = ["transA", "transB"].map(|name| attributes.int(name, 0) != 0);
    file.g.scaled_gemm(a, b, c, [transpose_a, transpose_b], [alpha, beta])
}

fn import_matmul<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (a, b) = (file.operand(node, 0)?, file.weight(node, 1)?);
    // A vector is a row on the left and a column on the right; its axis is not in the result.
    let (is_row, is_column) = (file.g.shape(a).len() == 1, file.g.shape(b).len() == 1);
    let a = if is_row { file.g.unsqueeze(a, &[0])? } else { a };
    let b = if is_column { file.g.unsqueeze(b, &[1])? } else { b };
    let y = file.g.matmul(a, b)?;
    let rank = file.g.shape(y).len();
    let single: Vec<usize> = [(is_row, rank.wrapping_sub(2)), (is_column, rank.wrapping_sub(1))]
        .into_iter()
        .filter(|pair| pair.0)
        .map(|pair| pair.1)
        .collect();
    if single.is_empty() { Ok(y) } else { file.g.squeeze(y, &single) }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::model::DOMAIN;
    use crate::{Builder, Lowering, Operator, Result, Target, Tensor, TensorType};

    #[test]
    fn gradients_of_matrix_products_agree_with_finite_differences() {
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = if ta { [4, 3] } else { [3, 4] };
            let b = if tb { [5, 4] } else { [4, 5] };
            check_gradients(Case::f64(&format!("Gemm {ta} {tb}")).normal(a).normal(b).normal([5]), |g, x| {
                g.gemm(x[0], x[1], Some(x[2]), ta, tb)
            });
        }
        for c in [vec![], vec![5], vec![3, 1]] {
            let case = Case::f64("Gemm, scaled").normal([4, 3]).normal([5, 4]).normal(c);
            check_gradients(case, |g, x| g.scaled_gemm(x[0], x[1], Some(x[2]), [true; 2], [0.5, -2.0]));
        }
        check_gradients(Case::f64("MatMul").normal([2, 3, 4]).normal([4, 5]), |g, x| g.matmul(x[0], x[1]));
        check_gradients(Case::f64("MatMul").normal([2, 2, 3, 4]).normal([4, 5]), |g, x| g.matmul(x[0], x[1]));
        check_gradients(Case::f64("MatMul").normal([2, 1, 3, 4]).normal([6, 4, 2]), |g, x| {
            g.matmul(x[0], x[1])
        });
    }

    #[test]
    fn the_gradient_of_shared_weights_is_one_product_without_a_sum() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([8, 5, 6, 16])).unwrap();
        let w = g.input("w", TensorType::f32([16, 32])).unwrap();
        let y = g.matmul(x, w).unwrap();
        let loss = g.sum(y).unwrap();
        let dw = g.grad(loss, &[w]).unwrap()[0];
        g.output("dw", dw).unwrap();
        let graph = g.finish();
        let count = |name| graph.nodes().filter(|(operator, ..)| operator.name == name).count();
        assert_eq!((count("Gemm"), count("MatMul"), count("ReduceSum")), (1, 0, 0));
    }

    #[test]
    fn own_products_and_their_gradients_agree_with_the_standard_ones() {
        type Product = fn(&mut Builder, &[Tensor]) -> Result<Tensor>;
        let products: [(&str, [&[usize]; 2], Product); 6] = [
            ("rows", [&[2, 150, 128], &[128, 144]], |g, x| g.matmul(x[0], x[1])),
            ("rows, transposed", [&[2, 150, 128], &[144, 128]], |g, x| {
                let w = g.swap_last(x[1])?;
                g.matmul(x[0], w)
            }),
            ("rows, transposed twice", [&[2, 150, 128], &[128, 144]], |g, x| {
                let w = g.swap_last(x[1])?;
                let w = g.swap_last(w)?;
                g.matmul(x[0], w)
            }),
            ("matrices, transposed", [&[128, 300], &[144, 128]], |g, x| {
                let [a, b] = [g.swap_last(x[0])?, g.swap_last(x[1])?];
                g.matmul(a, b)
            }),
            ("bias", [&[300, 128], &[144, 128]], |g, x| g.linear(x[0], x[1], x[2])),
            ("bias of rows", [&[300, 128], &[144, 128]], |g, x| {
                let c = g.slice(x[0], 1, 0, 1)?;
                g.gemm(x[0], x[1], Some(c), false, true)
            }),
        ];
        let standard = Lowering::training(Target::Cpu).of_files(true);
        let own = Lowering { own_operators: true, ..standard };
        for (what, [a, b], product) in products {
            let case = |lowering| Case::f32("product").normal(a).normal(b).normal([144]).lowering(lowering);
            for wrt in 0..2 {
                let [found, expected] = [own, standard].map(|lowering| {
                    evaluate(case(lowering), |g, x| {
                        let y = product(g, x)?;
                        let square = g.mul(y, y)?;
                        let loss = g.sum(square)?;
                        Ok(g.grad(loss, &[x[wrt]])?[0])
                    })
                });
                let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
                for (found, expected) in found.iter().zip(&expected) {
                    let error = (found - expected).abs();
                    assert!(error < 1e-5 * largest, "{what}, {wrt}: {found}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn products_that_are_worth_it_have_operators_of_their_own_without_transposed_copies() {
        let count = |rows: usize| {
            let own = Lowering { own_operators: true, ..Lowering::training(Target::Cpu) };
            let mut g = Builder::new("test", own);
            let x = g.input("x", TensorType::f32([2, rows, 128])).unwrap();
            let w = g.input("w", TensorType::f32([144, 128])).unwrap();
            let transposed = g.swap_last(w).unwrap();
            let y = g.matmul(x, transposed).unwrap();
            let loss = g.sum(y).unwrap();
            for (at, gradient) in g.grad(loss, &[x, w]).unwrap().into_iter().enumerate() {
                g.output(&format!("d{at}"), gradient).unwrap();
            }
            g.output("y", y).unwrap();
            let graph = g.finish();
            let count = |name, domain| {
                let is_it = |operator: &Operator| operator.name == name && operator.domain == domain;
                graph.nodes().filter(|(operator, ..)| is_it(operator)).count()
            };
            [count("MatMul", DOMAIN), count("MatMul", ""), count("Transpose", "")]
        };
        assert_eq!(count(150), [3, 0, 0]);
        // With few rows, laying the weights out anew takes longer; their gradient is transposed then.
        assert_eq!(count(120), [2, 1, 2]);
        assert_eq!(count(10)[0], 0);
    }

    #[test]
    fn a_linear_layer_multiplies_by_the_transposed_weights() {
        let case = Case::f64("linear")
            .values([1, 2], vec![1.0, 2.0])
            .values([3, 2], vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0])
            .values([3], vec![0.0, 10.0, 20.0]);
        assert_eq!(evaluate(case, |g, x| g.linear(x[0], x[1], x[2])), [1.0, 12.0, 23.0]);
    }

    #[test]
    fn a_product_and_its_bias_have_factors_of_their_own() {
        let case = || Case::f64("Gemm").values([1, 2], vec![1.0, 2.0]).values([2, 1], vec![3.0, 4.0]);
        let with_bias = case().values([], vec![10.0]);
        let y = evaluate(with_bias, |g, x| g.scaled_gemm(x[0], x[1], Some(x[2]), [false; 2], [0.5, 3.0]));
        assert_eq!(y, [35.5]);
        assert_eq!(evaluate(case(), |g, x| g.scaled_gemm(x[0], x[1], None, [false; 2], [2.0, 1.0])), [22.0]);
    }

    #[test]
    fn matrices_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        let b = g.input("b", TensorType::f32([7])).unwrap();
        assert!(g.gemm(x, x, None, false, false).is_err());
        assert!(g.linear(x, x, b).is_err());
        assert!(g.matmul(x, b).is_err());
        assert!(g.matmul(x, x).is_err());
    }
}
