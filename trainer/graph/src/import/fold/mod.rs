//! Evaluation of nodes whose operands are known when a file is imported: what exporters compute from shapes,
//! and constants that they have left in parts.
//!
//! Operators that move data are evaluated by the place that each value comes from; the others value by value.

mod call;
mod moves;
mod shapes;
mod tensors;
mod values;

use std::cmp::Ordering;

use self::call::{Call, Folded};
pub(super) use self::moves::one_along;
pub(crate) use self::shapes::{axis_of, even_split, reshaped, shape_between, slice_of};
use self::tensors::{scalar, with};
pub(super) use self::values::diagonal_of;
use self::values::floored_remainder;
use super::constant::{Constant, Values};
use super::file::NodeAttributes;
use crate::onnx::NodeProto;

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
        "EyeLike" => |call| call.eye_like(),
        "CumSum" => |call| call.cum_sum(),
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
        "Clip" => |call| call.clip(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::AttributeProto;
    use crate::onnx::tensor_proto::DataType;

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
        yes(
            "Slice",
            &[],
            &[&ints(&[7, 8]), &ints(&[0]), &ints(&[2]), &ints(&[0]), &ints(&[i64::MAX])],
            ints(&[7]),
        );
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
        let least = Constant::new([], Values::Integers(vec![2]));
        yes("Clip", &[], &[&m, &least], matrix(2, &[2, 2, 3, 4, 5, 6]));
        yes(
            "Clip",
            &[],
            &[&m, &least, &Constant::new([], Values::Integers(vec![5]))],
            matrix(2, &[2, 2, 3, 4, 5, 5]),
        );
        yes("ReduceProd", &[("keepdims", &[0])], &[&m, &ints(&[1])], ints(&[6, 120]));
        yes("ReduceMax", &[], &[&m], matrix(1, &[6]));
        yes("Shape", &[("start", &[-1])], &[&m], ints(&[3]));
        yes("Flatten", &[("axis", &[0])], &[&m], matrix(1, &[1, 2, 3, 4, 5, 6]));
        yes("Cast", &[("to", &[DataType::Bool as i64])], &[&ints(&[0, 5])], booleans(&[false, true]));
        yes("CumSum", &[], &[&m, &ints(&[1])], matrix(2, &[1, 3, 6, 4, 9, 15]));
        yes("CumSum", &[("exclusive", &[1])], &[&m, &ints(&[1])], matrix(2, &[0, 1, 3, 0, 4, 9]));
        yes("CumSum", &[("reverse", &[1])], &[&m, &ints(&[-2])], matrix(2, &[5, 7, 9, 4, 5, 6]));
        yes(
            "CumSum",
            &[("reverse", &[1]), ("exclusive", &[1])],
            &[&m, &ints(&[1])],
            matrix(2, &[5, 3, 0, 11, 6, 0]),
        );
        yes("EyeLike", &[("k", &[1])], &[&m], matrix(2, &[0, 1, 0, 0, 0, 1]));
        yes("EyeLike", &[("k", &[-1]), ("dtype", &[DataType::Bool as i64])], &[&m], {
            Constant::new([2, 3], Values::Booleans(vec![false, false, false, true, false, false]))
        });
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
