//! Smooth activation functions: Erf, Gelu, Elu, Selu, Celu, Softplus, Softsign, Mish, Swish.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI, SQRT_2};

use super::arithmetic::{ADD, DIV, MUL};
use super::unary::SIGMOID;
use crate::builder::{Builder, Upstream};
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::model::DOMAIN;
use crate::node::{Attribute, Tensor};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, Operator};
use crate::types::ElementType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&ERF, Some(|file, node| file.unary(node, Builder::erf))),
    (&GELU, Some(import_gelu)),
    (&ELU, Some(import_elu)),
    (&SELU, Some(import_selu)),
    (&CELU, Some(import_celu)),
    (&SOFTPLUS, Some(|file, node| file.unary(node, Builder::softplus))),
    (&SOFTSIGN, Some(|file, node| file.unary(node, Builder::softsign))),
    (&MISH, Some(|file, node| file.unary(node, Builder::mish))),
    (&SWISH, Some(import_swish)),
    (&OWN_GELU, None),
    (&GELU_GRADIENT, None),
    (&OWN_SILU, None),
    (&SILU_GRADIENT, None),
];
static ERF: Operator = Operator::new("Erf", 9).on_cuda(FLOATS);
static GELU: Operator = Operator::decomposed("Gelu", 20);
static ELU: Operator = Operator::new("Elu", 1).on_cuda(FLOATS);
static SELU: Operator = Operator::new("Selu", 1).on_cuda(FLOATS);
static CELU: Operator = Operator::decomposed("Celu", 12);
static SOFTPLUS: Operator = Operator::new("Softplus", 1).on_cuda(FLOATS);
static SOFTSIGN: Operator = Operator::decomposed("Softsign", 1);
static MISH: Operator = Operator::decomposed("Mish", 18);
static SWISH: Operator = Operator::decomposed("Swish", 24);
static OWN_GELU: Operator = Operator::new("Gelu", 1).in_domain(DOMAIN);
static GELU_GRADIENT: Operator = Operator::new("GeluGradient", 1).in_domain(DOMAIN);
static OWN_SILU: Operator = Operator::new("Silu", 1).in_domain(DOMAIN);
static SILU_GRADIENT: Operator = Operator::new("SiluGradient", 1).in_domain(DOMAIN);

/// Nodes among which those of an activation are looked for: exporters write them one after the other.
const NEAR: usize = 12;

impl Builder {
    /// The error function.
    ///
    /// # Errors
    /// `x` is not floating-point. The same holds for the other functions of this family.
    pub fn erf(&mut self, x: Tensor) -> Result<Tensor> {
        self.in_f32(x, |g, x| {
            let y = g.unary(&ERF, x)?;
            g.record(&[x], &[y], move |g, up| {
                let square = g.mul(x, x)?;
                let exponent = g.neg(square)?;
                let bell = g.exp(exponent)?;
                let slope = g.scale(bell, FRAC_2_SQRT_PI)?;
                Ok(vec![Some(g.mul(up.single(), slope)?)])
            });
            Ok(y)
        })
    }

    /// x · Φ(x) with the distribution function Φ of the standard normal distribution (Hendrycks & Gimpel,
    /// 2016).
    ///
    /// # Errors
    /// See [`erf`](Self::erf).
    pub fn gelu(&mut self, x: Tensor) -> Result<Tensor> {
        self.in_f32(x, |g, x| {
            if g.has_own_activations(x) {
                return Ok(g.own_smooth(&OWN_GELU, &GELU_GRADIENT, x));
            }
            let outputs = g.composite(&[x], |g| {
                let half = g.scalar(g.element(x), 0.5);
                let scaled = g.scale(x, FRAC_1_SQRT_2)?;
                let erf = g.erf(scaled)?;
                let halved = g.scale(erf, 0.5)?;
                let share = g.add(halved, half)?;
                let y = g.mul(x, share)?;
                // The slope is Φ + x · Φ′.
                let rule = move |g: &mut Self, up: &Upstream| {
                    let square = g.mul(x, x)?;
                    let exponent = g.scale(square, -0.5)?;
                    let bell = g.exp(exponent)?;
                    let density = g.scale(bell, (2.0 * PI).sqrt().recip())?;
                    let rise = g.mul(x, density)?;
                    let slope = g.add(share, rise)?;
                    Ok(vec![Some(g.mul(up.single(), slope)?)])
                };
                Ok((vec![y], rule))
            })?;
            Ok(outputs[0])
        })
    }

    fn has_own_activations(&self, x: Tensor) -> bool {
        self.lowering().has_own(&OWN_GELU) && self.element(x) == ElementType::F32
    }

    /// An activation of `x` by operators of the domain [`DOMAIN`], which add a bias themselves.
    fn own_smooth(&mut self, forward: &'static Operator, gradient: &'static Operator, x: Tensor) -> Tensor {
        let ty = self.ty(x).clone();
        let operands = self.biased(x).map_or(vec![x], Vec::from);
        let y = self.emit(forward, &operands, vec![], ty.clone());
        self.record(&operands.clone(), &[y], move |g, up| {
            let of: Vec<Tensor> = [up.single()].into_iter().chain(operands.iter().copied()).collect();
            let dx = g.emit(gradient, &of, vec![], ty.clone());
            let dbias = |g: &mut Self| operands.get(1).map(|bias| g.sum_to(dx, *bias)).transpose();
            Ok(vec![Some(dx), dbias(g)?].into_iter().take(operands.len()).collect())
        });
        y
    }

    /// What `x` is the sum of, if that is a tensor of its shape and a vector along its last axis.
    fn biased(&self, x: Tensor) -> Option<[Tensor; 2]> {
        let (operator, of) = self.maker(x, NEAR)?;
        let [a, b] = <[Tensor; 2]>::try_from(of).ok().filter(|_| *operator == ADD)?;
        let is_fitting = |[whole, bias]: &[Tensor; 2]| {
            let shape = self.shape(x);
            self.shape(*whole) == shape && shape.len() > 1 && self.shape(*bias) == &shape[shape.len() - 1..]
        };
        [[a, b], [b, a]].into_iter().find(is_fitting)
    }

    /// a · b, if that is an activation of some x that a file spells out, by an operator of the domain
    /// [`DOMAIN`]: x · sigmoid(x), or ½ · x · (1 + erf(x / √2)) in any order.
    pub(super) fn own_activation(&mut self, a: Tensor, b: Tensor) -> Option<Tensor> {
        if !self.has_own_activations(a) {
            return None;
        }
        for (a, b) in [(a, b), (b, a)] {
            if self.maker(b, NEAR).is_some_and(|(operator, of)| *operator == SIGMOID && of[0] == a) {
                return Some(self.own_smooth(&OWN_SILU, &SILU_GRADIENT, a));
            }
            let halved = |t: Tensor| self.product(t, |t| self.known_number(t) == Some(0.5));
            let double_share = |t: Tensor| self.double_share(t);
            // (x · s) · ½, (x · ½) · s, x · (s · ½)
            let whole = |t: Tensor| self.product(t, |t| double_share(t).is_some());
            let x = match self.known_number(b) {
                Some(0.5) => whole(a).filter(|&[x, share]| double_share(share) == Some(x)),
                _ => double_share(b).and_then(|x| halved(a).filter(|&[of, _]| of == x)).or_else(|| {
                    halved(b).filter(|&[share, _]| double_share(share) == Some(a)).map(|_| [a, a])
                }),
            };
            if let Some([x, _]) = x {
                return Some(self.own_smooth(&OWN_GELU, &GELU_GRADIENT, x));
            }
        }
        None
    }

    /// The factors of a product, the one that `is_it` last.
    fn product(&self, tensor: Tensor, is_it: impl Fn(Tensor) -> bool) -> Option<[Tensor; 2]> {
        let (operator, of) = self.maker(tensor, NEAR)?;
        let [a, b] = <[Tensor; 2]>::try_from(of).ok().filter(|_| *operator == MUL)?;
        [[a, b], [b, a]].into_iter().find(|&[_, last]| is_it(last))
    }

    /// x, if `tensor` is 1 + erf(x / √2).
    fn double_share(&self, tensor: Tensor) -> Option<Tensor> {
        let (operator, of) = self.maker(tensor, NEAR)?;
        let one = of.iter().position(|&t| self.known_number(t) == Some(1.0)).filter(|_| *operator == ADD)?;
        let (_, of) = self.maker(of[1 - one], NEAR).filter(|(operator, _)| **operator == ERF)?;
        let (operator, of) = self.maker(of[0], NEAR)?;
        let near = |t: Tensor, value: f64| {
            self.known_number(t).is_some_and(|found| (f64::from(found) / value - 1.0).abs() < 1e-6)
        };
        match *of {
            [x, c] if *operator == DIV && near(c, SQRT_2) => Some(x),
            [x, c] if *operator == MUL && near(c, FRAC_1_SQRT_2) => Some(x),
            [c, x] if *operator == MUL && near(c, FRAC_1_SQRT_2) => Some(x),
            _ => None,
        }
    }

    /// The approximation ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))) of [`gelu`](Self::gelu).
    ///
    /// # Errors
    /// See [`erf`](Self::erf).
    pub fn gelu_tanh(&mut self, x: Tensor) -> Result<Tensor> {
        const CUBIC: f64 = 0.044_715;
        let factor = (2.0 / PI).sqrt();
        self.in_f32(x, |g, x| {
            let outputs = g.composite(&[x], |g| {
                let [half, one] = [0.5, 1.0].map(|value| g.scalar(g.element(x), value));
                let linear = g.scalar(g.element(x), factor);
                let square = g.mul(x, x)?;
                let cubic = g.scale(square, CUBIC * factor)?;
                let rate = g.add(cubic, linear)?;
                let angle = g.mul(x, rate)?;
                let tanh = g.tanh(angle)?;
                let halved = g.scale(tanh, 0.5)?;
                let share = g.add(halved, half)?;
                let y = g.mul(x, share)?;
                // The slope is s + x/2 · (1 − tanh²) · u′ with the share s = (1 + tanh u) / 2.
                let rule = move |g: &mut Self, up: &Upstream| {
                    let tanh_square = g.mul(tanh, tanh)?;
                    let rest = g.sub(one, tanh_square)?;
                    let cubic = g.scale(square, 3.0 * CUBIC * factor)?;
                    let rate = g.add(cubic, linear)?;
                    let half_x = g.scale(x, 0.5)?;
                    let product = g.mul(half_x, rest)?;
                    let rise = g.mul(product, rate)?;
                    let slope = g.add(share, rise)?;
                    Ok(vec![Some(g.mul(up.single(), slope)?)])
                };
                Ok((vec![y], rule))
            })?;
            Ok(outputs[0])
        })
    }

    /// x where it is above 0, else `alpha` · (eˣ − 1).
    ///
    /// # Errors
    /// See [`erf`](Self::erf).
    pub fn elu(&mut self, x: Tensor, alpha: f64) -> Result<Tensor> {
        let attributes = vec![("alpha", Attribute::Float(alpha as f32))];
        self.exponential_unit(&ELU, x, attributes, 1.0, alpha)
    }

    /// `gamma` · x where it is above 0, else `gamma` · `alpha` · (eˣ − 1).
    ///
    /// # Errors
    /// See [`erf`](Self::erf).
    pub fn selu(&mut self, x: Tensor, alpha: f64, gamma: f64) -> Result<Tensor> {
        let attributes =
            vec![("alpha", Attribute::Float(alpha as f32)), ("gamma", Attribute::Float(gamma as f32))];
        self.exponential_unit(&SELU, x, attributes, gamma, gamma * alpha)
    }

    /// A function that is `slope` · x above 0, else `limit` · (eˣ − 1).
    fn exponential_unit(
        &mut self,
        operator: &'static Operator,
        x: Tensor,
        attributes: Vec<(&'static str, Attribute)>,
        slope: f64,
        limit: f64,
    ) -> Result<Tensor> {
        self.floating(operator.name, x)?;
        let y = self.emit(operator, &[x], attributes, self.ty(x).clone());
        self.record(&[x], &[y], move |g, up| {
            let limit = g.scalar(g.element(y), limit);
            let steep = g.add(y, limit)?;
            let slope = g.scalar(g.element(y), slope);
            let slope = g.where_positive(x, slope, steep)?;
            Ok(vec![Some(g.mul(up.single(), slope)?)])
        });
        Ok(y)
    }

    /// x where it is above 0, else `alpha` · (e^(x / `alpha`) − 1).
    ///
    /// # Errors
    /// See [`erf`](Self::erf).
    pub fn celu(&mut self, x: Tensor, alpha: f64) -> Result<Tensor> {
        let scaled = self.scale(x, 1.0 / alpha)?;
        let y = self.elu(scaled, 1.0)?;
        self.scale(y, alpha)
    }

    /// ln(1 + eˣ).
    ///
    /// # Errors
    /// See [`erf`](Self::erf).
    pub fn softplus(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.unary(&SOFTPLUS, x)?;
        self.record(&[x], &[y], move |g, up| {
            let slope = g.sigmoid(x)?;
            Ok(vec![Some(g.mul(up.single(), slope)?)])
        });
        Ok(y)
    }

    /// x / (1 + |x|).
    ///
    /// # Errors
    /// See [`erf`](Self::erf).
    pub fn softsign(&mut self, x: Tensor) -> Result<Tensor> {
        self.floating(SOFTSIGN.name, x)?;
        let one = self.scalar(self.element(x), 1.0);
        let size = self.abs(x)?;
        let denominator = self.add(one, size)?;
        self.div(x, denominator)
    }

    /// x · tanh(softplus(x)) (Misra, 2019).
    ///
    /// # Errors
    /// See [`erf`](Self::erf).
    pub fn mish(&mut self, x: Tensor) -> Result<Tensor> {
        let softplus = self.softplus(x)?;
        let gate = self.tanh(softplus)?;
        self.mul(x, gate)
    }

    /// x · sigmoid(`alpha` · x).
    ///
    /// # Errors
    /// See [`erf`](Self::erf).
    pub fn swish(&mut self, x: Tensor, alpha: f64) -> Result<Tensor> {
        let scaled = self.scale(x, alpha)?;
        let gate = self.sigmoid(scaled)?;
        self.mul(x, gate)
    }
}

fn import_gelu<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    match NodeAttributes(node).text("approximate").as_str() {
        "" | "none" => file.unary(node, Builder::gelu),
        "tanh" => file.unary(node, Builder::gelu_tanh),
        other => Err(file.at_node(node, format!("is approximated by `{other}`, expected none or tanh"))),
    }
}

fn import_elu<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    file.g.elu(x, NodeAttributes(node).float("alpha", 1.0))
}

fn import_selu<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    file.g.selu(x, attributes.float("alpha", 1.673_263_2), attributes.float("gamma", 1.050_701))
}

fn import_celu<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    file.g.celu(x, NodeAttributes(node).float("alpha", 1.0))
}

fn import_swish<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    file.g.swish(x, NodeAttributes(node).float("alpha", 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Lowering, Target, TensorType};

    #[test]
    fn activations_that_files_spell_out_are_own_operators_with_the_same_values_and_gradients() {
        let standard = Lowering::training(Target::Cpu).of_files(true);
        let own = Lowering { own_operators: true, ..standard };
        type Build = fn(&mut Builder, Tensor) -> Result<Tensor>;
        fn share(g: &mut Builder, x: Tensor) -> Result<Tensor> {
            let root = g.scalar(ElementType::F32, SQRT_2);
            let scaled = g.div(x, root)?;
            let erf = g.erf(scaled)?;
            let one = g.scalar(ElementType::F32, 1.0);
            g.add(erf, one)
        }
        let cases: [(&str, usize, Build); 7] = [
            ("Silu", 1, |g, x| {
                let gate = g.sigmoid(x)?;
                g.mul(gate, x)
            }),
            ("Silu", 1, |g, x| g.swish(x, 1.0)),
            ("Gelu", 1, |g, x| {
                let (share, half) = (share(g, x)?, g.scalar(ElementType::F32, 0.5));
                let product = g.mul(x, share)?;
                g.mul(product, half)
            }),
            ("Gelu", 1, |g, x| {
                let half = g.scalar(ElementType::F32, 0.5);
                let halved = g.mul(half, x)?;
                let share = share(g, x)?;
                g.mul(halved, share)
            }),
            ("Gelu", 1, |g, x| {
                let (share, half) = (share(g, x)?, g.scalar(ElementType::F32, 0.5));
                let share = g.mul(share, half)?;
                g.mul(share, x)
            }),
            ("Gelu", 1, |g, x| g.gelu(x)),
            // Of other values than those that it gates.
            ("Silu", 0, |g, x| {
                let other = g.neg(x)?;
                let gate = g.sigmoid(other)?;
                g.mul(gate, x)
            }),
        ];
        for (name, expected, build) in cases {
            let case = |lowering| Case::f32(name).normal([5, 7]).lowering(lowering);
            let mut g = Builder::new("test", own);
            let x = g.input("x", TensorType::f32([5, 7])).unwrap();
            let y = build(&mut g, x).unwrap();
            g.output("y", y).unwrap();
            let graph = g.finish();
            let found = graph.operators().iter().filter(|(operator, _)| operator.domain == DOMAIN).count();
            assert_eq!(found, expected, "{name}");
            check_gradients(case(own), |g, x| build(g, x[0]));
            let [values, others] = [own, standard].map(|form| evaluate(case(form), |g, x| build(g, x[0])));
            for (found, expected) in values.iter().zip(&others) {
                assert!((found - expected).abs() < 1e-6, "{name}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn own_activations_add_the_bias_of_a_layer() {
        let own = Lowering { own_operators: true, ..Lowering::training(Target::Cpu) };
        // Shapes of the bias, and whether the activation adds it.
        for (shape, is_part) in [(vec![5], true), (vec![1, 5], false), (vec![3, 1], false)] {
            for swapped in [false, true] {
                let build = |g: &mut Builder, x: &[Tensor]| {
                    let product = g.matmul(x[0], x[1])?;
                    let sum = if swapped { g.add(x[2], product)? } else { g.add(product, x[2])? };
                    let gate = g.sigmoid(sum)?;
                    let silu = g.mul(sum, gate)?;
                    g.gelu(silu).and_then(|y| g.add(y, silu))
                };
                let mut g = Builder::new("test", own);
                let shapes = [vec![2, 3, 4], vec![4, 5], shape.clone()];
                let x: Vec<Tensor> = (0..3)
                    .map(|at| g.input(&format!("x{at}"), TensorType::f32(shapes[at].clone())).unwrap())
                    .collect();
                let y = build(&mut g, &x).unwrap();
                g.output("y", y).unwrap();
                let graph = g.finish();
                let adds = graph.nodes().filter(|(operator, ..)| operator.name == "Add").count();
                assert_eq!(adds, if is_part { 1 } else { 2 }, "{shape:?}");
                let case = Case::f32("SiLU, GELU").normal([2, 3, 4]).normal([4, 5]).normal(shape.clone());
                check_gradients(case.lowering(own), build);
            }
        }
    }

    #[test]
    fn gradients_of_smooth_activations_agree_with_finite_differences() {
        // None near 0, where some second derivatives jump.
        let grid = |name: &str| {
            Case::f32(name).values([4, 5], (0..20).map(|i| f64::from(i) / 4.0 - 2.375).collect())
        };
        check_gradients(grid("Erf"), |g, x| g.erf(x[0]));
        check_gradients(grid("Gelu"), |g, x| g.gelu(x[0]));
        check_gradients(grid("Gelu by tanh"), |g, x| g.gelu_tanh(x[0]));
        check_gradients(grid("Elu"), |g, x| g.elu(x[0], 1.5));
        check_gradients(grid("Selu"), |g, x| g.selu(x[0], 1.7, 1.1));
        check_gradients(grid("Celu"), |g, x| g.celu(x[0], 2.0));
        check_gradients(grid("Softplus"), |g, x| g.softplus(x[0]));
        check_gradients(grid("Softsign"), |g, x| g.softsign(x[0]));
        check_gradients(grid("Mish"), |g, x| g.mish(x[0]));
        check_gradients(grid("Swish"), |g, x| g.swish(x[0], 1.7));
    }

    #[test]
    fn values_of_smooth_activations_are_those_of_pytorch() {
        let values = |build: fn(&mut Builder, Tensor) -> Result<Tensor>| {
            let case = Case::f32("smooth").values([3], vec![-1.5, 0.5, 2.0]);
            evaluate(case, |g, x| build(g, x[0]))
        };
        let cases = [
            (values(|g, x| g.erf(x)), [-0.966_105_15, 0.520_499_88, 0.995_322_27]),
            (values(|g, x| g.gelu(x)), [-0.100_210_8, 0.345_731_23, 1.954_499_7]),
            (values(|g, x| g.gelu_tanh(x)), [-0.100_428_42, 0.345_714_01, 1.954_597_7]),
            (values(|g, x| g.elu(x, 1.0)), [-0.776_869_84, 0.5, 2.0]),
            (values(|g, x| g.celu(x, 2.0)), [-1.055_266_9, 0.5, 2.0]),
            (values(|g, x| g.softplus(x)), [0.201_413_28, 0.974_076_98, 2.126_928]),
            (values(|g, x| g.softsign(x)), [-0.6, 0.333_333_34, 0.666_666_7]),
            (values(|g, x| g.mish(x)), [-0.298_099_76, 0.375_245_16, 1.943_959]),
            (values(|g, x| g.swish(x, 1.0)), [-0.273_638_66, 0.311_229_67, 1.761_594_2]),
        ];
        for (given, expected) in cases {
            for (a, b) in given.iter().zip(expected) {
                assert!((a - b).abs() < 1e-5, "{given:?} against {expected:?}");
            }
        }
    }
}
