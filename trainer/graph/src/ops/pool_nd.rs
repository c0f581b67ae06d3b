//! Pooling over any number of spatial axes with windows of any geometry, as files give it.
//!
//! The number of windows, and what an average counts, follow PyTorch, whose rule operator set 22 writes
//! down: the last window must start within the operand or the padding before it, and a padding that counts
//! ends where the node's padding does. Emitted nodes have neither `ceil_mode` with padding nor a padding
//! that differs between the ends of an axis, which providers read differently.

use super::conv_nd::ConvNd;
use super::windows::{AutoPad, Windows, reach};
use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::limits::CONSTANT;
use crate::import::translation::Translation;
use crate::model::DOMAIN;
use crate::node::{Attributes, Tensor, int, ints};
use crate::onnx::NodeProto;
use crate::operator::{FLOATS, Operator, SINGLE};
use crate::types::ElementType::{self, F16, F32, U8};
use crate::types::TensorType;

pub(super) static MAX_POOL: Operator = Operator::new("MaxPool", 1).on_cuda(&[F16, F32, U8]);
pub(super) static OWN_MAX_POOL: Operator = Operator::new("MaxPool", 1).in_domain(DOMAIN).on_cuda(SINGLE);
pub(super) static MAX_POOL_GRADIENT: Operator =
    Operator::new("MaxPoolGradient", 1).in_domain(DOMAIN).on_cuda(SINGLE);
pub(super) static AVERAGE_POOL: Operator = Operator::new("AveragePool", 1).on_cuda(FLOATS);

/// Windows of a pooling operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolNd {
    /// Sides of a window.
    pub kernel: Vec<usize>,
    pub windows: Windows,
    /// Whether the last window of an axis may extend past its end.
    pub ceil: bool,
}

impl PoolNd {
    /// Number of windows along axis `a` of `length`; `None` if none fits.
    fn positions(&self, a: usize, length: usize) -> Option<usize> {
        let Windows { strides, before, after, .. } = &self.windows;
        let room = (before[a] + length + after[a]).checked_sub(self.reach(a))?;
        let floor = room / strides[a] + 1;
        let ceil = room.div_ceil(strides[a]) + 1;
        let starts_inside = (ceil - 1) * strides[a] < length + before[a];
        Some(if self.ceil && starts_inside { ceil } else { floor })
    }

    /// Shortens the kernel along axis `a` of `length` to what there is, if it has one window, which ends
    /// behind.
    fn shorten(&mut self, a: usize, length: usize) {
        let room = self.windows.before[a] + length + self.windows.after[a];
        let is_single = room < self.kernel[a] && self.kernel[a] - room < self.windows.strides[a];
        if self.ceil && is_single && self.windows.dilations[a] == 1 {
            self.kernel[a] = room;
        }
    }

    fn reach(&self, a: usize) -> usize {
        reach(self.kernel[a], self.windows.dilations[a])
    }

    /// Padding at the end of axis `a` of `length` that makes all of `positions` windows whole.
    fn after(&self, a: usize, length: usize, positions: usize) -> usize {
        let end = (positions - 1) * self.windows.strides[a] + self.reach(a);
        end.saturating_sub(self.windows.before[a] + length)
    }

    /// Number of elements of window `at` along axis `a` of `length`, of the padding too if it counts.
    fn counted(&self, a: usize, length: usize, at: usize, counts_padding: bool) -> usize {
        let Windows { strides, before, after, dilations } = &self.windows;
        let counted = match counts_padding {
            true => 0..before[a] + length + after[a],
            false => before[a]..before[a] + length,
        };
        let elements = (0..self.kernel[a]).map(|i| at * strides[a] + i * dilations[a]);
        elements.filter(|element| counted.contains(element)).count()
    }
}

impl Builder {
    /// Maximum over windows of `x` `[N,C,…]`; the first of equal maxima gets the gradient.
    ///
    /// # Errors
    /// `x` is not floating-point `[N,C,…]` with an axis for each side of the window, or no window fits.
    pub(crate) fn max_pool_nd(&mut self, x: Tensor, pool: &PoolNd) -> Result<Tensor> {
        let shape = self.pool_shape(&MAX_POOL, x, pool)?;
        let Windows { strides, before, dilations, .. } = &pool.windows;
        if dilations.iter().all(|&d| d == 1)
            && let Some(y) = self.own_max_pool(x, &shape, [&pool.kernel, strides, before])
        {
            return Ok(y);
        }
        let (x, attributes) = self.max_windows(x, pool, &shape)?;
        Ok(self.max_pool_of(x, shape, attributes)[0])
    }

    /// Maximum over windows of `x` `[N,C,…]`, and the place of each in the flat `x`, i64.
    ///
    /// # Errors
    /// See [`max_pool_nd`](Self::max_pool_nd); or padding does not end within windows.
    pub(super) fn max_pool_with_places(&mut self, x: Tensor, pool: &PoolNd) -> Result<[Tensor; 2]> {
        let shape = self.pool_shape(&MAX_POOL, x, pool)?;
        let (padded, attributes) = self.max_windows(x, pool, &shape)?;
        if padded != x {
            let reason = "places are only known for padding that is shorter than the kernel and equal on both \
                          sides";
            return Err(self.mismatch(MAX_POOL.name, &[x], reason));
        }
        Ok(self.max_pool_of(x, shape, attributes))
    }

    /// Flat places in images with axes of `lengths`, the last of which is the fastest, as places where the
    /// first is.
    fn places_by_columns(&mut self, places: Tensor, lengths: &[usize]) -> Result<Tensor> {
        let area: usize = lengths.iter().product();
        let number = |g: &mut Self, value: usize| g.scalar(ElementType::I64, value as f64);
        let divisor = number(self, area);
        let mut rest = self.modulo(places, divisor, false)?;
        let mut total = self.sub(places, rest)?;
        let mut stride = area;
        for &length in lengths.iter().rev() {
            stride /= length;
            let (length, factor) = (number(self, length), number(self, stride));
            let index = self.modulo(rest, length, false)?;
            rest = self.div(rest, length)?;
            let part = self.mul(index, factor)?;
            total = self.add(total, part)?;
        }
        Ok(total)
    }

    /// The operand of the operator, padded where it does not take the padding, and its attributes.
    fn max_windows(&mut self, x: Tensor, pool: &PoolNd, shape: &[usize]) -> Result<(Tensor, Attributes)> {
        let Windows { strides, before, dilations, .. } = &pool.windows;
        let axes = strides.len();
        let after: Vec<usize> =
            (0..axes).map(|a| pool.after(a, self.shape(x)[2 + a], shape[2 + a])).collect();
        // The operator takes less padding than the kernel is long.
        let is_plain = after == *before
            && (before.iter().all(|&pad| pad == 0)
                || (dilations.iter().all(|&d| d == 1) && (0..axes).all(|a| before[a] < pool.kernel[a])));
        // Windows that extend past an operand without padding are the same everywhere.
        let is_cut = pool.ceil
            && before.iter().chain(&pool.windows.after).all(|&pad| pad == 0)
            && dilations.iter().all(|&d| d == 1)
            && (0..axes).all(|a| strides[a] <= pool.kernel[a]);
        let (x, pads) = if is_plain || is_cut {
            (x, [&before[..], before].concat())
        } else {
            (self.pad_with_lowest(x, before, &after)?, vec![0; 2 * axes])
        };
        let mut attributes =
            vec![ints("kernel_shape", &pool.kernel), ints("strides", strides), ints("pads", &pads)];
        if dilations.iter().any(|&d| d != 1) {
            attributes.push(ints("dilations", dilations));
        }
        if is_cut {
            attributes.push(int("ceil_mode", 1));
        }
        Ok((x, attributes))
    }

    /// The maximum over windows of `x` `[N,C,H,W]` with an output of `shape`, by operators of the domain
    /// [`DOMAIN`]; `None` where graphs hold none. The windows are kernel, strides and padding before.
    pub(super) fn own_max_pool(
        &mut self,
        x: Tensor,
        shape: &[usize],
        windows: [&[usize]; 3],
    ) -> Option<Tensor> {
        if !self.lowering().has_own(&OWN_MAX_POOL) || self.element(x) != F32 || shape.len() != 4 {
            return None;
        }
        let [kernel, strides, pads] = windows;
        let geometry = vec![ints("kernel_shape", kernel), ints("strides", strides), ints("pads", pads)];
        let ty = self.ty(x).clone();
        let attributes = [&geometry[..], &[ints("shape", shape)]].concat();
        let y = self.emit(&OWN_MAX_POOL, &[x], attributes, ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| {
            Ok(vec![Some(g.emit(&MAX_POOL_GRADIENT, &[up.single(), x], geometry.clone(), ty.clone()))])
        });
        Some(y)
    }

    /// MaxPool of `x` with an output of `shape`, and the places of the maxima.
    pub(super) fn max_pool_of(
        &mut self,
        x: Tensor,
        shape: Vec<usize>,
        attributes: Attributes,
    ) -> [Tensor; 2] {
        let ty = self.ty(x).clone();
        let types = vec![ty.reshaped(shape.clone()), ty.with_element(ElementType::I64).reshaped(shape)];
        let outputs = self.emit_many(&MAX_POOL, &[x], attributes, types);
        let (y, winners) = (outputs[0], outputs[1]);
        self.record(&[x], &[y], move |g, up| {
            // The indices are positions in the flat tensor. Windows that share one add their gradients.
            let count = g.ty(y).len();
            let (positions, dy) = (g.reshape(winners, &[count])?, g.reshape(up.single(), &[count])?);
            let dx = g.in_f32(dy, |g, dy| {
                let flat = g.ty(dy).reshaped([ty.len()]);
                g.scatter_add(flat, positions, dy, 0)
            })?;
            Ok(vec![Some(g.reshape(dx, &ty.shape)?)])
        });
        [y, winners]
    }

    /// Numbers that are lower than any that a network computes, around the spatial axes of `x` `[N,C,…]`.
    /// They are no infinities, which a maximum would not count as its place.
    fn pad_with_lowest(&mut self, x: Tensor, before: &[usize], after: &[usize]) -> Result<Tensor> {
        let lowest = if self.element(x) == F16 { -6e4 } else { -3e38 };
        self.pad_with(x, &[&[0, 0], before].concat(), &[&[0, 0], after].concat(), lowest)
    }

    /// Mean over windows of `x` `[N,C,…]`, of the padding too if it counts.
    ///
    /// # Errors
    /// See [`max_pool_nd`](Self::max_pool_nd).
    pub(crate) fn average_pool_nd(
        &mut self,
        x: Tensor,
        pool: &PoolNd,
        counts_padding: bool,
    ) -> Result<Tensor> {
        let shape = self.pool_shape(&AVERAGE_POOL, x, pool)?;
        let lengths = self.shape(x)[2..].to_vec();
        let means = self.mean_of_whole_windows(x, pool, &shape)?;
        let count = |at: &[usize]| -> usize {
            (0..lengths.len()).map(|a| pool.counted(a, lengths[a], at[a], counts_padding)).product()
        };
        let whole: usize = pool.kernel.iter().product();
        let positions = self.ty(x).reshaped(&shape[2..]).len();
        if positions > CONSTANT {
            let reason = format!("a window has {positions} positions, expected at most {CONSTANT}");
            return Err(self.mismatch(AVERAGE_POOL.name, &[x], reason));
        }
        let counts: Vec<usize> = indices(&shape[2..]).map(|at| count(&at)).collect();
        if counts.iter().all(|&count| count == whole) {
            return Ok(means);
        }
        let shares: Vec<f64> = counts.iter().map(|&count| whole as f64 / count.max(1) as f64).collect();
        let ty = self.ty(x).reshaped([&[1, 1], &shape[2..]].concat());
        let shares = self.floats(ty, &shares);
        self.mul(means, shares)
    }

    /// The p-th root of the sum over windows of |x|ᵖ; the gradient where it is 0 is 0.
    ///
    /// # Errors
    /// See [`max_pool_nd`](Self::max_pool_nd).
    pub(crate) fn lp_pool(&mut self, x: Tensor, pool: &PoolNd, p: i64) -> Result<Tensor> {
        if p < 1 {
            return Err(self.mismatch("LpPool", &[x], format!("p is {p} and must be at least 1")));
        }
        let shape = self.pool_shape(&AVERAGE_POOL, x, pool)?;
        let (pool, whole) = (pool.clone(), pool.kernel.iter().product::<usize>() as f64);
        self.in_f32(x, |g, x| {
            let element = g.element(x);
            let y = g.composite(&[x], |g| {
                let size = g.abs(x)?;
                let power = g.scalar(element, p as f64);
                let powers = g.pow(size, power)?;
                let means = g.mean_of_whole_windows(powers, &pool, &shape)?;
                let sums = g.scale(means, whole)?;
                let root = g.scalar(element, 1.0 / p as f64);
                let y = g.pow(sums, root)?;
                let ty = g.ty(x).clone();
                // dx = x·|x|^(p−2) · Σ dy·y^(1−p) over the windows that hold it.
                let rule = move |g: &mut Self, up: &crate::builder::Upstream| {
                    let (zero, tiny) = (g.scalar(element, 0.0), g.scalar(element, 1e-30));
                    let some = g.greater(y, zero)?;
                    let one = g.scalar(element, 1.0);
                    let divisor = g.select(some, y, one)?;
                    let exponent = g.scalar(element, 1.0 - p as f64);
                    let factor = g.pow(divisor, exponent)?;
                    let dy = g.mul(up.single(), factor)?;
                    let dy = g.select(some, dy, zero)?;
                    let spread = g.spread(dy, &pool, &ty)?;
                    let exponent = g.scalar(element, p as f64 - 2.0);
                    let shifted = g.add(size, tiny)?;
                    let slope = g.pow(shifted, exponent)?;
                    let slope = g.mul(x, slope)?;
                    Ok(vec![Some(g.mul(spread, slope)?)])
                };
                Ok((vec![y], rule))
            })?;
            Ok(y[0])
        })
    }

    /// Mean over windows of `x` with zeros around it, all of which are whole, of an output of `shape`.
    fn mean_of_whole_windows(&mut self, x: Tensor, pool: &PoolNd, shape: &[usize]) -> Result<Tensor> {
        let Windows { strides, before, dilations, .. } = &pool.windows;
        let (axes, element) = (strides.len(), self.element(x));
        let after: Vec<usize> =
            (0..axes).map(|a| pool.after(a, self.shape(x)[2 + a], shape[2 + a])).collect();
        let x = self.pad_spatially(x, before, &after)?;
        let ty = self.ty(x).clone();
        let windows = Windows { before: vec![0; axes], after: vec![0; axes], ..pool.windows.clone() };
        let whole = PoolNd { windows, ceil: false, kernel: pool.kernel.clone() };
        // The operator has dilations from operator set 19 on. ONNX Runtime takes a Pad into it, and then
        // fails where the padding is as long as the kernel.
        let is_short = (0..axes).all(|a| before[a].max(after[a]) < pool.kernel[a]);
        let y = if is_short && dilations.iter().all(|&d| d == 1) {
            let attributes = vec![
                ints("kernel_shape", &pool.kernel),
                ints("strides", strides),
                ints("pads", &vec![0; 2 * axes]),
            ];
            self.emit(&AVERAGE_POOL, &[x], attributes, ty.reshaped(shape))
        } else {
            let images = self.reshape(x, &[&[ty.shape[0] * ty.shape[1], 1], &ty.shape[2..]].concat())?;
            let weights = self.window_of(element, &pool.kernel);
            let conv = ConvNd { windows: whole.windows.clone(), groups: 1 };
            let y = self.conv_of_any_rank(images, weights, None, conv)?;
            return self.reshape(y, shape);
        };
        self.record(&[x], &[y], move |g, up| {
            let count = whole.kernel.iter().product::<usize>() as f64;
            let dy = g.scale(up.single(), 1.0 / count)?;
            Ok(vec![Some(g.spread(dy, &whole, &ty)?)])
        });
        Ok(y)
    }

    /// A window of equal weights that sum to 1, `[1,1,…]`.
    fn window_of(&mut self, element: ElementType, kernel: &[usize]) -> Tensor {
        let count: usize = kernel.iter().product();
        let ty = TensorType::new(element, [&[1, 1], kernel].concat());
        self.floats(ty, &vec![1.0 / count as f64; count])
    }

    /// For each element of an operand of type `to`, the sum of `dy` over the windows that hold it.
    fn spread(&mut self, dy: Tensor, pool: &PoolNd, to: &TensorType) -> Result<Tensor> {
        let (out, axes) = (self.shape(dy)[2..].to_vec(), pool.kernel.len());
        let tiles = pool.windows.before.iter().all(|&pad| pad == 0)
            && pool.windows.dilations.iter().all(|&d| d == 1)
            && (0..axes).all(|a| {
                let Windows { strides, .. } = &pool.windows;
                strides[a] == pool.kernel[a] && out[a] * strides[a] == to.shape[2 + a]
            });
        if tiles {
            let outer = to.shape[..2].to_vec();
            let axes_of = |side: &dyn Fn(usize) -> usize| -> Vec<usize> {
                (0..axes).flat_map(|a| [out[a], side(a)]).collect()
            };
            let dy = self.reshape(dy, &[&outer[..], &axes_of(&|_| 1)].concat())?;
            let dy = self.expand(dy, &[&outer[..], &axes_of(&|a| pool.kernel[a])].concat())?;
            return self.reshape(dy, &to.shape);
        }
        let images = to.shape[0] * to.shape[1];
        let dy = self.reshape(dy, &[&[images, 1], &out[..]].concat())?;
        let ones = self.floats(
            to.reshaped([&[1, 1], &pool.kernel[..]].concat()),
            &vec![1.0; pool.kernel.iter().product()],
        );
        let lengths: Vec<usize> = (0..axes).map(|a| to.shape[2 + a]).collect();
        let after: Vec<usize> = (0..axes).map(|a| pool.after(a, lengths[a], out[a])).collect();
        let none = vec![0; axes];
        // With the padding, of which the gradient is dropped.
        let padded: Vec<usize> = (0..axes).map(|a| pool.windows.before[a] + lengths[a] + after[a]).collect();
        let windows = Windows { before: none.clone(), after: none, ..pool.windows.clone() };
        let shape = [&[images, 1], &padded[..]].concat();
        let mut dx = self.conv_transposed(dy, ones, None, &ConvNd { windows, groups: 1 }, &shape);
        for (a, &length) in lengths.iter().enumerate() {
            let start = pool.windows.before[a];
            dx = self.slice(dx, 2 + a, start, start + length)?;
        }
        self.reshape(dx, &to.shape)
    }

    /// Checks `x` and returns the shape of its pooled values.
    fn pool_shape(&self, operator: &'static Operator, x: Tensor, pool: &PoolNd) -> Result<Vec<usize>> {
        self.floating(operator.name, x)?;
        let (shape, axes) = (self.shape(x), pool.kernel.len());
        if shape.len() != 2 + axes || axes == 0 {
            let reason = format!("the operand must have the axes [N,C,…], {axes} of them spatial");
            return Err(self.mismatch(operator.name, &[x], reason));
        }
        let out: Option<Vec<usize>> = (0..axes).map(|a| pool.positions(a, shape[2 + a])).collect();
        match out {
            Some(out) => Ok([&shape[..2], &out].concat()),
            None => {
                let reason = format!("a window of {:?} must fit into the padded operand", pool.kernel);
                Err(self.mismatch(operator.name, &[x], reason))
            }
        }
    }
}

/// All indices of a tensor of `shape`, the last axis first.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let shape = shape.to_vec();
    (0..shape.iter().product()).map(move |flat: usize| {
        let mut rest = flat;
        let mut at = vec![0; shape.len()];
        for (index, &length) in at.iter_mut().zip(&shape).rev() {
            (*index, rest) = (rest % length, rest / length);
        }
        at
    })
}

pub(super) fn import_max_pool<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, pool) = pool(file, node)?;
    let Some(places) = node.output.get(1).filter(|name| !name.is_empty()) else {
        return file.g.max_pool_nd(x, &pool);
    };
    let [y, winners] = file.g.max_pool_with_places(x, &pool)?;
    let by_columns = NodeAttributes(node).int("storage_order", 0) != 0;
    let lengths = file.g.shape(x)[2..].to_vec();
    let winners = if by_columns { file.g.places_by_columns(winners, &lengths)? } else { winners };
    file.define(places, winners);
    Ok(y)
}

pub(super) fn import_average_pool<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, pool) = pool(file, node)?;
    let counts_padding = NodeAttributes(node).int("count_include_pad", 0) != 0;
    file.g.average_pool_nd(x, &pool, counts_padding)
}

pub(super) fn import_lp_pool<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, pool) = pool(file, node)?;
    file.g.lp_pool(x, &pool, NodeAttributes(node).int("p", 2))
}

pub(super) fn import_global_max_pool<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, pool) = whole_image(file, node)?;
    file.g.max_pool_nd(x, &pool)
}

pub(super) fn import_global_lp_pool<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (x, pool) = whole_image(file, node)?;
    file.g.lp_pool(x, &pool, NodeAttributes(node).int("p", 2))
}

/// The operand, and a single window over all of it.
fn whole_image<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<(Tensor, PoolNd)> {
    let x = file.operand(node, 0)?;
    let kernel = file.g.shape(x).get(2..).unwrap_or_default().to_vec();
    let axes = kernel.len();
    let windows = Windows {
        strides: vec![1; axes],
        before: vec![0; axes],
        after: vec![0; axes],
        dilations: vec![1; axes],
    };
    Ok((x, PoolNd { kernel, windows, ceil: false }))
}

/// The operand of a pooling node, and its windows.
fn pool<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<(Tensor, PoolNd)> {
    let attributes = NodeAttributes(node);
    let x = file.operand(node, 0)?;
    let kernel = attributes.sizes("kernel_shape").unwrap_or_default();
    let lengths = file.g.shape(x).get(2..).unwrap_or_default().to_vec();
    let windows = Windows::of_node(file, node, &lengths, &kernel)?;
    let ceil = attributes.int("ceil_mode", 0) != 0 && AutoPad::of(file, node)? == AutoPad::Given;
    let mut pool = PoolNd { kernel, windows, ceil };
    if pool.kernel.len() == lengths.len() {
        (0..lengths.len()).for_each(|a| pool.shorten(a, lengths[a]));
    }
    Ok((x, pool))
}

#[cfg(test)]
mod tests;
