//! Normalisation of each image by itself: LayerNormalization, InstanceNormalization, GroupNormalization,
//! MeanVarianceNormalization, RMSNormalization. f16 inputs are computed in f32.

use crate::builder::{Builder, Upstream};
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation, given};
use crate::model::DOMAIN;
use crate::node::{Attribute, Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, Operator};
use crate::types::ElementType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&LAYER_NORMALIZATION, Some(import_layer_norm)),
    (&INSTANCE_NORMALIZATION, Some(import_instance_norm)),
    (&GROUP_NORMALIZATION, Some(import_group_norm)),
    (&MEAN_VARIANCE_NORMALIZATION, Some(import_mean_variance_norm)),
    (&RMS_NORMALIZATION, Some(import_rms_norm)),
    (&LAYER_NORM_GRADIENT, None),
];
static LAYER_NORMALIZATION: Operator = Operator::new("LayerNormalization", 17).on_cuda(FLOATS);
static INSTANCE_NORMALIZATION: Operator = Operator::decomposed("InstanceNormalization", 1);
static GROUP_NORMALIZATION: Operator = Operator::decomposed("GroupNormalization", 18);
static MEAN_VARIANCE_NORMALIZATION: Operator = Operator::decomposed("MeanVarianceNormalization", 9);
static RMS_NORMALIZATION: Operator = Operator::decomposed("RMSNormalization", 23);
static LAYER_NORM_GRADIENT: Operator = Operator::new("LayerNormGradient", 1).in_domain(DOMAIN);

/// The epsilon that ONNX's definition of MeanVarianceNormalization adds to the standard deviation.
const DEVIATION_EPSILON: f64 = 1e-9;

impl Builder {
    /// Normalises `x` over `axis` and all later ones to mean 0 and variance 1, times `scale`, plus `bias`,
    /// which broadcast to `x` (Ba et al., 2016).
    ///
    /// # Errors
    /// `x` is not floating-point or has no such axis, or a parameter does not broadcast.
    pub fn layer_norm(
        &mut self,
        x: Tensor,
        scale: Tensor,
        bias: Option<Tensor>,
        axis: usize,
        epsilon: f64,
    ) -> Result<Tensor> {
        if self.element(x) == ElementType::F16 {
            let x = self.cast(x, ElementType::F32)?;
            let scale = self.cast(scale, ElementType::F32)?;
            let bias = bias.map(|bias| self.cast(bias, ElementType::F32)).transpose()?;
            let y = self.layer_norm(x, scale, bias, axis, epsilon)?;
            return self.cast(y, ElementType::F16);
        }
        let rank = self.shape(x).len();
        self.floating(LAYER_NORMALIZATION.name, x)?;
        if axis >= rank {
            let reason = format!("axis {axis} must be an axis of the operand");
            return Err(self.mismatch(LAYER_NORMALIZATION.name, &[x], reason));
        }
        let whole = |g: &Self, parameter| g.shape(parameter) == &g.shape(x)[axis..];
        // The operator's statistics are f32 for every operand, and its parameters have the shape that is
        // normalised.
        let by_operator = self.element(x) == ElementType::F32
            && whole(self, scale)
            && bias.is_none_or(|bias| self.element(bias) == ElementType::F32 && whole(self, bias));
        if by_operator {
            return self.emit_layer_norm(x, scale, bias, axis, epsilon);
        }
        let axes: Vec<usize> = (axis..rank).collect();
        let normal = self.standardise(x, &axes, epsilon)?;
        let scaled = self.mul(normal, scale)?;
        match bias {
            Some(bias) => self.add(scaled, bias),
            None => Ok(scaled),
        }
    }

    fn emit_layer_norm(
        &mut self,
        x: Tensor,
        scale: Tensor,
        bias: Option<Tensor>,
        axis: usize,
        epsilon: f64,
    ) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let axes: Vec<usize> = (axis..ty.rank()).collect();
        let inputs: Vec<Tensor> = [x, scale].into_iter().chain(bias).collect();
        let (kept, _) = self.reduced_shapes(&LAYER_NORMALIZATION, x, &axes, true)?;
        let attributes = vec![int("axis", axis as i64), ("epsilon", Attribute::Float(epsilon as f32))];
        let types = vec![ty.clone(), ty.reshaped(kept.clone()), ty.reshaped(kept)];
        let outputs = self.emit_many(&LAYER_NORMALIZATION, &inputs, attributes, types);
        let (y, mean, inverse) = (outputs[0], outputs[1], outputs[2]);
        self.record(&inputs.clone(), &[y], move |g, up| {
            let dy = up.single();
            if g.lowering().has_own(&LAYER_NORM_GRADIENT) {
                let of_parameters = ty.reshaped(&ty.shape[axis..]);
                let types = vec![ty.clone(), of_parameters.clone(), of_parameters];
                let operands = [dy, x, scale, mean, inverse];
                let gradients = g.emit_many(&LAYER_NORM_GRADIENT, &operands, vec![], types);
                return Ok(gradients.into_iter().take(2 + bias.iter().len()).map(Some).collect());
            }
            let centred = g.sub(x, mean)?;
            let normal = g.mul(centred, inverse)?;
            let dx = g.when(up.wanted[0], |g| {
                let slope = g.mul(dy, scale)?;
                g.standardise_gradient(slope, normal, inverse, &axes)
            })?;
            let dscale = g.when(up.wanted[1], |g| {
                let product = g.mul(dy, normal)?;
                g.sum_to(product, scale)
            })?;
            let mut gradients = vec![dx, dscale];
            if let Some(bias) = bias {
                gradients.push(g.when(up.wanted[2], |g| g.sum_to(dy, bias))?);
            }
            Ok(gradients)
        });
        Ok(y)
    }

    /// (x − mean) / √(variance + `epsilon`) with the mean and the biased variance over `axes`.
    fn standardise(&mut self, x: Tensor, axes: &[usize], epsilon: f64) -> Result<Tensor> {
        let axes = axes.to_vec();
        let outputs = self.composite(&[x], |g| {
            let mean = g.reduce_mean(x, &axes, true)?;
            let centred = g.sub(x, mean)?;
            let square = g.mul(centred, centred)?;
            let variance = g.reduce_mean(square, &axes, true)?;
            let epsilon = g.scalar(g.element(x), epsilon);
            let shifted = g.add(variance, epsilon)?;
            let deviation = g.sqrt(shifted)?;
            let inverse = g.reciprocal(deviation)?;
            let normal = g.mul(centred, inverse)?;
            let rule = move |g: &mut Self, up: &Upstream| {
                Ok(vec![Some(g.standardise_gradient(up.single(), normal, inverse, &axes)?)])
            };
            Ok((vec![normal], rule))
        })?;
        Ok(outputs[0])
    }

    /// (dn − mean(dn) − n · mean(dn · n)) / σ with the gradient dn of normalised values n.
    fn standardise_gradient(
        &mut self,
        gradient: Tensor,
        normal: Tensor,
        inverse: Tensor,
        axes: &[usize],
    ) -> Result<Tensor> {
        let shift = self.reduce_mean(gradient, axes, true)?;
        let product = self.mul(gradient, normal)?;
        let slope = self.reduce_mean(product, axes, true)?;
        let along = self.mul(normal, slope)?;
        let centred = self.sub(gradient, shift)?;
        let rest = self.sub(centred, along)?;
        self.mul(rest, inverse)
    }

    /// Normalises each of `groups` groups of channels of `x` `[N,C,…]` to mean 0 and variance 1, times
    /// `scale`, plus `bias`, `[C]` each (Wu & He, 2018).
    ///
    /// # Errors
    /// `x` is not floating-point `[N,C,…]`, `groups` does not divide C, or a parameter is not `[C]`.
    pub fn group_norm(
        &mut self,
        x: Tensor,
        scale: Tensor,
        bias: Tensor,
        groups: usize,
        epsilon: f64,
    ) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let fits = ty.rank() >= 2
            && ty.element.is_float()
            && groups > 0
            && ty.shape[1].is_multiple_of(groups)
            && [scale, bias].iter().all(|&p| self.shape(p) == [ty.shape[1]]);
        if !fits {
            let reason =
                format!("{groups} groups must divide the channels, and parameters have one value each");
            return Err(self.mismatch(GROUP_NORMALIZATION.name, &[x, scale, bias], reason));
        }
        let per_channel: Vec<usize> = (0..ty.rank()).map(|a| if a == 1 { ty.shape[1] } else { 1 }).collect();
        self.in_f32(x, |g, x| {
            let element = g.element(x);
            let rows = g.reshape(x, &[ty.shape[0], groups, ty.len() / (ty.shape[0] * groups).max(1)])?;
            let normal = g.standardise(rows, &[2], epsilon)?;
            let normal = g.reshape(normal, &ty.shape)?;
            let [scale, bias] = [scale, bias].map(|parameter| {
                let parameter = g.cast(parameter, element)?;
                g.reshape(parameter, &per_channel)
            });
            let scaled = g.mul(normal, scale?)?;
            g.add(scaled, bias?)
        })
    }

    /// x / √(mean(x²) + `epsilon`) over `axis` and all later ones, times `scale` (Zhang & Sennrich, 2019).
    ///
    /// # Errors
    /// `x` is not floating-point or has no such axis, or `scale` does not broadcast.
    pub fn rms_norm(&mut self, x: Tensor, scale: Tensor, axis: usize, epsilon: f64) -> Result<Tensor> {
        let axes: Vec<usize> = (axis..self.shape(x).len()).collect();
        let normal = self.in_f32(x, |g, x| {
            let square = g.mul(x, x)?;
            let mean = g.reduce_mean(square, &axes, true)?;
            let epsilon = g.scalar(g.element(x), epsilon);
            let shifted = g.add(mean, epsilon)?;
            let root = g.sqrt(shifted)?;
            g.div(x, root)
        })?;
        self.mul(normal, scale)
    }

    /// (x − mean) / (σ + 10⁻⁹) over `axes`.
    ///
    /// # Errors
    /// `x` is not floating-point, or an axis is out of range or repeated.
    pub fn mean_variance_norm(&mut self, x: Tensor, axes: &[usize]) -> Result<Tensor> {
        self.in_f32(x, |g, x| {
            let mean = g.reduce_mean(x, axes, true)?;
            let centred = g.sub(x, mean)?;
            let square = g.mul(centred, centred)?;
            let variance = g.reduce_mean(square, axes, true)?;
            let deviation = g.sqrt(variance)?;
            let epsilon = g.scalar(g.element(x), DEVIATION_EPSILON);
            let deviation = g.add(deviation, epsilon)?;
            g.div(centred, deviation)
        })
    }
}

fn import_layer_norm<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let scale = file.scale(node, 1)?;
    let bias = if given(node, 2) { Some(file.bias(node, 2)?) } else { None };
    let axis = file.axis(x, attributes.int("axis", -1));
    file.g.layer_norm(x, scale, bias, axis, attributes.float("epsilon", 1e-5))
}

fn import_instance_norm<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let (scale, bias) = (file.scale(node, 1)?, file.bias(node, 2)?);
    let channels = file.g.shape(x).get(1).copied().unwrap_or(0);
    file.g.group_norm(x, scale, bias, channels, NodeAttributes(node).float("epsilon", 1e-5))
}

/// Before operator set 21 a parameter has a value for each group.
fn import_group_norm<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let groups = usize::try_from(attributes.int("num_groups", 0)).unwrap_or(0);
    let channels = file.g.shape(x).get(1).copied().unwrap_or(0);
    let mut parameters = [file.scale(node, 1)?, file.bias(node, 2)?];
    if file.opset() < 21 && groups > 0 {
        for parameter in &mut parameters {
            let column = file.g.reshape(*parameter, &[groups, 1])?;
            let each = file.g.expand(column, &[groups, channels / groups])?;
            *parameter = file.g.reshape(each, &[channels])?;
        }
    }
    let [scale, bias] = parameters;
    file.g.group_norm(x, scale, bias, groups, attributes.float("epsilon", 1e-5))
}

fn import_mean_variance_norm<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let axes = NodeAttributes(node).ints("axes").unwrap_or_else(|| vec![0, 2, 3]);
    let axes: Vec<usize> = axes.into_iter().map(|axis| file.axis(x, axis)).collect();
    file.g.mean_variance_norm(x, &axes)
}

fn import_rms_norm<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let scale = file.operand(node, 1)?;
    let axis = file.axis(x, attributes.int("axis", -1));
    file.g.rms_norm(x, scale, axis, attributes.float("epsilon", 1e-5))
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, TensorType};

    #[test]
    fn gradients_of_normalisations_agree_with_finite_differences() {
        for (axis, shape) in [(2, vec![4]), (1, vec![3, 4])] {
            let operands = |case: Case| case.normal([2, 3, 4]).normal(shape.clone()).normal(shape.clone());
            check_gradients(operands(Case::f32("LayerNormalization")), |g, x| {
                g.layer_norm(x[0], x[1], Some(x[2]), axis, 1e-2)
            });
            check_gradients(operands(Case::f64("LayerNormalization, composed")), |g, x| {
                g.layer_norm(x[0], x[1], Some(x[2]), axis, 1e-2)
            });
            check_gradients(Case::f32("LayerNormalization").normal([2, 3, 4]).normal(shape), |g, x| {
                g.layer_norm(x[0], x[1], None, axis, 1e-2)
            });
        }
        check_gradients(Case::f32("LayerNormalization").normal([2, 3, 4]).normal([1]), |g, x| {
            g.layer_norm(x[0], x[1], None, 2, 1e-2)
        });
        for groups in [1, 2, 4] {
            let case = Case::f64("GroupNormalization").normal([2, 4, 2, 3]).normal([4]).normal([4]);
            check_gradients(case, |g, x| g.group_norm(x[0], x[1], x[2], groups, 1e-5));
        }
        check_gradients(Case::f64("RMSNormalization").normal([2, 3, 4]).normal([4]), |g, x| {
            g.rms_norm(x[0], x[1], 2, 1e-5)
        });
        check_gradients(Case::f64("MeanVarianceNormalization").normal([2, 3, 2, 2]), |g, x| {
            g.mean_variance_norm(x[0], &[0, 2, 3])
        });
    }

    #[test]
    fn the_own_gradient_of_layer_normalisation_agrees_with_finite_differences() {
        let own = Lowering { own_operators: true, ..Lowering::training(Target::Cpu) };
        for (axis, shape) in [(2, vec![4]), (1, vec![3, 4]), (0, vec![2, 3, 4])] {
            let case = || {
                let case = Case::f32("LayerNormalization, own").normal([2, 3, 4]);
                case.normal(shape.clone()).normal(shape.clone()).lowering(own)
            };
            check_gradients(case(), |g, x| g.layer_norm(x[0], x[1], Some(x[2]), axis, 1e-2));
            let mut g = Builder::new("test", own);
            let inputs = [[2, 3, 4].to_vec(), shape.clone(), shape.clone()];
            let [x, scale, bias] =
                [0, 1, 2].map(|at| g.input(&format!("x{at}"), TensorType::f32(inputs[at].clone())).unwrap());
            let y = g.layer_norm(x, scale, Some(bias), axis, 1e-2).unwrap();
            let weighted = g.mul(y, x).unwrap();
            let loss = g.sum(weighted).unwrap();
            for (at, gradient) in g.grad(loss, &[x, scale, bias]).unwrap().into_iter().enumerate() {
                g.output(&format!("d{at}"), gradient).unwrap();
            }
            let graph = g.finish();
            let count = |name| graph.nodes().filter(|(operator, ..)| operator.name == name).count();
            assert_eq!(["LayerNormGradient", "Sub", "ReduceMean", "SumRows"].map(count), [1, 0, 0, 0]);
        }
        let case = Case::f32("LayerNormalization, own").normal([2, 3, 4]).normal([4]).lowering(own);
        check_gradients(case, |g, x| g.layer_norm(x[0], x[1], None, 2, 1e-2));
    }

    #[test]
    fn both_forms_of_layer_normalisation_agree_with_the_formula() {
        let x = vec![1.0, 3.0, 5.0, 7.0];
        let deviation = (5.0f64 + 0.25).sqrt();
        let expected: Vec<f64> = x.iter().map(|v| (v - 4.0) / deviation * 2.0 + 0.5).collect();
        for case in [Case::f32("LayerNormalization"), Case::f64("LayerNormalization")] {
            let case = case.values([1, 4], x.clone()).values([4], vec![2.0; 4]).values([4], vec![0.5; 4]);
            let given = evaluate(case, |g, x| g.layer_norm(x[0], x[1], Some(x[2]), 1, 0.25));
            for (a, b) in given.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-6, "{given:?} against {expected:?}");
            }
        }
    }

    #[test]
    fn groups_that_do_not_divide_the_channels_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 4, 3])).unwrap();
        let p = g.input("p", TensorType::f32([4])).unwrap();
        assert!(g.group_norm(x, p, p, 3, 1e-5).is_err());
        assert!(g.group_norm(x, p, p, 0, 1e-5).is_err());
        assert!(g.layer_norm(x, p, None, 3, 1e-5).is_err());
        assert!(g.layer_norm(x, p, None, 2, 1e-5).is_err());
    }
}
