//! Reverse-mode differentiation over the builder's tape.

use super::builder::{Builder, Result, TapeEntry, Upstream};
use super::error::GraphError;
use super::node::Tensor;

impl Builder {
    /// Appends the gradients of the scalar `loss` with respect to each of `parameters`, in order.
    ///
    /// A parameter on which the loss does not depend gets a gradient of zeros. The appended nodes carry no rules of
    /// their own: gradients are of first order.
    ///
    /// # Errors
    /// `loss` is no floating-point scalar, or depends on a parameter through an operator without gradient rule.
    pub fn grad(&mut self, loss: Tensor, parameters: &[Tensor]) -> Result<Vec<Tensor>> {
        let ty = self.ty(loss).clone();
        if !ty.element.is_float() || ty.len() != 1 {
            return Err(GraphError::LossNotScalar { tensor: self.name(loss).to_owned(), given: ty });
        }
        let varying = self.values_between(parameters, loss)?;
        let entries: Vec<TapeEntry> = self.tape().to_vec();
        self.unrecorded(|g| {
            g.scope("gradient", |g| {
                let mut gradients: Vec<Option<Tensor>> = vec![None; g.value_count()];
                let one = g.scalar(ty.element, 1.0);
                gradients[loss.index()] = Some(g.reshape(one, &ty.shape)?);
                for entry in entries.iter().rev() {
                    g.pull_back(entry, &varying, &mut gradients)?;
                }
                parameters
                    .iter()
                    .map(|&p| match gradients[p.index()] {
                        Some(gradient) => Ok(gradient),
                        None => g.zeros(g.ty(p).clone()),
                    })
                    .collect()
            })
        })
    }

    /// Carries the gradients of an entry's outputs over to its inputs, adding to what has already arrived there.
    fn pull_back(
        &mut self,
        entry: &TapeEntry,
        varying: &[bool],
        gradients: &mut [Option<Tensor>],
    ) -> Result<()> {
        let outputs: Vec<Option<Tensor>> = entry.outputs.iter().map(|t| gradients[t.index()]).collect();
        let wanted: Vec<bool> = entry.inputs.iter().map(|t| varying[t.index()]).collect();
        if outputs.iter().all(Option::is_none) || !wanted.contains(&true) {
            return Ok(());
        }
        self.scope(&entry.scope, |g| {
            let contributions = (entry.rule)(g, &Upstream { outputs, wanted: wanted.clone() })?;
            for ((&input, contribution), wanted) in entry.inputs.iter().zip(contributions).zip(wanted) {
                let Some(contribution) = contribution.filter(|_| wanted) else { continue };
                debug_assert_eq!(g.ty(contribution), g.ty(input), "gradient of {}", g.name(input));
                gradients[input.index()] = Some(match gradients[input.index()] {
                    Some(sum) => g.add(sum, contribution)?,
                    None => contribution,
                });
            }
            Ok(())
        })
    }

    /// Marks the values that depend on a parameter; every differentiable path from there to `loss` must have rules.
    fn values_between(&self, parameters: &[Tensor], loss: Tensor) -> Result<Vec<bool>> {
        let mut varying = vec![false; self.value_count()];
        for p in parameters {
            varying[p.index()] = true;
        }
        for node in self.nodes() {
            if node.inputs.iter().any(|t| varying[t.index()]) {
                for output in &node.outputs {
                    // Comparisons, casts to integers and indices are piecewise constant.
                    varying[output.index()] |= self.element(*output).is_float();
                }
            }
        }
        let mut reaches_loss = vec![false; self.value_count()];
        reaches_loss[loss.index()] = true;
        for node in self.nodes().iter().rev() {
            if !node.outputs.iter().any(|t| reaches_loss[t.index()] && varying[t.index()]) {
                continue;
            }
            if !node.covered && node.inputs.iter().any(|t| varying[t.index()]) {
                return Err(GraphError::NoGradient { node: node.name.clone(), operator: node.operator });
            }
            for input in &node.inputs {
                reaches_loss[input.index()] = true;
            }
        }
        Ok(varying)
    }
}
