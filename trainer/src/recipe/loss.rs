//! Losses, and what errors are called with each.

use std::fmt;

use fovea_pipeline::LabelKind;
use fovea_pipeline::summary::percent;
use serde::{Deserialize, Serialize};

/// What training minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Cross-entropy of a softmax, for images of one class each.
    #[default]
    CrossEntropy,
    /// Binary cross-entropy of a sigmoid for each class, for images of any number of classes.
    BinaryCrossEntropy,
    /// Mean squared error, for numbers.
    MeanSquaredError,
}

/// An error that is measured beside the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Its name.
    pub name: &'static str,
    /// What it says, as a sentence.
    pub meaning: &'static str,
    /// Whether it is a share, 0..=1.
    pub is_share: bool,
}

impl Loss {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::CrossEntropy, Self::BinaryCrossEntropy, Self::MeanSquaredError];

    /// The name in recipes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross_entropy",
            Self::BinaryCrossEntropy => "binary_cross_entropy",
            Self::MeanSquaredError => "mean_squared_error",
        }
    }

    /// The labels that it is for.
    #[must_use]
    pub fn labels(self) -> LabelKind {
        match self {
            Self::CrossEntropy => LabelKind::Class,
            Self::BinaryCrossEntropy => LabelKind::MultiHot,
            Self::MeanSquaredError => LabelKind::Values,
        }
    }

    /// The loss for labels of this kind.
    #[must_use]
    pub fn of(labels: LabelKind) -> Self {
        match labels {
            LabelKind::Class => Self::CrossEntropy,
            LabelKind::MultiHot => Self::BinaryCrossEntropy,
            LabelKind::Values => Self::MeanSquaredError,
        }
    }

    /// The two errors that are measured with it; the first chooses the best checkpoint.
    #[must_use]
    pub fn measures(self) -> [Measure; 2] {
        let share = |name, meaning| Measure { name, meaning, is_share: true };
        let number = |name, meaning| Measure { name, meaning, is_share: false };
        match self {
            Self::CrossEntropy => [
                share("top-1 error", "Top-1: the most probable class is wrong."),
                share("top-5 error", "Top-5: the correct class is not among the five most probable ones."),
            ],
            Self::BinaryCrossEntropy => [
                share("exact-match error", "Exact match: a class of the image is wrong."),
                share("label error", "Label: the share of wrong classes, of all images and classes."),
            ],
            Self::MeanSquaredError => [
                number("mean squared error", "Squared: the mean over images and numbers."),
                number("mean absolute error", "Absolute: the mean over images and numbers."),
            ],
        }
    }

    /// Whether it is the default, which recipes leave out.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Measure {
    /// A value of it, as people read it.
    #[must_use]
    pub fn value(&self, value: f64) -> String {
        if self.is_share { percent(value) } else { format!("{value:.4}") }
    }

    /// Its name and a value.
    #[must_use]
    pub fn with(&self, value: f64) -> String {
        format!("{} {}", self.name, self.value(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_kinds_of_labels_are_pairs_and_errors_are_shares_or_numbers() {
        for loss in Loss::ALL {
            assert_eq!(Loss::of(loss.labels()), loss);
        }
        let [top1, _] = Loss::CrossEntropy.measures();
        let [squared, _] = Loss::MeanSquaredError.measures();
        assert_eq!(top1.with(0.351), "top-1 error 35.1 %");
        assert_eq!(squared.with(0.351), "mean squared error 0.3510");
    }
}
