//! Convolutions over any number of spatial axes, and transposed convolutions.
//!
//! The weight gradient is one grouped convolution: dw[o,c,a] = Σ x[n,c, a·d + s·p] · dy[n,o,p] is a
//! convolution over p, of groups of images of one group's channels, whose kernel is the gradient.

use super::windows::{Windows, reach};
use crate::builder::Builder;
use crate::error::Result;
use crate::node::{Attributes, Tensor, int, ints};
use crate::operator::{FLOATS, Operator};

pub(super) static CONV: Operator = Operator::new("Conv", 1).on_cuda(FLOATS);
pub(super) static CONV_TRANSPOSE: Operator = Operator::new("ConvTranspose", 1).on_cuda(FLOATS);

/// Geometry of a convolution; the kernel's size is in the shape of the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConvNd {
    pub windows: Windows,
    /// Number of groups into which channels are split.
    pub groups: usize,
}

impl ConvNd {
    pub fn attributes(&self) -> Attributes {
        let Windows { strides, before, after, dilations } = &self.windows;
        vec![
            ints("strides", strides),
            ints("pads", &[&before[..], after].concat()),
            ints("dilations", dilations),
            int("group", self.groups as i64),
        ]
    }

    /// Whether a padding is as long as the kernel, which the operators do not allow.
    fn pads_exceed(&self, kernel: &[usize]) -> bool {
        let Windows { before, after, .. } = &self.windows;
        (0..kernel.len()).any(|a| before[a].max(after[a]) >= self.reach(a, kernel[a]))
    }

    /// The same geometry without padding.
    fn unpadded(&self) -> Self {
        let none = vec![0; self.windows.before.len()];
        let windows = Windows { before: none.clone(), after: none, ..self.windows.clone() };
        Self { windows, ..self.clone() }
    }

    /// Length that a kernel of `kernel` elements along spatial axis `a` covers.
    pub fn reach(&self, a: usize, kernel: usize) -> usize {
        reach(kernel, self.windows.dilations[a])
    }
}

impl Builder {
    /// Convolution of `x` `[N,C,…]` with `w` `[O,C/g,…]` plus `b` `[O]`, over one spatial axis or more.
    pub(crate) fn conv_nd(
        &mut self,
        x: Tensor,
        w: Tensor,
        b: Option<Tensor>,
        conv: ConvNd,
    ) -> Result<Tensor> {
        let operands: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
        let shape = self.conv_shape(&operands, &conv)?;
        if conv.pads_exceed(&self.shape(w)[2..]) {
            let x = self.pad_spatially(x, &conv.windows.before, &conv.windows.after)?;
            return self.conv_nd(x, w, b, conv.unpadded());
        }
        let y = self.emit(&CONV, &operands, conv.attributes(), self.ty(x).reshaped(shape));
        let (x_shape, w_shape) = (self.shape(x).to_vec(), self.shape(w).to_vec());
        self.record(&operands, &[y], move |g, up| {
            let dy = up.single();
            let dx = g.when(up.wanted[0], |g| Ok(g.conv_transposed(dy, w, None, &conv, &x_shape)))?;
            let dw = g.when(up.wanted[1], |g| g.conv_weight_by_one_conv(x, dy, &conv, &w_shape))?;
            let mut gradients = vec![dx, dw];
            if b.is_some() {
                gradients.push(g.when(up.wanted[2], |g| g.sum_to_channels(dy))?);
            }
            Ok(gradients)
        });
        Ok(y)
    }

    /// Transposed convolution of `x` `[N,C,…]` with `w` `[C,O/g,…]` plus `b` `[O]`: what the convolution of
    /// an input of `lengths` with `w` does to the gradient of its output `x`.
    ///
    /// # Errors
    /// Shapes, types or groups do not fit.
    pub(crate) fn conv_transpose(
        &mut self,
        x: Tensor,
        w: Tensor,
        b: Option<Tensor>,
        conv: ConvNd,
        lengths: &[usize],
    ) -> Result<Tensor> {
        let operands: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
        let (ty, kernel) = (self.ty(x).clone(), self.ty(w).clone());
        let fits = ty.rank() >= 3
            && ty.rank() == kernel.rank()
            && ty.element == kernel.element
            && ty.element.is_float()
            && conv.groups > 0
            && ty.shape[1] == kernel.shape[0]
            && ty.shape[1].is_multiple_of(conv.groups);
        if !fits {
            let reason = format!(
                "data [N,C,…] and weights [C,O/{},…] must be floating-point with as many axes",
                conv.groups
            );
            return Err(self.mismatch(CONV_TRANSPOSE.name, &operands, reason));
        }
        let out = kernel.shape[1] * conv.groups;
        if b.is_some_and(|b| *self.ty(b) != ty.reshaped([out])) {
            return Err(self.mismatch(
                CONV_TRANSPOSE.name,
                &operands,
                format!("the bias must have {out} values"),
            ));
        }
        // What the kernel reaches; a longer output has zeros behind.
        let padded = |a: usize| lengths[a] + conv.windows.before[a] + conv.windows.after[a];
        let reached =
            |a: usize| (ty.shape[2 + a] - 1) * conv.windows.strides[a] + conv.reach(a, kernel.shape[2 + a]);
        let axes = lengths.len();
        if (0..axes).any(|a| lengths[a] == 0 || padded(a) < reached(a)) {
            let reason = format!("an output of {lengths:?} is shorter than what the kernel reaches");
            return Err(self.mismatch(CONV_TRANSPOSE.name, &operands, reason));
        }
        if conv.pads_exceed(&kernel.shape[2..]) {
            let whole: Vec<usize> = (0..axes).map(padded).collect();
            let mut y = self.conv_transpose(x, w, b, conv.unpadded(), &whole)?;
            for (a, &length) in lengths.iter().enumerate() {
                let start = conv.windows.before[a];
                y = self.slice(y, 2 + a, start, start + length)?;
            }
            return Ok(y);
        }
        let behind: Vec<usize> = (0..axes)
            .map(|a| match padded(a) - reached(a) {
                rest if rest < conv.windows.strides[a] => 0,
                rest => rest,
            })
            .collect();
        if behind.iter().any(|&rest| rest > 0) {
            let short: Vec<usize> = lengths.iter().zip(&behind).map(|(length, rest)| length - rest).collect();
            let y = self.conv_transpose(x, w, None, conv, &short)?;
            let y = self.pad_spatially(y, &vec![0; axes], &behind)?;
            let Some(b) = b else { return Ok(y) };
            let b = self.reshape(b, &[&[out], &vec![1; axes][..]].concat())?;
            return self.add(y, b);
        }
        let shape = [&[ty.shape[0], out], lengths].concat();
        let y = self.conv_transposed(x, w, b, &conv, &shape);
        self.record(&operands, &[y], move |g, up| {
            let dy = up.single();
            let dx = g.when(up.wanted[0], |g| g.conv_of_any_rank(dy, w, None, conv.clone()))?;
            let dw = g.when(up.wanted[1], |g| g.conv_weight_by_one_conv(dy, x, &conv, &kernel.shape))?;
            let mut gradients = vec![dx, dw];
            if b.is_some() {
                gradients.push(g.when(up.wanted[2], |g| g.sum_to_channels(dy))?);
            }
            Ok(gradients)
        });
        Ok(y)
    }

    /// The transposed convolution of `dy` with `w` plus `b`, of an output of `shape`.
    pub(crate) fn conv_transposed(
        &mut self,
        dy: Tensor,
        w: Tensor,
        b: Option<Tensor>,
        conv: &ConvNd,
        shape: &[usize],
    ) -> Tensor {
        let Windows { strides, before, after, .. } = &conv.windows;
        // Rows at the end that no kernel position reached get zeros, by the operator's output padding.
        let rest: Vec<usize> = (0..strides.len())
            .map(|a| {
                let reached = (self.shape(dy)[2 + a] - 1) * strides[a] + conv.reach(a, self.shape(w)[2 + a]);
                shape[2 + a] + before[a] + after[a] - reached
            })
            .collect();
        let mut attributes = conv.attributes();
        attributes.push(ints("output_padding", &rest));
        let operands: Vec<Tensor> = [dy, w].into_iter().chain(b).collect();
        self.emit(&CONV_TRANSPOSE, &operands, attributes, self.ty(dy).reshaped(shape))
    }

    /// The gradient of weights of `shape` `[O,C/g,…]`, from the input `x` `[N,C,…]` and the gradient `dy`
    /// `[N,O,…]`, by one convolution for all groups.
    pub(crate) fn conv_weight_by_one_conv(
        &mut self,
        x: Tensor,
        dy: Tensor,
        conv: &ConvNd,
        shape: &[usize],
    ) -> Result<Tensor> {
        let (axes, groups, batch) = (shape.len() - 2, conv.groups, self.shape(x)[0]);
        let Windows { strides, before, dilations, .. } = &conv.windows;
        let (x, pads) = self.rows_of_positions(x, dy, conv, shape)?;
        let (channels, lengths) = (self.shape(x)[1], self.shape(x)[2..].to_vec());
        let inner = channels / groups;
        let behind =
            |first: &[usize]| [first, &(first.len()..first.len() + axes).collect::<Vec<_>>()].concat();
        let joined = [&[inner, groups * batch], &lengths[..]].concat();
        let xt = if inner == 1 {
            self.transpose(x, &behind(&[1, 0]))?
        } else {
            let x = self.reshape(x, &[&[batch, groups, inner], &lengths[..]].concat())?;
            self.transpose(x, &behind(&[2, 1, 0]))?
        };
        let xt = self.reshape(xt, &joined)?;
        let dt = self.transpose(dy, &behind(&[1, 0]))?;
        let windows = Windows {
            strides: dilations.clone(),
            before: if pads.is_some() { before.clone() } else { vec![0; axes] },
            after: pads.unwrap_or_else(|| vec![0; axes]),
            dilations: strides.clone(),
        };
        let geometry = ConvNd { windows, groups };
        let ty = self.ty(x).reshaped([&[inner, shape[0]], &shape[2..]].concat());
        let dw = self.emit(&CONV, &[xt, dt], geometry.attributes(), ty);
        if inner == 1 { self.reshape(dw, shape) } else { self.transpose(dw, &behind(&[1, 0])) }
    }

    /// The rows of `x` that kernel positions cover: rows at the end that none reached would become
    /// additional offsets. The padding is left to the convolution that takes them where its kernel, which is
    /// `dy`, exceeds it; then its length at the end is returned too.
    fn rows_of_positions(
        &mut self,
        x: Tensor,
        dy: Tensor,
        conv: &ConvNd,
        shape: &[usize],
    ) -> Result<(Tensor, Option<Vec<usize>>)> {
        let (axes, before) = (shape.len() - 2, &conv.windows.before);
        let covered = |a: usize| (self.shape(dy)[2 + a] - 1) * conv.windows.strides[a];
        let rows: Vec<usize> = (0..axes).map(|a| conv.reach(a, shape[2 + a]) + covered(a)).collect();
        let length = |a: usize| self.shape(x)[2 + a];
        // Rows of padding alone have no values of x.
        let end: Vec<usize> = (0..axes).map(|a| rows[a].saturating_sub(before[a]).min(length(a))).collect();
        let after: Vec<usize> = (0..axes).map(|a| (rows[a] - end[a]).saturating_sub(before[a])).collect();
        let is_inside = (0..axes).all(|a| before[a].max(after[a]) <= covered(a));
        let x = self.crop(x, &end)?;
        if is_inside {
            return Ok((x, Some(after)));
        }
        Ok((self.pad_spatially(x, before, &after)?, None))
    }

    /// `x` `[N,C,…]` with zeros around its spatial axes.
    pub(super) fn pad_spatially(&mut self, x: Tensor, before: &[usize], after: &[usize]) -> Result<Tensor> {
        self.pad(x, &[&[0, 0], before].concat(), &[&[0, 0], after].concat())
    }

    /// Σ over all axes but the channels: `[O]`.
    fn sum_to_channels(&mut self, dy: Tensor) -> Result<Tensor> {
        let axes: Vec<usize> = (0..self.shape(dy).len()).filter(|&axis| axis != 1).collect();
        self.reduce_sum(dy, &axes, false)
    }

    /// Checks the operands of a convolution and returns the shape of its output.
    pub(super) fn conv_shape(&self, operands: &[Tensor], conv: &ConvNd) -> Result<Vec<usize>> {
        let (x, w) = (self.ty(operands[0]), self.ty(operands[1]));
        let failed = |reason: String| Err(self.mismatch(CONV.name, operands, reason));
        let Windows { strides, before, after, dilations } = &conv.windows;
        let rank = 2 + strides.len();
        if x.rank() != rank || w.rank() != rank || !x.element.is_float() || x.element != w.element {
            let axes = if rank == 4 { "four axes".into() } else { format!("{rank} axes") };
            return failed(format!("data and weights must be floating-point with {axes}"));
        }
        if strides.contains(&0) || dilations.contains(&0) || w.shape[2..].contains(&0) {
            return failed(format!("strides, dilations and kernel must be at least 1, given {conv:?}"));
        }
        let (groups, channels, out) = (conv.groups, x.shape[1], w.shape[0]);
        if groups == 0 || channels % groups != 0 || out % groups != 0 || w.shape[1] * groups != channels {
            return failed(format!(
                "{groups} groups must divide both channel counts, with C/{groups} in the weights"
            ));
        }
        if let Some(&b) = operands.get(2)
            && *self.ty(b) != w.reshaped([out])
        {
            return failed(format!("the bias must have {out} values"));
        }
        let mut shape = vec![x.shape[0], out];
        for a in 0..strides.len() {
            let padded = x.shape[2 + a] + before[a] + after[a];
            let reach = conv.reach(a, w.shape[2 + a]);
            if padded < reach {
                return failed(format!("the kernel covers {reach} of {padded} positions, and must fit"));
            }
            shape.push((padded - reach) / strides[a] + 1);
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::ConvNd;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::ops::windows::Windows;
    use crate::{Builder, Lowering, Target, TensorType};

    fn conv(
        strides: &[usize],
        before: &[usize],
        after: &[usize],
        dilations: &[usize],
        groups: usize,
    ) -> ConvNd {
        let [strides, before, after, dilations] = [strides, before, after, dilations].map(<[usize]>::to_vec);
        ConvNd { windows: Windows { strides, before, after, dilations }, groups }
    }

    #[test]
    fn gradients_over_any_number_of_axes_agree_with_finite_differences() {
        let cases: [(ConvNd, &[usize], &[usize]); 7] = [
            (conv(&[1], &[1], &[1], &[1], 1), &[2, 3, 6], &[4, 3, 3]),
            (conv(&[2], &[0], &[3], &[2], 2), &[2, 4, 9], &[6, 2, 3]),
            (conv(&[1], &[2], &[0], &[1], 3), &[3, 3, 4], &[3, 1, 2]),
            (conv(&[1, 1, 1], &[1, 1, 1], &[1, 1, 1], &[1, 1, 1], 1), &[2, 2, 3, 4, 3], &[3, 2, 3, 3, 3]),
            (conv(&[2, 1, 2], &[0, 1, 0], &[1, 0, 1], &[1, 2, 1], 2), &[2, 4, 4, 5, 4], &[4, 2, 2, 2, 3]),
            (conv(&[1, 2, 1], &[0, 0, 1], &[0, 2, 1], &[1, 1, 1], 3), &[2, 3, 2, 4, 3], &[3, 1, 1, 2, 2]),
            (conv(&[1, 1], &[1, 2], &[2, 1], &[1, 1], 1), &[2, 2, 3, 2], &[2, 2, 2, 1]),
        ];
        for (conv, x, w) in cases {
            let case = Case::f32(&format!("{conv:?}")).normal(x).normal(w).normal([w[0]]);
            check_gradients(case, |g, t| g.conv_of_any_rank(t[0], t[1], Some(t[2]), conv.clone()));
        }
    }

    #[test]
    fn gradients_of_transposed_convolutions_agree_with_finite_differences() {
        type Shape = &'static [usize];
        let cases: [(ConvNd, Shape, Shape, Shape); 7] = [
            (conv(&[2, 2], &[1, 1], &[1, 1], &[1, 1], 1), &[2, 3, 3, 4], &[3, 2, 3, 3], &[5, 8]),
            (conv(&[2, 1], &[0, 1], &[1, 0], &[1, 2], 2), &[2, 4, 3, 4], &[4, 3, 2, 2], &[6, 5]),
            (conv(&[1, 1], &[0, 0], &[0, 0], &[1, 1], 3), &[2, 3, 3, 3], &[3, 1, 2, 2], &[4, 4]),
            // An output padding of a whole stride, and a padding longer than the kernel.
            (conv(&[1, 2], &[0, 0], &[0, 0], &[2, 2], 1), &[2, 2, 3, 2], &[2, 2, 2, 2], &[6, 5]),
            (conv(&[2, 2], &[1, 2], &[2, 1], &[1, 1], 1), &[2, 2, 4, 4], &[2, 3, 1, 2], &[5, 5]),
            (conv(&[3], &[1], &[0], &[1], 1), &[2, 2, 4], &[2, 3, 4], &[12]),
            (
                conv(&[2, 1, 2], &[0, 1, 1], &[0, 1, 0], &[1; 3], 2),
                &[2, 2, 2, 3, 2],
                &[2, 2, 2, 3, 2],
                &[4, 3, 3],
            ),
        ];
        for (conv, x, w, out) in cases {
            let case = Case::f32(&format!("transposed {conv:?}"));
            let case = case.normal(x).normal(w).normal([w[1] * conv.groups]);
            check_gradients(case, |g, t| g.conv_transpose(t[0], t[1], Some(t[2]), conv.clone(), out));
        }
    }

    #[test]
    fn a_transposed_convolution_spreads_each_value_over_its_window() {
        let case = Case::f32("ConvTranspose").values([1, 1, 2], vec![1.0, 10.0]);
        let case = case.values([1, 1, 3], vec![1.0, 2.0, 3.0]).values([1], vec![0.5]);
        let y = evaluate(case, |g, t| {
            g.conv_transpose(t[0], t[1], Some(t[2]), conv(&[2], &[0], &[0], &[1], 1), &[7])
        });
        assert_eq!(y, [1.5, 2.5, 13.5, 20.5, 30.5, 0.5, 0.5]);
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 4, 5])).unwrap();
        let w = g.input("w", TensorType::f32([4, 2, 3])).unwrap();
        let b = g.input("b", TensorType::f32([3])).unwrap();
        let line = |groups| conv(&[1], &[0], &[0], &[1], groups);
        assert!(g.conv_nd(x, w, None, line(1)).is_err());
        assert!(g.conv_nd(x, w, Some(b), line(2)).is_err());
        assert!(g.conv_nd(x, w, None, line(2)).is_ok());
        assert!(g.conv_transpose(x, w, None, line(3), &[7]).is_err());
        assert!(g.conv_transpose(x, w, Some(b), line(1), &[7]).is_err());
        assert!(g.conv_transpose(x, w, None, line(1), &[6]).is_err());
        assert!(g.conv_transpose(x, w, None, line(1), &[7]).is_ok());
        assert!(g.conv_transpose(x, b, None, line(1), &[7]).is_err());
    }
}
