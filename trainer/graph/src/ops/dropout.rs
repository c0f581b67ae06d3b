//! Dropout with masks that are inputs of the graph.
//!
//! ONNX's random operators cannot jump to a step, and their values differ between providers; a Boolean input
//! that the host draws by seed and step lets a run resume exactly.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::translation::{Family, Translation};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;
use crate::types::ElementType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&DROPOUT, Some(import_dropout))];
static DROPOUT: Operator = Operator::new("Dropout", 1);

/// Where activations are scaled to account for dropped units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropoutScaling {
    /// Training only masks; evaluation multiplies by the fraction of units kept (Hinton et al. 2012).
    #[default]
    AtEvaluation,
    /// Training divides by the fraction of units kept ("inverted" dropout); evaluation does nothing.
    InTraining,
}

impl Builder {
    /// Dropout in training: `x` where `mask` is true, else 0.
    ///
    /// # Errors
    /// `mask` is not Boolean or does not have the shape of `x`, or `keep` is not in (0, 1].
    pub fn dropout(&mut self, x: Tensor, mask: Tensor, keep: f64, scaling: DropoutScaling) -> Result<Tensor> {
        if self.ty(mask) != &self.ty(x).with_element(ElementType::Bool) {
            return Err(self.mismatch(
                "dropout",
                &[x, mask],
                "the mask must be Boolean with the operand's shape",
            ));
        }
        self.keep_in_range(x, keep)?;
        let zero = self.scalar(self.element(x), 0.0);
        let kept = self.select(mask, x, zero)?;
        match scaling {
            DropoutScaling::AtEvaluation => Ok(kept),
            DropoutScaling::InTraining => self.scale(kept, 1.0 / keep),
        }
    }

    /// Dropout in evaluation: scales so that the expectation equals that of training.
    ///
    /// # Errors
    /// `keep` is not in (0, 1].
    pub fn dropout_expectation(&mut self, x: Tensor, keep: f64, scaling: DropoutScaling) -> Result<Tensor> {
        self.keep_in_range(x, keep)?;
        match scaling {
            DropoutScaling::AtEvaluation => self.scale(x, keep),
            DropoutScaling::InTraining => Ok(x),
        }
    }

    fn keep_in_range(&self, x: Tensor, keep: f64) -> Result<()> {
        if keep > 0.0 && keep <= 1.0 {
            return Ok(());
        }
        Err(self.mismatch(
            "dropout",
            &[x],
            format!("the fraction of units kept must be in (0, 1], given {keep}"),
        ))
    }
}

fn import_dropout<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let keep = 1.0 - file.scalar(node, 1, "ratio", 0.5)?;
    if keep == 1.0 {
        return Ok(x);
    }
    match file.mask(node, x, keep)? {
        Some(mask) => file.g.dropout(x, mask, keep, DropoutScaling::InTraining),
        None => file.g.dropout_expectation(x, keep, DropoutScaling::InTraining),
    }
}

#[cfg(test)]
mod tests {
    use super::DropoutScaling::{AtEvaluation, InTraining};
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, ElementType, Result, Tensor};

    /// A mask that keeps every second unit.
    fn alternating(g: &mut Builder, x: Tensor) -> Tensor {
        let ty = g.ty(x).with_element(ElementType::Bool);
        let bytes = (0..ty.len()).map(|i| (i % 2 == 0).into()).collect();
        g.constant(ty, bytes)
    }

    #[test]
    fn gradients_of_dropout_agree_with_finite_differences() {
        for scaling in [AtEvaluation, InTraining] {
            check_gradients(Case::f64("dropout").normal([3, 5]), |g, x| {
                let mask = alternating(g, x[0]);
                g.dropout(x[0], mask, 0.5, scaling)
            });
        }
    }

    #[test]
    fn either_training_or_evaluation_scales() {
        let ones = || Case::f64("dropout").values([4], vec![1.0; 4]);
        let train = |scaling| {
            evaluate(ones(), |g: &mut Builder, x: &[Tensor]| -> Result<Tensor> {
                let mask = alternating(g, x[0]);
                g.dropout(x[0], mask, 0.25, scaling)
            })
        };
        let test = |scaling| {
            evaluate(ones(), |g, x| {
                let y = g.dropout_expectation(x[0], 0.25, scaling)?;
                g.identity(y)
            })
        };
        assert_eq!(train(AtEvaluation), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(train(InTraining), [4.0, 0.0, 4.0, 0.0]);
        assert_eq!(test(AtEvaluation), [0.25; 4]);
        assert_eq!(test(InTraining), [1.0; 4]);
    }
}
