//! Metrics over the rows of batches.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Loss and counts over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BatchMetrics {
    /// Number of rows.
    pub rows: u64,
    /// Sum of the cross-entropy, natural logarithm.
    pub loss: f64,
    /// Rows whose class has the highest output.
    pub top1: u64,
    /// Rows whose class is among the five highest outputs.
    pub top5: u64,
}

impl AddAssign for BatchMetrics {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.loss += other.loss;
        self.top1 += other.top1;
        self.top5 += other.top5;
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
        Self { rows: 1, loss, top1: hit(1), top5: hit(5) }
    }

    /// Mean loss of a row; NaN without rows.
    #[must_use]
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.rows as f64
    }

    /// Share of the rows whose class does not have the highest output, 0..=1; NaN without rows.
    #[must_use]
    pub fn top1_error(&self) -> f64 {
        (self.rows - self.top1) as f64 / self.rows as f64
    }

    /// Share of the rows whose class is not among the five highest outputs, 0..=1; NaN without rows.
    #[must_use]
    pub fn top5_error(&self) -> f64 {
        (self.rows - self.top5) as f64 / self.rows as f64
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
    fn of_equal_outputs_the_lower_class_ranks_first_and_nan_is_never_correct() {
        assert_eq!([0, 1].map(|label| BatchMetrics::from_row(0.0, &[0.5, 0.5], label).top1), [1, 0]);
        for values in [&[f64::NAN; 8][..], &[f64::NAN; 3]] {
            assert_eq!([0, 1].map(|label| BatchMetrics::from_row(0.0, values, label).top5), [0, 0]);
        }
    }
}
