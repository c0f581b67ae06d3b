//! The discrete Fourier transform, as a product with a matrix: DFT.

use std::f64::consts::TAU;

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::limits::CONSTANT;
use crate::import::translation::{Family, Translation};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&DFT, Some(import_dft))];
static DFT: Operator = Operator::decomposed("DFT", 17);

/// Which way a transform goes, and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fourier {
    /// Number of values and of frequencies; zeros follow those of the operand, or its last ones are left out.
    pub length: usize,
    /// Whether it goes back from frequencies, divided by their number.
    pub inverse: bool,
    /// Whether there is only the first half of the frequencies, and the one in the middle, as the others
    /// follow where values are real.
    pub onesided: bool,
}

impl Builder {
    /// The discrete Fourier transform of `x` `[…,1]`, real, or `[…,2]`, complex, along `axis`: `[…,2]`, or
    /// `[…,1]` for the inverse of onesided frequencies.
    ///
    /// # Errors
    /// The operand is not floating-point, or has no such axis before its last.
    pub fn fourier(&mut self, x: Tensor, axis: usize, fourier: Fourier) -> Result<Tensor> {
        self.floating(DFT.name, x)?;
        let Fourier { length, inverse, onesided } = fourier;
        let given = self.shape(x).to_vec();
        let (last, parts) = (given.len().saturating_sub(1), given.last().copied().unwrap_or(0));
        let half = length / 2 + 1;
        let (from, to, made) = match (inverse, onesided) {
            (true, true) => (half, length, 1),
            (false, true) => (length, half, 2),
            (_, false) => (length, length, 2),
        };
        let taken = given.get(axis).map_or(0, |&values| values.min(from).min(length));
        if axis >= last || !matches!(parts, 1 | 2) || taken == 0 {
            let reason = format!("axis {axis} must be before the last, which has one part or two");
            return Err(self.mismatch(DFT.name, &[x], reason));
        }
        if (made * parts * taken).saturating_mul(to) > CONSTANT {
            let reason = format!("its matrix, of {taken} by {to}, has more than {CONSTANT} values");
            return Err(self.mismatch(DFT.name, &[x], reason));
        }
        // x₀ + i·x₁ times e^(∓2πi·n·k/N), as rows of real and imaginary parts.
        let sign = if inverse { 1.0 } else { -1.0 };
        let mut values = Vec::with_capacity(made * parts * taken * to);
        for n in 0..taken {
            // A frequency that has left out its twin counts for both.
            let times = if made == 1 && n > 0 && 2 * n < length { 2.0 } else { 1.0 };
            let factor = if inverse { times / length as f64 } else { times };
            for part in 0..parts {
                for k in 0..to {
                    let angle = sign * TAU * ((n * k) % length) as f64 / length as f64;
                    let [real, imaginary] = [angle.cos() * factor, angle.sin() * factor];
                    let pair = if part == 0 { [real, imaginary] } else { [-imaginary, real] };
                    values.extend(&pair[..made]);
                }
            }
        }
        let ty = self.ty(x).reshaped(vec![taken * parts, to * made]);
        let matrix = self.floats(ty, &values);
        let mut order: Vec<usize> = (0..=last).filter(|&a| a != axis).collect();
        order.insert(last - 1, axis);
        let whole = self.slice(x, axis, 0, taken)?;
        let moved = self.transpose(whole, &order)?;
        let mut shape = self.shape(moved).to_vec();
        let rows = shape[..last - 1].iter().product();
        let rows = self.reshape(moved, &[rows, taken * parts])?;
        let product = self.matmul(rows, matrix)?;
        (shape[last - 1], shape[last]) = (to, made);
        let moved = self.reshape(product, &shape)?;
        let back: Vec<usize> = (0..=last)
            .map(|a| order.iter().position(|&from| from == a).expect("the order has every axis"))
            .collect();
        self.transpose(moved, &back)
    }
}

/// The axis is an operand since operator set 20.
fn import_dft<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let x = file.operand(node, 0)?;
    let axis = match file.integers(node, 2)?.as_deref() {
        Some(&[axis]) => axis,
        _ if file.opset() >= 20 => -2,
        _ => attributes.int("axis", 1),
    };
    let axis = file.axis(x, axis);
    let flag = |name| attributes.int(name, 0) != 0;
    let (inverse, onesided) = (flag("inverse"), flag("onesided"));
    let values = file.g.shape(x).get(axis).copied().unwrap_or(0);
    let length = match file.integers(node, 1)?.as_deref() {
        Some(&[length]) => usize::try_from(length).unwrap_or(0),
        _ if inverse && onesided => 2 * values.saturating_sub(1),
        _ => values,
    };
    file.g.fourier(x, axis, Fourier { length, inverse, onesided })
}

#[cfg(test)]
mod tests {
    use super::Fourier;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, TensorType};

    const WHOLE: Fourier = Fourier { length: 4, inverse: false, onesided: false };

    #[test]
    fn gradients_of_transforms_agree_with_finite_differences() {
        for (inverse, onesided) in [(false, false), (true, false), (false, true), (true, true)] {
            for length in [3, 4, 6] {
                let fourier = Fourier { length, inverse, onesided };
                for parts in [1, 2] {
                    check_gradients(Case::f64("DFT").normal([2, 4, 3, parts]), |g, x| {
                        g.fourier(x[0], 1, fourier)
                    });
                }
            }
        }
    }

    #[test]
    fn a_transform_and_its_inverse_give_the_operand() {
        let x: Vec<f64> = (0..8).map(|at| f64::from(at * at % 7)).collect();
        let y = evaluate(Case::f64("DFT").values([1, 4, 2], x.clone()), |g, x| {
            let frequencies = g.fourier(x[0], 1, WHOLE)?;
            g.fourier(frequencies, 1, Fourier { inverse: true, ..WHOLE })
        });
        assert!(y.iter().zip(&x).all(|(y, x)| (y - x).abs() < 1e-12), "{y:?}");
        let real: Vec<f64> = x[..5].to_vec();
        let y = evaluate(Case::f64("DFT").values([5, 1], real.clone()), |g, x| {
            let half = Fourier { length: 5, inverse: false, onesided: true };
            let frequencies = g.fourier(x[0], 0, half)?;
            g.fourier(frequencies, 0, Fourier { inverse: true, ..half })
        });
        assert!(y.iter().zip(&real).all(|(y, x)| (y - x).abs() < 1e-12), "{y:?}");
        // A cosine has its first frequency, and that is real.
        let wave = Case::f64("DFT").values([4, 1], vec![1.0, 0.0, -1.0, 0.0]);
        let y = evaluate(wave, |g, x| g.fourier(x[0], 0, Fourier { onesided: true, ..WHOLE }));
        assert!(y.iter().zip([0.0, 0.0, 2.0, 0.0, 0.0, 0.0]).all(|(y, x)| (y - x).abs() < 1e-12), "{y:?}");
    }

    #[test]
    fn axes_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([4, 2])).unwrap();
        assert!(g.fourier(x, 1, WHOLE).is_err());
        assert!(g.fourier(x, 0, Fourier { length: 0, ..WHOLE }).is_err());
        let three = g.input("three", TensorType::f32([4, 3])).unwrap();
        assert!(g.fourier(three, 0, WHOLE).is_err());
    }
}
