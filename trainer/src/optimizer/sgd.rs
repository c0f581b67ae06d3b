//! Stochastic gradient descent with momentum: v ← μ·v − ε·(λ·w + g), w ← w + v (Krizhevsky et al. 2012,
//! section 5).

use fovea_graph::{Builder, Result};

use super::{NewState, Operands, Optimizer, ParameterGroup, Update};

/// Stochastic gradient descent with momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Momentum μ.
    pub momentum: f64,
}

impl Optimizer for Sgd {
    fn slots(&self) -> &[&'static str] {
        &["momentum"]
    }

    fn hyperparameters(&self) -> &[&'static str] {
        &["learning_rate", "momentum", "weight_decay"]
    }

    fn values(&self, group: &ParameterGroup, update: &Update) -> Vec<f64> {
        vec![update.learning_rate * group.learning_rate_factor, self.momentum, group.weight_decay]
    }

    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState> {
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

    fn step(&self, hyperparameters: &[f64], weights: &mut [f32], slots: &mut [Vec<f32>], gradients: &[f64]) {
        let (&[rate, momentum, decay], [velocity]) = (hyperparameters, slots) else {
            unreachable!("as many operands as this optimizer declares")
        };
        for ((w, v), g) in weights.iter_mut().zip(velocity).zip(gradients) {
            let kept = momentum * f64::from(*v);
            *v = (kept - rate * (decay * f64::from(*w) + g)) as f32;
            *w += *v;
        }
    }
}

#[cfg(test)]
mod tests {
    use fovea_runtime::testing::{self, Data};

    use super::*;
    use crate::names;
    use crate::optimizer::update_graph;

    const SGD: Sgd = Sgd { momentum: 0.5 };

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
        let (mut weights, mut slots) = ([-2.0], [vec![0.25]]);
        SGD.step(&[0.125, 0.5, 2.0], &mut weights, &mut slots, &[8.0]);
        assert_eq!((weights, slots), ([-2.375], [vec![0.125 + 0.5 - 1.0]]));
    }

    #[test]
    fn the_group_scales_the_rate_and_sets_the_decay() {
        let group = ParameterGroup { learning_rate_factor: 4.0, weight_decay: 0.25 };
        let values = SGD.values(&group, &Update::new(0.5, 7));
        assert_eq!(values, [2.0, 0.5, 0.25]);
    }
}
