//! Metrics over the rows of batches.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Loss and counts over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BatchMetrics {
    /// Number of rows.
    pub rows: u64,
    /// Sum of the losses; cross-entropies with the natural logarithm.
    pub loss: f64,
    /// Rows whose class has the highest output.
    pub top1: u64,
    /// Rows whose class is among the five highest outputs.
    pub top5: u64,
    /// Sums of the two errors of a loss for labels that are no classes. All rows count as right then.
    #[serde(default, skip_serializing_if = "are_zero")]
    pub errors: [f64; 2],
}

fn are_zero(errors: &[f64; 2]) -> bool {
    *errors == [0.0; 2]
}

impl AddAssign for BatchMetrics {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.loss += other.loss;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.errors[0] += other.errors[0];
        self.errors[1] += other.errors[1];
    }
}

impl BatchMetrics {
    /// Metrics of one row whose K outputs are `values`, the greatest the best. Of equal ones the lower class
    /// ranks first; a label whose value is NaN is never correct.
    #[must_use]
    pub fn from_row(loss: f64, values: &[f64], label: usize) -> Self {
        let own = values[label];
        let ahead = |(class, &other): (usize, &f64)| !(other < own || other == own && class >= label);
        let rank = values.iter().enumerate().filter(|&candidate| ahead(candidate)).count();
        let hit = |best: usize| u64::from(rank < best.min(values.len()));
        Self { rows: 1, loss, top1: hit(1), top5: hit(5), errors: [0.0; 2] }
    }

    /// Metrics of `rows` rows with these sums of losses and of the two errors of a loss without classes.
    #[must_use]
    pub fn from_errors(rows: u64, loss: f64, errors: [f64; 2]) -> Self {
        Self { rows, loss, top1: rows, top5: rows, errors }
    }

    /// As words, for other processes.
    pub(crate) fn to_words(self) -> [u64; 6] {
        let Self { rows, loss, top1, top5, errors: [first, second] } = self;
        [rows, loss.to_bits(), top1, top5, first.to_bits(), second.to_bits()]
    }

    /// From [`to_words`](Self::to_words).
    pub(crate) fn from_words([rows, loss, top1, top5, first, second]: [u64; 6]) -> Self {
        let errors = [first, second].map(f64::from_bits);
        Self { rows, loss: f64::from_bits(loss), top1, top5, errors }
    }

    /// Mean loss of a row; NaN without rows.
    #[must_use]
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.rows as f64
    }

    /// Share of the rows whose class does not have the highest output, 0..=1, or the mean of the first error
    /// of a loss without classes; NaN without rows.
    #[must_use]
    pub fn top1_error(&self) -> f64 {
        ((self.rows - self.top1) as f64 + self.errors[0]) / self.rows as f64
    }

    /// Share of the rows whose class is not among the five highest outputs, 0..=1, or the mean of the second
    /// error of a loss without classes; NaN without rows.
    #[must_use]
    pub fn top5_error(&self) -> f64 {
        ((self.rows - self.top5) as f64 + self.errors[1]) / self.rows as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_class_counts_by_its_rank() {
        let probabilities = [0.3, 0.1, 0.25, 0.2, 0.05, 0.1];
        let counts = |label| {
            let sums = BatchMetrics::from_row(0.5, &probabilities, label);
            assert_eq!((sums.rows, sums.loss), (1, 0.5));
            (sums.top1, sums.top5)
        };
        assert_eq!([0, 1, 2, 3, 4, 5].map(counts), [(1, 1), (0, 1), (0, 1), (0, 1), (0, 0), (0, 1)]);
    }

    #[test]
    fn errors_of_losses_without_classes_are_means_and_survive_as_words() {
        let mut sums = BatchMetrics::from_errors(4, 2.0, [1.0, 0.5]);
        sums += BatchMetrics::from_errors(4, 4.0, [3.0, 1.5]);
        assert_eq!((sums.mean_loss(), sums.top1_error(), sums.top5_error()), (0.75, 0.5, 0.25));
        assert_eq!(BatchMetrics::from_words(sums.to_words()), sums);
        let json = serde_json::to_string(&sums).unwrap();
        assert_eq!(serde_json::from_str::<BatchMetrics>(&json).unwrap(), sums);
        let with_classes = serde_json::to_string(&BatchMetrics::from_row(0.5, &[0.5, 0.5], 0)).unwrap();
        assert_eq!(with_classes, r#"{"rows":1,"loss":0.5,"top1":1,"top5":1}"#);
    }

    #[test]
    fn of_equal_outputs_the_lower_class_ranks_first_and_nan_is_never_correct() {
        assert_eq!([0, 1].map(|label| BatchMetrics::from_row(0.0, &[0.5, 0.5], label).top1), [1, 0]);
        for values in [&[f64::NAN; 8][..], &[f64::NAN; 3]] {
            assert_eq!([0, 1].map(|label| BatchMetrics::from_row(0.0, values, label).top5), [0, 0]);
        }
    }
}
