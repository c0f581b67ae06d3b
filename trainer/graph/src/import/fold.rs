//! Evaluation of nodes whose operands are known when a file is imported: what exporters compute from shapes,
//! and constants that they have left in parts.
//!
//! Operators that move data are evaluated by the place that each value comes from; the others value by value.

use std::cmp::Ordering;
use std::sync::Arc;

use super::constant::{Constant, Values};
use super::file::NodeAttributes;
use crate::onnx::NodeProto;
use crate::onnx::tensor_proto::DataType;
use crate::types::broadcast;

/// A tensor with more values is not computed.
const MAX_VALUES: usize = 1 << 26;

type Folded = Result<Vec<Constant>, String>;
type Evaluation = fn(&Call<'_>) -> Result<Constant, String>;

/// The outputs of `node`; `None` if it is not evaluated here.
///
/// `operands` has an entry for each input, `None` where it is absent. `opset` is the file's operator set.
pub(super) fn fold(node: &NodeProto, operands: &[Option<&Constant>], opset: i64) -> Option<Folded> {
    let call = Call { attributes: NodeAttributes(node), operands, opset };
    if node.op_type() == "Split" {
        return Some(call.split(node.output.len()));
    }
    let mode = call.attributes.text("mode");
    if node.op_type() == "Pad" && !matches!(mode.as_str(), "" | "constant") {
        return None;
    }
    Some(evaluation(node.op_type())?(&call).map(|constant| vec![constant]))
}

/// Whether nodes of this operator are evaluated if their operands are known.
pub(super) fn is_evaluated(operator: &str) -> bool {
    operator == "Split" || evaluation(operator).is_some()
}

/// How an operator with one output is evaluated.
fn evaluation(operator: &str) -> Option<Evaluation> {
    Some(match operator {
        "Identity" => |call| call.first().cloned(),
        "Cast" => |call| call.cast(),
        "CastLike" => |call| call.cast_like(),
        "Shape" => |call| call.shape(),
        "Size" => |call| call.first().map(|x| scalar(x.values.len() as i64)),
        "ConstantOfShape" => |call| call.constant_of_shape(),
        "Range" => |call| call.range(),
        "Reshape" => |call| call.reshape(),
        "Flatten" => |call| call.flatten(),
        "Squeeze" => |call| call.squeeze(),
        "Unsqueeze" => |call| call.unsqueeze(),
        "Transpose" => |call| call.transpose(),
        "Expand" => |call| call.expand(),
        "Tile" => |call| call.tile(),
        "Gather" => |call| call.gather(),
        "Slice" => |call| call.slice(),
        "Concat" => |call| call.concat(),
        "ScatterND" => |call| call.scatter_nd(),
        "Pad" => |call| call.pad(),
        "Trilu" => |call| call.trilu(),
        "NonZero" => |call| call.non_zero(),
        "Where" => |call| call.select(),
        "Not" => |call| {
            let (shape, values) = call.booleans(0)?;
            Ok(with(shape, Values::Booleans(values.iter().map(|&value| !value).collect())))
        },
        "And" => |call| call.logic(|a, b| a && b),
        "Or" => |call| call.logic(|a, b| a || b),
        "Xor" => |call| call.logic(|a, b| a != b),
        "Equal" => |call| call.compare(|order| order == Some(Ordering::Equal)),
        "Less" => |call| call.compare(|order| order == Some(Ordering::Less)),
        "Greater" => |call| call.compare(|order| order == Some(Ordering::Greater)),
        "LessOrEqual" => |call| call.compare(|order| order.is_some_and(Ordering::is_le)),
        "GreaterOrEqual" => |call| call.compare(|order| order.is_some_and(Ordering::is_ge)),
        "Add" => |call| call.binary(i64::checked_add, |a, b| a + b),
        "Sub" => |call| call.binary(i64::checked_sub, |a, b| a - b),
        "Mul" => |call| call.binary(i64::checked_mul, |a, b| a * b),
        "Div" => |call| call.binary(i64::checked_div, |a, b| a / b),
        "Mod" => |call| match call.attributes.int("fmod", 0) {
            0 => call.binary(floored_remainder, |a, b| a - b * (a / b).floor()),
            _ => call.binary(i64::checked_rem, |a, b| a % b),
        },
        "Pow" => |call| call.binary(|a, b| a.checked_pow(u32::try_from(b).ok()?), f32::powf),
        "Min" => |call| call.fold_all(|a, b| Some(a.min(b)), f32::min),
        "Max" => |call| call.fold_all(|a, b| Some(a.max(b)), f32::max),
        "Neg" => |call| call.unary(i64::checked_neg, |x| -x),
        "Abs" => |call| call.unary(i64::checked_abs, f32::abs),
        "Floor" => |call| call.unary(Some, f32::floor),
        "Ceil" => |call| call.unary(Some, f32::ceil),
        "Round" => |call| call.unary(Some, f32::round_ties_even),
        "Sqrt" => |call| call.unary(|_| None, f32::sqrt),
        "Exp" => |call| call.unary(|_| None, f32::exp),
        "Log" => |call| call.unary(|_| None, f32::ln),
        "Sin" => |call| call.unary(|_| None, f32::sin),
        "Cos" => |call| call.unary(|_| None, f32::cos),
        "Reciprocal" => |call| call.unary(|_| None, f32::recip),
        "ReduceSum" => |call| call.reduce(13, i64::checked_add, |a, b| a + b),
        "ReduceProd" => |call| call.reduce(18, i64::checked_mul, |a, b| a * b),
        "ReduceMax" => |call| call.reduce(18, |a, b| Some(a.max(b)), f32::max),
        "ReduceMin" => |call| call.reduce(18, |a, b| Some(a.min(b)), f32::min),
        _ => return None,
    })
}

/// One node and its operands.
struct Call<'a> {
    attributes: NodeAttributes<'a>,
    operands: &'a [Option<&'a Constant>],
    opset: i64,
}

impl Call<'_> {
    fn operand(&self, at: usize) -> Result<&Constant, String> {
        self.optional(at).ok_or_else(|| format!("lacks operand {}", at + 1))
    }

    fn optional(&self, at: usize) -> Option<&Constant> {
        self.operands.get(at).copied().flatten()
    }

    fn first(&self) -> Result<&Constant, String> {
        self.operand(0)
    }

    fn integers(&self, at: usize) -> Result<&[i64], String> {
        match &self.operand(at)?.values {
            Values::Integers(values) => Ok(values),
            _ => Err(format!("has an operand {} that is not of integers", at + 1)),
        }
    }

    fn booleans(&self, at: usize) -> Result<(&[usize], &[bool]), String> {
        let x = self.operand(at)?;
        match &x.values {
            Values::Booleans(values) => Ok((&x.shape, values)),
            _ => Err(format!("has an operand {} that is not Boolean", at + 1)),
        }
    }

    /// A list of integers that is an operand from operator set `since` on, and an attribute before; `None` if
    /// it is absent.
    fn list(&self, name: &str, at: usize, since: i64) -> Result<Option<Vec<i64>>, String> {
        if self.opset < since {
            return Ok(self.attributes.ints(name));
        }
        self.optional(at).map(|_| self.integers(at).map(<[i64]>::to_vec)).transpose()
    }

    fn cast(&self) -> Result<Constant, String> {
        let to = i32::try_from(self.attributes.int("to", 0)).unwrap_or(0);
        let x = self.first()?;
        Ok(with(&x.shape, converted(&x.values, DataType::try_from(to).unwrap_or(DataType::Undefined))?))
    }

    fn cast_like(&self) -> Result<Constant, String> {
        let (x, like) = (self.first()?, self.operand(1)?);
        let to = match like.values {
            Values::Floats(_) => DataType::Float,
            Values::Integers(_) => DataType::Int64,
            Values::Booleans(_) => DataType::Bool,
        };
        Ok(with(&x.shape, converted(&x.values, to)?))
    }

    fn shape(&self) -> Result<Constant, String> {
        Ok(shape_between(&self.attributes, &self.first()?.shape))
    }

    fn constant_of_shape(&self) -> Result<Constant, String> {
        let shape = sizes(self.integers(0)?)?;
        let count = checked(&shape)?;
        let one = match self.attributes.tensor("value") {
            Some(tensor) => super::constant::of_tensor(tensor, "".as_ref())?,
            None => Constant::new([1], Values::Floats([0.0].into())),
        };
        if one.values.len() != 1 {
            return Err("has a value of several numbers, expected one".into());
        }
        Ok(with(&shape, pick(&one.values, &vec![0; count])))
    }

    fn range(&self) -> Result<Constant, String> {
        let count = |count: f64| {
            let fits = (0.0..=MAX_VALUES as f64).contains(&count);
            if fits { Ok(count as usize) } else { Err(format!("makes {count} values, too many")) }
        };
        if let (Values::Floats(a), Values::Floats(b), Values::Floats(step)) =
            (&self.operand(0)?.values, &self.operand(1)?.values, &self.operand(2)?.values)
        {
            let (&[start], &[limit], &[step]) = (&a[..], &b[..], &step[..]) else {
                return Err("has a range whose ends are not single numbers".into());
            };
            let count = count(f64::from((limit - start) / step).ceil().max(0.0))?;
            let values = (0..count).map(|i| start + i as f32 * step).collect();
            return Ok(Constant::new([count], Values::Floats(values)));
        }
        let (&[start], &[limit], &[step]) = (self.integers(0)?, self.integers(1)?, self.integers(2)?) else {
            return Err("has a range whose ends are not single numbers".into());
        };
        if step == 0 {
            return Err("has a range with a step of 0".into());
        }
        let count = count(((limit as f64 - start as f64) / step as f64).ceil().max(0.0))?;
        Ok(Constant::integers((0..count).map(|i| start.wrapping_add(step.wrapping_mul(i as i64))).collect()))
    }

    fn reshape(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let target = self.list("shape", 1, 5)?.ok_or("lacks a shape")?;
        let allow_zero = self.attributes.int("allowzero", 0) != 0;
        let shape = reshaped(&x.shape, &target, allow_zero)?;
        Ok(with(&shape, x.values.clone()))
    }

    fn flatten(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let axis = self.attributes.int("axis", 1);
        let axis = if axis == x.shape.len() as i64 { x.shape.len() } else { axis_of(axis, x.shape.len())? };
        let shape = [x.shape[..axis].iter().product(), x.shape[axis..].iter().product()];
        Ok(with(&shape, x.values.clone()))
    }

    fn squeeze(&self) -> Result<Constant, String> {
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

    fn unsqueeze(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let axes = self.list("axes", 1, 13)?.ok_or("lacks axes")?;
        let rank = x.shape.len() + axes.len();
        let axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        let mut rest = x.shape.iter().copied();
        let shape: Option<Vec<usize>> =
            (0..rank).map(|axis| if axes.contains(&axis) { Some(1) } else { rest.next() }).collect();
        Ok(with(&shape.ok_or("repeats an axis")?, x.values.clone()))
    }

    fn transpose(&self) -> Result<Constant, String> {
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

    fn expand(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let target = sizes(self.integers(1)?)?;
        let shape = broadcast(&x.shape, &target)
            .ok_or_else(|| format!("expands {:?} to {target:?}, which does not broadcast", x.shape))?;
        broadcast_to(x, &shape)
    }

    fn tile(&self) -> Result<Constant, String> {
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

    fn gather(&self) -> Result<Constant, String> {
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

    fn slice(&self) -> Result<Constant, String> {
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

    fn concat(&self) -> Result<Constant, String> {
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

    fn split(&self, outputs: usize) -> Folded {
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

    fn scatter_nd(&self) -> Result<Constant, String> {
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

    fn pad(&self) -> Result<Constant, String> {
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

    fn trilu(&self) -> Result<Constant, String> {
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

    fn non_zero(&self) -> Result<Constant, String> {
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

    fn select(&self) -> Result<Constant, String> {
        let (condition, a, b) = (self.operand(0)?, self.operand(1)?, self.operand(2)?);
        let shape = broadcast(&a.shape, &b.shape).and_then(|shape| broadcast(&shape, &condition.shape));
        let shape = shape.ok_or("has shapes that do not broadcast")?;
        let (condition, a, b) =
            (broadcast_to(condition, &shape)?, broadcast_to(a, &shape)?, broadcast_to(b, &shape)?);
        let Values::Booleans(condition) = &condition.values else {
            return Err("has a condition that is not Boolean".into());
        };
        let count = condition.len();
        let places: Vec<usize> = (0..count).map(|i| if condition[i] { i } else { count + i }).collect();
        Ok(with(&shape, pick(&joined(&[&a, &b])?, &places)))
    }

    fn logic(&self, f: impl Fn(bool, bool) -> bool) -> Result<Constant, String> {
        let (shape, a, b) = self.pair()?;
        match (&a.values, &b.values) {
            (Values::Booleans(a), Values::Booleans(b)) => {
                Ok(with(&shape, Values::Booleans(a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect())))
            }
            _ => Err("has operands that are not Boolean".into()),
        }
    }

    fn compare(&self, f: impl Fn(Option<Ordering>) -> bool) -> Result<Constant, String> {
        let (shape, a, b) = self.pair()?;
        let found = match (&a.values, &b.values) {
            (Values::Floats(a), Values::Floats(b)) => {
                a.iter().zip(b.iter()).map(|(a, b)| f(a.partial_cmp(b))).collect()
            }
            (Values::Integers(a), Values::Integers(b)) => {
                a.iter().zip(b).map(|(a, b)| f(Some(a.cmp(b)))).collect()
            }
            (Values::Booleans(a), Values::Booleans(b)) => {
                a.iter().zip(b).map(|(a, b)| f(Some(a.cmp(b)))).collect()
            }
            _ => return Err("compares values of different types".into()),
        };
        Ok(with(&shape, Values::Booleans(found)))
    }

    fn binary(
        &self,
        integers: impl Fn(i64, i64) -> Option<i64>,
        floats: impl Fn(f32, f32) -> f32,
    ) -> Result<Constant, String> {
        let (shape, a, b) = self.pair()?;
        let values = match (&a.values, &b.values) {
            (Values::Floats(a), Values::Floats(b)) => {
                Values::Floats(a.iter().zip(b.iter()).map(|(&a, &b)| floats(a, b)).collect())
            }
            (Values::Integers(a), Values::Integers(b)) => {
                let all: Option<_> = a.iter().zip(b).map(|(&a, &b)| integers(a, b)).collect();
                Values::Integers(all.ok_or(OVERFLOW)?)
            }
            // A power may have an exponent of another type.
            (Values::Floats(a), Values::Integers(b)) => {
                Values::Floats(a.iter().zip(b).map(|(&a, &b)| floats(a, b as f32)).collect())
            }
            _ => return Err("has operands of different types".into()),
        };
        Ok(with(&shape, values))
    }

    fn fold_all(
        &self,
        integers: impl Fn(i64, i64) -> Option<i64>,
        floats: impl Fn(f32, f32) -> f32,
    ) -> Result<Constant, String> {
        let mut sum = self.first()?.clone();
        for at in 1..self.operands.len() {
            let operands = [Some(&sum), Some(self.operand(at)?)];
            let pair = Call {
                attributes: NodeAttributes(self.attributes.0),
                operands: &operands,
                opset: self.opset,
            };
            sum = pair.binary(&integers, &floats)?;
        }
        Ok(sum)
    }

    fn unary(
        &self,
        integer: impl Fn(i64) -> Option<i64>,
        float: impl Fn(f32) -> f32,
    ) -> Result<Constant, String> {
        let x = self.first()?;
        let values = match &x.values {
            Values::Floats(values) => Values::Floats(values.iter().map(|&v| float(v)).collect()),
            Values::Integers(values) => {
                let all: Option<_> = values.iter().map(|&v| integer(v)).collect();
                Values::Integers(all.ok_or(OVERFLOW)?)
            }
            Values::Booleans(_) => return Err("takes numbers, given Booleans".into()),
        };
        Ok(with(&x.shape, values))
    }

    fn reduce(
        &self,
        since: i64,
        integers: impl Fn(i64, i64) -> Option<i64>,
        floats: impl Fn(f32, f32) -> f32,
    ) -> Result<Constant, String> {
        let x = self.first()?;
        let rank = x.shape.len();
        let axes = self.list("axes", 1, since)?.unwrap_or_default();
        if axes.is_empty() && self.attributes.int("noop_with_empty_axes", 0) != 0 {
            return Ok(x.clone());
        }
        let axes = match axes[..] {
            [] => (0..rank).collect(),
            _ => axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?,
        };
        let kept: Vec<usize> = (0..rank).map(|a| if axes.contains(&a) { 1 } else { x.shape[a] }).collect();
        let (from, to) = (strides(&x.shape), strides(&kept));
        let group = |i: usize| -> usize {
            (0..rank).filter(|a| !axes.contains(a)).map(|a| to[a] * (i / from[a] % x.shape[a])).sum()
        };
        let count: usize = kept.iter().product();
        let values = match &x.values {
            Values::Floats(values) => {
                let mut sums: Vec<Option<f32>> = vec![None; count];
                for (i, &value) in values.iter().enumerate() {
                    let sum = &mut sums[group(i)];
                    *sum = Some(sum.map_or(value, |sum| floats(sum, value)));
                }
                Values::Floats(sums.into_iter().collect::<Option<Vec<_>>>().ok_or(EMPTY)?.into())
            }
            Values::Integers(values) => {
                let mut sums: Vec<Option<i64>> = vec![None; count];
                for (i, &value) in values.iter().enumerate() {
                    let sum = &mut sums[group(i)];
                    *sum = Some(match *sum {
                        None => value,
                        Some(sum) => integers(sum, value).ok_or(OVERFLOW)?,
                    });
                }
                Values::Integers(sums.into_iter().collect::<Option<_>>().ok_or(EMPTY)?)
            }
            Values::Booleans(_) => return Err("takes numbers, given Booleans".into()),
        };
        let shape = if self.attributes.int("keepdims", 1) != 0 {
            kept
        } else {
            (0..rank).filter(|a| !axes.contains(a)).map(|a| x.shape[a]).collect()
        };
        Ok(with(&shape, values))
    }

    /// The first two operands, broadcast against each other.
    fn pair(&self) -> Result<(Vec<usize>, Constant, Constant), String> {
        let (a, b) = (self.operand(0)?, self.operand(1)?);
        let shape = broadcast(&a.shape, &b.shape).ok_or_else(|| {
            format!("has the shapes {:?} and {:?}, which do not broadcast", a.shape, b.shape)
        })?;
        let (a, b) = (broadcast_to(a, &shape)?, broadcast_to(b, &shape)?);
        Ok((shape, a, b))
    }
}

const OVERFLOW: &str = "computes an integer that is not defined: a division by 0 or an overflow";
const EMPTY: &str = "reduces an axis without values";

/// The lengths of the axes that a `Shape` node names, all by default.
pub(super) fn shape_between(attributes: &NodeAttributes, shape: &[usize]) -> Constant {
    let rank = shape.len() as i64;
    let end_of =
        |axis: i64| (if axis < 0 { axis.saturating_add(rank) } else { axis }).clamp(0, rank) as usize;
    let (start, end) = (end_of(attributes.int("start", 0)), end_of(attributes.int("end", rank)));
    Constant::integers(
        shape.get(start..end).unwrap_or_default().iter().map(|&length| length as i64).collect(),
    )
}

/// The shape that a `Reshape` of `from` to `target` gives.
pub(crate) fn reshaped(from: &[usize], target: &[i64], allow_zero: bool) -> Result<Vec<usize>, String> {
    let count: usize = from.iter().product();
    let mut shape = Vec::with_capacity(target.len());
    for (at, &length) in target.iter().enumerate() {
        shape.push(match length {
            0 if !allow_zero => from.get(at).copied().ok_or_else(|| {
                format!("keeps the length of axis {at}, but its operand has {} axes", from.len())
            })?,
            // Inferred below.
            -1 => 1,
            length => usize::try_from(length).map_err(|_| format!("has the shape {target:?}"))?,
        });
    }
    let known = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    let known = known.ok_or_else(|| format!("has the impossible shape {target:?}"))?;
    let open: Vec<usize> = (0..target.len()).filter(|&at| target[at] == -1).collect();
    match open[..] {
        [] if known == count => Ok(shape),
        [at] if known > 0 && count.is_multiple_of(known) => {
            shape[at] = count / known;
            Ok(shape)
        }
        _ => Err(format!("makes the shape {target:?} of {count} values in the shape {from:?}")),
    }
}

/// First index, step and number of the values of a slice of an axis of `length`.
pub(crate) fn slice_of(start: i64, end: i64, step: i64, length: usize) -> Result<(i64, i64, usize), String> {
    let length = length as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    if step == 0 || step == i64::MIN {
        return Err(format!("has a step of {step}"));
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let start = from_end(start).clamp(if step > 0 { 0 } else { -1 }, high);
    let end = from_end(end).clamp(low, length);
    let distance = if step > 0 { end - start } else { start - end };
    let count = if distance <= 0 { 0 } else { (distance + step.abs() - 1) / step.abs() };
    Ok((start, step, count as usize))
}

/// Lengths of `parts` parts of an axis of `length`, the last one shorter where they cannot be equal.
pub(crate) fn even_split(length: usize, parts: usize) -> Vec<usize> {
    let each = length.div_ceil(parts.max(1));
    (0..parts).map(|i| each.min(length.saturating_sub(i * each))).collect()
}

/// Index of an axis of `rank` axes; negative ones count from the end.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Result<usize, String> {
    index_of(axis, rank).map_err(|_| format!("names axis {axis} of {rank}"))
}

fn index_of(index: i64, length: usize) -> Result<usize, String> {
    let from_start = if index < 0 { index.saturating_add(length as i64) } else { index };
    usize::try_from(from_start)
        .ok()
        .filter(|&index| index < length)
        .ok_or_else(|| format!("takes element {index} of {length}"))
}

fn floored_remainder(a: i64, b: i64) -> Option<i64> {
    let remainder = a.checked_rem(b)?;
    Some(if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder })
}

fn sizes(values: &[i64]) -> Result<Vec<usize>, String> {
    let lengths: Result<_, _> = values.iter().map(|&value| usize::try_from(value)).collect();
    lengths.map_err(|_| format!("has the lengths {values:?}, expected none below 0"))
}

fn scalar(value: i64) -> Constant {
    Constant::new([], Values::Integers(vec![value]))
}

fn with(shape: &[usize], values: Values) -> Constant {
    Constant::new(shape, values)
}

/// Number of values of a tensor of this shape, if it is not too large.
fn checked(shape: &[usize]) -> Result<usize, String> {
    let count = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    count
        .filter(|&count| count <= MAX_VALUES)
        .ok_or_else(|| format!("makes a constant of the shape {shape:?}, more than {MAX_VALUES} values"))
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// A tensor of `shape` whose value at an index is that of `x` at the place `from(index)`.
fn moved(x: &Constant, shape: &[usize], from: impl Fn(&[usize]) -> usize) -> Result<Constant, String> {
    let count = checked(shape)?;
    let mut index = vec![0; shape.len()];
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        places.push(from(&index));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(with(shape, pick(&x.values, &places)))
}

fn broadcast_to(x: &Constant, shape: &[usize]) -> Result<Constant, String> {
    if x.shape == shape {
        return Ok(x.clone());
    }
    let (strides, added) = (strides(&x.shape), shape.len() - x.shape.len());
    moved(x, shape, |index| {
        (0..x.shape.len()).map(|a| if x.shape[a] == 1 { 0 } else { strides[a] * index[added + a] }).sum()
    })
}

fn pick(values: &Values, places: &[usize]) -> Values {
    match values {
        Values::Floats(values) => Values::Floats(places.iter().map(|&at| values[at]).collect()),
        Values::Integers(values) => Values::Integers(places.iter().map(|&at| values[at]).collect()),
        Values::Booleans(values) => Values::Booleans(places.iter().map(|&at| values[at]).collect()),
    }
}

/// The values of all parts after each other.
fn joined(parts: &[&Constant]) -> Result<Values, String> {
    let mut parts = parts.iter().map(|part| &part.values);
    let mut all = parts.next().cloned().ok_or("has no operands")?;
    for part in parts {
        all = match (all, part) {
            (Values::Floats(a), Values::Floats(b)) => Values::Floats(Arc::from([&a[..], &b[..]].concat())),
            (Values::Integers(a), Values::Integers(b)) => Values::Integers([a, b.clone()].concat()),
            (Values::Booleans(a), Values::Booleans(b)) => Values::Booleans([a, b.clone()].concat()),
            _ => return Err("joins values of different types".into()),
        };
    }
    Ok(all)
}

/// Values in another type.
fn converted(values: &Values, to: DataType) -> Result<Values, String> {
    let floats = || -> Vec<f32> {
        match values {
            Values::Floats(values) => values.to_vec(),
            Values::Integers(values) => values.iter().map(|&value| value as f32).collect(),
            Values::Booleans(values) => values.iter().map(|&value| f32::from(u8::from(value))).collect(),
        }
    };
    let integers = || -> Vec<i64> {
        match values {
            Values::Floats(values) => values.iter().map(|&value| value as i64).collect(),
            Values::Integers(values) => values.clone(),
            Values::Booleans(values) => values.iter().map(|&value| value.into()).collect(),
        }
    };
    Ok(match to {
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 => {
            Values::Floats(floats().into())
        }
        DataType::Int64 | DataType::Int32 | DataType::Int16 | DataType::Int8 => Values::Integers(integers()),
        DataType::Uint64 | DataType::Uint32 | DataType::Uint16 | DataType::Uint8 => {
            Values::Integers(integers())
        }
        DataType::Bool => Values::Booleans(match values {
            Values::Floats(values) => values.iter().map(|&value| value != 0.0).collect(),
            Values::Integers(values) => values.iter().map(|&value| value != 0).collect(),
            Values::Booleans(values) => values.clone(),
        }),
        other => return Err(format!("converts to {}, expected numbers or Booleans", other.as_str_name())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::AttributeProto;

    fn ints(values: &[i64]) -> Constant {
        Constant::integers(values.to_vec())
    }

    fn matrix(rows: usize, values: &[i64]) -> Constant {
        Constant::new([rows, values.len() / rows], Values::Integers(values.to_vec()))
    }

    fn booleans(values: &[bool]) -> Constant {
        Constant::new([values.len()], Values::Booleans(values.to_vec()))
    }

    fn call(operator: &str, attributes: &[(&str, &[i64])], operands: &[&Constant]) -> Folded {
        let attribute = |&(name, values): &(&str, &[i64])| AttributeProto {
            name: Some(name.into()),
            i: values.first().copied(),
            ints: values.to_vec(),
            ..Default::default()
        };
        let node = NodeProto {
            op_type: Some(operator.into()),
            attribute: attributes.iter().map(attribute).collect(),
            output: vec!["y".into(); if operator == "Split" { 2 } else { 1 }],
            ..Default::default()
        };
        let operands: Vec<_> = operands.iter().map(|&operand| Some(operand)).collect();
        fold(&node, &operands, 18).expect("it is evaluated")
    }

    #[test]
    fn values_are_those_of_the_operators() {
        let m = matrix(2, &[1, 2, 3, 4, 5, 6]);
        let yes =
            |operator: &str, attributes: &[(&str, &[i64])], operands: &[&Constant], expected: Constant| {
                assert_eq!(call(operator, attributes, operands), Ok(vec![expected]), "{operator}");
            };
        yes("Reshape", &[], &[&m, &ints(&[0, -1, 1])], Constant::new([2, 3, 1], m.values.clone()));
        yes("Transpose", &[], &[&m], matrix(3, &[1, 4, 2, 5, 3, 6]));
        yes("Gather", &[("axis", &[1])], &[&m, &ints(&[-1, 0])], matrix(2, &[3, 1, 6, 4]));
        yes("Gather", &[], &[&m, &Constant::new([], Values::Integers(vec![1]))], ints(&[4, 5, 6]));
        yes(
            "Slice",
            &[],
            &[&ints(&[0, 1, 2, 3, 4]), &ints(&[-1]), &ints(&[i64::MIN]), &ints(&[0]), &ints(&[-2])],
            ints(&[4, 2, 0]),
        );
        yes("Slice", &[], &[&m, &ints(&[1]), &ints(&[i64::MAX]), &ints(&[-1])], matrix(2, &[2, 3, 5, 6]));
        yes("Concat", &[("axis", &[-1])], &[&m, &matrix(2, &[7, 8])], matrix(2, &[1, 2, 3, 7, 4, 5, 6, 8]));
        yes("Expand", &[], &[&ints(&[1, 2]), &ints(&[2, 1])], matrix(2, &[1, 2, 1, 2]));
        yes("Tile", &[], &[&ints(&[1, 2]), &ints(&[2])], ints(&[1, 2, 1, 2]));
        yes("Squeeze", &[], &[&matrix(1, &[7, 8])], ints(&[7, 8]));
        yes("Unsqueeze", &[], &[&ints(&[7, 8]), &ints(&[-1])], matrix(2, &[7, 8]));
        yes(
            "Range",
            &[],
            &[
                &Constant::new([], Values::Integers(vec![5])),
                &Constant::new([], Values::Integers(vec![0])),
                &Constant::new([], Values::Integers(vec![-2])),
            ],
            ints(&[5, 3, 1]),
        );
        yes(
            "ScatterND",
            &[],
            &[&m, &matrix(1, &[1]), &matrix(1, &[0, 0, 9])],
            matrix(2, &[1, 2, 3, 0, 0, 9]),
        );
        yes("Pad", &[], &[&ints(&[1, 2]), &ints(&[1, 2]), &ints(&[9])], ints(&[9, 1, 2, 9, 9]));
        yes("Trilu", &[("upper", &[0])], &[&m], matrix(2, &[1, 0, 0, 4, 5, 0]));
        yes("NonZero", &[], &[&matrix(2, &[0, 3, 0, 4, 0, 0])], matrix(2, &[0, 1, 1, 0]));
        yes("Where", &[], &[&booleans(&[true, false]), &ints(&[1, 2]), &ints(&[9])], ints(&[1, 9]));
        yes("Equal", &[], &[&ints(&[1, 2]), &ints(&[2])], booleans(&[false, true]));
        yes("Mod", &[], &[&ints(&[-7, 7]), &ints(&[3, -3])], ints(&[2, -2]));
        yes("Mod", &[("fmod", &[1])], &[&ints(&[-7, 7]), &ints(&[3, -3])], ints(&[-1, 1]));
        yes("ReduceProd", &[("keepdims", &[0])], &[&m, &ints(&[1])], ints(&[6, 120]));
        yes("ReduceMax", &[], &[&m], matrix(1, &[6]));
        yes("Shape", &[("start", &[-1])], &[&m], ints(&[3]));
        yes("Flatten", &[("axis", &[0])], &[&m], matrix(1, &[1, 2, 3, 4, 5, 6]));
        yes("Cast", &[("to", &[DataType::Bool as i64])], &[&ints(&[0, 5])], booleans(&[false, true]));
        assert_eq!(
            call("Split", &[("axis", &[1])], &[&m]),
            Ok(vec![matrix(2, &[1, 2, 4, 5]), matrix(2, &[3, 6])])
        );
    }

    #[test]
    fn what_is_not_defined_or_too_large_is_refused() {
        let huge = ints(&[1 << 20, 1 << 20]);
        for (operator, operands, expected) in [
            ("Div", [&ints(&[1]), &ints(&[0])].to_vec(), "division by 0"),
            ("Mul", vec![&ints(&[i64::MAX]), &ints(&[2])], "overflow"),
            ("Add", vec![&ints(&[1, 2]), &ints(&[1, 2, 3])], "do not broadcast"),
            ("ConstantOfShape", vec![&huge], "more than"),
            ("ConstantOfShape", vec![&ints(&[-1])], "none below 0"),
            ("Expand", vec![&ints(&[1]), &huge], "more than"),
            ("Gather", vec![&ints(&[1]), &ints(&[1])], "element 1 of 1"),
            ("Reshape", vec![&ints(&[1, 2]), &ints(&[3])], "2 values"),
            ("Reshape", vec![&ints(&[1, 2]), &ints(&[-1, -1])], "2 values"),
            ("Reshape", vec![&ints(&[1, 2]), &ints(&[i64::MAX, 8])], "impossible"),
            ("Gather", vec![&ints(&[1])], "lacks operand 2"),
        ] {
            let error = call(operator, &[], &operands).unwrap_err();
            assert!(error.contains(expected), "{operator}: {error}");
        }
    }
}
