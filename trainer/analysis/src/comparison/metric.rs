//! The metrics that can be compared, and the time to a target.

use std::str::FromStr;

use fovea_pipeline::UnknownName;
use fovea_trainer::metrics::Epoch;
use serde::{Deserialize, Serialize};

/// The metric that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Top-1 error over the training images of an epoch, 0..=1: each image augmented, with dropout, before
    /// the update that it takes part in.
    TrainError,
    /// Top-1 error over the validation images after an epoch, 0..=1.
    ValError,
    /// Mean loss over the training images of an epoch, under the same conditions as the training error.
    TrainLoss,
}

impl Metric {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::TrainError, Self::ValError, Self::TrainLoss];

    /// The name on command lines and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TrainError => "train_error",
            Self::ValError => "val_error",
            Self::TrainLoss => "train_loss",
        }
    }

    /// Its value in an epoch.
    #[must_use]
    pub fn value(self, epoch: &Epoch) -> f64 {
        match self {
            Self::TrainError => epoch.train_top1,
            Self::ValError => epoch.val_top1,
            Self::TrainLoss => epoch.train_loss,
        }
    }

    /// Its value for a network that gives all K classes the same probability, as before the first update.
    #[must_use]
    pub fn at_chance(self, classes: usize) -> f64 {
        match self {
            Self::TrainError | Self::ValError => 1.0 - 1.0 / classes as f64,
            Self::TrainLoss => (classes as f64).ln(),
        }
    }

    /// Formats a value: `12.35 %`, or `0.5000` for a loss.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        match self {
            Self::TrainError | Self::ValError => {
                let text = format!("{:.2}", 100.0 * value);
                // A target of 0.25 is 25 %.
                format!("{} %", text.strip_suffix(".00").unwrap_or(&text))
            }
            Self::TrainLoss => format!("{value:.4}"),
        }
    }

    /// The name in text.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::TrainError => "training error",
            Self::ValError => "validation error",
            Self::TrainLoss => "training loss",
        }
    }
}

impl FromStr for Metric {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("metric", name, &Self::ALL, Self::name)
    }
}

/// Number of epochs after which `values`, one per epoch, fall to `target`, interpolated linearly between
/// epochs. The value before the first epoch is `start`, which must be above the target. `None` if they never
/// do.
#[must_use]
pub fn epochs_to(target: f64, start: f64, values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut before = start;
    for (epoch, value) in (0_u32..).zip(values) {
        if value <= target {
            return Some(f64::from(epoch) + (before - target) / (before - value));
        }
        before = value;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_a_target_is_interpolated_between_epochs() {
        assert_eq!(epochs_to(0.25, 0.9, [0.5, 0.3, 0.1, 0.05]), Some(2.25));
        assert_eq!(epochs_to(0.25, 0.75, [0.5, 0.25]), Some(2.0));
        assert_eq!(epochs_to(0.5, 1.0, [0.0]), Some(0.5));
        assert_eq!(epochs_to(0.25, 0.9, [0.5, f64::NAN, 0.3]), None);
    }

    #[test]
    fn values_are_formatted_without_trailing_zeros() {
        assert_eq!(Metric::TrainError.text(0.25), "25 %");
        assert_eq!(Metric::ValError.text(0.12345), "12.35 %");
        assert_eq!(Metric::TrainLoss.text(0.5), "0.5000");
    }
}
