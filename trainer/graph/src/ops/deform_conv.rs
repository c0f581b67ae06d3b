//! Convolution whose kernels are moved and weighted by what a network computes: DeformConv.

use super::sampling::{GridSample, Outside, Sampling};
use super::windows::{Windows, reach};
use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::limits::CONSTANT;
use crate::import::translation::{Family, Translation, given};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;
use crate::types::ElementType::{F16, F32};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&DEFORM_CONV, Some(import_deform_conv))];
static DEFORM_CONV: Operator = Operator::decomposed("DeformConv", 19);

/// Between four pixels in proportion, and 0 outside, as Dai et al. (2017) sample.
const SAMPLE: GridSample =
    GridSample { sampling: Sampling::Linear, outside: Outside::Zeros, align_corners: false };

/// The geometry of a deformable convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeformConv {
    pub windows: Windows,
    /// Groups of channels of the operand that have kernels of their own.
    pub groups: usize,
    /// Groups of channels of the operand that have offsets of their own.
    pub offset_groups: usize,
}

impl Builder {
    /// The convolution of `x` `[N,C,…]` with `w` `[M,C/groups,…]` over D axes, where each of the T weights of
    /// a kernel takes the value at its pixel moved by `offset` `[N,offset_groups·T·D,…]`, times `mask`
    /// `[N,offset_groups·T,…]`: `[N,M,…]` with the axes of the offsets.
    ///
    /// # Errors
    /// Operands are not of one floating-point type, or shapes do not fit.
    pub(crate) fn deform_conv(
        &mut self,
        [x, w, offset]: [Tensor; 3],
        mask: Option<Tensor>,
        conv: &DeformConv,
    ) -> Result<Tensor> {
        self.floating(DEFORM_CONV.name, x)?;
        let (shape, weights) = (self.shape(x).to_vec(), self.shape(w).to_vec());
        let (axes, groups) = (conv.windows.strides.len(), conv.groups);
        let fits = axes > 0
            && [shape.len(), weights.len()] == [axes + 2; 2]
            && groups > 0
            && conv.offset_groups > 0
            && shape[1] == weights[1] * groups
            && shape[1].is_multiple_of(conv.offset_groups)
            && weights[0].is_multiple_of(groups);
        let places = if fits { places_of(&shape[2..], &weights[2..], &conv.windows) } else { None };
        let Some(places) = places else {
            let reason = "channels must be in equal groups, and kernels as wide as a group and not too large";
            return Err(self.mismatch(DEFORM_CONV.name, &[x, w, offset], reason));
        };
        let (taps, count): (usize, usize) = (weights[2..].iter().product(), places.iter().product());
        let of_places = |channels| [&[shape[0], conv.offset_groups * channels], &places[..]].concat();
        for (operand, channels) in [(Some(offset), taps * axes), (mask, taps)] {
            if let Some(operand) = operand.filter(|&operand| *self.shape(operand) != of_places(channels)) {
                let reason = format!("offsets or masks must be {:?}", of_places(channels));
                return Err(self.mismatch(DEFORM_CONV.name, &[x, w, operand], reason));
            }
        }
        // Places are too coarse in half precision.
        let narrow = self.element(x) == F16;
        let wide = |g: &mut Self, tensor| if narrow { g.cast(tensor, F32) } else { Ok(tensor) };
        let (x, w, offset) = (wide(self, x)?, wide(self, w)?, wide(self, offset)?);

        let images = shape[0] * conv.offset_groups;
        let offset = self.reshape(offset, &[images, taps, axes, count])?;
        let mut pixels = Vec::with_capacity(axes);
        for (axis, moved) in self.split_evenly(offset, 2, axes)?.into_iter().enumerate() {
            let moved = self.reshape(moved, &[images, taps * count, 1])?;
            let fixed = fixed_pixels(axis, &weights[2..], &places, &conv.windows);
            let ty = self.ty(moved).reshaped(vec![taps * count, 1]);
            let fixed = self.floats(ty, &fixed);
            pixels.push(self.add(moved, fixed)?);
        }
        let width = shape[1] / conv.offset_groups;
        let x = self.reshape(x, &[&[images, width], &shape[2..]].concat())?;
        let mut values = self.sampled(x, &pixels, SAMPLE)?;
        if let Some(mask) = mask {
            let mask = wide(self, mask)?;
            let mask = self.reshape(mask, &[images, taps * count, 1])?;
            values = self.mul(values, mask)?;
        }
        let values = self.reshape(values, &[images, taps, count, width])?;
        let values = self.transpose(values, &[0, 3, 1, 2])?;
        let values = self.reshape(values, &[shape[0], groups, weights[1] * taps, count])?;
        let w = self.reshape(w, &[groups, weights[0] / groups, weights[1] * taps])?;
        let y = self.matmul(w, values)?;
        let y = self.reshape(y, &[&[shape[0], weights[0]], &places[..]].concat())?;
        if narrow { self.cast(y, F16) } else { Ok(y) }
    }
}

/// Places of kernels along each axis; `None` if none fits, or their pixels are too many for constants.
fn places_of(lengths: &[usize], kernel: &[usize], windows: &Windows) -> Option<Vec<usize>> {
    let place = |a: usize| {
        let room = windows.before[a] + lengths[a] + windows.after[a];
        Some(room.checked_sub(reach(kernel[a], windows.dilations[a]))? / windows.strides[a] + 1)
    };
    let places: Vec<usize> = (0..lengths.len()).map(place).collect::<Option<_>>()?;
    let pixels = places.iter().chain(kernel).fold(1usize, |pixels, &n| pixels.saturating_mul(n));
    (pixels <= CONSTANT).then_some(places)
}

/// The pixel along an axis of each weight of a kernel at each place, in this order, before it is moved.
fn fixed_pixels(axis: usize, kernel: &[usize], places: &[usize], windows: &Windows) -> Vec<f64> {
    let (weights, count): (usize, usize) = (kernel.iter().product(), places.iter().product());
    let along =
        |lengths: &[usize], at: usize| at / lengths[axis + 1..].iter().product::<usize>() % lengths[axis];
    let mut pixels = Vec::with_capacity(weights * count);
    for weight in 0..weights {
        let step = along(kernel, weight) * windows.dilations[axis];
        for place in 0..count {
            let start = along(places, place) * windows.strides[axis];
            pixels.push((start + step) as f64 - windows.before[axis] as f64);
        }
    }
    pixels
}

fn import_deform_conv<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let (w, offset) = (file.weight(node, 1)?, file.operand(node, 2)?);
    let lengths = file.g.shape(x).get(2..).unwrap_or_default().to_vec();
    let kernel = file.g.shape(w).get(2..).unwrap_or_default().to_vec();
    let number = |name| usize::try_from(attributes.int(name, 1)).unwrap_or(0);
    let conv = DeformConv {
        windows: Windows::of_node(file, node, &lengths, &kernel)?,
        groups: number("group"),
        offset_groups: number("offset_group"),
    };
    let mask = if given(node, 4) { Some(file.operand(node, 4)?) } else { None };
    let y = file.g.deform_conv([x, w, offset], mask, &conv)?;
    if !given(node, 3) {
        return Ok(y);
    }
    let bias = file.bias(node, 3)?;
    let around: Vec<usize> = (1..=lengths.len()).collect();
    let bias = file.g.unsqueeze(bias, &around)?;
    file.g.add(y, bias)
}

#[cfg(test)]
mod tests {
    use super::{DeformConv, Windows};
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::ops::Conv;
    use crate::{Builder, Lowering, Target, TensorType};

    fn conv(groups: usize, offset_groups: usize) -> DeformConv {
        let windows =
            Windows { strides: vec![2, 1], before: vec![1, 0], after: vec![0, 1], dilations: vec![1, 2] };
        DeformConv { windows, groups, offset_groups }
    }

    #[test]
    fn gradients_of_deformable_convolutions_agree_with_finite_differences() {
        // Offsets that are no whole pixels, so that no step of the differences passes one.
        let offsets =
            |count: usize| (0..count).map(|at| (at % 7) as f64 - 3.2 + 0.09 * (at % 5) as f64).collect();
        for (groups, offset_groups) in [(1, 1), (2, 1), (1, 2), (2, 4)] {
            let case = Case::f64(&format!("DeformConv {groups} {offset_groups}"))
                .normal([2, 4, 4, 5])
                .normal([2, 4 / groups, 2, 2])
                .values([2, offset_groups * 8, 2, 4], offsets(2 * offset_groups * 8 * 8))
                .normal([2, offset_groups * 4, 2, 4]);
            check_gradients(case, |g, x| {
                g.deform_conv([x[0], x[1], x[2]], Some(x[3]), &conv(groups, offset_groups))
            });
        }
    }

    #[test]
    fn kernels_that_are_not_moved_are_those_of_a_convolution() {
        let case = || Case::f32("DeformConv").normal([1, 4, 5, 6]).normal([2, 2, 3, 3]);
        let expected = evaluate(case(), |g, x| g.conv(x[0], x[1], None, Conv::new(1, 1).groups(2)));
        let windows =
            Windows { strides: vec![1; 2], before: vec![1; 2], after: vec![1; 2], dilations: vec![1; 2] };
        let still = case().values([1, 18, 5, 6], vec![0.0; 540]);
        let y = evaluate(still, |g, x| {
            g.deform_conv(
                [x[0], x[1], x[2]],
                None,
                &DeformConv { windows: windows.clone(), groups: 2, offset_groups: 1 },
            )
        });
        assert_eq!(y.len(), expected.len());
        assert!(y.iter().zip(&expected).all(|(y, e)| (y - e).abs() < 1e-4), "{y:?} against {expected:?}");
    }

    #[test]
    fn offsets_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 4, 4, 5])).unwrap();
        let w = g.input("w", TensorType::f32([2, 4, 2, 2])).unwrap();
        let offset = g.input("offset", TensorType::f32([1, 8, 2, 4])).unwrap();
        assert!(g.deform_conv([x, w, offset], None, &conv(1, 1)).is_ok());
        assert!(g.deform_conv([x, w, offset], None, &conv(1, 2)).is_err());
        let flat = g.input("flat", TensorType::f32([1, 4])).unwrap();
        let none = || vec![];
        let windows = Windows { strides: none(), before: none(), after: none(), dilations: none() };
        let pointless = DeformConv { windows, groups: 1, offset_groups: 1 };
        assert!(g.deform_conv([flat, flat, flat], None, &pointless).is_err());
        assert!(g.deform_conv([x, w, offset], None, &conv(2, 1)).is_err());
        assert!(g.deform_conv([x, w, offset], Some(offset), &conv(1, 1)).is_err());
    }
}
