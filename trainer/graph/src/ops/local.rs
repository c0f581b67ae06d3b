//! Locally connected layers: convolutions with a different kernel at each position.
//!
//! Letters: kernel k, stride s, padding p.

use super::slicing::AxisSlice;
use crate::builder::Builder;
use crate::error::Result;
use crate::node::Tensor;

/// Geometry of a locally connected layer, the same along both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Side of the kernels.
    pub kernel: usize,
    /// Distance between kernel positions.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
}

impl Local {
    /// Length of the weights' second-last axis for an input of `channels` channels.
    #[must_use]
    pub fn inputs(&self, channels: usize) -> usize {
        self.kernel * self.kernel * channels
    }
}

impl Builder {
    /// A matrix product at each position (p,q): the window of `x` `[N,C,H,W]` times `w` `[P,Q,k·k·C,O]`,
    /// whose third axis is ordered by window row, window column, channel; plus `b` `[O,P,Q]`: `[N,O,P,Q]`.
    ///
    /// With positions first and channels last, a shifted window is a few long runs of memory, and all
    /// positions are one batch of matrix products. The gradients are those of the composed operators.
    ///
    /// # Errors
    /// Shapes or types do not fit, or the kernel is larger than the padded input.
    pub fn local(&mut self, x: Tensor, w: Tensor, b: Tensor, local: Local) -> Result<Tensor> {
        let [rows, columns] = self.local_places(x, local)?;
        let (ty, channels) = (self.ty(x).clone(), self.shape(x)[1]);
        let out = self.shape(w).last().copied().unwrap_or(0);
        if *self.ty(w) != ty.reshaped([rows, columns, local.inputs(channels), out])
            || *self.ty(b) != ty.reshaped([out, rows, columns])
        {
            let inputs = local.inputs(channels);
            let reason =
                format!("expected weights [{rows},{columns},{inputs},O] and biases [O,{rows},{columns}]");
            return Err(self.mismatch("local", &[x, w, b], reason));
        }
        let x = self.transpose(x, &[2, 3, 0, 1])?;
        let border = [local.padding, local.padding, 0, 0];
        let x = self.pad(x, &border, &border)?;
        let window = |axis: usize, start: usize, positions: usize| {
            let end = start + (positions - 1) * local.stride + 1;
            AxisSlice { axis, start, end, step: local.stride }
        };
        let mut shifted = Vec::with_capacity(local.kernel * local.kernel);
        for i in 0..local.kernel {
            let row_window = self.slice_axes(x, &[window(0, i, rows)])?;
            for j in 0..local.kernel {
                shifted.push(self.slice_axes(row_window, &[window(1, j, columns)])?);
            }
        }
        let windows = self.concat(&shifted, 3)?;
        let y = self.matmul(windows, w)?;
        let y = self.transpose(y, &[2, 3, 0, 1])?;
        self.add(y, b)
    }

    /// Kernel positions P and Q along the height and the width of `x` `[N,C,H,W]`.
    ///
    /// # Errors
    /// `x` is not floating-point with four axes, or the kernel is larger than the padded input.
    pub fn local_places(&self, x: Tensor, local: Local) -> Result<[usize; 2]> {
        self.images("local", x)?;
        let Local { kernel, stride, padding } = local;
        let sides = [2, 3].map(|axis| self.shape(x)[axis] + 2 * padding);
        if kernel == 0 || stride == 0 || padding >= kernel || sides.iter().any(|&side| side < kernel) {
            let reason =
                format!("{local:?} must fit into the operand, with a padding smaller than the kernel");
            return Err(self.mismatch("local", &[x], reason));
        }
        Ok(sides.map(|side| (side - kernel) / stride + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::Local;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::ops::Conv;
    use crate::{Builder, Lowering, Target, TensorType};

    const WINDOWS: [Local; 4] = [
        Local { kernel: 3, stride: 1, padding: 1 },
        Local { kernel: 3, stride: 1, padding: 0 },
        Local { kernel: 2, stride: 2, padding: 1 },
        Local { kernel: 3, stride: 2, padding: 2 },
    ];
    const INPUT: [usize; 4] = [2, 3, 5, 4];
    const OUT: usize = 2;

    fn positions(local: Local) -> [usize; 2] {
        [INPUT[2], INPUT[3]].map(|side| (side + 2 * local.padding - local.kernel) / local.stride + 1)
    }

    fn case(local: Local) -> Case {
        let [p, q] = positions(local);
        let case = Case::f64(&format!("{local:?}")).normal(INPUT);
        case.normal([p, q, local.inputs(INPUT[1]), OUT]).normal([OUT, p, q])
    }

    fn noise(count: usize, salt: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * 7919 + salt * 104_729) % 1009) as f64 / 1009.0 - 0.5).collect()
    }

    fn compare(given: &[f64], expected: &[f64]) {
        assert_eq!(given.len(), expected.len());
        for (at, (given, expected)) in given.iter().zip(expected).enumerate() {
            assert!((given - expected).abs() < 1e-5, "position {at}: {given} against {expected}");
        }
    }

    #[test]
    fn gradients_of_locally_connected_layers_agree_with_finite_differences() {
        for local in WINDOWS {
            check_gradients(case(local), |g, x| g.local(x[0], x[1], x[2], local));
        }
    }

    #[test]
    fn every_position_has_its_own_kernel() {
        let [n, c, height, width] = INPUT;
        for local in WINDOWS {
            let ([p, q], k) = (positions(local), local.kernel);
            let (x, w) = (noise(n * c * height * width, 1), noise(p * q * k * k * c * OUT, 2));
            let b = noise(OUT * p * q, 3);
            let mut expected = Vec::new();
            for image in 0..n {
                for (o, row, column) in
                    (0..OUT).flat_map(|o| (0..p).flat_map(move |p| (0..q).map(move |q| (o, p, q))))
                {
                    let mut sum = b[(o * p + row) * q + column];
                    for (i, j, channel) in
                        (0..k).flat_map(|i| (0..k).flat_map(move |j| (0..c).map(move |c| (i, j, c))))
                    {
                        let pixel = |at: usize, offset: usize, side: usize| {
                            (at * local.stride + offset).checked_sub(local.padding).filter(|&at| at < side)
                        };
                        if let (Some(y), Some(z)) = (pixel(row, i, height), pixel(column, j, width)) {
                            let weight =
                                ((row * q + column) * k * k * c + (i * k + j) * c + channel) * OUT + o;
                            sum += x[((image * c + channel) * height + y) * width + z] * w[weight];
                        }
                    }
                    expected.push(sum);
                }
            }
            let case = Case::f64("local").values(INPUT, x);
            let case = case.values([p, q, local.inputs(c), OUT], w).values([OUT, p, q], b);
            compare(&evaluate(case, |g, x| g.local(x[0], x[1], x[2], local)), &expected);
        }
    }

    #[test]
    fn with_the_same_kernel_everywhere_it_is_a_convolution() {
        for local in WINDOWS {
            let ([p, q], inputs) = (positions(local), local.inputs(INPUT[1]));
            let (one, bias) = (noise(inputs * OUT, 1), noise(OUT, 2));
            let x = noise(INPUT.iter().product(), 3);
            let everywhere = one.repeat(p * q);
            let biases: Vec<f64> = bias.iter().flat_map(|&b| vec![b; p * q]).collect();
            let case = Case::f32("local").values(INPUT, x.clone());
            let case = case.values([p, q, inputs, OUT], everywhere).values([OUT, p, q], biases);
            let given = evaluate(case, |g, x| g.local(x[0], x[1], x[2], local));

            let k = local.kernel;
            let case = Case::f32("conv").values(INPUT, x).values([k, k, INPUT[1], OUT], one);
            let expected = evaluate(case.values([OUT], bias), |g, x| {
                let w = g.transpose(x[1], &[3, 2, 0, 1])?;
                g.conv(x[0], w, Some(x[2]), Conv::new(local.stride, local.padding))
            });
            compare(&given, &expected);
        }
    }

    #[test]
    fn weights_that_do_not_fit_are_refused_with_the_shape_that_would() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 3, 6, 6])).unwrap();
        let w = g.input("w", TensorType::f32([6, 6, 27, 8])).unwrap();
        let b = g.input("b", TensorType::f32([8, 6, 6])).unwrap();
        let local = Local { kernel: 3, stride: 1, padding: 1 };
        assert_eq!(g.local(x, w, b, local).map(|y| g.shape(y).to_vec()), Ok(vec![1, 8, 6, 6]));
        let error = g.local(x, w, b, Local { padding: 0, ..local }).unwrap_err().to_string();
        assert!(error.contains("expected weights [4,4,27,O] and biases [O,4,4]"), "{error}");
        assert!(g.local(x, w, b, Local { kernel: 7, padding: 0, stride: 1 }).is_err());
        assert!(g.local(x, w, b, Local { stride: 0, ..local }).is_err());
        assert!(g.local(x, w, b, Local { padding: 3, ..local }).is_err());
        assert!(g.local(w, w, b, local).is_err());
    }
}
