//! Tensors made of others, value by value or place by place.

use std::sync::Arc;

use crate::import::constant::{Constant, Values};
use crate::import::limits::CONSTANT;
use crate::onnx::tensor_proto::DataType;

/// A tensor with more values is not computed.
pub(super) const MAX_VALUES: usize = CONSTANT;

pub(super) fn scalar(value: i64) -> Constant {
    Constant::new([], Values::Integers(vec![value]))
}

pub(super) fn with(shape: &[usize], values: Values) -> Constant {
    Constant::new(shape, values)
}

/// Number of values of a tensor of this shape, if it is not too large, also but for axes without values.
pub(super) fn checked(shape: &[usize]) -> Result<usize, String> {
    let count = shape.iter().fold(1usize, |product, &length| product.saturating_mul(length.max(1)));
    if count > MAX_VALUES {
        return Err(format!("makes a constant of the shape {shape:?}, more than {MAX_VALUES} values"));
    }
    Ok(if shape.contains(&0) { 0 } else { count })
}

pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// A tensor of `shape` whose value at an index is that of `x` at the place `from(index)`.
pub(super) fn moved(
    x: &Constant,
    shape: &[usize],
    from: impl Fn(&[usize]) -> usize,
) -> Result<Constant, String> {
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

pub(super) fn broadcast_to(x: &Constant, shape: &[usize]) -> Result<Constant, String> {
    if x.shape == shape {
        return Ok(x.clone());
    }
    let (strides, added) = (strides(&x.shape), shape.len() - x.shape.len());
    moved(x, shape, |index| {
        (0..x.shape.len()).map(|a| if x.shape[a] == 1 { 0 } else { strides[a] * index[added + a] }).sum()
    })
}

pub(super) fn pick(values: &Values, places: &[usize]) -> Values {
    match values {
        Values::Floats(values) => Values::Floats(places.iter().map(|&at| values[at]).collect()),
        Values::Integers(values) => Values::Integers(places.iter().map(|&at| values[at]).collect()),
        Values::Booleans(values) => Values::Booleans(places.iter().map(|&at| values[at]).collect()),
    }
}

/// The values of all parts after each other.
pub(super) fn joined(parts: &[&Constant]) -> Result<Values, String> {
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
pub(super) fn converted(values: &Values, to: DataType) -> Result<Values, String> {
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
