//! LARS, as in timm: d = (g + λ·w)·c·‖w‖/(‖g‖ + λ·‖w‖ + e), b ← μ·b + d, w ← w − ε·b (You et al. 2017,
//! algorithm 1). Parameters without decay take plain steps.

use fovea_graph::{Builder, Result};

use super::nesterov::{decayed, descend, momentum};
use super::trust::{norm, trust_ratio, trust_ratio_of};
use super::{NewState, Operands, Optimizer};

/// SGD with a rate for each layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lars {
    /// Momentum μ.
    pub momentum: f64,
    /// c, the rate of a layer as a multiple of ‖w‖ / ‖g‖.
    pub trust_coefficient: f64,
    /// e, added to the divisor.
    pub epsilon: f64,
}

impl Optimizer for Lars {
    fn slots(&self) -> &[&'static str] {
        &["momentum"]
    }

    fn is_layerwise(&self) -> bool {
        true
    }

    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState> {
        let Operands { weight: w, gradient, slots: &[b], hyperparameters: &[rate, decay] } = operands else {
            unreachable!("as many operands as this optimizer declares")
        };
        let (of_weights, of_gradient) = (norm(g, w)?, norm(g, gradient)?);
        let shrink = g.mul(of_weights, decay)?;
        let divisor = g.add(of_gradient, shrink)?;
        let epsilon = g.scalar(g.element(divisor), self.epsilon);
        let divisor = g.add(divisor, epsilon)?;
        let ratio = g.scale(of_weights, self.trust_coefficient)?;
        let ratio = g.div(ratio, divisor)?;
        let ratio = trust_ratio(g, ratio, of_weights, of_gradient, decay)?;
        let slope = decayed(g, w, gradient, decay)?;
        let direction = g.mul(slope, ratio)?;
        let b = momentum(g, b, direction, self.momentum)?;
        Ok(NewState { weight: descend(g, w, b, rate)?, slots: vec![b] })
    }

    fn step(&self, hyperparameters: &[f64], weights: &mut [f32], slots: &mut [Vec<f32>], gradients: &[f64]) {
        let (&[rate, decay], [buffer]) = (hyperparameters, slots) else {
            unreachable!("as many operands as this optimizer declares")
        };
        let ratio = trust_ratio_of(weights, gradients, decay, |w, g| {
            self.trust_coefficient * w / (g + decay * w + self.epsilon)
        });
        for ((w, b), g) in weights.iter_mut().zip(buffer).zip(gradients) {
            let new = self.momentum * f64::from(*b) + (g + decay * f64::from(*w)) * ratio;
            *b = new as f32;
            *w = (f64::from(*w) - rate * new) as f32;
        }
    }
}
