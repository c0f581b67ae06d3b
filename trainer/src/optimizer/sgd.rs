//! Stochastic gradient descent with momentum: v ← μ·v − ε·(λ·w + g), w ← w + v (Krizhevsky et al. 2012,
//! section 5).

use fovea_graph::{Builder, ParameterKind, Result, Tensor};

use super::{NewState, Operands, Optimizer, ParameterGroup, Update};
use crate::recipe::OptimizerConfig;

/// Stochastic gradient descent with momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Momentum μ.
    pub momentum: f64,
    /// Weight decay λ.
    pub weight_decay: f64,
    /// Learning rate ε of biases as a multiple of that of weights.
    pub bias_lr_mult: f64,
    /// Whether biases decay too.
    pub bias_decay: bool,
}

impl Sgd {
    /// The optimizer of a recipe.
    #[must_use]
    pub fn new(config: &OptimizerConfig) -> Self {
        let OptimizerConfig { momentum, weight_decay, bias_lr_mult, bias_decay, .. } = *config;
        Self { momentum, weight_decay, bias_lr_mult, bias_decay }
    }
}

impl Optimizer for Sgd {
    fn slots(&self) -> &'static [&'static str] {
        &["momentum"]
    }

    fn hyperparameters(&self) -> &'static [&'static str] {
        &["learning_rate", "momentum", "weight_decay"]
    }

    fn values(&self, group: &ParameterGroup, update: &Update) -> Vec<f64> {
        let decay = group.weight_decay.unwrap_or(self.weight_decay);
        let (rate, decay) = match group.kind {
            ParameterKind::Weight => (update.learning_rate, decay),
            ParameterKind::Bias => {
                (update.learning_rate * self.bias_lr_mult, if self.bias_decay { decay } else { 0.0 })
            }
        };
        vec![rate, self.momentum, decay]
    }

    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState<Tensor>> {
        let Operands { weight: w, gradient, slots: &[v], hyperparameters: &[rate, momentum, decay] } =
            operands
        else {
            unreachable!("as many operands as this optimizer declares")
        };
        let shrink = g.mul(w, decay)?;
        let slope = g.add(shrink, gradient)?;
        let step = g.mul(slope, rate)?;
        let kept = g.mul(v, momentum)?;
        let v = g.sub(kept, step)?;
        Ok(NewState { weight: g.add(w, v)?, slots: vec![v] })
    }

    fn step(&self, hyperparameters: &[f64], weight: f32, slots: &[f32], gradient: f64) -> NewState<f32> {
        let &[rate, momentum, decay] = hyperparameters else {
            unreachable!("as many hyperparameters as this optimizer declares")
        };
        let kept = momentum * f64::from(slots[0]);
        let v = (kept - rate * (decay * f64::from(weight) + gradient)) as f32;
        NewState { weight: weight + v, slots: vec![v] }
    }
}

#[cfg(test)]
mod tests {
    use fovea_runtime::testing::{self, Data};

    use super::*;
    use crate::names;
    use crate::optimizer::update_graph;

    const SGD: Sgd = Sgd { momentum: 0.5, weight_decay: 0.25, bias_lr_mult: 2.0, bias_decay: false };
    const UPDATE: Update = Update { learning_rate: 0.5, step: 0 };

    #[test]
    fn an_update_follows_the_formula_of_the_paper() {
        let scalar = |v: f32| Data::F32(vec![v]);
        let inputs: [(&str, &[usize], Data); 6] = [
            (names::WEIGHTS, &[2], Data::F32(vec![1.0, -2.0])),
            ("momentum_buffer", &[2], Data::F32(vec![0.5, 0.25])),
            (names::GRADIENTS, &[2], Data::F32(vec![4.0, 8.0])),
            ("learning_rate", &[], scalar(0.125)),
            ("momentum", &[], scalar(0.5)),
            ("weight_decay", &[], scalar(2.0)),
        ];
        let graph = update_graph(&SGD).unwrap();
        let new = testing::run(&mut testing::session(&graph.to_bytes()), &inputs);
        assert_eq!(new["new_momentum_buffer"], [0.25 - 0.25 - 0.5, 0.125 + 0.5 - 1.0]);
        assert_eq!(new[names::NEW_WEIGHTS], [0.5, -2.375]);
        let alone = SGD.step(&[0.125, 0.5, 2.0], -2.0, &[0.25], 8.0);
        assert_eq!(alone, NewState { weight: -2.375, slots: vec![0.125 + 0.5 - 1.0] });
    }

    #[test]
    fn biases_have_their_own_rate_and_decay_and_layers_may_have_a_decay() {
        use ParameterKind::{Bias, Weight};
        let values =
            |sgd: Sgd, kind, weight_decay| sgd.values(&ParameterGroup { kind, weight_decay }, &UPDATE);
        assert_eq!(values(SGD, Weight, None), [0.5, 0.5, 0.25]);
        assert_eq!(values(SGD, Weight, Some(3.0)), [0.5, 0.5, 3.0]);
        assert_eq!(values(SGD, Bias, Some(3.0)), [1.0, 0.5, 0.0]);
        let decaying = Sgd { bias_decay: true, ..SGD };
        assert_eq!(values(decaying, Bias, None), [1.0, 0.5, 0.25]);
        assert_eq!(values(decaying, Bias, Some(3.0)), [1.0, 0.5, 3.0]);
    }
}
