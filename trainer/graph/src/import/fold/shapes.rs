//! What operators make of shapes, axes and indices.

use crate::import::constant::Constant;
use crate::import::file::NodeAttributes;

/// The lengths of the axes that a `Shape` node names, all by default.
pub(crate) fn shape_between(attributes: &NodeAttributes, shape: &[usize]) -> Constant {
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
    let count = distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
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

pub(super) fn index_of(index: i64, length: usize) -> Result<usize, String> {
    let from_start = if index < 0 { index.saturating_add(length as i64) } else { index };
    usize::try_from(from_start)
        .ok()
        .filter(|&index| index < length)
        .ok_or_else(|| format!("takes element {index} of {length}"))
}

pub(super) fn sizes(values: &[i64]) -> Result<Vec<usize>, String> {
    let lengths: Result<_, _> = values.iter().map(|&value| usize::try_from(value)).collect();
    lengths.map_err(|_| format!("has the lengths {values:?}, expected none below 0"))
}
