//! Losses over independent outputs: binary cross-entropy for several labels, and the squared error.

use crate::builder::{Builder, Upstream};
use crate::error::Result;
use crate::node::Tensor;
use crate::types::ElementType;

/// Sums over the valid rows of a batch, each a scalar in the outputs' type.
#[derive(Clone, Copy, Debug)]
pub struct ElementLoss {
    /// Sum of the rows' losses, each a mean over the row's outputs.
    pub loss: Tensor,
    /// Binary cross-entropy: the number of rows with a wrong output; squared error: as the loss.
    pub first_error: Tensor,
    /// Binary cross-entropy: the sum of the rows' shares of wrong outputs; squared error: that of their mean
    /// absolute errors.
    pub second_error: Tensor,
}

impl Builder {
    /// Binary cross-entropy of `logits` `[N,K]` against `target` `[N,K]` in 0..=1, over the rows where
    /// `valid` `bool [N]` is true, as `torch.nn.BCEWithLogitsLoss`. An output is right if its logit is
    /// positive and its target above one half, or neither.
    ///
    /// # Errors
    /// Types or shapes do not fit.
    pub fn binary_cross_entropy(
        &mut self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
    ) -> Result<ElementLoss> {
        let rows = self.valid_rows("binary_cross_entropy", logits, target, valid)?;
        let element = self.element(logits);
        let outputs = self.composite(&[logits], |g| {
            // ln(1 + exp z) − z · target, without the exponential of a large number, which some kernels of
            // Softplus compute.
            let one = g.scalar(element, 1.0);
            let size = g.abs(logits)?;
            let below = g.neg(size)?;
            let power = g.exp(below)?;
            let sum = g.add(power, one)?;
            let rest = g.log(sum)?;
            let positive = g.relu(logits)?;
            let whole = g.add(positive, rest)?;
            let product = g.mul(logits, target)?;
            let losses = g.sub(whole, product)?;
            let loss = g.mean_of_rows(losses, rows)?;
            let rule = move |g: &mut Self, up: &Upstream| {
                let probabilities = g.sigmoid(logits)?;
                let difference = g.sub(probabilities, target)?;
                Ok(vec![Some(g.spread_to_rows(difference, rows, up.single())?)])
            };
            Ok((vec![loss], rule))
        })?;
        let (zero, half) = (self.scalar(element, 0.0), self.scalar(element, 0.5));
        let (predicted, marked) = (self.less(zero, logits)?, self.less(half, target)?);
        let (predicted, marked) = (self.cast(predicted, element)?, self.cast(marked, element)?);
        let difference = self.sub(predicted, marked)?;
        let wrong = self.abs(difference)?;
        let wrong_of_row = self.reduce_sum(wrong, &[1], true)?;
        let is_wrong = self.less(half, wrong_of_row)?;
        let is_wrong = self.cast(is_wrong, element)?;
        let first_error = self.mean_of_rows(is_wrong, rows)?;
        Ok(ElementLoss { loss: outputs[0], first_error, second_error: self.mean_of_rows(wrong, rows)? })
    }

    /// Squared error of `values` `[N,K]` against `target` `[N,K]`, over the rows where `valid` `bool [N]` is
    /// true, as `torch.nn.MSELoss`.
    ///
    /// # Errors
    /// Types or shapes do not fit.
    pub fn mean_squared_error(
        &mut self,
        values: Tensor,
        target: Tensor,
        valid: Tensor,
    ) -> Result<ElementLoss> {
        let rows = self.valid_rows("mean_squared_error", values, target, valid)?;
        let outputs = self.composite(&[values], |g| {
            let difference = g.sub(values, target)?;
            let squares = g.mul(difference, difference)?;
            let loss = g.mean_of_rows(squares, rows)?;
            let rule = move |g: &mut Self, up: &Upstream| {
                let twice = g.scale(difference, 2.0)?;
                Ok(vec![Some(g.spread_to_rows(twice, rows, up.single())?)])
            };
            Ok((vec![loss], rule))
        })?;
        let difference = self.sub(values, target)?;
        let absolute = self.abs(difference)?;
        let second_error = self.mean_of_rows(absolute, rows)?;
        Ok(ElementLoss { loss: outputs[0], first_error: outputs[0], second_error })
    }

    /// `valid` as `[N,1]`, after a check of all operands.
    fn valid_rows(
        &mut self,
        operator: &'static str,
        outputs: Tensor,
        target: Tensor,
        valid: Tensor,
    ) -> Result<Tensor> {
        let ty = self.ty(outputs).clone();
        let fits = ty.rank() == 2
            && ty.element.is_float()
            && *self.ty(target) == ty
            && *self.ty(valid) == ty.with_element(ElementType::Bool).reshaped([ty.shape[0]]);
        if !fits {
            let reason = "expected floating-point outputs and target [N,K] and Boolean valid [N]";
            return Err(self.mismatch(operator, &[outputs, target, valid], reason));
        }
        self.unsqueeze(valid, &[1])
    }

    /// The sum over the valid rows of the means of their elements.
    fn mean_of_rows(&mut self, elements: Tensor, rows: Tensor) -> Result<Tensor> {
        let zero = self.scalar(self.element(elements), 0.0);
        let counted = self.select(rows, elements, zero)?;
        let sum = self.sum(counted)?;
        self.scale(sum, 1.0 / self.shape(elements)[1] as f64)
    }

    /// The gradient of [`mean_of_rows`](Self::mean_of_rows), times the slopes of its elements.
    fn spread_to_rows(&mut self, slopes: Tensor, rows: Tensor, upstream: Tensor) -> Result<Tensor> {
        let zero = self.scalar(self.element(slopes), 0.0);
        let kept = self.select(rows, slopes, zero)?;
        let share = self.scale(kept, 1.0 / self.shape(slopes)[1] as f64)?;
        self.mul(share, upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{Case, check_gradients, run_f64};
    use crate::{Lowering, Target, TensorType};

    const LOGITS: [f64; 9] = [0.5, -1.0, 2.0, 1.0, 1.5, -0.5, 9.0, 9.0, 9.0];
    const MARKS: [f64; 9] = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
    const VALUES: [f64; 9] = [1.5, -2.0, 0.25, 0.0, 3.0, -0.75, 0.0, 0.0, 0.0];

    type Loss = fn(&mut Builder, Tensor, Tensor, Tensor) -> Result<ElementLoss>;

    fn target(g: &mut Builder, values: &[f64]) -> Tensor {
        g.floats(TensorType::new(ElementType::F64, [values.len() / 3, 3]), values)
    }

    fn valid(g: &mut Builder, valid: &[bool]) -> Tensor {
        let bytes = valid.iter().map(|&v| v.into()).collect();
        g.constant(TensorType::new(ElementType::Bool, [valid.len()]), bytes)
    }

    /// Loss and errors of `LOGITS`, of which the last row does not count.
    fn computed(loss: Loss, values: &[f64]) -> [f64; 3] {
        let mut g = Builder::new("loss", Lowering::evaluation(Target::Cpu));
        let z = g.input("z", TensorType::new(ElementType::F64, [3, 3])).unwrap();
        let (target, valid) = (target(&mut g, values), valid(&mut g, &[true, true, false]));
        let found = loss(&mut g, z, target, valid).unwrap();
        let all = [("loss", found.loss), ("first", found.first_error), ("second", found.second_error)];
        for (name, tensor) in all {
            g.output(name, tensor).unwrap();
        }
        let outputs = run_f64(&g.finish(), &[("z", &LOGITS)]);
        all.map(|(name, _)| outputs[name][0])
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let losses: [(Loss, &[f64]); 2] =
            [(Builder::binary_cross_entropy, &MARKS), (Builder::mean_squared_error, &VALUES)];
        for (loss, values) in losses {
            check_gradients(Case::f64("loss of elements").normal([3, 3]), |g, x| {
                let (target, valid) = (target(g, values), valid(g, &[true, false, true]));
                Ok(loss(g, x[0], target, valid)?.loss)
            });
        }
    }

    #[test]
    fn losses_are_those_of_pytorch() {
        // BCEWithLogitsLoss() and MSELoss() of the first two rows, times two rows; of the outputs of the
        // first row one is wrong.
        for (found, expected) in [
            (computed(Builder::binary_cross_entropy, &MARKS), [BINARY, 1.0, 1.0 / 3.0]),
            (computed(Builder::mean_squared_error, &VALUES), [SQUARED, SQUARED, ABSOLUTE]),
        ] {
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{found} against {expected}");
            }
        }
    }

    const BINARY: f64 = 1.301_006_210_807_461_6;
    const SQUARED: f64 = 2.791_666_666_666_666_5;
    const ABSOLUTE: f64 = 2.166_666_666_666_666_5;

    #[test]
    fn large_logits_have_finite_losses() {
        let mut g = Builder::new("large", Lowering::evaluation(Target::Cpu));
        let z = g.input("z", TensorType::new(ElementType::F64, [1, 3])).unwrap();
        let (target, valid) = (target(&mut g, &[0.0, 1.0, 1.0]), valid(&mut g, &[true]));
        let loss = g.binary_cross_entropy(z, target, valid).unwrap();
        g.output("loss", loss.loss).unwrap();
        let outputs = run_f64(&g.finish(), &[("z", &[1000.0, -2000.0, 5000.0])]);
        assert!((outputs["loss"][0] - 1000.0).abs() < 1e-9, "{outputs:?}");
    }
}
