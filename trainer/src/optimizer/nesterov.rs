//! Nesterov's momentum as in PyTorch: d = g + λ·w, b ← μ·b + d, w ← w − ε·(d + μ·b) (Sutskever et al. 2013).

use fovea_graph::{Builder, Result, Tensor};

use super::{NewState, Operands, Optimizer};

/// Stochastic gradient descent with Nesterov's momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nesterov {
    /// Momentum μ.
    pub momentum: f64,
}

impl Optimizer for Nesterov {
    fn slots(&self) -> &[&'static str] {
        &["momentum"]
    }

    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState> {
        let Operands { weight: w, gradient, slots: &[b], hyperparameters: &[rate, decay] } = operands else {
            unreachable!("as many operands as this optimizer declares")
        };
        let slope = decayed(g, w, gradient, decay)?;
        let b = momentum(g, b, slope, self.momentum)?;
        let ahead = g.scale(b, self.momentum)?;
        let direction = g.add(slope, ahead)?;
        Ok(NewState { weight: descend(g, w, direction, rate)?, slots: vec![b] })
    }

    fn step(&self, hyperparameters: &[f64], weights: &mut [f32], slots: &mut [Vec<f32>], gradients: &[f64]) {
        let (&[rate, decay], [buffer]) = (hyperparameters, slots) else {
            unreachable!("as many operands as this optimizer declares")
        };
        for ((w, b), g) in weights.iter_mut().zip(buffer).zip(gradients) {
            let slope = g + decay * f64::from(*w);
            let new = self.momentum * f64::from(*b) + slope;
            *b = new as f32;
            *w = (f64::from(*w) - rate * (slope + self.momentum * new)) as f32;
        }
    }
}

/// g + λ·w
pub(super) fn decayed(g: &mut Builder, w: Tensor, gradient: Tensor, decay: Tensor) -> Result<Tensor> {
    let shrink = g.mul(w, decay)?;
    g.add(gradient, shrink)
}

/// μ·b + d
pub(super) fn momentum(g: &mut Builder, b: Tensor, direction: Tensor, factor: f64) -> Result<Tensor> {
    let kept = g.scale(b, factor)?;
    g.add(kept, direction)
}

/// w − ε·d
pub(super) fn descend(g: &mut Builder, w: Tensor, direction: Tensor, rate: Tensor) -> Result<Tensor> {
    let step = g.mul(direction, rate)?;
    g.sub(w, step)
}
