//! The report on a loss that is not finite.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use fovea_pipeline::{UnknownName, summary};
use serde::{Deserialize, Serialize};

use crate::backend::ParameterExtremes;

/// The reaction to a batch whose loss is not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    /// Skip the batch and count it, as long as the weights are finite.
    Skip,
    /// End the run with a [`Divergence`].
    #[default]
    Stop,
}

impl OnNan {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Skip, Self::Stop];

    /// The name on command lines and in the settings of a run.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Stop => "stop",
        }
    }
}

impl fmt::Display for OnNan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OnNan {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("reaction to a loss that is not finite", name, &Self::ALL, Self::name)
    }
}

/// The state of a run when its loss or its weights were no longer finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Updates done before it.
    pub step: u64,
    /// The epoch, counted from 1.
    pub epoch: u32,
    /// The mean loss of the batch; `None` if the weights are not finite.
    pub loss: Option<f64>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Largest weight and gradient of each parameter.
    pub extremes: Vec<ParameterExtremes>,
    /// The last good checkpoint.
    pub checkpoint: Option<PathBuf>,
}

impl Divergence {
    /// Whether no further update can help.
    pub(super) fn weights_are_lost(&self) -> bool {
        self.extremes.iter().any(|parameter| !parameter.weight.is_finite())
    }

    /// One line for each parameter, with a heading: name, largest weight, largest gradient.
    #[must_use]
    pub fn table(&self) -> String {
        let width = self.extremes.iter().map(|parameter| parameter.name.len()).max().unwrap_or(0).max(9);
        let mut text =
            format!("{:width$}  {:>14}  {:>16}\n", "parameter", "largest weight", "largest gradient");
        for ParameterExtremes { name, weight, gradient } in &self.extremes {
            text.push_str(&format!("{name:width$}  {weight:>14.4e}  {gradient:>16.4e}\n"));
        }
        text
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, epoch, loss, learning_rate, .. } = self;
        match loss {
            Some(loss) => write!(f, "the loss is {loss}")?,
            None => f.write_str("weights or optimizer state are not finite")?,
        }
        let learning_rate = summary::rate(*learning_rate);
        write!(f, " after step {step} (epoch {epoch}, learning rate {learning_rate}); ")?;
        match &self.checkpoint {
            Some(path) => write!(f, "the last good checkpoint is {}; ", path.display())?,
            None => write!(f, "there is no checkpoint yet; ")?,
        }
        write!(f, "try a lower optimizer.learning_rate, or --on-nan skip if single batches are to blame")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_parameter() {
        let extremes = vec![
            ParameterExtremes { name: "conv1.weight".into(), weight: 0.5, gradient: f32::INFINITY },
            ParameterExtremes { name: "fc8.bias".into(), weight: f32::NAN, gradient: 2.0 },
        ];
        let divergence = Divergence {
            step: 7,
            epoch: 1,
            loss: Some(f64::NAN),
            learning_rate: 0.1,
            extremes,
            checkpoint: None,
        };
        let table = divergence.table();
        let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["conv1.weight", "5.0000e-1", "inf"]);
        assert_eq!(words[2], ["fc8.bias", "NaN", "2.0000e0"]);
        assert!(divergence.weights_are_lost());
        assert!(divergence.to_string().contains("step 7") && divergence.to_string().contains("rate 0.1"));
    }
}
