//! Reverse-mode differentiation over the builder's tape.

use super::builder::{Builder, TapeEntry, Upstream};
use super::error::{GraphError, Result};
use super::node::Tensor;

impl Builder {
    /// Appends the gradients of the scalar `loss` with respect to each of `parameters`, in order.
    ///
    /// A parameter on which the loss does not depend gets a gradient of zeros. The appended nodes have no
    /// gradient rules themselves: gradients are of first order.
    ///
    /// # Errors
    /// `loss` is not a floating-point scalar, or depends on a parameter through an operator without a
    /// gradient rule.
    pub fn grad(&mut self, loss: Tensor, parameters: &[Tensor]) -> Result<Vec<Tensor>> {
        let ty = self.ty(loss).clone();
        if !ty.element.is_float() || ty.len() != 1 {
            return Err(GraphError::LossNotScalar { tensor: self.name(loss).to_owned(), given: ty });
        }
        let varying = self.values_between(parameters, &[loss])?;
        self.gradients(|g| {
            let one = g.scalar(ty.element, 1.0);
            let one = g.reshape(one, &ty.shape)?;
            let gradients = g.pull_back_all(&[(loss, one)], &varying, parameters)?;
            let zeros = |g: &mut Self, p: Tensor| g.zeros(g.ty(p).clone());
            parameters
                .iter()
                .zip(gradients)
                .map(|(&p, gradient)| gradient.map_or_else(|| zeros(g, p), Ok))
                .collect()
        })
    }

    /// Appends, for each of `wrt`, the sum of the products of `outputs`' seeds with the derivatives of these
    /// outputs: the gradient of Σ seed·output. Each of `outputs` is a value and its seed, of its type. `None`
    /// for a value on which no output depends.
    ///
    /// # Errors
    /// An output is not floating-point or has another type than its seed, or depends on one of `wrt` through
    /// an operator without a gradient rule.
    pub fn vector_jacobian_product(
        &mut self,
        outputs: &[(Tensor, Tensor)],
        wrt: &[Tensor],
    ) -> Result<Vec<Option<Tensor>>> {
        for &(output, seed) in outputs {
            if !self.element(output).is_float() || self.ty(output) != self.ty(seed) {
                let reason = "expected a floating-point value, and a seed of the same type";
                return Err(self.mismatch("vector_jacobian_product", &[output, seed], reason));
            }
        }
        let values: Vec<Tensor> = outputs.iter().map(|&(output, _)| output).collect();
        let varying = self.values_between(wrt, &values)?;
        self.gradients(|g| g.pull_back_all(outputs, &varying, wrt))
    }

    /// The gradients of `wrt`, given those of `outputs`.
    fn pull_back_all(
        &mut self,
        outputs: &[(Tensor, Tensor)],
        varying: &[bool],
        wrt: &[Tensor],
    ) -> Result<Vec<Option<Tensor>>> {
        let entries: Vec<TapeEntry> = self.tape().to_vec();
        let mut gradients: Vec<Option<Tensor>> = vec![None; self.value_count()];
        for &(output, seed) in outputs.iter().filter(|(output, _)| varying[output.index()]) {
            let sum = gradients[output.index()].map_or(Ok(seed), |other| self.add(other, seed))?;
            gradients[output.index()] = Some(sum);
        }
        for entry in entries.iter().rev() {
            self.pull_back(entry, varying, &mut gradients)?;
        }
        Ok(wrt.iter().map(|tensor| gradients[tensor.index()]).collect())
    }

    /// Propagates the gradients of an entry's outputs to its inputs, where they accumulate.
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
                    Some(sum) => g.add_gradients(sum, contribution)?,
                    None => contribution,
                });
            }
            Ok(())
        })
    }

    /// Marks the values that depend on a parameter; fails if a differentiable path from there to one of
    /// `losses` lacks a rule.
    fn values_between(&self, parameters: &[Tensor], losses: &[Tensor]) -> Result<Vec<bool>> {
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
        for loss in losses {
            reaches_loss[loss.index()] = true;
        }
        for node in self.nodes().iter().rev() {
            if !node.outputs.iter().any(|t| reaches_loss[t.index()] && varying[t.index()]) {
                continue;
            }
            if !node.covered && node.inputs.iter().any(|t| varying[t.index()]) {
                return Err(GraphError::NoGradient { node: node.name.clone(), operator: node.operator.name });
            }
            for input in &node.inputs {
                reaches_loss[input.index()] = true;
            }
        }
        Ok(varying)
    }
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::run_f64;
    use crate::{Builder, ElementType, GraphError, Lowering, Operator, Target, TensorType};

    fn builder() -> Builder {
        Builder::new("test", Lowering::training(Target::Cpu))
    }

    #[test]
    fn a_parameter_without_influence_has_a_gradient_of_zeros() {
        let mut g = builder();
        let ty = TensorType::new(ElementType::F64, [2]);
        let (x, unused) = (g.input("x", ty.clone()).unwrap(), g.input("unused", ty).unwrap());
        let loss = g.sum(x).unwrap();
        for (name, gradient) in ["dx", "dunused"].iter().zip(g.grad(loss, &[x, unused]).unwrap()) {
            g.output(name, gradient).unwrap();
        }
        let given = run_f64(&g.finish(), &[("x", &[1.0, 2.0]), ("unused", &[1.0, 2.0])]);
        assert_eq!(given["dx"], [1.0, 1.0]);
        assert_eq!(given["dunused"], [0.0, 0.0]);
    }

    #[test]
    fn what_gradients_have_in_common_is_computed_once() {
        let mut g = builder();
        let ty = TensorType::new(ElementType::F64, [2]);
        let [x, a, b] = ["x", "a", "b"].map(|name| g.input(name, ty.clone()).unwrap());
        let products = [a, b].map(|factor| g.mul(x, factor).unwrap()).map(|product| g.sum(product).unwrap());
        let loss = g.add(products[0], products[1]).unwrap();
        let gradients = g.grad(loss, &[a, b]).unwrap();
        assert_eq!(gradients[0], gradients[1]);
        for (name, gradient) in ["da", "db"].iter().zip(gradients) {
            g.output(name, gradient).unwrap();
        }
        // What comes after them is appended as it is.
        assert_ne!(g.mul(x, a).unwrap(), g.mul(x, a).unwrap());
        let given = run_f64(&g.finish(), &[("x", &[1.0, 2.0]), ("a", &[3.0, 4.0]), ("b", &[5.0, 6.0])]);
        assert_eq!((&given["da"][..], &given["db"][..]), (&[1.0, 2.0][..], &[1.0, 2.0][..]));
    }

    #[test]
    fn an_operator_without_a_rule_is_an_error_only_on_a_path_to_a_parameter() {
        let mut g = builder();
        let x = g.input("x", TensorType::f32([1, 2])).unwrap();
        let c = g.input("c", TensorType::f32([2])).unwrap();
        static OPAQUE: Operator = Operator::new("Opaque", 1);
        let normal = g.emit(&OPAQUE, &[x], vec![], TensorType::f32([1, 2]));
        let loss = g.sum(normal).unwrap();
        let error = g.grad(loss, &[x]).unwrap_err();
        assert_eq!(error, GraphError::NoGradient { node: "Opaque".to_owned(), operator: "Opaque" });
        let scaled = g.mul(normal, c).unwrap();
        let loss = g.sum(scaled).unwrap();
        let free = g.input("free", TensorType::f32([])).unwrap();
        let total = g.mul(loss, free).unwrap();
        assert!(g.grad(total, &[free]).is_ok());
    }

    #[test]
    fn a_loss_must_be_a_floating_point_scalar() {
        let mut g = builder();
        let x = g.input("x", TensorType::f32([2])).unwrap();
        let label = g.input("label", TensorType::new(ElementType::I64, [])).unwrap();
        assert!(matches!(g.grad(x, &[x]), Err(GraphError::LossNotScalar { .. })));
        assert!(matches!(g.grad(label, &[x]), Err(GraphError::LossNotScalar { .. })));
    }

    #[test]
    fn a_name_cannot_be_used_twice() {
        let mut g = builder();
        let x = g.input("x", TensorType::f32([2])).unwrap();
        assert!(matches!(g.input("x", TensorType::f32([2])), Err(GraphError::DuplicateName { .. })));
        assert!(matches!(g.output("x", x), Err(GraphError::DuplicateName { .. })));
    }
}
