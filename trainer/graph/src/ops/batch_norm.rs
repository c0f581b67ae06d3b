//! Batch normalisation (Ioffe & Szegedy, 2015, algorithm 1).
//!
//! For f16 inputs both forms compute in f32, with f32 parameters and statistics.
//!
//! The training form is composed of plain operators, because ONNX's training mode has no CUDA kernel in stock
//! builds.

use crate::builder::{Builder, Upstream};
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::model::DOMAIN;
use crate::node::{Attribute, Tensor};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, Operator};
use crate::types::ElementType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&BATCH_NORMALIZATION, Some(import_batch_norm)),
    (&BATCH_NORM_TRAINING, None),
    (&BATCH_NORM_GRADIENT, None),
];
static BATCH_NORMALIZATION: Operator = Operator::new("BatchNormalization", 1).on_cuda(FLOATS);
static BATCH_NORM_TRAINING: Operator = Operator::new("BatchNormTraining", 1).in_domain(DOMAIN);
static BATCH_NORM_GRADIENT: Operator = Operator::new("BatchNormGradient", 1).in_domain(DOMAIN);

/// Results of batch normalisation in training.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// The normalised activations `[N,C,…]`.
    pub output: Tensor,
    /// Mean over all axes but the channels, `[C]`.
    pub mean: Tensor,
    /// Biased variance over all axes but the channels, `[C]`.
    pub variance: Tensor,
}

impl Builder {
    /// Normalises `x` `[N,C,…]` by the statistics of the batch, then scales and shifts per channel.
    ///
    /// # Errors
    /// `x` has fewer than two axes, or `scale` or `bias` is not `[C]`.
    pub fn batch_norm_training(
        &mut self,
        x: Tensor,
        scale: Tensor,
        bias: Tensor,
        epsilon: f64,
    ) -> Result<BatchNorm> {
        if self.element(x) == ElementType::F16 {
            let x = self.cast(x, ElementType::F32)?;
            let norm = self.batch_norm_training(x, scale, bias, epsilon)?;
            return Ok(BatchNorm { output: self.cast(norm.output, ElementType::F16)?, ..norm });
        }
        let channels = self.channel_parameters(x, &[scale, bias])?;
        let ty = self.ty(x).clone();
        let axes: Vec<usize> = (0..ty.rank()).filter(|&a| a != 1).collect();
        let count = (ty.len() / channels) as f64;
        let per_channel: Vec<usize> = (0..ty.rank()).map(|a| if a == 1 { channels } else { 1 }).collect();
        if self.lowering().has_own(&BATCH_NORM_TRAINING) && self.element(x) == ElementType::F32 {
            return Ok(self.own_batch_norm([x, scale, bias], epsilon));
        }
        let outputs = self.composite(&[x, scale, bias], |g| {
            let mean = g.reduce_mean(x, &axes, true)?;
            let centred = g.sub(x, mean)?;
            let square = g.mul(centred, centred)?;
            let variance = g.reduce_mean(square, &axes, true)?;
            let mean = g.reshape(mean, &[channels])?;
            let of_channels = g.reshape(variance, &[channels])?;
            // The evaluation form is one pass over memory; without a mean, nothing cancels.
            let zeros = g.floats(ty.reshaped([channels]), &vec![0.0; channels]);
            let output = g.batch_norm(centred, scale, bias, zeros, of_channels, epsilon as f32)?;
            let outputs = vec![output, mean, of_channels];
            // With the centred input c, its deviation σ and M values per channel (ibid., section 3):
            // dx = scale / σ · (dy − Σdy / M − c · Σ(dy·c) / (σ²·M)).
            let rule = move |g: &mut Self, up: &Upstream| {
                let mut dx: Option<Tensor> = None;
                let (mut dscale, mut dbias) = (None, None);
                if let Some(dy) = up.outputs[0] {
                    let product = g.mul(dy, centred)?;
                    let along = g.reduce_sum(product, &axes, true)?;
                    let total = g.reduce_sum(dy, &axes, true)?;
                    let deviation = g.deviation(variance, epsilon)?;
                    let along = g.div(along, deviation)?;
                    dscale = Some(g.reshape(along, &[channels])?);
                    dbias = Some(g.reshape(total, &[channels])?);
                    dx = g.when(up.wanted[0], |g| {
                        let (shift, slope) = (g.scale(total, 1.0 / count)?, g.scale(along, 1.0 / count)?);
                        let slope = g.div(slope, deviation)?;
                        let along = g.mul(centred, slope)?;
                        let level = g.sub(dy, shift)?;
                        let rest = g.sub(level, along)?;
                        let gain = g.reshape(scale, &per_channel)?;
                        let factor = g.div(gain, deviation)?;
                        g.mul(rest, factor)
                    })?;
                }
                if up.wanted[0] {
                    dx = g.with_gradients_of_statistics(dx, up, &ty.shape, |_| Ok(centred))?;
                }
                Ok(vec![dx, dscale, dbias])
            };
            Ok((outputs, rule))
        })?;
        Ok(BatchNorm { output: outputs[0], mean: outputs[1], variance: outputs[2] })
    }

    /// `dx` plus the gradients of an input of `shape` that come from the mean and the variance of the batch.
    fn with_gradients_of_statistics(
        &mut self,
        mut dx: Option<Tensor>,
        up: &Upstream,
        shape: &[usize],
        centred: impl FnOnce(&mut Self) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        let count = (shape.iter().product::<usize>() / shape[1]) as f64;
        let per_channel: Vec<usize> =
            shape.iter().enumerate().map(|(a, &length)| if a == 1 { length } else { 1 }).collect();
        let mut parts = Vec::new();
        if let Some(gradient) = up.outputs[1] {
            let gradient = self.reshape(gradient, &per_channel)?;
            let part = self.scale(gradient, 1.0 / count)?;
            parts.push(self.expand(part, shape)?);
        }
        if let Some(gradient) = up.outputs[2] {
            let gradient = self.reshape(gradient, &per_channel)?;
            let part = self.scale(gradient, 2.0 / count)?;
            let centred = centred(self)?;
            parts.push(self.mul(part, centred)?);
        }
        for part in parts {
            dx = Some(match dx {
                Some(sum) => self.add(sum, part)?,
                None => part,
            });
        }
        Ok(dx)
    }

    /// [`batch_norm_training`](Self::batch_norm_training) by operators of the domain [`DOMAIN`].
    fn own_batch_norm(&mut self, [x, scale, bias]: [Tensor; 3], epsilon: f64) -> BatchNorm {
        let (ty, of_channels) = (self.ty(x).clone(), self.ty(scale).clone());
        let attributes = vec![("epsilon", Attribute::Float(epsilon as f32))];
        let types = vec![ty.clone(), of_channels.clone(), of_channels.clone()];
        let outputs = self.emit_many(&BATCH_NORM_TRAINING, &[x, scale, bias], attributes.clone(), types);
        let [output, mean, variance] = [0, 1, 2].map(|at| outputs[at]);
        self.record(&[x, scale, bias], &outputs, move |g, up| {
            let (mut dx, mut dscale, mut dbias) = (None, None, None);
            if let Some(dy) = up.outputs[0] {
                let types = vec![ty.clone(), of_channels.clone(), of_channels.clone()];
                let operands = [dy, x, scale, mean, variance];
                let gradients = g.emit_many(&BATCH_NORM_GRADIENT, &operands, attributes.clone(), types);
                (dx, dscale, dbias) = (Some(gradients[0]), Some(gradients[1]), Some(gradients[2]));
            }
            if up.wanted[0] {
                dx = g.with_gradients_of_statistics(dx, up, &ty.shape, |g| {
                    let mut per_channel = vec![1; ty.rank()];
                    per_channel[1] = ty.shape[1];
                    let mean = g.reshape(mean, &per_channel)?;
                    g.sub(x, mean)
                })?;
            }
            Ok(vec![dx, dscale, dbias])
        });
        BatchNorm { output, mean, variance }
    }

    /// As [`batch_norm_training`](Self::batch_norm_training), with the `running` mean and variance `[C]`
    /// moved by those of the batch; `momentum` is the share that stays. As in PyTorch, the running variance
    /// is that of a sample (divided by M − 1).
    ///
    /// # Errors
    /// As [`batch_norm_training`](Self::batch_norm_training).
    pub fn batch_norm_moving(
        &mut self,
        x: Tensor,
        scale: Tensor,
        bias: Tensor,
        running: [Tensor; 2],
        epsilon: f64,
        momentum: f64,
    ) -> Result<BatchNorm> {
        let norm = self.batch_norm_training(x, scale, bias, epsilon)?;
        let shape = self.shape(x);
        let count = (shape.iter().product::<usize>() / shape[1]) as f64;
        let sample = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
        self.unrecorded(|g| {
            let mut moved = |old, new, factor| {
                let (old, new) = (g.scale(old, momentum)?, g.scale(new, (1.0 - momentum) * factor)?);
                g.add(old, new)
            };
            let mean = moved(running[0], norm.mean, 1.0)?;
            Ok(BatchNorm { output: norm.output, mean, variance: moved(running[1], norm.variance, sample)? })
        })
    }

    /// √(variance + epsilon).
    fn deviation(&mut self, variance: Tensor, epsilon: f64) -> Result<Tensor> {
        let epsilon = self.scalar(self.element(variance), epsilon);
        let shifted = self.add(variance, epsilon)?;
        self.sqrt(shifted)
    }

    /// Normalises `x` `[N,C,…]` by given statistics: the form for evaluation, for frozen statistics, and for
    /// those that a network computes.
    ///
    /// # Errors
    /// `x` has fewer than two axes, or a parameter is not `[C]`.
    pub fn batch_norm(
        &mut self,
        x: Tensor,
        scale: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        epsilon: f32,
    ) -> Result<Tensor> {
        self.in_f32(x, |g, x| {
            g.channel_parameters(x, &[scale, bias, mean, variance])?;
            let attributes = vec![("epsilon", Attribute::Float(epsilon))];
            let ty = g.ty(x).clone();
            let operands = [x, scale, bias, mean, variance];
            let y = g.emit(&BATCH_NORMALIZATION, &operands, attributes, ty.clone());
            let axes: Vec<usize> = (0..ty.rank()).filter(|&a| a != 1).collect();
            let per_channel: Vec<usize> =
                (0..ty.rank()).map(|a| if a == 1 { ty.shape[1] } else { 1 }).collect();
            g.record(&operands, &[y], move |g, up| {
                let dy = up.single();
                let deviation = g.deviation(variance, epsilon.into())?;
                let factor = g.div(scale, deviation)?;
                let dx = g.when(up.wanted[0], |g| {
                    let factor = g.reshape(factor, &per_channel)?;
                    g.mul(dy, factor)
                })?;
                let dscale = g.when(up.wanted[1] || up.wanted[4], |g| {
                    let mean = g.reshape(mean, &per_channel)?;
                    let centred = g.sub(x, mean)?;
                    let product = g.mul(dy, centred)?;
                    let along = g.reduce_sum(product, &axes, false)?;
                    g.div(along, deviation)
                })?;
                let wants_total = up.wanted[2] || up.wanted[3];
                let dbias = g.when(wants_total, |g| g.reduce_sum(dy, &axes, false))?;
                let dmean = match dbias {
                    Some(total) if up.wanted[3] => {
                        let along = g.mul(total, factor)?;
                        Some(g.scale(along, -1.0)?)
                    }
                    _ => None,
                };
                let dvariance = match dscale {
                    Some(along) if up.wanted[4] => {
                        let slope = g.mul(along, factor)?;
                        let slope = g.div(slope, deviation)?;
                        Some(g.scale(slope, -0.5)?)
                    }
                    _ => None,
                };
                Ok(vec![dx, dscale, dbias, dmean, dvariance])
            });
            Ok(y)
        })
    }

    /// The number of channels of `x`; fails unless each of `parameters` has as many values.
    fn channel_parameters(&self, x: Tensor, parameters: &[Tensor]) -> Result<usize> {
        let ty = self.ty(x);
        let fits = ty.rank() >= 2
            && ty.element.is_float()
            && parameters.iter().all(|&p| *self.ty(p) == ty.reshaped([ty.shape[1]]));
        if !fits {
            let operands: Vec<Tensor> = [x].into_iter().chain(parameters.iter().copied()).collect();
            return Err(self.mismatch(
                BATCH_NORMALIZATION.name,
                &operands,
                "parameters must have one value per channel",
            ));
        }
        Ok(ty.shape[1])
    }
}

/// In training, normalises by the statistics of the batch and moves the running ones, unless they are frozen;
/// a file's momentum is the share of the old ones. Where there are none, as in PyTorch's standardised weights
/// and with `track_running_stats=False`, the network normalises by the same statistics in both modes.
fn import_batch_norm<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let (epsilon, momentum) = (attributes.float("epsilon", 1e-5), attributes.float("momentum", 0.9));
    let (x, scale, bias) = (file.operand(node, 0)?, file.scale(node, 1)?, file.bias(node, 2)?);
    let (scale, bias) = (file.g.cast(scale, ElementType::F32)?, file.g.cast(bias, ElementType::F32)?);
    if attributes.int("training_mode", 0) != 0 && !file.is_given_by_file(node, 3) {
        return Ok(file.g.batch_norm_training(x, scale, bias, epsilon)?.output);
    }
    if file.constant(node, 3).is_none() {
        let (mean, variance) = (file.operand(node, 3)?, file.operand(node, 4)?);
        let (mean, variance) =
            (file.g.cast(mean, ElementType::F32)?, file.g.cast(variance, ElementType::F32)?);
        return file.g.batch_norm(x, scale, bias, mean, variance, epsilon as f32);
    }
    let (mean, variance) = (file.buffer(node, 3)?, file.buffer(node, 4)?);
    if !file.is_training() || file.has_frozen_statistics() {
        // What does not move is its own value after the batch.
        file.set_buffer(mean, mean);
        file.set_buffer(variance, variance);
        return file.g.batch_norm(x, scale, bias, mean, variance, epsilon as f32);
    }
    let norm = file.g.batch_norm_moving(x, scale, bias, [mean, variance], epsilon, momentum)?;
    file.set_buffer(mean, norm.mean);
    file.set_buffer(variance, norm.variance);
    Ok(norm.output)
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, Tensor};

    #[test]
    fn gradients_of_batch_normalisation_agree_with_finite_differences() {
        let case = |name: &str| Case::f64(name).normal([4, 3, 2, 2]).normal([3]).normal([3]);
        check_gradients(case("BatchNormalization"), |g, x| {
            Ok(g.batch_norm_training(x[0], x[1], x[2], 1e-5)?.output)
        });
        let all = |g: &mut Builder, x: &[Tensor]| {
            let norm = g.batch_norm_training(x[0], x[1], x[2], 1e-5)?;
            let both = g.concat(&[norm.mean, norm.variance], 0)?;
            let flat = g.reshape(norm.output, &[48])?;
            g.concat(&[both, flat], 0)
        };
        check_gradients(case("BatchNormalization, mean and variance"), all);

        let own = Lowering { own_operators: true, ..Lowering::training(Target::Cpu) };
        let case = |lowering| {
            let case = Case::f32("BatchNormTraining").normal([4, 3, 2, 2]).normal([3]).normal([3]);
            case.lowering(lowering)
        };
        check_gradients(case(own), all);
        let expected = evaluate(case(Lowering::training(Target::Cpu)), all);
        for (found, expected) in evaluate(case(own), all).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
    }

    #[test]
    fn gradients_with_frozen_statistics_agree_with_finite_differences() {
        let case = Case::f64("BatchNormalization, frozen").normal([4, 3, 2, 2]).normal([3]).normal([3]);
        check_gradients(case, |g, x| {
            let ty = g.ty(x[1]).clone();
            let mean = g.floats(ty.clone(), &[0.5, -1.0, 2.0]);
            let variance = g.floats(ty, &[0.25, 4.0, 1.5]);
            g.batch_norm(x[0], x[1], x[2], mean, variance, 1e-3)
        });
    }

    #[test]
    fn gradients_of_computed_statistics_agree_with_finite_differences() {
        let case = Case::f64("BatchNormalization, computed").normal([4, 3, 2, 2]).normal([3]).normal([3]);
        check_gradients(case.normal([3]).positive([3]), |g, x| {
            g.batch_norm(x[0], x[1], x[2], x[3], x[4], 1e-3)
        });
    }

    #[test]
    fn both_forms_agree_on_the_statistics_of_the_batch() {
        let case = || Case::f64("BatchNormalization").normal([4, 3, 5]).normal([3]).normal([3]);
        let training = evaluate(case(), |g, x| Ok(g.batch_norm_training(x[0], x[1], x[2], 1e-5)?.output));
        let evaluation = evaluate(case(), |g, x| {
            let norm = g.batch_norm_training(x[0], x[1], x[2], 1e-5)?;
            g.batch_norm(x[0], x[1], x[2], norm.mean, norm.variance, 1e-5)
        });
        for (a, b) in training.iter().zip(&evaluation) {
            assert!((a - b).abs() < 1e-7, "{a} against {b}");
        }
    }
}
