//! The ratio of norms that gives a layer its own rate.

use fovea_graph::{Builder, Result, Tensor};

/// ‖x‖
pub(super) fn norm(g: &mut Builder, x: Tensor) -> Result<Tensor> {
    let squares = g.mul(x, x)?;
    let sum = g.sum(squares)?;
    g.sqrt(sum)
}

/// The scalar `ratio`; 1 where the norm of weights or step is 0, or nothing decays.
pub(super) fn trust_ratio(
    g: &mut Builder,
    ratio: Tensor,
    weights: Tensor,
    step: Tensor,
    decay: Tensor,
) -> Result<Tensor> {
    let element = g.element(ratio);
    let (zero, one) = (g.scalar(element, 0.0), g.scalar(element, 1.0));
    let (moves, has_weights) = (g.greater(step, zero)?, g.greater(weights, zero)?);
    let (both, decays) = (g.and(moves, has_weights)?, g.greater(decay, zero)?);
    let adapted = g.and(both, decays)?;
    g.select(adapted, ratio, one)
}

/// As [`trust_ratio`], with `ratio` a function of the two norms.
pub(super) fn trust_ratio_of(
    weights: &[f32],
    step: &[f64],
    decay: f64,
    ratio: impl FnOnce(f64, f64) -> f64,
) -> f64 {
    let weights = weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
    let step = step.iter().map(|s| s * s).sum::<f64>().sqrt();
    if weights > 0.0 && step > 0.0 && decay > 0.0 { ratio(weights, step) } else { 1.0 }
}
