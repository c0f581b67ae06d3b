//! Functions of pieces that are linear: Abs, Sign, Floor, Ceil, Round, Clip, LeakyRelu, PRelu,
//! ThresholdedRelu, Shrink, HardSigmoid, HardSwish.
//!
//! Gradients where two pieces meet are those of PyTorch, unless a rule says otherwise.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation, given};
use crate::model::DOMAIN;
use crate::node::{Attribute, Tensor};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, NUMBERS, NUMBERS_AND_BYTES, Operator};
use crate::types::{ElementType, broadcast};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&ABS, Some(|file, node| file.unary(node, Builder::abs))),
    (&SIGN, Some(|file, node| file.unary(node, Builder::sign))),
    (&FLOOR, Some(|file, node| file.unary(node, Builder::floor))),
    (&CEIL, Some(|file, node| file.unary(node, Builder::ceil))),
    (&ROUND, Some(|file, node| file.unary(node, Builder::round))),
    (&CLIP, Some(import_clip)),
    (&CLIP_GRADIENT, None),
    (&LEAKY_RELU, Some(import_leaky_relu)),
    (&P_RELU, Some(|file, node| file.binary(node, Builder::prelu))),
    (&THRESHOLDED_RELU, Some(import_thresholded_relu)),
    (&SHRINK, Some(import_shrink)),
    (&HARD_SIGMOID, Some(import_hard_sigmoid)),
    (&HARD_SWISH, Some(|file, node| file.unary(node, Builder::hard_swish))),
];
static ABS: Operator = Operator::new("Abs", 1).on_cuda(NUMBERS);
static SIGN: Operator = Operator::new("Sign", 9).on_cuda(NUMBERS_AND_BYTES);
static FLOOR: Operator = Operator::new("Floor", 1).on_cuda(FLOATS);
static CEIL: Operator = Operator::new("Ceil", 1).on_cuda(FLOATS);
static ROUND: Operator = Operator::new("Round", 11).on_cuda(FLOATS);
static CLIP: Operator = Operator::new("Clip", 1).on_cuda(NUMBERS_AND_BYTES);
static CLIP_GRADIENT: Operator = Operator::new("ClipGradient", 1).in_domain(DOMAIN);
static LEAKY_RELU: Operator = Operator::new("LeakyRelu", 1).on_cuda(FLOATS);
static P_RELU: Operator = Operator::new("PRelu", 1).on_cuda(FLOATS);
static THRESHOLDED_RELU: Operator = Operator::decomposed("ThresholdedRelu", 10);
static SHRINK: Operator = Operator::decomposed("Shrink", 9);
static HARD_SIGMOID: Operator = Operator::new("HardSigmoid", 1).on_cuda(FLOATS);
static HARD_SWISH: Operator = Operator::decomposed("HardSwish", 14);

impl Builder {
    /// |x|; the gradient at 0 is 0.
    ///
    /// # Errors
    /// None.
    pub fn abs(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.emit(&ABS, &[x], vec![], self.ty(x).clone());
        self.record(&[x], &[y], move |g, up| {
            let sign = g.sign(x)?;
            Ok(vec![Some(g.mul(up.single(), sign)?)])
        });
        Ok(y)
    }

    /// −1, 0 or 1; the gradient is 0.
    ///
    /// # Errors
    /// None.
    pub fn sign(&mut self, x: Tensor) -> Result<Tensor> {
        let y = self.emit(&SIGN, &[x], vec![], self.ty(x).clone());
        self.record(&[x], &[y], |_, _| Ok(vec![None]));
        Ok(y)
    }

    /// The largest integer that is not above x; the gradient is 0.
    ///
    /// # Errors
    /// `x` is not floating-point.
    pub fn floor(&mut self, x: Tensor) -> Result<Tensor> {
        self.step(&FLOOR, x)
    }

    /// The smallest integer that is not below x; the gradient is 0.
    ///
    /// # Errors
    /// `x` is not floating-point.
    pub fn ceil(&mut self, x: Tensor) -> Result<Tensor> {
        self.step(&CEIL, x)
    }

    /// The integer nearest to x, the even one of two; the gradient is 0.
    ///
    /// # Errors
    /// `x` is not floating-point.
    pub fn round(&mut self, x: Tensor) -> Result<Tensor> {
        self.step(&ROUND, x)
    }

    fn step(&mut self, operator: &'static Operator, x: Tensor) -> Result<Tensor> {
        let y = self.unary(operator, x)?;
        self.record(&[x], &[y], |_, _| Ok(vec![None]));
        Ok(y)
    }

    /// min(max(x, low), high); the gradient is 0 outside the open interval. A bound may be infinite.
    ///
    /// # Errors
    /// `x` is not floating-point, or `low` is not below `high`.
    pub fn clip(&mut self, x: Tensor, low: f64, high: f64) -> Result<Tensor> {
        if low.partial_cmp(&high) != Some(std::cmp::Ordering::Less) {
            let reason = format!("the lower bound {low} must be below the upper bound {high}");
            return Err(self.mismatch(CLIP.name, &[x], reason));
        }
        self.floating(CLIP.name, x)?;
        let element = self.element(x);
        let (bounded_below, bounded_above) = (low > f64::from(f32::MIN), high < f64::from(f32::MAX));
        let limits = [
            if bounded_below { low } else { f64::NEG_INFINITY },
            if bounded_above { high } else { f64::INFINITY },
        ];
        let (low, high) = (self.scalar(element, low), self.scalar(element, high));
        let y = self.emit(&CLIP, &[x, low, high], vec![], self.ty(x).clone());
        self.record(&[x], &[y], move |g, up| {
            if let Some(dx) = g.own_clip_gradient(up.single(), x, limits) {
                return Ok(vec![Some(dx)]);
            }
            let above = bounded_below.then(|| g.greater(x, low)).transpose()?;
            let below = bounded_above.then(|| g.greater(high, x)).transpose()?;
            let inside = match (above, below) {
                (Some(above), Some(below)) => g.and(above, below)?,
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return Ok(vec![Some(up.single())]),
            };
            Ok(vec![Some(g.keep_where(inside, up.single())?)])
        });
        Ok(y)
    }

    /// The gradient `dy` where `x` is between the limits, else 0, by an operator of the domain [`DOMAIN`];
    /// `None` where graphs hold none.
    pub(super) fn own_clip_gradient(
        &mut self,
        dy: Tensor,
        x: Tensor,
        [low, high]: [f64; 2],
    ) -> Option<Tensor> {
        if !self.lowering().has_own(&CLIP_GRADIENT) || self.element(x) != ElementType::F32 {
            return None;
        }
        let limits = vec![("low", Attribute::Float(low as f32)), ("high", Attribute::Float(high as f32))];
        Some(self.emit(&CLIP_GRADIENT, &[dy, x], limits, self.ty(x).clone()))
    }

    /// x where it is above 0, else `slope` · x.
    ///
    /// # Errors
    /// `x` is not floating-point.
    pub fn leaky_relu(&mut self, x: Tensor, slope: f64) -> Result<Tensor> {
        self.floating(LEAKY_RELU.name, x)?;
        let attributes = vec![("alpha", Attribute::Float(slope as f32))];
        let y = self.emit(&LEAKY_RELU, &[x], attributes, self.ty(x).clone());
        self.record(&[x], &[y], move |g, up| {
            let less = g.scale(up.single(), slope)?;
            Ok(vec![Some(g.where_positive(x, up.single(), less)?)])
        });
        Ok(y)
    }

    /// x where it is above 0, else `slope` · x, with a slope that broadcasts to x.
    ///
    /// # Errors
    /// Element types differ or are not floating-point, or `slope` does not broadcast to `x`.
    pub fn prelu(&mut self, x: Tensor, slope: Tensor) -> Result<Tensor> {
        let fits = broadcast(self.shape(x), self.shape(slope)).as_deref() == Some(self.shape(x));
        if !fits || self.element(x) != self.element(slope) {
            let reason = "the slope must have the operand's type and broadcast to it";
            return Err(self.mismatch(P_RELU.name, &[x, slope], reason));
        }
        self.floating(P_RELU.name, x)?;
        let y = self.emit(&P_RELU, &[x, slope], vec![], self.ty(x).clone());
        self.record(&[x, slope], &[y], move |g, up| {
            let dy = up.single();
            let dx = g.when(up.wanted[0], |g| {
                let less = g.mul(dy, slope)?;
                g.where_positive(x, dy, less)
            })?;
            let dslope = g.when(up.wanted[1], |g| {
                let zero = g.scalar(g.element(x), 0.0);
                let product = g.mul(dy, x)?;
                let part = g.where_positive(x, zero, product)?;
                g.sum_to(part, slope)
            })?;
            Ok(vec![dx, dslope])
        });
        Ok(y)
    }

    /// x where it is above `threshold`, else 0.
    ///
    /// # Errors
    /// `x` is not floating-point.
    pub fn thresholded_relu(&mut self, x: Tensor, threshold: f64) -> Result<Tensor> {
        self.floating(THRESHOLDED_RELU.name, x)?;
        let element = self.element(x);
        let (threshold, zero) = (self.scalar(element, threshold), self.scalar(element, 0.0));
        let above = self.greater(x, threshold)?;
        self.select(above, x, zero)
    }

    /// x + `bias` below −`threshold`, x − `bias` above `threshold`, else 0.
    ///
    /// # Errors
    /// `x` is not floating-point.
    pub fn shrink(&mut self, x: Tensor, threshold: f64, bias: f64) -> Result<Tensor> {
        self.floating(SHRINK.name, x)?;
        let [zero, bias, low, high] =
            [0.0, bias, -threshold, threshold].map(|value| self.scalar(self.element(x), value));
        let (above, below) = (self.greater(x, high)?, self.less(x, low)?);
        let (less, more) = (self.sub(x, bias)?, self.add(x, bias)?);
        let rest = self.select(below, more, zero)?;
        self.select(above, less, rest)
    }

    /// `slope` · x + `offset`, clipped to 0..=1.
    ///
    /// # Errors
    /// `x` is not floating-point.
    pub fn hard_sigmoid(&mut self, x: Tensor, slope: f64, offset: f64) -> Result<Tensor> {
        let y = self.emit_hard_sigmoid(x, slope, offset)?;
        self.record(&[x], &[y], move |g, up| {
            let [zero, one] = [0.0, 1.0].map(|value| g.scalar(g.element(y), value));
            let (above, below) = (g.greater(y, zero)?, g.less(y, one)?);
            let inside = g.and(above, below)?;
            let part = g.scale(up.single(), slope)?;
            Ok(vec![Some(g.keep_where(inside, part)?)])
        });
        Ok(y)
    }

    fn emit_hard_sigmoid(&mut self, x: Tensor, slope: f64, offset: f64) -> Result<Tensor> {
        self.floating(HARD_SIGMOID.name, x)?;
        let attributes =
            vec![("alpha", Attribute::Float(slope as f32)), ("beta", Attribute::Float(offset as f32))];
        Ok(self.emit(&HARD_SIGMOID, &[x], attributes, self.ty(x).clone()))
    }

    /// x · min(max(x + 3, 0), 6) / 6.
    ///
    /// # Errors
    /// `x` is not floating-point.
    pub fn hard_swish(&mut self, x: Tensor) -> Result<Tensor> {
        let outputs = self.composite(&[x], |g| {
            let gate = g.emit_hard_sigmoid(x, 1.0 / 6.0, 0.5)?;
            let y = g.mul(x, gate)?;
            // The slope is 0 up to −3, 1 from 3 on, and x / 3 + ½ between them.
            let rule = move |g: &mut Self, up: &crate::Upstream| {
                let [low, high] = [-3.0, 3.0].map(|value| g.scalar(g.element(x), value));
                let half = g.scalar(g.element(x), 0.5);
                let third = g.scale(x, 1.0 / 3.0)?;
                let between = g.add(third, half)?;
                let (above, inside) = (g.greater(x, low)?, g.less(x, high)?);
                let [zero, one] = [0.0, 1.0].map(|value| g.scalar(g.element(x), value));
                let upper = g.select(inside, between, one)?;
                let slope = g.select(above, upper, zero)?;
                Ok(vec![Some(g.mul(up.single(), slope)?)])
            };
            Ok((vec![y], rule))
        })?;
        Ok(outputs[0])
    }

    /// `above` where x is above 0, else `below`.
    pub(super) fn where_positive(&mut self, x: Tensor, above: Tensor, below: Tensor) -> Result<Tensor> {
        let zero = self.scalar(self.element(x), 0.0);
        let positive = self.greater(x, zero)?;
        self.select(positive, above, below)
    }
}

/// Bounds that are computed get gradients too; where they cross, the upper one holds.
fn import_clip<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let known = |at| !given(node, at) || file.constant(node, at).is_some();
    if known(1) && known(2) {
        let low = file.scalar(node, 1, "min", f32::MIN)?;
        let high = file.scalar(node, 2, "max", f32::MAX)?;
        if low < high && file.g.element(x).is_float() {
            return file.g.clip(x, low, high);
        }
    }
    let mut y = x;
    if given(node, 1) {
        let low = file.operand(node, 1)?;
        y = file.g.max(y, low)?;
    }
    if given(node, 2) {
        let high = file.operand(node, 2)?;
        y = file.g.min(y, high)?;
    }
    Ok(y)
}

fn import_leaky_relu<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    file.g.leaky_relu(x, NodeAttributes(node).float("alpha", 0.01))
}

fn import_thresholded_relu<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    file.g.thresholded_relu(x, NodeAttributes(node).float("alpha", 1.0))
}

fn import_shrink<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    file.g.shrink(x, attributes.float("lambd", 0.5), attributes.float("bias", 0.0))
}

fn import_hard_sigmoid<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    file.g.hard_sigmoid(x, attributes.float("alpha", 0.2), attributes.float("beta", 0.5))
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate, gradient};

    /// Values from −4.75 to 4.75, none near an integer.
    fn grid(name: &str) -> Case {
        Case::f32(name).values([4, 5], (0..20).map(|i| f64::from(i) / 2.0 - 4.75).collect())
    }

    #[test]
    fn gradients_of_piecewise_functions_agree_with_finite_differences() {
        check_gradients(grid("Abs"), |g, x| g.abs(x[0]));
        check_gradients(grid("Sign"), |g, x| g.sign(x[0]));
        check_gradients(grid("Floor"), |g, x| g.floor(x[0]));
        check_gradients(grid("Ceil"), |g, x| g.ceil(x[0]));
        check_gradients(grid("Clip"), |g, x| g.clip(x[0], -0.5, 1.8));
        check_gradients(grid("Clip below"), |g, x| g.clip(x[0], -0.5, f64::INFINITY));
        check_gradients(grid("Clip above"), |g, x| g.clip(x[0], f64::NEG_INFINITY, 0.5));
        check_gradients(grid("LeakyRelu"), |g, x| g.leaky_relu(x[0], 0.2));
        check_gradients(grid("PRelu").normal([5]), |g, x| g.prelu(x[0], x[1]));
        check_gradients(grid("PRelu").normal([4, 1]), |g, x| g.prelu(x[0], x[1]));
        check_gradients(grid("ThresholdedRelu"), |g, x| g.thresholded_relu(x[0], 0.9));
        check_gradients(grid("Shrink"), |g, x| g.shrink(x[0], 0.9, 0.4));
        check_gradients(grid("HardSigmoid"), |g, x| g.hard_sigmoid(x[0], 0.3, 0.6));
        check_gradients(grid("HardSwish"), |g, x| g.hard_swish(x[0]));
    }

    #[test]
    fn values_of_piecewise_functions_are_those_of_their_definitions() {
        let x = || Case::f32("piecewise").values([5], vec![-4.0, -1.5, 0.0, 0.5, 4.0]);
        assert_eq!(evaluate(x(), |g, x| g.round(x[0])), [-4.0, -2.0, 0.0, 0.0, 4.0]);
        assert_eq!(evaluate(x(), |g, x| g.clip(x[0], -1.0, 1.0)), [-1.0, -1.0, 0.0, 0.5, 1.0]);
        assert_eq!(evaluate(x(), |g, x| g.leaky_relu(x[0], 0.5)), [-2.0, -0.75, 0.0, 0.5, 4.0]);
        assert_eq!(evaluate(x(), |g, x| g.thresholded_relu(x[0], 0.5)), [0.0, 0.0, 0.0, 0.0, 4.0]);
        assert_eq!(evaluate(x(), |g, x| g.shrink(x[0], 1.0, 0.5)), [-3.5, -1.0, 0.0, 0.0, 3.5]);
        assert_eq!(evaluate(x(), |g, x| g.hard_sigmoid(x[0], 0.25, 0.5)), [0.0, 0.125, 0.5, 0.625, 1.0]);
        let swish = evaluate(x(), |g, x| g.hard_swish(x[0]));
        for (given, expected) in swish.iter().zip([0.0, -0.375, 0.0, 3.5 / 12.0, 4.0]) {
            assert!((given - expected).abs() < 1e-6, "{given} against {expected}");
        }
    }

    #[test]
    fn gradients_where_pieces_meet_are_those_of_pytorch() {
        let x = || Case::f64("meet").values([3], vec![-3.0, 0.0, 3.0]);
        assert_eq!(gradient(x(), |g, x| g.abs(x[0])), [-1.0, 0.0, 1.0]);
        assert_eq!(gradient(x(), |g, x| g.clip(x[0], -3.0, 3.0)), [0.0, 1.0, 0.0]);
        let x = || Case::f32("meet").values([3], vec![-3.0, 0.0, 3.0]);
        assert_eq!(gradient(x(), |g, x| g.leaky_relu(x[0], 0.5)), [0.5, 0.5, 1.0]);
        assert_eq!(gradient(x(), |g, x| g.hard_swish(x[0])), [0.0, 0.5, 1.0]);
    }
}
