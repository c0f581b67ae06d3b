//! Convolutions of small planes as one matrix product over the whole batch, as ONNX Runtime multiplies each
//! image alone, where a small plane has few columns.

use super::conv::Conv;
use super::slicing::AxisSlice;
use crate::builder::{Builder, Upstream};
use crate::error::Result;
use crate::node::Tensor;

/// Smallest product of input and output channels for which the product is worth its copies.
const CHANNELS: usize = 128 * 128;

impl Builder {
    /// Whether a convolution of one group with an output of sides `out` becomes a product.
    pub(super) fn is_of_small_planes(&self, w: Tensor, conv: Conv, out: &[usize]) -> bool {
        let (px, w) = (self.lowering().conv_by_product_px, self.shape(w));
        conv.groups == 1
            && conv.strides == [1, 1]
            && w[2] * w[3] > 1
            && w[0] * w[1] >= CHANNELS
            && out.iter().all(|&side| side <= px)
    }

    /// A convolution of one group and stride 1: the weights times the windows at all offsets of the kernel,
    /// batch last, which serve the gradient of the weights too.
    pub(super) fn conv_by_product(
        &mut self,
        x: Tensor,
        w: Tensor,
        b: Option<Tensor>,
        conv: Conv,
        out: [usize; 2],
    ) -> Result<Tensor> {
        let operands: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
        let (x_shape, w_shape) = (self.shape(x).to_vec(), self.shape(w).to_vec());
        let (batch, filters) = (x_shape[0], w_shape[0]);
        let columns = out[0] * out[1] * batch;
        let offsets = w_shape[2] * w_shape[3];
        let outputs = self.composite(&operands, |g| {
            let windows = g.windows_at_offsets(x, conv, &w_shape, out)?;
            let matrix = g.transpose(w, &[0, 2, 3, 1])?;
            let matrix = g.reshape(matrix, &[filters, offsets * w_shape[1]])?;
            let bias = b.map(|b| g.reshape(b, &[filters, 1])).transpose()?;
            let y = g.gemm(matrix, windows, bias, false, false)?;
            let y = g.reshape(y, &[filters, out[0], out[1], batch])?;
            let y = g.transpose(y, &[3, 0, 1, 2])?;
            let rule = move |g: &mut Self, up: &Upstream| {
                let dy = up.single();
                let dx = g.when(up.wanted[0], |g| g.conv_data_gradient(dy, w, conv, &x_shape))?;
                let dw = g.when(up.wanted[1], |g| {
                    let dy = g.transpose(dy, &[1, 2, 3, 0])?;
                    let dy = g.reshape(dy, &[filters, columns])?;
                    let dw = g.gemm(dy, windows, None, false, true)?;
                    let dw = g.reshape(dw, &[filters, offsets, w_shape[1]])?;
                    let dw = g.transpose(dw, &[0, 2, 1])?;
                    g.reshape(dw, &w_shape)
                })?;
                let mut gradients = vec![dx, dw];
                if b.is_some() {
                    gradients.push(g.when(up.wanted[2], |g| g.reduce_sum(dy, &[0, 2, 3], false))?);
                }
                Ok(gradients)
            };
            Ok((vec![y], rule))
        })?;
        Ok(outputs[0])
    }

    /// The windows of `x` `[N,C,H,W]` at each offset of a kernel of `shape` `[O,C,k,k]`: `[k·k·C,P·Q·N]`.
    fn windows_at_offsets(
        &mut self,
        x: Tensor,
        conv: Conv,
        shape: &[usize],
        out: [usize; 2],
    ) -> Result<Tensor> {
        let batch = self.shape(x)[0];
        let x = self.transpose(x, &[1, 2, 3, 0])?;
        let border = |[rows, columns]: [usize; 2]| [0, rows, columns, 0];
        let x = self.pad(x, &border(conv.pads_before), &border(conv.pads_after))?;
        let mut windows = Vec::with_capacity(shape[2] * shape[3]);
        for (i, j) in (0..shape[2]).flat_map(|i| (0..shape[3]).map(move |j| (i, j))) {
            let window = |axis: usize, offset: usize| {
                let start = offset * conv.dilations[axis];
                AxisSlice { axis: 1 + axis, start, end: start + out[axis], step: 1 }
            };
            windows.push(self.slice_axes(x, &[window(0, i), window(1, j)])?);
        }
        let windows = self.concat(&windows, 0)?;
        self.reshape(windows, &[shape[1] * shape[2] * shape[3], out[0] * out[1] * batch])
    }
}
