//! The gradient of a convolution's weights, in its forms.

use super::conv::Conv;
use super::slicing::AxisSlice;
use crate::builder::Builder;
use crate::error::Result;
use crate::lowering::{ADDRESSES_AS_ARGUMENTS, ConvWeightForm, DepthwiseForm};
use crate::node::Tensor;

/// Largest number of values in the windows that share a product: 1 GiB in f32.
const PRODUCT_VALUES: usize = 1 << 28;

/// The largest divisor of `value` up to `limit`; 1 for a limit of 0.
fn largest_divisor(value: usize, limit: usize) -> usize {
    (1..=limit).rev().find(|&divisor| value.is_multiple_of(divisor)).unwrap_or(1)
}

impl Builder {
    /// The gradient of weights of `shape` `[O,C/g,k,k]`, from the input `x` `[N,C,H,W]` and the gradient `dy`
    /// `[N,O,P,Q]`.
    pub(crate) fn conv_weight_gradient(
        &mut self,
        x: Tensor,
        dy: Tensor,
        conv: Conv,
        shape: &[usize],
    ) -> Result<Tensor> {
        let unit = conv.strides == [1, 1];
        let lowering = self.lowering();
        if self.is_own_weight_gradient(self.element(x), conv, shape) {
            return Ok(self.own_conv_weight(x, dy, conv, shape));
        }
        if lowering.conv_weight_by_images && self.has_small_products(x, dy, conv, shape) {
            return self.conv_weight_by_images(x, dy, conv, shape);
        }
        if conv.groups > lowering.conv_weight_groups_apart {
            let is_depthwise = shape[1] == 1 && shape[0] == conv.groups;
            return match lowering.conv_weight_depthwise {
                DepthwiseForm::Sums if is_depthwise => self.conv_weight_by_sums(x, dy, conv, shape),
                DepthwiseForm::ConvOfImages { px } if is_depthwise && self.is_at_least(dy, px) => {
                    self.conv_weight_by_conv_of_images(x, dy, conv, shape)
                }
                _ => self.conv_weight_by_one_conv(x, dy, &conv.nd(), shape),
            };
        }
        let form = if unit { lowering.conv_weight_unit_stride } else { lowering.conv_weight_strided };
        let is_small = self.shape(dy)[2..].iter().all(|&side| side <= lowering.conv_weight_dilated_px);
        // Space to depth would mix the elements of a dilated kernel; only the dilated convolution handles
        // stride and dilation.
        let has_offsets = unit || conv.dilations == [1, 1];
        match form {
            ConvWeightForm::SteppedGemm => self.conv_weight_by_offsets(x, dy, conv, [1, 1], shape),
            ConvWeightForm::DilatedConv { parts } if is_small || !has_offsets => {
                self.conv_weight_by_dilated_conv(x, dy, conv, shape, parts)
            }
            _ if has_offsets => self.conv_weight_by_offsets(x, dy, conv, conv.strides, shape),
            _ => self.conv_weight_by_dilated_conv(x, dy, conv, shape, 1),
        }
    }

    /// Whether the kernel is 1×1, and the weights of all images have fewer values than `x` and `dy`.
    fn has_small_products(&self, x: Tensor, dy: Tensor, conv: Conv, shape: &[usize]) -> bool {
        let (dy, channels) = (self.shape(dy), self.shape(x)[1]);
        let positions = dy[2] * dy[3];
        let is_plain = shape[2..] == [1, 1] && conv.pads_before == [0; 2] && conv.pads_after == [0; 2];
        is_plain && shape[0] * shape[1] <= positions * (shape[0] + channels)
    }

    /// A product of `dy` and `x` over the positions of each image, for kernels of one element, and the sum of
    /// these.
    fn conv_weight_by_images(
        &mut self,
        x: Tensor,
        dy: Tensor,
        conv: Conv,
        shape: &[usize],
    ) -> Result<Tensor> {
        let (batch, filters, out) = (self.shape(dy)[0], self.shape(dy)[1], self.shape(dy)[2..].to_vec());
        let (groups, positions) = (conv.groups, out[0] * out[1]);
        let covered = [0, 1].map(|a| {
            let step = conv.strides[a];
            AxisSlice { axis: 2 + a, start: 0, end: (out[a] - 1) * step + 1, step }
        });
        let x = self.slice_axes(x, &covered)?;
        let mut matrices = |t: Tensor, channels: usize| match groups {
            1 => self.reshape(t, &[batch, channels, positions]),
            _ => self.reshape(t, &[batch, groups, channels, positions]),
        };
        let (x, dy) = (matrices(x, shape[1])?, matrices(dy, filters / groups)?);
        let xt = self.swap_last(x)?;
        let products = self.matmul(dy, xt)?;
        let dw = self.reduce_sum(products, &[0], false)?;
        self.reshape(dw, shape)
    }

    /// Whether all sides of the planes of `x` `[N,C,H,W]` are of `px` or more.
    fn is_at_least(&self, x: Tensor, px: usize) -> bool {
        self.shape(x)[2..].iter().all(|&side| side >= px)
    }

    /// The gradient for each image by one depthwise convolution with the channels of all images, and the sum
    /// of these; for kernels of one channel, with as many outputs as inputs.
    fn conv_weight_by_conv_of_images(
        &mut self,
        x: Tensor,
        dy: Tensor,
        conv: Conv,
        shape: &[usize],
    ) -> Result<Tensor> {
        let (batch, channels) = (self.shape(x)[0], self.shape(x)[1]);
        let planes = batch * channels;
        let one_image = |shape: &[usize]| [&[1, planes], &shape[2..]].concat();
        let x = self.reshape(x, &one_image(self.shape(x)))?;
        let dy = self.reshape(dy, &one_image(self.shape(dy)))?;
        let of_planes = [&[planes, 1], &shape[2..]].concat();
        let products = self.conv_weight_by_one_conv(x, dy, &conv.groups(planes).nd(), &of_planes)?;
        let products = self.reshape(products, &[&[batch], shape].concat())?;
        self.reduce_sum(products, &[0], false)
    }

    /// A sum for each kernel offset, over the product of `dy` and the positions of `x` at the offset; for
    /// kernels of one channel, with as many outputs as inputs.
    fn conv_weight_by_sums(&mut self, x: Tensor, dy: Tensor, conv: Conv, shape: &[usize]) -> Result<Tensor> {
        let out = [self.shape(dy)[2], self.shape(dy)[3]];
        let covered = [0, 1].map(|a| (out[a] - 1) * conv.strides[a] + 1);
        let rows = [0, 1].map(|a| covered[a] + (shape[2 + a] - 1) * conv.dilations[a]);
        let x = self.pad_or_crop(x, conv.pads_before, rows)?;
        let mut sums = Vec::with_capacity(shape[2] * shape[3]);
        for (i, j) in (0..shape[2]).flat_map(|i| (0..shape[3]).map(move |j| (i, j))) {
            let window = |a: usize, offset: usize| {
                let start = offset * conv.dilations[a];
                AxisSlice { axis: 2 + a, start, end: start + covered[a], step: conv.strides[a] }
            };
            let view = self.slice_axes(x, &[window(0, i), window(1, j)])?;
            let product = self.mul(view, dy)?;
            sums.push(self.reduce_sum(product, &[0, 2, 3], true)?);
        }
        let dw = self.concat(&sums, 0)?;
        let dw = self.reshape(dw, &[shape[2] * shape[3], shape[0]])?;
        let dw = self.transpose(dw, &[1, 0])?;
        self.reshape(dw, shape)
    }

    /// dw[o,c,a,b] = Σ x[n, c, a·d + s·p, b·d + s·q] · dy[n,o,p,q] is a convolution over (p,q) with channels
    /// n. Parts of the batch are its groups.
    fn conv_weight_by_dilated_conv(
        &mut self,
        x: Tensor,
        dy: Tensor,
        conv: Conv,
        shape: &[usize],
        parts: usize,
    ) -> Result<Tensor> {
        let (batch, out) = (self.shape(dy)[0], [self.shape(dy)[2], self.shape(dy)[3]]);
        // Rows at the end that no kernel position reached must not become additional offsets.
        let rows =
            [0, 1].map(|a| (shape[2 + a] - 1) * conv.dilations[a] + (out[a] - 1) * conv.strides[a] + 1);
        let end = [0, 1].map(|a| (rows[a] - conv.pads_before[a]).min(self.shape(x)[2 + a]));
        let pads_after = [0, 1].map(|a| rows[a] - conv.pads_before[a] - end[a]);
        // A convolution's padding must be smaller than its kernel, which is the gradient here.
        let is_inside = |pads: [usize; 2]| (0..2).all(|a| pads[a] <= (out[a] - 1) * conv.strides[a]);
        let (x, pads_before, pads_after) = if is_inside(conv.pads_before) && is_inside(pads_after) {
            (self.crop(x, &end)?, conv.pads_before, pads_after)
        } else {
            (self.pad_or_crop(x, conv.pads_before, rows)?, [0; 2], [0; 2])
        };
        let xt = self.transpose(x, &[1, 0, 2, 3])?;
        let parts = largest_divisor(batch, parts);
        let (strides, dilations) = (conv.dilations, conv.strides);
        let geometry = Conv { strides, pads_before, pads_after, dilations, groups: parts };
        let filters = shape[0] / conv.groups;
        // [g·parts·O/g, N/parts, P, Q]
        let dt = if parts == 1 {
            self.transpose(dy, &[1, 0, 2, 3])?
        } else {
            let dt = self.reshape(dy, &[parts, batch / parts, conv.groups, filters, out[0], out[1]])?;
            let dt = self.transpose(dt, &[2, 0, 3, 1, 4, 5])?;
            self.reshape(dt, &[conv.groups * parts * filters, batch / parts, out[0], out[1]])?
        };
        let xts = self.split_evenly(xt, 0, conv.groups)?;
        let dts = self.split_evenly(dt, 0, conv.groups)?;
        let per_group: Vec<Tensor> = xts
            .into_iter()
            .zip(dts)
            .map(|(xt, dt)| {
                // [C/g, parts·O/g, k, k]
                let dw = self.conv(xt, dt, None, geometry)?;
                let dw = self.reshape(dw, &[shape[1], parts, filters, shape[2], shape[3]])?;
                let dw = if parts > 1 { self.reduce_sum(dw, &[1], true)? } else { dw };
                let dw = self.transpose(dw, &[2, 1, 0, 3, 4])?;
                self.reshape(dw, &[filters, shape[1], shape[2], shape[3]])
            })
            .collect::<Result<_>>()?;
        self.concat(&per_group, 0)
    }

    /// Matrix products over the windows at the kernel's offsets, batch last, so that a shifted window is rows
    /// of a matrix. `steps` are the strides that become channels; others become steps of the windows.
    fn conv_weight_by_offsets(
        &mut self,
        x: Tensor,
        dy: Tensor,
        conv: Conv,
        steps: [usize; 2],
        shape: &[usize],
    ) -> Result<Tensor> {
        let groups = conv.groups;
        let (batch, channels) = (self.shape(x)[0], self.shape(x)[1]);
        let out = self.shape(dy)[2..].to_vec();
        // With stride s, the remainders r of the kernel's offsets a = s·i + r become channels: the kernel
        // then has ⌈k/s⌉ offsets and stride 1.
        let offsets: Vec<usize> = (0..2).map(|a| shape[2 + a].div_ceil(steps[a])).collect();
        let strides = [0, 1].map(|a| conv.strides[a] / steps[a]);
        let covered = [0, 1].map(|a| (out[a] - 1) * strides[a] + 1);
        let rows = [0, 1].map(|a| covered[a] + (offsets[a] - 1) * conv.dilations[a]);
        let x = self.pad_or_crop(x, conv.pads_before, [rows[0] * steps[0], rows[1] * steps[1]])?;
        // Moving a single axis is twice as fast as a permutation of six.
        let x = if steps == [1, 1] {
            self.transpose(x, &[1, 2, 3, 0])?
        } else {
            let x = self.reshape(x, &[batch, channels, rows[0], steps[0], rows[1], steps[1]])?;
            let x = self.transpose(x, &[1, 3, 5, 2, 4, 0])?;
            self.reshape(x, &[channels * steps[0] * steps[1], rows[0], rows[1], batch])?
        };
        let dy = self.transpose(dy, &[1, 2, 3, 0])?;

        let columns = out[0] * out[1] * batch;
        let (inner, filters) = (self.shape(x)[0] / groups, self.shape(dy)[0] / groups);
        let mut per_group = Vec::with_capacity(groups);
        for group in 0..groups {
            let dy = self.slice(dy, 0, group * filters, (group + 1) * filters)?;
            let dy = self.reshape(dy, &[filters, columns])?;
            let mut windows = Vec::with_capacity(offsets[0] * offsets[1]);
            for (i, j) in (0..offsets[0]).flat_map(|i| (0..offsets[1]).map(move |j| (i, j))) {
                let window = |axis: usize, offset: usize| {
                    let start = offset * conv.dilations[axis];
                    AxisSlice { axis: 1 + axis, start, end: start + covered[axis], step: strides[axis] }
                };
                let channels = AxisSlice { axis: 0, start: group * inner, end: (group + 1) * inner, step: 1 };
                windows.push(self.slice_axes(x, &[channels, window(0, i), window(1, j)])?);
            }
            // Each product reads all of dy, so with few channels several windows share one, unless they are
            // large.
            let has_steps = conv.strides != steps;
            let rows = if has_steps { usize::MAX } else { self.lowering().conv_weight_product_rows };
            let rows = rows.min(PRODUCT_VALUES / columns);
            let shared = (rows / inner).clamp(1, windows.len());
            let shared = match self.lowering().conv_weight_products_alike {
                true => largest_divisor(windows.len(), shared.min(ADDRESSES_AS_ARGUMENTS)),
                false => shared,
            };
            let mut products = Vec::with_capacity(windows.len().div_ceil(shared));
            for windows in windows.chunks(shared) {
                let rows = self.concat(windows, 0)?;
                let rows = self.reshape(rows, &[windows.len() * inner, columns])?;
                products.push(self.gemm(dy, rows, None, false, true)?);
            }
            per_group.push(self.concat(&products, 1)?);
        }
        let dw = self.concat(&per_group, 0)?;
        if steps == [1, 1] {
            let dw = self.reshape(dw, &[shape[0], shape[2] * shape[3], shape[1]])?;
            let dw = self.transpose(dw, &[0, 2, 1])?;
            return self.reshape(dw, shape);
        }
        let inner = [shape[1], steps[0], steps[1]];
        let dw = self.reshape(dw, &[&[shape[0], offsets[0], offsets[1]], &inner[..]].concat())?;
        let dw = self.transpose(dw, &[0, 3, 1, 4, 2, 5])?;
        let dw = self.reshape(dw, &[shape[0], shape[1], offsets[0] * steps[0], offsets[1] * steps[1]])?;
        self.crop(dw, &shape[2..])
    }
}
