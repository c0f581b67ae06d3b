//! Softmax cross-entropy, with counts of correct predictions.
//!
//! `SoftmaxCrossEntropyLoss` has no CUDA kernel in stock builds; LogSoftmax and a comparison compute the
//! same.

use crate::builder::{Builder, Upstream};
use crate::error::Result;
use crate::node::Tensor;
use crate::types::ElementType;

/// Sums over the valid rows of a batch, each a scalar.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    /// `Σ −ln softmax(z)[label]`, in the logits' type.
    pub loss: Tensor,
    /// Number of rows whose label has the largest logit, f32.
    pub top1: Tensor,
    /// Number of rows whose label has one of the five largest logits, f32.
    pub top5: Tensor,
}

impl Builder {
    /// Loss and counts of `logits` `[N,K]` against `labels` `i64 [N]`, over the rows where `valid` `bool [N]`
    /// is true.
    ///
    /// They are sums rather than means, so that micro-batches and partial batches add up; the caller divides
    /// by the count.
    ///
    /// # Errors
    /// Types or shapes do not fit.
    pub fn cross_entropy(&mut self, logits: Tensor, labels: Tensor, valid: Tensor) -> Result<CrossEntropy> {
        let ty = self.ty(logits).clone();
        let fits = ty.rank() == 2
            && ty.element.is_float()
            && *self.ty(labels) == ty.with_element(ElementType::I64).reshaped([ty.shape[0]])
            && *self.ty(valid) == ty.with_element(ElementType::Bool).reshaped([ty.shape[0]]);
        if !fits {
            let reason = "expected floating-point logits [N,K], i64 labels [N] and Boolean valid [N]";
            return Err(self.mismatch("cross_entropy", &[logits, labels, valid], reason));
        }
        let classes = ty.shape[1];
        let (columns, row_labels, one_hot) = self.one_hot(labels, classes)?;
        let rows = self.unsqueeze(valid, &[1])?;
        let zero = self.scalar(ty.element, 0.0);
        let outputs = self.composite(&[logits], |g| {
            let log_softmax = g.log_softmax(logits, 1)?;
            let counted = g.and(one_hot, rows)?;
            // A selection, not a product: a class of probability 0 has −∞ here, and 0 · −∞ is not 0.
            let picked = g.select(counted, log_softmax, zero)?;
            let sum = g.sum(picked)?;
            let loss = g.neg(sum)?;
            let rule = move |g: &mut Self, up: &Upstream| {
                let probabilities = g.exp(log_softmax)?;
                let target = g.cast(one_hot, ty.element)?;
                let difference = g.sub(probabilities, target)?;
                let kept = g.select(rows, difference, zero)?;
                Ok(vec![Some(g.mul(kept, up.single())?)])
            };
            Ok((vec![loss], rule))
        })?;
        let rank = self.rank_of_label(logits, columns, row_labels, one_hot)?;
        // A label whose logit is NaN has rank K, which may be below 5.
        let five = classes.min(5) as f64;
        let (top1, top5) = (self.count_below(rank, 1.0, valid)?, self.count_below(rank, five, valid)?);
        Ok(CrossEntropy { loss: outputs[0], top1, top5 })
    }

    /// As [`cross_entropy`](Self::cross_entropy), against targets of which a share `smoothing` is spread
    /// evenly over all classes (Szegedy et al. 2016, section 7); the counts are those of the labels.
    ///
    /// # Errors
    /// Types or shapes do not fit.
    pub fn smoothed_cross_entropy(
        &mut self,
        logits: Tensor,
        labels: Tensor,
        valid: Tensor,
        smoothing: f64,
    ) -> Result<CrossEntropy> {
        let counts = self.cross_entropy(logits, labels, valid)?;
        let one_hot = self.one_hot_like(logits, labels)?;
        self.against_smoothed(logits, one_hot, valid, smoothing, counts)
    }

    /// As [`smoothed_cross_entropy`](Self::smoothed_cross_entropy), against two labels of each row: `labels`
    /// has the share `shares` `[N]` in the logits' type, `others` the rest. The counts are those of `labels`.
    ///
    /// # Errors
    /// Types or shapes do not fit.
    pub fn mixed_cross_entropy(
        &mut self,
        logits: Tensor,
        (labels, others, shares): (Tensor, Tensor, Tensor),
        valid: Tensor,
        smoothing: f64,
    ) -> Result<CrossEntropy> {
        let counts = self.cross_entropy(logits, labels, valid)?;
        let (own, other) = (self.one_hot_like(logits, labels)?, self.one_hot_like(logits, others)?);
        let share = self.unsqueeze(shares, &[1])?;
        // share · own + (1 − share) · other
        let difference = self.sub(own, other)?;
        let moved = self.mul(difference, share)?;
        let target = self.add(other, moved)?;
        self.against_smoothed(logits, target, valid, smoothing, counts)
    }

    /// The counts with the loss against `target` `[N,K]`, smoothed.
    fn against_smoothed(
        &mut self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        smoothing: f64,
        counts: CrossEntropy,
    ) -> Result<CrossEntropy> {
        let (classes, element) = (self.shape(logits)[1], self.element(logits));
        let own = self.scale(target, 1.0 - smoothing)?;
        let even = self.scalar(element, smoothing / classes as f64);
        let target = self.add(own, even)?;
        Ok(CrossEntropy { loss: self.soft_cross_entropy(logits, target, valid)?, ..counts })
    }

    /// The loss `Σ −target · ln softmax(z)` of `logits` `[N,K]` against `target` `[N,K]`, whose rows sum to
    /// 1, over the rows where `valid` `bool [N]` is true.
    ///
    /// # Errors
    /// Types or shapes do not fit.
    pub fn soft_cross_entropy(&mut self, logits: Tensor, target: Tensor, valid: Tensor) -> Result<Tensor> {
        let ty = self.ty(logits).clone();
        let fits = ty.rank() == 2
            && ty.element.is_float()
            && *self.ty(target) == ty
            && *self.ty(valid) == ty.with_element(ElementType::Bool).reshaped([ty.shape[0]]);
        if !fits {
            let reason = "expected floating-point logits and target [N,K] and Boolean valid [N]";
            return Err(self.mismatch("soft_cross_entropy", &[logits, target, valid], reason));
        }
        let rows = self.unsqueeze(valid, &[1])?;
        let zero = self.scalar(ty.element, 0.0);
        let outputs = self.composite(&[logits], |g| {
            let log_softmax = g.log_softmax(logits, 1)?;
            let weighted = g.mul(log_softmax, target)?;
            let counted = g.select(rows, weighted, zero)?;
            let sum = g.sum(counted)?;
            let loss = g.neg(sum)?;
            let rule = move |g: &mut Self, up: &Upstream| {
                let probabilities = g.exp(log_softmax)?;
                let difference = g.sub(probabilities, target)?;
                let kept = g.select(rows, difference, zero)?;
                Ok(vec![Some(g.mul(kept, up.single())?)])
            };
            Ok((vec![loss], rule))
        })?;
        Ok(outputs[0])
    }

    /// 1 at each row's label and 0 elsewhere, in the type and shape of the logits.
    fn one_hot_like(&mut self, logits: Tensor, labels: Tensor) -> Result<Tensor> {
        let (classes, element) = (self.shape(logits)[1], self.element(logits));
        let (_, _, one_hot) = self.one_hot(labels, classes)?;
        self.cast(one_hot, element)
    }

    /// Class numbers `[1,K]`, labels `[N,1]` and their equality `[N,K]`.
    fn one_hot(&mut self, labels: Tensor, classes: usize) -> Result<(Tensor, Tensor, Tensor)> {
        let columns = self.counting(classes, &[1, classes]);
        let rows = self.unsqueeze(labels, &[1])?;
        Ok((columns, rows, self.equal(rows, columns)?))
    }

    /// The number of classes ranked before the label, `f32 [N]`; of equal logits the lower class ranks first.
    fn rank_of_label(
        &mut self,
        logits: Tensor,
        columns: Tensor,
        labels: Tensor,
        one_hot: Tensor,
    ) -> Result<Tensor> {
        let zero = self.scalar(self.element(logits), 0.0);
        let masked = self.select(one_hot, logits, zero)?;
        let own = self.reduce_sum(masked, &[1], true)?;
        // "Not (z ≤ own)" is also true where a logit is NaN: a diverged network is never correct.
        let not_above = self.less_or_equal(logits, own)?;
        let above = self.not(not_above)?;
        let (tied, lower) = (self.equal(logits, own)?, self.less(columns, labels)?);
        let first_of_tied = self.and(tied, lower)?;
        let ahead = self.or(above, first_of_tied)?;
        let ahead = self.cast(ahead, ElementType::F32)?;
        self.reduce_sum(ahead, &[1], false)
    }

    /// Number of valid entries of `rank` below `limit`, f32.
    fn count_below(&mut self, rank: Tensor, limit: f64, valid: Tensor) -> Result<Tensor> {
        let limit = self.scalar(ElementType::F32, limit);
        let below = self.less(rank, limit)?;
        let counted = self.and(below, valid)?;
        let counted = self.cast(counted, ElementType::F32)?;
        self.sum(counted)
    }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, run_f64};
    use crate::{Builder, ElementType, Lowering, Target, Tensor, TensorType};

    fn labels(g: &mut Builder, labels: &[i64]) -> Tensor {
        g.integers(labels)
    }

    fn valid(g: &mut Builder, valid: &[bool]) -> Tensor {
        let bytes = valid.iter().map(|&v| v.into()).collect();
        g.constant(TensorType::new(ElementType::Bool, [valid.len()]), bytes)
    }

    /// Loss, top-1 and top-5 counts of the given logits.
    fn counts(logits: &[f64], classes: usize, given: &[i64], rows: &[bool]) -> [f64; 3] {
        let mut g = Builder::new("counts", Lowering::evaluation(Target::Cpu));
        let z = g.input("z", TensorType::new(ElementType::F64, [given.len(), classes])).unwrap();
        let (labels, valid) = (labels(&mut g, given), valid(&mut g, rows));
        let result = g.cross_entropy(z, labels, valid).unwrap();
        for (name, tensor) in [("loss", result.loss), ("top1", result.top1), ("top5", result.top5)] {
            g.output(name, tensor).unwrap();
        }
        let outputs = run_f64(&g.finish(), &[("z", logits)]);
        ["loss", "top1", "top5"].map(|name| outputs[name][0])
    }

    #[test]
    fn the_gradient_of_cross_entropy_agrees_with_finite_differences() {
        check_gradients(Case::f64("cross-entropy").normal([4, 7]), |g, x| {
            let (labels, valid) = (labels(g, &[0, 6, 3, 3]), valid(g, &[true, true, false, true]));
            Ok(g.cross_entropy(x[0], labels, valid)?.loss)
        });
    }

    #[test]
    fn the_gradient_of_smoothed_cross_entropy_agrees_with_finite_differences() {
        check_gradients(Case::f64("smoothed cross-entropy").normal([4, 7]), |g, x| {
            let (labels, valid) = (labels(g, &[0, 6, 3, 3]), valid(g, &[true, true, false, true]));
            Ok(g.smoothed_cross_entropy(x[0], labels, valid, 0.3)?.loss)
        });
    }

    #[test]
    fn smoothed_cross_entropy_is_that_of_pytorch() {
        let mut g = Builder::new("smoothed", Lowering::evaluation(Target::Cpu));
        let z = g.input("z", TensorType::new(ElementType::F64, [3, 4])).unwrap();
        let (labels, valid) = (labels(&mut g, &[2, 0, 1]), valid(&mut g, &[true, true, false]));
        let loss = g.smoothed_cross_entropy(z, labels, valid, 0.1).unwrap();
        for (name, tensor) in [("loss", loss.loss), ("top1", loss.top1)] {
            g.output(name, tensor).unwrap();
        }
        let logits = [0.5, -1.0, 2.0, 0.25, 1.0, 1.5, -0.5, 0.0, 9.0, 9.0, 9.0, 9.0];
        let outputs = run_f64(&g.finish(), &[("z", &logits)]);
        // CrossEntropyLoss(label_smoothing=0.1, reduction="sum") of the first two rows.
        let expected = 1.7510192606111126;
        assert!((outputs["loss"][0] - expected).abs() < 1e-12, "{}", outputs["loss"][0]);
        assert_eq!(outputs["top1"], [1.0]);
    }

    #[test]
    fn the_gradient_of_mixed_cross_entropy_agrees_with_finite_differences() {
        check_gradients(Case::f64("mixed cross-entropy").normal([4, 7]), |g, x| {
            let (own, others) = (labels(g, &[0, 6, 3, 3]), labels(g, &[1, 5, 3, 0]));
            let shares = g.floats(TensorType::new(ElementType::F64, [4]), &[0.5, 0.75, 1.0, 0.9]);
            let valid = valid(g, &[true, true, false, true]);
            Ok(g.mixed_cross_entropy(x[0], (own, others, shares), valid, 0.2)?.loss)
        });
    }

    #[test]
    fn mixed_cross_entropy_is_that_of_pytorch() {
        // CrossEntropyLoss(label_smoothing=…, reduction="sum") of the first two rows, against 0.75 of class 2
        // and 0.25 of class 1, and against 0.6 of class 0 and 0.4 of class 3.
        for (smoothing, expected) in [(0.0, 2.694_769_260_611_112_7), (0.1, 2.786_019_260_611_112_7)] {
            let mut g = Builder::new("mixed", Lowering::evaluation(Target::Cpu));
            let z = g.input("z", TensorType::new(ElementType::F64, [3, 4])).unwrap();
            let (own, others) = (labels(&mut g, &[2, 0, 1]), labels(&mut g, &[1, 3, 1]));
            let shares = g.floats(TensorType::new(ElementType::F64, [3]), &[0.75, 0.6, 1.0]);
            let valid = valid(&mut g, &[true, true, false]);
            let loss = g.mixed_cross_entropy(z, (own, others, shares), valid, smoothing).unwrap();
            for (name, tensor) in [("loss", loss.loss), ("top1", loss.top1)] {
                g.output(name, tensor).unwrap();
            }
            let logits = [0.5, -1.0, 2.0, 0.25, 1.0, 1.5, -0.5, 0.0, 9.0, 9.0, 9.0, 9.0];
            let outputs = run_f64(&g.finish(), &[("z", &logits)]);
            assert!((outputs["loss"][0] - expected).abs() < 1e-12, "{}", outputs["loss"][0]);
            assert_eq!(outputs["top1"], [1.0]);
        }
    }

    #[test]
    fn padded_rows_do_not_count() {
        let logits = [1.0, 0.0, 5.0, 0.0];
        let [loss, top1, top5] = counts(&logits, 2, &[0, 0], &[true, false]);
        assert!((loss - (1.0 + (-1.0f64).exp()).ln()).abs() < 1e-12, "{loss}");
        assert_eq!([top1, top5], [1.0, 1.0]);
    }

    #[test]
    fn ranks_decide_top_1_and_top_5() {
        let falling = [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        for (label, expected) in [(0, [1.0, 1.0]), (1, [0.0, 1.0]), (4, [0.0, 1.0]), (5, [0.0, 0.0])] {
            assert_eq!(counts(&falling, 7, &[label], &[true])[1..], expected);
        }
    }

    #[test]
    fn equal_logits_are_ranked_by_class_number() {
        assert_eq!(counts(&[0.0; 7], 7, &[0], &[true])[1..], [1.0, 1.0]);
        assert_eq!(counts(&[0.0; 7], 7, &[6], &[true])[1..], [0.0, 0.0]);
    }

    #[test]
    fn nan_logits_are_never_correct() {
        for classes in [7, 3] {
            assert_eq!(counts(&vec![f64::NAN; classes], classes, &[0], &[true])[1..], [0.0, 0.0]);
        }
    }

    #[test]
    fn an_impossible_class_does_not_spoil_the_loss() {
        let [loss, ..] = counts(&[0.0, f64::NEG_INFINITY], 2, &[0], &[true]);
        assert_eq!(loss, 0.0);
    }
}
