//! Operators that compute: values in another type, ranges, arithmetic, comparisons, reductions.

use std::cmp::Ordering;

use super::call::Call;
use super::shapes::{axis_of, shape_between, sizes};
use super::tensors::{MAX_VALUES, broadcast_to, checked, converted, joined, pick, strides, with};
use crate::import::constant::{Constant, Values, of_tensor};
use crate::import::file::NodeAttributes;
use crate::onnx::tensor_proto::DataType;
use crate::types::broadcast;

const OVERFLOW: &str = "computes an integer that is not defined: a division by 0 or an overflow";
const EMPTY: &str = "reduces an axis without values";

impl Call<'_> {
    pub(super) fn cast(&self) -> Result<Constant, String> {
        let to = i32::try_from(self.attributes.int("to", 0)).unwrap_or(0);
        let x = self.first()?;
        Ok(with(&x.shape, converted(&x.values, DataType::try_from(to).unwrap_or(DataType::Undefined))?))
    }

    pub(super) fn cast_like(&self) -> Result<Constant, String> {
        let (x, like) = (self.first()?, self.operand(1)?);
        let to = match like.values {
            Values::Floats(_) => DataType::Float,
            Values::Integers(_) => DataType::Int64,
            Values::Booleans(_) => DataType::Bool,
        };
        Ok(with(&x.shape, converted(&x.values, to)?))
    }

    pub(super) fn shape(&self) -> Result<Constant, String> {
        Ok(shape_between(&self.attributes, &self.first()?.shape))
    }

    pub(super) fn constant_of_shape(&self) -> Result<Constant, String> {
        let shape = sizes(self.integers(0)?)?;
        let count = checked(&shape)?;
        let one = match self.attributes.tensor("value") {
            Some(tensor) => of_tensor(tensor, "".as_ref())?,
            None => Constant::new([1], Values::Floats([0.0].into())),
        };
        if one.values.len() != 1 {
            return Err("has a value of several numbers, expected one".into());
        }
        Ok(with(&shape, pick(&one.values, &vec![0; count])))
    }

    pub(super) fn eye_like(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let element = match x.values {
            Values::Floats(_) => DataType::Float,
            Values::Integers(_) => DataType::Int64,
            Values::Booleans(_) => DataType::Bool,
        };
        diagonal_of(&self.attributes, &x.shape, element)
    }

    /// Sums of all values up to each along an axis.
    pub(super) fn cum_sum(&self) -> Result<Constant, String> {
        let x = self.first()?;
        let axis = self.integers(1)?.first().copied().ok_or("lacks an axis")?;
        let axis = axis_of(axis, x.shape.len())?;
        let (length, step) = (x.shape[axis], strides(&x.shape)[axis]);
        let [is_exclusive, is_reverse] =
            ["exclusive", "reverse"].map(|name| self.attributes.int(name, 0) != 0);
        // The place before the one at `i`, if its axis has one.
        let before = |i: usize| {
            let at = i / step % length;
            if is_reverse { (at + 1 < length).then_some(i + step) } else { (at > 0).then(|| i - step) }
        };
        let order: Vec<usize> =
            if is_reverse { (0..x.values.len()).rev().collect() } else { (0..x.values.len()).collect() };
        let values = match &x.values {
            Values::Floats(values) => {
                let mut sums = vec![0.0; values.len()];
                for i in order {
                    let sum =
                        before(i).map_or(0.0, |j| if is_exclusive { sums[j] + values[j] } else { sums[j] });
                    sums[i] = if is_exclusive { sum } else { sum + values[i] };
                }
                Values::Floats(sums.into())
            }
            Values::Integers(values) => {
                let mut sums = vec![0i64; values.len()];
                for i in order {
                    let sum = before(i).map_or(Some(0), |j| {
                        if is_exclusive { sums[j].checked_add(values[j]) } else { Some(sums[j]) }
                    });
                    let sum = if is_exclusive { sum } else { sum.and_then(|sum| sum.checked_add(values[i])) };
                    sums[i] = sum.ok_or(OVERFLOW)?;
                }
                Values::Integers(sums)
            }
            Values::Booleans(_) => return Err("takes numbers, given Booleans".into()),
        };
        Ok(with(&x.shape, values))
    }

    pub(super) fn range(&self) -> Result<Constant, String> {
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

    pub(super) fn select(&self) -> Result<Constant, String> {
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

    pub(super) fn logic(&self, f: impl Fn(bool, bool) -> bool) -> Result<Constant, String> {
        let (shape, a, b) = self.pair()?;
        match (&a.values, &b.values) {
            (Values::Booleans(a), Values::Booleans(b)) => {
                Ok(with(&shape, Values::Booleans(a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect())))
            }
            _ => Err("has operands that are not Boolean".into()),
        }
    }

    pub(super) fn compare(&self, f: impl Fn(Option<Ordering>) -> bool) -> Result<Constant, String> {
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

    pub(super) fn binary(
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

    pub(super) fn fold_all(
        &self,
        integers: impl Fn(i64, i64) -> Option<i64>,
        floats: impl Fn(f32, f32) -> f32,
    ) -> Result<Constant, String> {
        let mut sum = self.first()?.clone();
        for at in 1..self.operands.len() {
            sum = self.combined(&sum, self.operand(at)?, &integers, &floats)?;
        }
        Ok(sum)
    }

    /// Values between bounds, of which each may be absent; they are attributes before operator set 11.
    pub(super) fn clip(&self) -> Result<Constant, String> {
        let bound = |at, name, absent| match self.optional(at) {
            Some(bound) => Some(bound.clone()),
            None if self.opset >= 11 => None,
            None => {
                let bound = self.attributes.float(name, absent) as f32;
                Some(Constant::new([], Values::Floats([bound].into())))
            }
        };
        let mut x = self.first()?.clone();
        if let Some(least) = bound(1, "min", f32::MIN) {
            x = self.combined(&x, &least, |a, b| Some(a.max(b)), f32::max)?;
        }
        if let Some(most) = bound(2, "max", f32::MAX) {
            x = self.combined(&x, &most, |a, b| Some(a.min(b)), f32::min)?;
        }
        Ok(x)
    }

    fn combined(
        &self,
        a: &Constant,
        b: &Constant,
        integers: impl Fn(i64, i64) -> Option<i64>,
        floats: impl Fn(f32, f32) -> f32,
    ) -> Result<Constant, String> {
        let attributes = NodeAttributes(self.attributes.0);
        Call { attributes, operands: &[Some(a), Some(b)], opset: self.opset }.binary(integers, floats)
    }

    pub(super) fn unary(
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

    pub(super) fn reduce(
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
    pub(super) fn pair(&self) -> Result<(Vec<usize>, Constant, Constant), String> {
        let (a, b) = (self.operand(0)?, self.operand(1)?);
        let shape = broadcast(&a.shape, &b.shape).ok_or_else(|| {
            format!("has the shapes {:?} and {:?}, which do not broadcast", a.shape, b.shape)
        })?;
        let (a, b) = (broadcast_to(a, &shape)?, broadcast_to(b, &shape)?);
        Ok((shape, a, b))
    }
}

/// Ones on a diagonal of a matrix of `shape`, zeros elsewhere, as an `EyeLike` node describes them; of type
/// `element` unless the node names one.
pub(crate) fn diagonal_of(
    attributes: &NodeAttributes,
    shape: &[usize],
    element: DataType,
) -> Result<Constant, String> {
    let &[_, columns] = shape else { return Err(format!("takes the shape {shape:?}, expected a matrix")) };
    let offset = attributes.int("k", 0);
    let to = i32::try_from(attributes.int("dtype", element as i64)).unwrap_or(0);
    let is_marked = |i: usize| (i % columns) as i64 - (i / columns) as i64 == offset;
    let marks = (0..checked(shape)?).map(is_marked).collect();
    let to = DataType::try_from(to).unwrap_or(DataType::Undefined);
    Ok(with(shape, converted(&Values::Booleans(marks), to)?))
}

pub(super) fn floored_remainder(a: i64, b: i64) -> Option<i64> {
    let remainder = a.checked_rem(b)?;
    Some(if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder })
}
