//! Adam with decoupled weight decay, and LAMB, which gives each layer its own rate.
//!
//! m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², u = m/(1 − β₁ᵗ) / (√v/√(1 − β₂ᵗ) + e) with t = 1 in the
//! first update. AdamW, as in PyTorch: w ← w·(1 − ε·λ) − ε·u (Loshchilov and Hutter 2019). LAMB:
//! w ← w − ε·‖w‖/‖u + λ·w‖·(u + λ·w) (You et al. 2020, algorithm 2); parameters without decay take plain
//! steps, as in timm.

use fovea_graph::{Builder, Result, Tensor};

use super::nesterov::descend;
use super::trust::{norm, trust_ratio, trust_ratio_of};
use super::{NewState, Operands, Optimizer, ParameterGroup, Update};

/// The running means that both share.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moments {
    betas: [f64; 2],
    epsilon: f64,
}

impl Moments {
    const SLOTS: [&str; 2] = ["mean", "square_mean"];

    /// 1 − β₁ᵗ and √(1 − β₂ᵗ) of the update.
    fn corrections(&self, update: &Update) -> [f64; 2] {
        let t = update.step as f64 + 1.0;
        let [first, second] = self.betas.map(|beta| 1.0 - beta.powf(t));
        [first, second.sqrt()]
    }

    /// The new means.
    fn emit(&self, g: &mut Builder, means: [Tensor; 2], gradient: Tensor) -> Result<[Tensor; 2]> {
        let [m, v] = means;
        let change = g.sub(gradient, m)?;
        let change = g.scale(change, 1.0 - self.betas[0])?;
        let m = g.add(m, change)?;
        let kept = g.scale(v, self.betas[1])?;
        let square = g.mul(gradient, gradient)?;
        let square = g.scale(square, 1.0 - self.betas[1])?;
        Ok([m, g.add(kept, square)?])
    }

    /// √v over its correction, plus e.
    fn divisor(&self, g: &mut Builder, v: Tensor, correction: Tensor) -> Result<Tensor> {
        let root = g.sqrt(v)?;
        let root = g.div(root, correction)?;
        let epsilon = g.scalar(g.element(v), self.epsilon);
        g.add(root, epsilon)
    }

    /// Updates the means of one weight; gives m and the divisor.
    fn step(&self, m: &mut f32, v: &mut f32, g: f64, correction: f64) -> [f64; 2] {
        let mean = f64::from(*m) + (1.0 - self.betas[0]) * (g - f64::from(*m));
        let square = self.betas[1] * f64::from(*v) + (1.0 - self.betas[1]) * g * g;
        (*m, *v) = (mean as f32, square as f32);
        [mean, square.sqrt() / correction + self.epsilon]
    }
}

/// Adam with decoupled weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    moments: Moments,
}

impl AdamW {
    /// With the decays β₁ and β₂ of the running means, and `epsilon` added to divisors.
    #[must_use]
    pub fn new(betas: [f64; 2], epsilon: f64) -> Self {
        Self { moments: Moments { betas, epsilon } }
    }
}

impl Optimizer for AdamW {
    fn slots(&self) -> &[&'static str] {
        &Moments::SLOTS
    }

    /// The factor of weights, the step over the first correction, the second correction.
    fn hyperparameters(&self) -> &[&'static str] {
        &["kept", "step_size", "square_correction"]
    }

    fn values(&self, group: &ParameterGroup, update: &Update) -> Vec<f64> {
        let rate = update.learning_rate * group.learning_rate_factor;
        let [first, second] = self.moments.corrections(update);
        vec![1.0 - rate * group.weight_decay, rate / first, second]
    }

    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState> {
        let Operands { weight: w, gradient, slots: &[m, v], hyperparameters: &[kept, step_size, second] } =
            operands
        else {
            unreachable!("as many operands as this optimizer declares")
        };
        let [m, v] = self.moments.emit(g, [m, v], gradient)?;
        let divisor = self.moments.divisor(g, v, second)?;
        let direction = g.div(m, divisor)?;
        let w = g.mul(w, kept)?;
        Ok(NewState { weight: descend(g, w, direction, step_size)?, slots: vec![m, v] })
    }

    fn step(&self, hyperparameters: &[f64], weights: &mut [f32], slots: &mut [Vec<f32>], gradients: &[f64]) {
        let (&[kept, step_size, second], [means, squares]) = (hyperparameters, slots) else {
            unreachable!("as many operands as this optimizer declares")
        };
        for (((w, m), v), g) in weights.iter_mut().zip(means).zip(squares).zip(gradients) {
            let [mean, divisor] = self.moments.step(m, v, *g, second);
            *w = (f64::from(*w) * kept - step_size * mean / divisor) as f32;
        }
    }
}

/// Adam with a rate for each layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lamb {
    moments: Moments,
}

impl Lamb {
    /// With the decays β₁ and β₂ of the running means, and `epsilon` added to divisors.
    #[must_use]
    pub fn new(betas: [f64; 2], epsilon: f64) -> Self {
        Self { moments: Moments { betas, epsilon } }
    }
}

impl Optimizer for Lamb {
    fn slots(&self) -> &[&'static str] {
        &Moments::SLOTS
    }

    fn hyperparameters(&self) -> &[&'static str] {
        &["learning_rate", "weight_decay", "mean_correction", "square_correction"]
    }

    fn values(&self, group: &ParameterGroup, update: &Update) -> Vec<f64> {
        let [first, second] = self.moments.corrections(update);
        vec![update.learning_rate * group.learning_rate_factor, group.weight_decay, first, second]
    }

    fn is_layerwise(&self) -> bool {
        true
    }

    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState> {
        let Operands { weight: w, gradient, slots: &[m, v], hyperparameters: &[rate, decay, first, second] } =
            operands
        else {
            unreachable!("as many operands as this optimizer declares")
        };
        let [m, v] = self.moments.emit(g, [m, v], gradient)?;
        let divisor = self.moments.divisor(g, v, second)?;
        let mean = g.div(m, first)?;
        let direction = g.div(mean, divisor)?;
        let shrink = g.mul(w, decay)?;
        let direction = g.add(direction, shrink)?;
        let (of_weights, of_direction) = (norm(g, w)?, norm(g, direction)?);
        let ratio = g.div(of_weights, of_direction)?;
        let ratio = trust_ratio(g, ratio, of_weights, of_direction, decay)?;
        let direction = g.mul(direction, ratio)?;
        Ok(NewState { weight: descend(g, w, direction, rate)?, slots: vec![m, v] })
    }

    fn step(&self, hyperparameters: &[f64], weights: &mut [f32], slots: &mut [Vec<f32>], gradients: &[f64]) {
        let (&[rate, decay, first, second], [means, squares]) = (hyperparameters, slots) else {
            unreachable!("as many operands as this optimizer declares")
        };
        let mut directions = Vec::with_capacity(weights.len());
        for (((w, m), v), g) in weights.iter().zip(means).zip(squares).zip(gradients) {
            let [mean, divisor] = self.moments.step(m, v, *g, second);
            directions.push(mean / first / divisor + decay * f64::from(*w));
        }
        let ratio = trust_ratio_of(weights, &directions, decay, |w, u| w / u);
        for (w, direction) in weights.iter_mut().zip(directions) {
            *w = (f64::from(*w) - rate * ratio * direction) as f32;
        }
    }
}
