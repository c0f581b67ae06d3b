//! Local response normalisation (Krizhevsky et al. 2012, section 3.3).
//!
//! yᵢ = xᵢ / sᵢᵝ with sᵢ = k + α · Σⱼ xⱼ² over the `size` channels around i, or over the pixels around i in
//! the same channel. ONNX's `LRN` operator divides α by the size; α of [`Lrn`] is that of the paper's
//! formula. f16 inputs are computed in f32, because in f16 the sum in s would be imprecise and sᵝ⁺¹ would
//! overflow.

use super::pool::Pool;
use crate::builder::{Builder, Upstream};
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::lowering::LrnForm;
use crate::model::DOMAIN;
use crate::node::{Attribute, Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, Operator, SINGLE};
use crate::types::ElementType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&LRN, Some(import_lrn)), (&OWN_LRN, None), (&LRN_GRADIENT, None)];
static LRN: Operator = Operator::new("LRN", 1).on_cuda(FLOATS);
static OWN_LRN: Operator = Operator::new("Lrn", 1).in_domain(DOMAIN).on_cuda(SINGLE);
static LRN_GRADIENT: Operator = Operator::new("LrnGradient", 1).in_domain(DOMAIN).on_cuda(SINGLE);
/// The exponent of the own operators.
const OWN_BETA: f64 = 0.75;

/// Constants of local response normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Region of the sum.
    pub region: LrnRegion,
    /// Number of neighbouring channels in the sum, or side of the square of pixels; odd.
    pub size: usize,
    /// Factor of the sum of squares (not divided by `size`).
    pub alpha: f64,
    /// Exponent of the denominator.
    pub beta: f64,
    /// Constant in the denominator.
    pub k: f64,
}

/// Region over which local response normalisation sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LrnRegion {
    /// Neighbouring channels at the same pixel.
    Channels,
    /// Neighbouring pixels in the same channel.
    Pixels,
}

/// sᵝ.
#[derive(Clone, Copy)]
enum Power {
    Itself(Tensor),
    Inverse(Tensor),
}

impl Builder {
    /// Local response normalisation of `x` `[N,C,H,W]`.
    ///
    /// # Errors
    /// `x` is not floating-point with four axes, or the size is even.
    pub fn lrn(&mut self, x: Tensor, lrn: Lrn) -> Result<Tensor> {
        self.in_f32(x, |g, x| g.emit_lrn(x, lrn))
    }

    fn emit_lrn(&mut self, x: Tensor, lrn: Lrn) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        if ty.rank() != 4 || !ty.element.is_float() || lrn.size.is_multiple_of(2) {
            let reason =
                format!("the operand must be floating-point [N,C,H,W] and the size odd, given {}", lrn.size);
            return Err(self.mismatch(LRN.name, &[x], reason));
        }
        let is_own =
            lrn.region == LrnRegion::Channels && lrn.beta == OWN_BETA && ty.element == ElementType::F32;
        if self.lowering().has_own(&OWN_LRN) && is_own {
            let attributes = vec![
                int("size", lrn.size as i64),
                ("alpha", Attribute::Float(lrn.alpha as f32)),
                ("k", Attribute::Float(lrn.k as f32)),
            ];
            let y = self.emit(&OWN_LRN, &[x], attributes.clone(), ty.clone());
            self.record(&[x], &[y], move |g, up| {
                Ok(vec![Some(g.emit(&LRN_GRADIENT, &[up.single(), x], attributes.clone(), ty.clone()))])
            });
            return Ok(y);
        }
        // The operator sums over channels only.
        let form = match lrn.region {
            LrnRegion::Channels => self.lowering().lrn,
            LrnRegion::Pixels => LrnForm::BandedConv,
        };
        let outputs = self.composite(&[x], |g| {
            let (y, powers) = match form {
                LrnForm::BandedConv => {
                    let s = g.neighbour_sum_of_squares(x, &lrn)?;
                    let power = g.power(s, lrn.beta)?;
                    (g.over(x, power)?, Some((s, power)))
                }
                LrnForm::Operator => {
                    let attributes = vec![
                        int("size", lrn.size as i64),
                        ("alpha", Attribute::Float((lrn.alpha * lrn.size as f64) as f32)),
                        ("beta", Attribute::Float(lrn.beta as f32)),
                        ("bias", Attribute::Float(lrn.k as f32)),
                    ];
                    (g.emit(&LRN, &[x], attributes, ty.clone()), None)
                }
            };
            // dx = dy / sᵝ − x · 2αβ · Σⱼ dyⱼ xⱼ / sⱼᵝ⁺¹, the sum over the same neighbours.
            let rule = move |g: &mut Self, up: &Upstream| {
                let (s, power) = match powers {
                    Some(powers) => powers,
                    None => {
                        let s = g.neighbour_sum_of_squares(x, &lrn)?;
                        (s, g.power(s, lrn.beta)?)
                    }
                };
                let d = g.over(up.single(), power)?;
                let weighted = g.mul(d, x)?;
                let ratio = g.div(weighted, s)?;
                let u = g.neighbour_sum(ratio, &lrn, 2.0 * lrn.alpha * lrn.beta, None)?;
                let pull = g.mul(x, u)?;
                Ok(vec![Some(g.sub(d, pull)?)])
            };
            Ok((vec![y], rule))
        })?;
        Ok(outputs[0])
    }

    /// k + α · Σ x² over the neighbours.
    fn neighbour_sum_of_squares(&mut self, x: Tensor, lrn: &Lrn) -> Result<Tensor> {
        let square = self.mul(x, x)?;
        self.neighbour_sum(square, lrn, lrn.alpha, Some(lrn.k))
    }

    /// `factor` · Σ x over the neighbours, plus `constant`.
    fn neighbour_sum(&mut self, x: Tensor, lrn: &Lrn, factor: f64, constant: Option<f64>) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        match lrn.region {
            LrnRegion::Channels => {
                let band = self.band(x, lrn.size, factor)?;
                let channels = ty.shape[1];
                let bias = constant.map(|k| self.floats(ty.reshaped([channels]), &vec![k; channels]));
                self.conv_forward(x, band, bias)
            }
            LrnRegion::Pixels => {
                let window = Pool { kernel: lrn.size, stride: 1, padding: lrn.size / 2, ceil: false };
                let sum = self.window_sum(x, window, factor)?;
                match constant {
                    Some(k) => {
                        let k = self.scalar(ty.element, k);
                        self.add(sum, k)
                    }
                    None => Ok(sum),
                }
            }
        }
    }

    /// sᵝ in the form that is fastest on the device.
    fn power(&mut self, s: Tensor, beta: f64) -> Result<Power> {
        if beta == 0.75 && self.lowering().power_by_roots {
            let root = self.sqrt(s)?;
            let fourth = self.sqrt(root)?;
            return Ok(Power::Itself(self.mul(root, fourth)?));
        }
        let exponent = self.scalar(self.element(s), -beta);
        Ok(Power::Inverse(self.pow(s, exponent)?))
    }

    /// x / sᵝ.
    fn over(&mut self, x: Tensor, power: Power) -> Result<Tensor> {
        match power {
            Power::Itself(power) => self.div(x, power),
            Power::Inverse(power) => self.mul(x, power),
        }
    }

    /// The weights of a 1×1 convolution that sums `size` neighbouring channels of `x` times `factor`.
    ///
    /// Computed in the graph from two short vectors, because as a constant it would be most of a file's size.
    fn band(&mut self, x: Tensor, size: usize, factor: f64) -> Result<Tensor> {
        let (channels, element) = (self.shape(x)[1], self.element(x));
        let list: Vec<usize> = (0..channels).collect();
        let list = self.sizes(&list);
        let (rows, columns) =
            (self.reshape(list, &[channels, 1, 1, 1])?, self.reshape(list, &[1, channels, 1, 1])?);
        let offset = self.sub(rows, columns)?;
        let distance = self.abs(offset)?;
        let reach = self.scalar(ElementType::I64, (size / 2) as f64);
        let near = self.less_or_equal(distance, reach)?;
        let band = self.cast(near, element)?;
        self.scale(band, factor)
    }
}

fn import_lrn<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let x = file.operand(node, 0)?;
    let size = usize::try_from(attributes.int("size", 0)).unwrap_or(0);
    let (alpha, beta) = (attributes.float("alpha", 1e-4), attributes.float("beta", 0.75));
    let (alpha, k) = (alpha / size.max(1) as f64, attributes.float("bias", 1.0));
    file.g.lrn(x, Lrn { size, alpha, beta, k, region: LrnRegion::Channels })
}

#[cfg(test)]
mod tests {
    use super::{Lrn, LrnRegion};
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Lowering, LrnForm, Target};

    const PAPER: Lrn = Lrn { region: LrnRegion::Channels, size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 };
    /// Strong enough that the second term of the gradient matters.
    const STRONG: Lrn = Lrn { size: 3, alpha: 0.3, k: 1.0, ..PAPER };
    const OTHER_POWER: Lrn = Lrn { size: 5, alpha: 0.2, beta: 0.6, k: 1.5, ..PAPER };
    const PIXELS: Lrn = Lrn { region: LrnRegion::Pixels, ..STRONG };
    const MANY_PIXELS: Lrn = Lrn { region: LrnRegion::Pixels, ..OTHER_POWER };

    fn forms() -> [Lowering; 4] {
        let roots = Lowering::training(Target::Cpu);
        let operator = Lowering { lrn: LrnForm::Operator, ..roots };
        let own = Lowering { own_operators: true, ..roots };
        [roots, Lowering { power_by_roots: false, ..roots }, operator, own]
    }

    #[test]
    fn gradients_of_all_forms_agree_with_finite_differences() {
        for lowering in forms() {
            for lrn in [PAPER, STRONG, OTHER_POWER, PIXELS, MANY_PIXELS] {
                let name = format!("LRN {lrn:?} by {lowering:?}");
                check_gradients(Case::f32(&name).lowering(lowering).normal([2, 7, 2, 3]), |g, x| {
                    g.lrn(x[0], lrn)
                });
            }
        }
    }

    #[test]
    fn all_forms_agree_with_the_formula_of_the_paper() {
        for lowering in forms() {
            let case = Case::f32("LRN").lowering(lowering).values([1, 3, 1, 1], vec![1.0, 2.0, 3.0]);
            let y = evaluate(case, |g, x| g.lrn(x[0], STRONG));
            let expected = |x: f64, sum: f64| x / (1.0 + 0.3 * sum).powf(0.75);
            for (given, expected) in
                y.iter().zip([expected(1.0, 5.0), expected(2.0, 14.0), expected(3.0, 13.0)])
            {
                assert!((given - expected).abs() < 1e-6, "{given} against {expected}");
            }
        }
    }

    #[test]
    fn pixels_are_summed_over_the_square_around_each_in_its_channel() {
        let x: Vec<f64> = (1..=12).map(f64::from).collect();
        let y = evaluate(Case::f32("LRN").values([1, 2, 2, 3], x), |g, x| g.lrn(x[0], PIXELS));
        // Rows 1 2 3 and 4 5 6 in the first channel, 7 8 9 and 10 11 12 in the second.
        for (at, x, sum) in [(0, 1.0, 46.0), (1, 2.0, 91.0), (5, 6.0, 74.0), (6, 7.0, 334.0)] {
            let expected: f64 = x / f64::powf(1.0 + 0.3 * sum, 0.75);
            assert!((y[at] - expected).abs() < 1e-6, "position {at}: {} against {expected}", y[at]);
        }
    }
}
