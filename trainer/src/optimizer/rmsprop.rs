//! RMSprop, as in PyTorch: d = g + λ·w, s ← α·s + (1 − α)·d², b ← μ·b + d/(√s + e), w ← w − ε·b (Tieleman and
//! Hinton 2012).

use fovea_graph::{Builder, Result};

use super::nesterov::{decayed, descend, momentum};
use super::{NewState, Operands, Optimizer};

/// Steps over the root of a running mean of squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// Momentum μ.
    pub momentum: f64,
    /// Decay α of the running mean.
    pub alpha: f64,
    /// e, added to the divisor.
    pub epsilon: f64,
}

impl Optimizer for RmsProp {
    fn slots(&self) -> &[&'static str] {
        &["square_mean", "momentum"]
    }

    fn emit(&self, g: &mut Builder, operands: Operands<'_>) -> Result<NewState> {
        let Operands { weight: w, gradient, slots: &[s, b], hyperparameters: &[rate, decay] } = operands
        else {
            unreachable!("as many operands as this optimizer declares")
        };
        let slope = decayed(g, w, gradient, decay)?;
        let kept = g.scale(s, self.alpha)?;
        let square = g.mul(slope, slope)?;
        let square = g.scale(square, 1.0 - self.alpha)?;
        let s = g.add(kept, square)?;
        let root = g.sqrt(s)?;
        let epsilon = g.scalar(g.element(s), self.epsilon);
        let divisor = g.add(root, epsilon)?;
        let direction = g.div(slope, divisor)?;
        let b = momentum(g, b, direction, self.momentum)?;
        Ok(NewState { weight: descend(g, w, b, rate)?, slots: vec![s, b] })
    }

    fn step(&self, hyperparameters: &[f64], weights: &mut [f32], slots: &mut [Vec<f32>], gradients: &[f64]) {
        let (&[rate, decay], [squares, buffer]) = (hyperparameters, slots) else {
            unreachable!("as many operands as this optimizer declares")
        };
        for (((w, s), b), g) in weights.iter_mut().zip(squares).zip(buffer).zip(gradients) {
            let slope = g + decay * f64::from(*w);
            let square = self.alpha * f64::from(*s) + (1.0 - self.alpha) * slope * slope;
            let new = self.momentum * f64::from(*b) + slope / (square.sqrt() + self.epsilon);
            (*s, *b) = (square as f32, new as f32);
            *w = (f64::from(*w) - rate * new) as f32;
        }
    }
}
