//! Two-dimensional convolution and its gradient with respect to the data and the bias; imports of
//! convolutions over any number of axes.
//!
//! Letters: kernel k, stride s, padding p, dilation d, groups g; all spatial parameters are per axis.

use super::conv_nd::{CONV, CONV_TRANSPOSE, ConvNd};
use super::slicing::SLICE;
use super::windows::{AutoPad, Windows, list, reach};
use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation, given};
use crate::node::Tensor;
use crate::onnx::NodeProto;

/// The operators of this file and of `conv_nd.rs`, each with its import.
pub(super) const OPERATORS: Family =
    &[(&CONV, Some(import_conv)), (&CONV_TRANSPOSE, Some(import_conv_transpose))];

/// Geometry of a two-dimensional convolution; the kernel's size is in the shape of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Distance between kernel positions along H and W.
    pub strides: [usize; 2],
    /// Zeros before the first row and column.
    pub pads_before: [usize; 2],
    /// Zeros after the last row and column.
    pub pads_after: [usize; 2],
    /// Distance between kernel elements along H and W.
    pub dilations: [usize; 2],
    /// Number of groups into which channels are split.
    pub groups: usize,
}

impl Default for Conv {
    fn default() -> Self {
        Self::new(1, 0)
    }
}

impl Conv {
    /// The same stride and padding along both axes, one group, no dilation.
    #[must_use]
    pub fn new(stride: usize, padding: usize) -> Self {
        Self {
            strides: [stride; 2],
            pads_before: [padding; 2],
            pads_after: [padding; 2],
            dilations: [1; 2],
            groups: 1,
        }
    }

    /// The same geometry with `groups` groups.
    #[must_use]
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The same geometry with a dilation along both axes.
    #[must_use]
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilations: [dilation; 2], ..self }
    }

    /// Length of input along `axis` (0 or 1) that a kernel of `kernel` elements covers.
    fn reach(&self, axis: usize, kernel: usize) -> usize {
        reach(kernel, self.dilations[axis])
    }

    /// The same geometry for the functions of any number of axes.
    pub(super) fn nd(&self) -> ConvNd {
        let windows = Windows {
            strides: self.strides.to_vec(),
            before: self.pads_before.to_vec(),
            after: self.pads_after.to_vec(),
            dilations: self.dilations.to_vec(),
        };
        ConvNd { windows, groups: self.groups }
    }
}

impl Builder {
    /// Convolution of `x` `[N,C,H,W]` with `w` `[O,C/g,k,k]` plus `b` `[O]`: `[N,O,P,Q]`.
    ///
    /// # Errors
    /// Shapes, types or groups do not fit, or the kernel is larger than the padded input.
    pub fn conv(&mut self, x: Tensor, w: Tensor, b: Option<Tensor>, conv: Conv) -> Result<Tensor> {
        let operands: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
        let shape = self.conv_shape(&operands, &conv.nd())?;
        let w_shape = self.shape(w).to_vec();
        if (0..2).any(|a| conv.pads_before[a].max(conv.pads_after[a]) >= conv.reach(a, w_shape[2 + a])) {
            let x = self.pad_spatially(x, &conv.pads_before, &conv.pads_after)?;
            return self.conv(x, w, b, Conv { pads_before: [0; 2], pads_after: [0; 2], ..conv });
        }
        let lowering = self.lowering();
        let has_few_channels = conv.groups == 1 && w_shape[1] <= lowering.space_to_depth_channels;
        let overlaps = conv.dilations == [1, 1]
            && (0..2).any(|a| conv.strides[a] > 1 && w_shape[2 + a] > conv.strides[a]);
        if has_few_channels && overlaps {
            return self.conv_by_space_to_depth(x, w, b, conv, [shape[2], shape[3]]);
        }
        if (2..=lowering.groups_apart).contains(&conv.groups) {
            return self.conv_by_groups(x, w, b, conv);
        }
        let is_own = self.is_own_conv(self.element(x), conv, &w_shape);
        if !is_own && self.is_of_small_planes(w, conv, &shape[2..]) {
            return self.conv_by_product(x, w, b, conv, [shape[2], shape[3]]);
        }
        let y = match is_own {
            true => self.own_conv(&operands, conv, &shape),
            false => self.emit(&CONV, &operands, conv.nd().attributes(), self.ty(x).reshaped(shape)),
        };
        let x_shape = self.shape(x).to_vec();
        self.record(&operands, &[y], move |g, up| {
            let dy = up.single();
            let dx = g.when(up.wanted[0], |g| g.conv_data_gradient(dy, w, conv, &x_shape))?;
            let dw = g.when(up.wanted[1], |g| g.conv_weight_gradient(x, dy, conv, &w_shape))?;
            let mut gradients = vec![dx, dw];
            if b.is_some() {
                gradients.push(g.when(up.wanted[2], |g| g.reduce_sum(dy, &[0, 2, 3], false))?);
            }
            Ok(gradients)
        });
        Ok(y)
    }

    /// A convolution of one group, with output size `out`, as a convolution of stride 1: of its kernel's
    /// offsets a = s·i + r, the remainders r become channels of data and weights, and the i become the
    /// offsets.
    fn conv_by_space_to_depth(
        &mut self,
        x: Tensor,
        w: Tensor,
        b: Option<Tensor>,
        conv: Conv,
        out: [usize; 2],
    ) -> Result<Tensor> {
        let offsets = [0, 1].map(|a| self.shape(w)[2 + a].div_ceil(conv.strides[a]));
        let rows = [0, 1].map(|a| (out[a] + offsets[a] - 1) * conv.strides[a]);
        let x = self.pad_or_crop(x, conv.pads_before, rows)?;
        let x = self.space_to_depth(x, conv.strides)?;
        let w = self.pad_or_crop(w, [0; 2], [0, 1].map(|a| offsets[a] * conv.strides[a]))?;
        let w = self.space_to_depth(w, conv.strides)?;
        self.conv(x, w, b, Conv::default())
    }

    /// `x` `[N,C,s·H,t·W]` as `[N,C·s·t,H,W]`.
    fn space_to_depth(&mut self, x: Tensor, [s, t]: [usize; 2]) -> Result<Tensor> {
        let (n, c, h, w) = (self.shape(x)[0], self.shape(x)[1], self.shape(x)[2] / s, self.shape(x)[3] / t);
        let x = self.reshape(x, &[n, c, h, s, w, t])?;
        let x = self.transpose(x, &[0, 1, 3, 5, 2, 4])?;
        self.reshape(x, &[n, c * s * t, h, w])
    }

    /// One convolution per group.
    fn conv_by_groups(&mut self, x: Tensor, w: Tensor, b: Option<Tensor>, conv: Conv) -> Result<Tensor> {
        let xs = self.split_evenly(x, 1, conv.groups)?;
        let ws = self.split_evenly(w, 0, conv.groups)?;
        let bs = b.map(|b| self.split_evenly(b, 0, conv.groups)).transpose()?;
        let alone = conv.groups(1);
        let ys: Vec<Tensor> = (0..conv.groups)
            .map(|group| self.conv(xs[group], ws[group], bs.as_ref().map(|bs| bs[group]), alone))
            .collect::<Result<_>>()?;
        self.concat(&ys, 1)
    }

    /// A convolution with stride 1 and without padding.
    pub(crate) fn conv_forward(&mut self, x: Tensor, w: Tensor, b: Option<Tensor>) -> Result<Tensor> {
        self.conv(x, w, b, Conv::default())
    }

    /// The gradient of a convolution's input of `shape`: the transposed convolution with the same weights.
    pub(crate) fn conv_data_gradient(
        &mut self,
        dy: Tensor,
        w: Tensor,
        conv: Conv,
        shape: &[usize],
    ) -> Result<Tensor> {
        if self.is_own_data_gradient(self.element(dy), conv, self.shape(w)) {
            return Ok(self.own_conv_data(dy, w, conv, shape));
        }
        let ty = self.ty(dy).reshaped(shape);
        if conv.strides == [1, 1] && self.flips_kernel(w, conv, shape) {
            let (w, conv) = self.flip_kernel(w, conv)?;
            return Ok(self.emit(&CONV, &[dy, w], conv.nd().attributes(), ty));
        }
        Ok(self.conv_transposed(dy, w, None, &conv.nd(), shape))
    }

    /// Whether the data gradient of a convolution of stride 1 with an input of `shape` is a convolution.
    fn flips_kernel(&self, w: Tensor, conv: Conv, shape: &[usize]) -> bool {
        let (lowering, w) = (self.lowering(), self.shape(w));
        let is_large = |px: usize| {
            let is_depthwise = conv.groups > 1 && w[1] == 1 && w[0] == conv.groups;
            w[2..] == [1, 1] || is_depthwise || shape[2..].iter().all(|&side| side >= px)
        };
        lowering.conv_data_by_flipped_kernel || lowering.conv_data_flipped_px.is_some_and(is_large)
    }

    /// Weights and geometry of the convolution that equals the transposed convolution of stride 1 with `w`:
    /// the kernel is flipped, input and output channels are swapped.
    fn flip_kernel(&mut self, w: Tensor, conv: Conv) -> Result<(Tensor, Conv)> {
        let ty = self.ty(w).clone();
        let (filters, inner) = (ty.shape[0] / conv.groups, ty.shape[1]);
        let kernel = [ty.shape[2], ty.shape[3]];
        let w = if kernel == [1, 1] {
            w
        } else {
            let ends = [
                w,
                self.sizes(&kernel.map(|k| k - 1)),
                self.integers(&[i64::MIN; 2]),
                self.sizes(&[2, 3]),
                self.integers(&[-1; 2]),
            ];
            self.emit(&SLICE, &ends, vec![], ty)
        };
        let w = self.reshape(w, &[conv.groups, filters, inner, kernel[0], kernel[1]])?;
        let w = self.transpose(w, &[0, 2, 1, 3, 4])?;
        let w = self.reshape(w, &[conv.groups * inner, filters, kernel[0], kernel[1]])?;
        let rest = |pads: [usize; 2]| [0, 1].map(|a| conv.reach(a, kernel[a]) - 1 - pads[a]);
        Ok((w, Conv { pads_before: rest(conv.pads_before), pads_after: rest(conv.pads_after), ..conv }))
    }

    /// A convolution over any number of spatial axes, with a padding of any length.
    pub(super) fn conv_of_any_rank(
        &mut self,
        x: Tensor,
        w: Tensor,
        b: Option<Tensor>,
        conv: ConvNd,
    ) -> Result<Tensor> {
        let Windows { strides, before, after, dilations } = &conv.windows;
        if let ([s, t], [top, left], [bottom, right], [i, j]) =
            (&strides[..], &before[..], &after[..], &dilations[..])
        {
            let plane = Conv {
                strides: [*s, *t],
                pads_before: [*top, *left],
                pads_after: [*bottom, *right],
                dilations: [*i, *j],
                groups: conv.groups,
            };
            return self.conv(x, w, b, plane);
        }
        self.conv_nd(x, w, b, conv)
    }
}

fn import_conv<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, w) = (file.operand(node, 0)?, file.weight(node, 1)?);
    let b = if given(node, 2) { Some(file.bias(node, 2)?) } else { None };
    let (lengths, kernel) = sides(file, node, x, w)?;
    let windows = Windows::of_node(file, node, &lengths, &kernel)?;
    file.g.conv_of_any_rank(x, w, b, ConvNd { windows, groups: groups(file, node)? })
}

fn import_conv_transpose<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, w) = (file.operand(node, 0)?, file.weight(node, 1)?);
    let b = if given(node, 2) { Some(file.bias(node, 2)?) } else { None };
    let (lengths, kernel) = sides(file, node, x, w)?;
    let axes = lengths.len();
    let mut windows = Windows::of_node(file, node, &lengths, &kernel)?;
    let extra = list(file, node, "output_padding", axes, 0)?;
    let auto_pad = AutoPad::of(file, node)?;
    let out = match NodeAttributes(node).sizes("output_shape") {
        // Some exporters give the whole shape.
        Some(shape) if shape.len() == axes + 2 => Some(shape[2..].to_vec()),
        Some(shape) if shape.len() == axes => Some(shape),
        Some(shape) => {
            let expected = format!("expected {axes} lengths");
            return Err(file.at_node(node, format!("has an output_shape of {shape:?}, {expected}")));
        }
        None if matches!(auto_pad, AutoPad::SameUpper | AutoPad::SameLower) => {
            Some((0..axes).map(|a| lengths[a] * windows.strides[a]).collect())
        }
        None => None,
    };
    let reached = |windows: &Windows, a: usize| {
        (lengths[a] - 1) * windows.strides[a] + reach(kernel[a], windows.dilations[a]) + extra[a]
    };
    let out = match out {
        Some(out) => {
            for (a, &length) in out.iter().enumerate() {
                let total = reached(&windows, a).saturating_sub(length);
                (windows.before[a], windows.after[a]) = auto_pad.halves(total);
            }
            out
        }
        None => (0..axes)
            .map(|a| reached(&windows, a).saturating_sub(windows.before[a] + windows.after[a]))
            .collect(),
    };
    file.g.conv_transpose(x, w, b, ConvNd { windows, groups: groups(file, node)? }, &out)
}

/// Lengths of the spatial axes of the data, and of the kernel.
fn sides<'a>(
    file: &Translation<'a>,
    node: &'a NodeProto,
    x: Tensor,
    w: Tensor,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let (x, w) = (file.g.shape(x), file.g.shape(w));
    if x.len() < 3 || x.len() != w.len() {
        let expected = "expected data and weights with as many axes, at least three";
        return Err(file.at_node(node, format!("takes data {x:?} and weights {w:?}, {expected}")));
    }
    let kernel = w[2..].to_vec();
    let declared = NodeAttributes(node).sizes("kernel_shape");
    if let Some(declared) = declared.filter(|declared| !declared.is_empty() && *declared != kernel) {
        let expected = format!("expected {kernel:?}, as in the weights");
        return Err(file.at_node(node, format!("has a kernel_shape of {declared:?}, {expected}")));
    }
    Ok((x[2..].to_vec(), kernel))
}

fn groups<'a>(file: &Translation<'a>, node: &'a NodeProto) -> Result<usize> {
    let groups = NodeAttributes(node).int("group", 1);
    usize::try_from(groups)
        .ok()
        .filter(|&groups| groups > 0)
        .ok_or_else(|| file.at_node(node, format!("has {groups} groups, expected at least 1")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::Conv;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, ConvWeightForm, DepthwiseForm, Lowering, Target, TensorType};

    fn lowering(form: ConvWeightForm) -> Lowering {
        let base = Lowering::training(Target::Cpu);
        Lowering { conv_weight_unit_stride: form, conv_weight_strided: form, ..base }
    }

    #[test]
    fn gradients_of_convolutions_agree_with_finite_differences() {
        let uneven =
            Conv { strides: [2, 1], pads_before: [1, 0], pads_after: [0, 2], dilations: [1, 2], groups: 2 };
        let cases = [
            (Conv::new(1, 0), [2, 3, 5, 6], [4, 3, 3, 3]),
            (Conv::new(1, 2), [2, 3, 5, 6], [4, 3, 5, 5]),
            (Conv::new(4, 2), [2, 3, 13, 14], [4, 3, 5, 5]),
            (Conv::new(2, 1).groups(2), [2, 4, 6, 7], [6, 2, 3, 3]),
            (Conv::new(3, 0), [2, 2, 9, 10], [3, 2, 2, 2]),
            (Conv::new(1, 1).groups(2), [2, 4, 5, 5], [4, 2, 3, 3]),
            (Conv::new(1, 2).dilation(2), [2, 2, 7, 6], [3, 2, 3, 3]),
            (Conv::new(2, 2).dilation(2), [2, 2, 9, 8], [3, 2, 3, 2]),
            (Conv::new(1, 0).groups(3), [1, 3, 4, 4], [3, 1, 2, 2]),
            (uneven, [2, 4, 7, 8], [2, 2, 3, 2]),
            (Conv::new(1, 1), [3, 2, 1, 1], [3, 2, 3, 3]),
            (Conv::new(1, 2), [3, 2, 2, 1], [2, 2, 5, 5]),
            (Conv::new(2, 1), [3, 2, 2, 2], [2, 2, 3, 3]),
            (Conv::new(1, 1), [2, 3, 4, 3], [2, 3, 1, 1]),
            (Conv::new(1, 0), [2, 3, 4, 3], [2, 3, 1, 1]),
            (Conv::new(2, 0).groups(2), [2, 4, 4, 3], [6, 2, 1, 1]),
        ];
        let dilated = |parts| lowering(ConvWeightForm::DilatedConv { parts });
        let by_offsets = lowering(ConvWeightForm::OffsetGemm);
        let apart = Lowering { groups_apart: 2, ..dilated(1) };
        let to_depth = Lowering { space_to_depth_channels: 8, ..by_offsets };
        let limited = Lowering { conv_weight_dilated_px: 3, ..dilated(1) };
        let alike = Lowering { conv_weight_products_alike: true, conv_weight_product_rows: 10, ..by_offsets };
        let flipped = Lowering { conv_data_by_flipped_kernel: true, ..by_offsets };
        let stepped = lowering(ConvWeightForm::SteppedGemm);
        let by_images = Lowering { conv_weight_by_images: true, ..stepped };
        let forms = [by_offsets, alike, apart, to_depth, limited, flipped, stepped, by_images];
        for lowering in [dilated(1), dilated(2), dilated(3)].into_iter().chain(forms) {
            for (conv, x, w) in cases {
                let case = Case::f32(&format!("Conv {conv:?} by {lowering:?}")).lowering(lowering);
                check_gradients(case.normal(x).normal(w).normal([w[0]]), |g, t| {
                    g.conv(t[0], t[1], Some(t[2]), conv)
                });
            }
        }
    }

    #[test]
    fn gradients_of_many_groups_agree_with_finite_differences() {
        let uneven =
            Conv { strides: [2, 1], pads_before: [1, 0], pads_after: [0, 2], dilations: [1, 2], groups: 5 };
        let cases = [
            (Conv::new(1, 1).groups(5), [3, 5, 4, 6], [5, 1, 3, 3]),
            (Conv::new(2, 1).groups(5), [3, 5, 7, 6], [5, 1, 3, 3]),
            (Conv::new(1, 3).groups(5), [2, 5, 2, 1], [5, 1, 7, 7]),
            (Conv::new(1, 1).groups(5), [2, 5, 4, 4], [10, 1, 3, 3]),
            (Conv::new(2, 1).groups(6), [2, 12, 5, 5], [18, 2, 3, 3]),
            (uneven, [2, 5, 7, 8], [5, 1, 3, 2]),
            (uneven, [2, 10, 7, 8], [5, 2, 3, 2]),
        ];
        let of_images = DepthwiseForm::ConvOfImages { px: 2 };
        for depthwise in [DepthwiseForm::OneConv, of_images, DepthwiseForm::Sums] {
            let base = Lowering::training(Target::Cpu);
            let lowering = Lowering { conv_weight_depthwise: depthwise, conv_weight_groups_apart: 4, ..base };
            for (conv, x, w) in cases {
                let case = Case::f32(&format!("Conv {conv:?} by {depthwise:?}")).lowering(lowering);
                check_gradients(case.normal(x).normal(w).normal([w[0]]), |g, t| {
                    g.conv(t[0], t[1], Some(t[2]), conv)
                });
            }
        }
    }

    #[test]
    fn the_gradient_of_a_depthwise_convolution_has_as_many_nodes_for_any_number_of_channels() {
        let nodes = |target, channels: usize| {
            let mut g = Builder::new("test", Lowering::training(target));
            let x = g.input("x", TensorType::f32([2, channels, 8, 8])).unwrap();
            let w = g.input("w", TensorType::f32([channels, 1, 3, 3])).unwrap();
            let y = g.conv(x, w, None, Conv::new(1, 1).groups(channels)).unwrap();
            let loss = g.sum(y).unwrap();
            for (name, gradient) in ["dx", "dw"].into_iter().zip(g.grad(loss, &[x, w]).unwrap()) {
                g.output(name, gradient).unwrap();
            }
            g.finish().nodes().count()
        };
        for (target, limit) in [(Target::Cpu, 12), (Target::Cuda, 4 * 9 + 14)] {
            assert_eq!(nodes(target, 8), nodes(target, 512));
            assert!(nodes(target, 512) <= limit, "{target:?}: {}", nodes(target, 512));
        }
    }

    #[test]
    fn all_forms_of_a_convolution_agree() {
        let uneven = Conv { pads_before: [2, 1], pads_after: [1, 2], strides: [3, 2], ..Conv::new(1, 0) };
        let plain = lowering(ConvWeightForm::OffsetGemm);
        let apart = Lowering { groups_apart: 2, ..plain };
        let to_depth = Lowering { space_to_depth_channels: 4, ..plain };
        let cases = [
            (uneven, [2, 4, 10, 11], [6, 4, 5, 4], to_depth),
            (
                Conv { pads_before: [1, 0], pads_after: [1, 1], ..uneven },
                [2, 4, 10, 11],
                [6, 4, 2, 3],
                to_depth,
            ),
            (uneven.groups(2), [2, 4, 10, 11], [6, 2, 5, 4], apart),
        ];
        for (conv, x, w, other) in cases {
            let given = |lowering| {
                let case = Case::f32("Conv").lowering(lowering).normal(x).normal(w).normal([w[0]]);
                evaluate(case, |g, t| g.conv(t[0], t[1], Some(t[2]), conv))
            };
            let (expected, found) = (given(plain), given(other));
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-5, "{conv:?} by {other:?}: {worst}");
        }
    }

    #[test]
    fn each_device_gets_the_forms_of_its_lowering() {
        let operators = |target, conv: Conv, x: [usize; 4], w: [usize; 4]| {
            let mut g = Builder::new("test", Lowering::training(target));
            let x = g.input("x", TensorType::f32(x)).unwrap();
            let w = g.input("w", TensorType::f32(w)).unwrap();
            let y = g.conv(x, w, None, conv).unwrap();
            let loss = g.sum(y).unwrap();
            for (name, gradient) in ["dx", "dw"].into_iter().zip(g.grad(loss, &[x, w]).unwrap()) {
                g.output(name, gradient).unwrap();
            }
            g.output("y", y).unwrap();
            let graph = g.finish();
            let count = |name| graph.nodes().filter(|(operator, ..)| operator.name == name).count();
            [count("Conv"), count("ConvTranspose"), count("Gemm")]
        };
        // Forward, data gradient and weight gradient; two groups double each where groups are separate
        // convolutions.
        let second = |target| operators(target, Conv::new(1, 2).groups(2), [8, 96, 27, 27], [256, 48, 5, 5]);
        assert_eq!(second(Target::Cpu), [1, 1, 2 * 25]);
        assert_eq!(second(Target::Cuda), [2 * 3, 0, 0]);
        assert_eq!(second(Target::CudaTf32), [1 + 2, 1, 0]);
        assert_eq!(second(Target::CudaF16), [1 + 2, 1, 0]);
        let first = |target| operators(target, Conv::new(4, 2), [8, 3, 224, 224], [96, 3, 11, 11]);
        assert_eq!(first(Target::Cpu), [1 + 1, 1, 0]);
        assert_eq!(first(Target::Cuda), [3, 0, 0]);
        assert_eq!(first(Target::CudaTf32), [1, 1, 1]);
        assert_eq!(first(Target::CudaF16), [1, 1, 1]);
    }

    #[test]
    fn convolutions_of_small_planes_are_products_and_agree_with_convolutions() {
        let products = Lowering { conv_by_product_px: 7, ..Lowering::training(Target::Cpu) };
        let uneven = Conv { pads_before: [1, 0], pads_after: [0, 2], dilations: [1, 2], ..Conv::default() };
        for (conv, x, w) in
            [(Conv::new(1, 1), [2, 128, 3, 2], [128, 128, 3, 3]), (uneven, [1, 64, 4, 5], [256, 64, 2, 3])]
        {
            let given = |lowering: Lowering| {
                let conv_nodes = Cell::new(0);
                let case = Case::f32("Conv").lowering(lowering).normal(x).normal(w).normal([w[0]]);
                let values = evaluate(case, |g, t| {
                    let y = g.conv(t[0], t[1], Some(t[2]), conv)?;
                    conv_nodes.set(g.nodes().iter().filter(|node| node.operator.name == "Conv").count());
                    // The output and all gradients at once, of a loss that differs for each value.
                    let square = g.mul(y, y)?;
                    let loss = g.sum(square)?;
                    let gradients = g.grad(loss, t)?;
                    let parts: Vec<_> = [y].into_iter().chain(gradients).collect();
                    let rows: Vec<_> = parts
                        .into_iter()
                        .map(|part| g.reshape(part, &[g.ty(part).len()]))
                        .collect::<crate::Result<_>>()?;
                    g.concat(&rows, 0)
                });
                (values, conv_nodes.get())
            };
            let ((expected, with_conv), (found, without)) =
                (given(Lowering::training(Target::Cpu)), given(products));
            assert_eq!((with_conv, without), (1, 0));
            let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-5 * largest, "{conv:?}: {worst} of {largest}");
        }
    }

    #[test]
    fn networks_from_files_get_forms_by_the_size_of_planes() {
        let operators = |conv: Conv, x: [usize; 4], w: [usize; 4]| {
            let mut g = Builder::new("test", Lowering::training(Target::Cpu).of_files(true));
            let x = g.input("x", TensorType::f32(x)).unwrap();
            let w = g.input("w", TensorType::f32(w)).unwrap();
            let y = g.conv(x, w, None, conv).unwrap();
            let loss = g.sum(y).unwrap();
            let dw = g.grad(loss, &[w]).unwrap()[0];
            g.output("dw", dw).unwrap();
            let graph = g.finish();
            let count = |name| graph.nodes().filter(|(operator, ..)| operator.name == name).count();
            ["Conv", "Gemm", "MatMul", "Transpose", "ReduceSum"].map(count)
        };
        assert_eq!(operators(Conv::new(2, 1), [8, 64, 28, 28], [128, 64, 3, 3]), [0, 1, 0, 3, 0]);
        assert_eq!(operators(Conv::new(1, 0), [8, 192, 14, 14], [32, 192, 1, 1]), [0, 0, 1, 1, 1]);
        assert_eq!(operators(Conv::new(1, 0), [8, 960, 4, 4], [320, 960, 1, 1]), [0, 1, 0, 3, 0]);
        let depthwise = Conv::new(1, 1).groups(96);
        assert_eq!(operators(depthwise, [8, 96, 14, 14], [96, 1, 3, 3]), [1, 0, 0, 2, 1]);
        assert_eq!(operators(depthwise, [8, 96, 7, 7], [96, 1, 3, 3]), [1, 0, 0, 2, 0]);
    }

    #[test]
    fn a_convolution_sums_its_window() {
        let case = Case::f32("Conv").values([1, 1, 2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let y = evaluate(case.values([1, 1, 2, 2], vec![1.0, 0.0, 0.0, 1.0]), |g, x| {
            g.conv(x[0], x[1], None, Conv::default())
        });
        assert_eq!(y, [6.0, 8.0]);
    }

    #[test]
    fn a_wrong_kernel_is_named_with_both_shapes() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 96, 27, 27])).unwrap();
        let w = g.input("w", TensorType::f32([256, 96, 5, 5])).unwrap();
        let error = g.scope("conv2", |g| g.conv(x, w, None, Conv::new(1, 2).groups(2))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node `conv2/Conv` (Conv): 2 groups must divide both channel counts, with C/2 in the weights; \
             given f32[2,96,27,27], f32[256,96,5,5]"
        );
        assert!(g.conv(x, w, None, Conv { strides: [0, 1], ..Conv::default() }).is_err());
        let huge = g.input("huge", TensorType::f32([8, 96, 28, 28])).unwrap();
        assert!(g.conv(x, huge, None, Conv::default()).is_err());
    }
}
