//! Operators that move data: each value of the result comes from a place in the operands.

use super::call::{Call, Folded};
use super::shapes::{axis_of, even_split, index_of, reshaped, sizes, slice_of};
use super::tensors::{broadcast_to, checked, converted, joined, moved, pick, strides, with};
use crate::import::constant::{Constant, Values};
use crate::onnx::tensor_proto::DataType;
use crate::types::broadcast;

/// `x` with a length of 1 along `axis`, if it is the same all along it.
pub(crate) fn one_along(x: &Constant, axis: usize) -> Option<Constant> {
    let (mut shape, strides) = (x.shape.clone(), strides(&x.shape));
    shape[axis] = 1;
    let one = moved(x, &shape, |index| strides.iter().zip(index).map(|(step, at)| step * at).sum()).ok()?;
    (broadcast_to(&one, &x.shape).ok()? == *x).then_some(one)
}

impl Call<'_> {
    pub(super) fn reshape(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let target = self.list("shape", 1, 5)?.ok_or("lacks a shape")?;
        let allow_zero = self.attributes.int("allowzero", 0) != 0;
        let shape = reshaped(&x.shape, &target, allow_zero)?;
        Ok(with(&shape, x.values.clone()))
    }

    pub(super) fn flatten(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let axis = self.attributes.int("axis", 1);
        let axis = if axis == x.shape.len() as i64 { x.shape.len() } else { axis_of(axis, x.shape.len())? };
        let shape = [x.shape[..axis].iter().product(), x.shape[axis..].iter().product()];
        Ok(with(&shape, x.values.clone()))
    }

    pub(super) fn squeeze(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let rank = x.shape.len();
        let axes = match self.list("axes", 1, 13)? {
            Some(axes) => axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).filter(|&axis| x.shape[axis] == 1).collect(),
        };
        if axes.iter().any(|&axis| x.shape[axis] != 1) {
            return Err(format!("drops axes {axes:?} of {:?}, expected lengths of 1", x.shape));
        }
        let kept: Vec<usize> =
            (0..rank).filter(|axis| !axes.contains(axis)).map(|axis| x.shape[axis]).collect();
        Ok(with(&kept, x.values.clone()))
    }

    pub(super) fn unsqueeze(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let axes = self.list("axes", 1, 13)?.ok_or("lacks axes")?;
        let rank = x.shape.len() + axes.len();
        let axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        let mut rest = x.shape.iter().copied();
        let shape: Option<Vec<usize>> =
            (0..rank).map(|axis| if axes.contains(&axis) { Some(1) } else { rest.next() }).collect();
        Ok(with(&shape.ok_or("repeats an axis")?, x.values.clone()))
    }

    pub(super) fn transpose(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let rank = x.shape.len();
        let order = self.attributes.sizes("perm").unwrap_or_else(|| (0..rank).rev().collect());
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted != (0..rank).collect::<Vec<_>>() {
            return Err(format!("has the order {order:?} for {rank} axes"));
        }
        let shape: Vec<usize> = order.iter().map(|&axis| x.shape[axis]).collect();
        let strides = strides(&x.shape);
        moved(x, &shape, |index| order.iter().zip(index).map(|(&axis, &i)| strides[axis] * i).sum())
    }

    pub(super) fn expand(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let target = sizes(self.integers(1)?)?;
        let shape = broadcast(&x.shape, &target)
            .ok_or_else(|| format!("expands {:?} to {target:?}, which does not broadcast", x.shape))?;
        broadcast_to(x, &shape)
    }

    pub(super) fn tile(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let repeats = sizes(self.integers(1)?)?;
        if repeats.len() != x.shape.len() {
            return Err(format!("has {} repeats for {} axes", repeats.len(), x.shape.len()));
        }
        let shape: Vec<usize> =
            x.shape.iter().zip(&repeats).map(|(&length, &times)| length.saturating_mul(times)).collect();
        let strides = strides(&x.shape);
        moved(x, &shape, |index| (0..index.len()).map(|a| strides[a] * (index[a] % x.shape[a])).sum())
    }

    pub(super) fn gather(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let places = self.operand(1)?;
        let axis = axis_of(self.attributes.int("axis", 0), x.shape.len())?;
        let length = x.shape[axis];
        let at =
            self.integers(1)?.iter().map(|&place| index_of(place, length)).collect::<Result<Vec<_>, _>>()?;
        let shape = [&x.shape[..axis], &places.shape, &x.shape[axis + 1..]].concat();
        let (outer, inner) = (strides(&x.shape), strides(&places.shape));
        let rank = places.shape.len();
        moved(x, &shape, |index| {
            let place: usize = (0..rank).map(|a| inner[a] * index[axis + a]).sum();
            let before: usize = (0..axis).map(|a| outer[a] * index[a]).sum();
            let after: usize = (axis + 1..x.shape.len()).map(|a| outer[a] * index[a + rank - 1]).sum();
            before + outer[axis] * at[place] + after
        })
    }

    pub(super) fn slice(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let (starts, ends) = (
            self.list("starts", 1, 10)?.ok_or("lacks starts")?,
            self.list("ends", 2, 10)?.ok_or("lacks ends")?,
        );
        let axes = self.list("axes", 3, 10)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.list("steps", 4, 10)?.filter(|_| self.opset >= 10).unwrap_or(vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err("has starts, ends, axes and steps of different numbers".into());
        }
        let mut shape = x.shape.clone();
        let mut slices = vec![(0, 1); shape.len()];
        for i in 0..starts.len() {
            let axis = axis_of(axes[i], shape.len())?;
            let (start, step, count) = slice_of(starts[i], ends[i], steps[i], x.shape[axis])?;
            (slices[axis], shape[axis]) = ((start, step), count);
        }
        let strides = strides(&x.shape);
        moved(x, &shape, |index| {
            let place = |a: usize| (slices[a].0 + slices[a].1 * index[a] as i64) as usize;
            (0..index.len()).map(|a| strides[a] * place(a)).sum()
        })
    }

    pub(super) fn concat(&self) -> Result<Constant, String> {
        let parts: Vec<&Constant> =
            (0..self.operands.len()).map(|at| self.operand(at)).collect::<Result<_, _>>()?;
        let first = self.first()?;
        let axis = axis_of(self.attributes.int("axis", 1), first.shape.len())?;
        let mut shape = first.shape.clone();
        for part in &parts[1..] {
            let fits = part.shape.len() == shape.len()
                && (0..shape.len()).all(|a| a == axis || part.shape[a] == shape[a]);
            if !fits {
                return Err(format!("joins {:?} and {:?} along axis {axis}", first.shape, part.shape));
            }
            shape[axis] = shape[axis].saturating_add(part.shape[axis]);
        }
        checked(&shape)?;
        let outer: usize = shape[..axis].iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        // All values after each other, and where each of the result lies there.
        let mut places = Vec::with_capacity(checked(&shape)?);
        for row in 0..outer {
            let mut start = 0;
            for part in &parts {
                let run = part.shape[axis] * inner;
                places.extend(start + row * run..start + (row + 1) * run);
                start += part.values.len();
            }
        }
        Ok(with(&shape, pick(&joined(&parts)?, &places)))
    }

    pub(super) fn split(&self, outputs: usize) -> Folded {
        let x = self.first()?;
        let axis = axis_of(self.attributes.int("axis", 0), x.shape.len())?;
        let length = x.shape[axis];
        let lengths = match self.list("split", 1, 13)? {
            Some(lengths) => sizes(&lengths)?,
            None => even_split(length, outputs),
        };
        if lengths.iter().sum::<usize>() != length {
            return Err(format!("splits an axis of {length} into {lengths:?}"));
        }
        let strides = strides(&x.shape);
        let mut start = 0;
        let mut parts = Vec::with_capacity(lengths.len());
        for length in lengths {
            let mut shape = x.shape.clone();
            shape[axis] = length;
            let first = start * strides[axis];
            parts.push(moved(x, &shape, |index| {
                first + strides.iter().zip(index).map(|(stride, i)| stride * i).sum::<usize>()
            })?);
            start += length;
        }
        Ok(parts)
    }

    pub(super) fn scatter_nd(&self) -> Result<Constant, String> {
        let (x, places, updates) = (self.first()?, self.operand(1)?, self.operand(2)?);
        if !matches!(self.attributes.text("reduction").as_str(), "" | "none") {
            return Err("has a reduction, which is not evaluated".into());
        }
        let depth = places.shape.last().copied().unwrap_or(0);
        if depth > x.shape.len() {
            return Err(format!("has indices of {depth} axes for {} axes", x.shape.len()));
        }
        let run: usize = x.shape[depth..].iter().product();
        let strides = strides(&x.shape);
        let indices = self.integers(1)?;
        let count = indices.len().checked_div(depth).unwrap_or(1);
        if updates.values.len() != count * run {
            return Err(format!("has {} updates, expected {}", updates.values.len(), count * run));
        }
        // Places in the values of x, followed by those of the updates.
        let mut from: Vec<usize> = (0..x.values.len()).collect();
        for i in 0..count {
            let mut start = 0;
            for a in 0..depth {
                start += strides[a] * index_of(indices[i * depth + a], x.shape[a])?;
            }
            for j in 0..run {
                from[start + j] = x.values.len() + i * run + j;
            }
        }
        Ok(with(&x.shape, pick(&joined(&[x, updates])?, &from)))
    }

    pub(super) fn pad(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let rank = x.shape.len();
        let pads = self.list("pads", 1, 11)?.ok_or("lacks pads")?;
        let axes = match self.optional(3) {
            Some(_) => {
                self.integers(3)?.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?
            }
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(format!("has {} pads for {} axes", pads.len(), axes.len()));
        }
        let pads = sizes(&pads)?;
        let (mut before, mut shape) = (vec![0; rank], x.shape.clone());
        for (i, &axis) in axes.iter().enumerate() {
            before[axis] = pads[i];
            shape[axis] = x.shape[axis].saturating_add(pads[i]).saturating_add(pads[axes.len() + i]);
        }
        let zero = match (self.optional(2), &x.values) {
            (Some(value), _) => value.clone(),
            (None, Values::Floats(_)) => {
                let value = self.attributes.float("value", 0.0) as f32;
                Constant::new([1], Values::Floats([value].into()))
            }
            (None, Values::Integers(_)) => Constant::integers(vec![0]),
            (None, Values::Booleans(_)) => Constant::new([1], Values::Booleans(vec![false])),
        };
        let (strides, outside) = (strides(&x.shape), x.values.len());
        let all = Constant::new([outside + zero.values.len()], joined(&[x, &zero])?);
        moved(&all, &shape, |index| {
            let inside = (0..rank).all(|a| (before[a]..before[a] + x.shape[a]).contains(&index[a]));
            if inside { (0..rank).map(|a| strides[a] * (index[a] - before[a])).sum() } else { outside }
        })
    }

    pub(super) fn trilu(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let rank = x.shape.len();
        if rank < 2 {
            return Err(format!("takes a matrix, given the shape {:?}", x.shape));
        }
        let shift = match self.optional(1) {
            Some(_) => self.integers(1)?.first().copied().unwrap_or(0),
            None => 0,
        };
        let is_upper = self.attributes.int("upper", 1) != 0;
        let (rows, columns) = (x.shape[rank - 2], x.shape[rank - 1]);
        let kept = |i: usize| {
            let (row, column) = ((i / columns % rows) as i64, (i % columns) as i64);
            if is_upper { column - row >= shift } else { column - row <= shift }
        };
        let values = match &x.values {
            Values::Floats(v) => {
                Values::Floats(v.iter().enumerate().map(|(i, &v)| if kept(i) { v } else { 0.0 }).collect())
            }
            Values::Integers(v) => {
                Values::Integers(v.iter().enumerate().map(|(i, &v)| if kept(i) { v } else { 0 }).collect())
            }
            Values::Booleans(v) => {
                Values::Booleans(v.iter().enumerate().map(|(i, &v)| v && kept(i)).collect())
            }
        };
        Ok(with(&x.shape, values))
    }

    pub(super) fn non_zero(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let is_set: Vec<bool> = match converted(&x.values, DataType::Bool)? {
            Values::Booleans(values) => values,
            _ => vec![],
        };
        let found: Vec<usize> = (0..is_set.len()).filter(|&i| is_set[i]).collect();
        let strides = strides(&x.shape);
        let axis = |a: usize| found.iter().map(move |&i| (i / strides[a] % x.shape[a]) as i64);
        let values = (0..x.shape.len()).flat_map(|a| axis.clone()(a).collect::<Vec<_>>()).collect();
        Ok(Constant::new([x.shape.len(), found.len()], Values::Integers(values)))
    }
}
