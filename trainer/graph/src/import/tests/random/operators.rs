//! Operators with what a node of each may have beside its first operand.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::super::*;
use crate::onnx::attribute_proto::AttributeType;

/// Operators whose results are no real numbers, or that have the same gradients as another operator.
pub(super) const LEFT_OUT: [&str; 15] = [
    "And",
    "ArgMax",
    "ArgMin",
    "CastLike",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Not",
    "OneHot",
    "Or",
    "Xor",
];

/// Values that an operator has derivatives for, and keeps to a moderate size.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Domain {
    Any,
    /// −1 to 1.
    Bounded,
    /// −0.7 to 0.7.
    Inside,
    /// 0.4 to 2.7.
    Positive,
    /// 1.4 to 3.7.
    AboveOne,
}

/// What a node has beside its first operand.
pub(super) enum Part {
    Attribute(Box<AttributeProto>),
    /// A new parameter, of both signs.
    Weight(Vec<usize>),
    /// A new parameter from 0.5 to 2.
    Positive(Vec<usize>),
    /// Another value of the same shape, or a new parameter.
    Same,
    Integers(Vec<usize>, Vec<i64>),
    Numbers(Vec<usize>, Vec<f32>),
    Condition(Vec<usize>),
    /// The first operand, if others come before it.
    Itself,
    Absent,
}

use Domain::{AboveOne, Any, Bounded, Inside, Positive};
use Part::{Absent, Attribute, Condition, Integers, Itself, Numbers, Same, Weight};

/// The parts for an operand of a shape; `None` if the operator does not take it.
pub(super) type Make = fn(&[usize], &mut ChaCha8Rng) -> Option<Vec<Part>>;

fn int(name: &str, value: i64) -> Part {
    let attribute = AttributeProto { name: Some(name.into()), i: Some(value), ..Default::default() };
    Attribute(Box::new(AttributeProto { r#type: Some(AttributeType::Int as i32), ..attribute }))
}

fn ints(name: &str, values: &[i64]) -> Part {
    let attribute = AttributeProto { name: Some(name.into()), ints: values.to_vec(), ..Default::default() };
    Attribute(Box::new(AttributeProto { r#type: Some(AttributeType::Ints as i32), ..attribute }))
}

fn float(name: &str, value: f32) -> Part {
    let attribute = AttributeProto { name: Some(name.into()), f: Some(value), ..Default::default() };
    Attribute(Box::new(AttributeProto { r#type: Some(AttributeType::Float as i32), ..attribute }))
}

fn word(name: &str, value: &str) -> Part {
    let attribute = AttributeProto { name: Some(name.into()), s: Some(value.into()), ..Default::default() };
    Attribute(Box::new(AttributeProto { r#type: Some(AttributeType::String as i32), ..attribute }))
}

fn list(values: &[i64]) -> Part {
    Integers(vec![values.len()], values.to_vec())
}

/// Some of `0..rank` in order, at least one.
fn some(rank: usize, random: &mut ChaCha8Rng) -> Vec<i64> {
    let mut axes: Vec<i64> = (0..rank as i64).filter(|_| random.random_bool(0.5)).collect();
    if axes.is_empty() && rank > 0 {
        axes.push(random.random_range(0..rank as i64));
    }
    axes
}

/// `shape` with some lengths replaced by 1, or its first axes left out.
fn broadcast(shape: &[usize], random: &mut ChaCha8Rng) -> Vec<usize> {
    let kept = &shape[random.random_range(0..=shape.len())..];
    kept.iter().map(|&length| if random.random_bool(0.3) { 1 } else { length }).collect()
}

fn alone(_: &[usize], _: &mut ChaCha8Rng) -> Option<Vec<Part>> {
    Some(vec![])
}

fn pair(shape: &[usize], random: &mut ChaCha8Rng) -> Option<Vec<Part>> {
    Some(vec![if random.random_bool(0.5) { Same } else { Weight(broadcast(shape, random)) }])
}

fn reduction(shape: &[usize], random: &mut ChaCha8Rng) -> Option<Vec<Part>> {
    let keep = int("keepdims", random.random_range(0..=1));
    (!shape.is_empty()).then(|| vec![list(&some(shape.len(), random)), keep])
}

fn axis(shape: &[usize], random: &mut ChaCha8Rng) -> Option<Vec<Part>> {
    (!shape.is_empty()).then(|| vec![int("axis", random.random_range(0..shape.len() as i64))])
}

/// For images of at least four pixels a side.
fn window(shape: &[usize], random: &mut ChaCha8Rng) -> Option<Vec<Part>> {
    let &[_, _, (4..), (4..)] = shape else { return None };
    let (kernel, stride) = (random.random_range(2..=3), random.random_range(1..=2));
    Some(vec![
        ints("kernel_shape", &[kernel, kernel]),
        ints("strides", &[stride, stride]),
        ints("pads", &[0, 1, 1, 0]),
    ])
}

fn images(shape: &[usize], _: &mut ChaCha8Rng) -> Option<Vec<Part>> {
    (shape.len() == 4).then(Vec::new)
}

pub(super) const OPERATORS: &[(&str, Domain, Make)] = &[
    ("Abs", Any, alone),
    ("Acos", Inside, alone),
    ("Acosh", AboveOne, alone),
    ("Add", Any, pair),
    ("AffineGrid", Any, |shape, _| match *shape {
        [n, 2, 3] => Some(vec![list(&[n as i64, 1, 3, 2])]),
        _ => None,
    }),
    ("Asin", Inside, alone),
    ("Asinh", Any, alone),
    ("Atan", Any, alone),
    ("Atanh", Inside, alone),
    ("Attention", Any, |shape, random| match *shape {
        [n, heads, _, depth] => {
            let (keys, values) = (vec![n, heads, 3, depth], vec![n, heads, 3, 2]);
            Some(vec![Weight(keys), Weight(values), int("is_causal", random.random_range(0..=1))])
        }
        [n, rows, width] if width % 2 == 0 => {
            let (q_heads, heads) = (int("q_num_heads", 2), int("kv_num_heads", 1));
            let (keys, values) = (vec![n, 3, width / 2], vec![n, 3, 2]);
            Some(vec![Weight(keys), Weight(values), Weight(vec![rows, 3]), q_heads, heads])
        }
        _ => None,
    }),
    ("AveragePool", Any, window),
    ("BatchNormalization", Any, |shape, _| {
        let &[_, channels, ..] = shape else { return None };
        let statistics = |from: f32| {
            Numbers(vec![channels], (0..channels).map(|channel| from + channel as f32 / 8.0).collect())
        };
        let (gain, offset) = (Weight(vec![channels]), Weight(vec![channels]));
        Some(vec![gain, offset, statistics(-0.2), statistics(0.7)])
    }),
    ("Cast", Any, |_, _| Some(vec![int("to", DataType::Float as i64)])),
    ("Ceil", Any, alone),
    ("Celu", Any, |_, _| Some(vec![float("alpha", 0.7)])),
    ("CenterCropPad", Any, |shape, random| {
        let lengths: Vec<i64> =
            shape.iter().map(|&length| (length as i64 + random.random_range(-1..=2)).max(1)).collect();
        Some(vec![list(&lengths)])
    }),
    ("Clip", Any, |_, _| Some(vec![Numbers(vec![], vec![-0.5]), Numbers(vec![], vec![0.6])])),
    ("Col2Im", Any, |shape, _| match *shape {
        [_, values @ 1..=16, places] => {
            let image = vec![(places + values) as i64 - 1, 2];
            let block = Integers(vec![2], vec![values as i64, 1]);
            Some(vec![Integers(vec![2], image), block, ints("strides", &[1, 2])])
        }
        _ => None,
    }),
    ("Concat", Any, |shape, random| {
        let mut parts = axis(shape, random)?;
        parts.push(Same);
        Some(parts)
    }),
    ("Conv", Any, |shape, random| {
        let &[_, channels, (3..), (3..)] = shape else { return None };
        let groups = [1, 2, channels][random.random_range(0..3)];
        let weight = Weight(vec![4, channels / groups, 3, 3]);
        let (stride, dilation) = (random.random_range(1..=2), random.random_range(1..=2));
        (channels % groups == 0 && 4 % groups == 0).then(|| {
            vec![
                weight,
                Weight(vec![4]),
                int("group", groups as i64),
                ints("strides", &[stride, 1]),
                ints("dilations", &[1, dilation]),
                ints("pads", &[1, 2, 1, 2]),
            ]
        })
    }),
    ("ConvTranspose", Any, |shape, _| {
        let &[_, channels, (..=6), (..=6)] = shape else { return None };
        Some(vec![Weight(vec![channels, 2, 2, 2]), Weight(vec![2]), ints("strides", &[2, 2])])
    }),
    ("Cos", Any, alone),
    ("Cosh", Bounded, alone),
    ("CumSum", Any, |shape, random| {
        let rank = shape.len() as i64;
        let parts = || vec![Integers(vec![], vec![random.random_range(0..rank)]), int("exclusive", 1)];
        (rank > 0).then(parts)
    }),
    ("DFT", Any, |shape, random| match shape {
        [.., 1 | 2] if shape.len() > 1 => {
            Some(vec![Absent, Integers(vec![], vec![-2]), int("inverse", random.random_range(0..=1))])
        }
        _ => None,
    }),
    ("DeformConv", Any, |shape, _| {
        let &[n, channels, height @ 2..=6, width @ 2..=6] = shape else { return None };
        let places = [height - 1, width - 1];
        let (offset, mask) = ([&[n, 8], &places[..]].concat(), [&[n, 4], &places[..]].concat());
        Some(vec![Weight(vec![2, channels, 2, 2]), Weight(offset), Weight(vec![2]), Weight(mask)])
    }),
    ("Det", Any, |shape, _| match shape {
        [.., rows @ 2..=4, columns] if rows == columns => Some(vec![]),
        _ => None,
    }),
    ("DepthToSpace", Any, |shape, _| match shape {
        [_, channels, _, _] if channels % 4 == 0 => Some(vec![int("blocksize", 2)]),
        _ => None,
    }),
    ("Div", Any, |shape, random| Some(vec![Part::Positive(broadcast(shape, random))])),
    ("Dropout", Any, alone),
    ("Einsum", Any, |shape, _| match *shape {
        [_, inner] => Some(vec![Weight(vec![inner, 3]), word("equation", "ij,jk->ki")]),
        [_, channels, _, _] => Some(vec![Weight(vec![channels, 3]), word("equation", "nchw,cd->ndhw")]),
        _ => None,
    }),
    ("Elu", Any, |_, _| Some(vec![float("alpha", 0.8)])),
    ("Erf", Any, alone),
    ("Exp", Bounded, alone),
    ("Expand", Any, |shape, _| {
        let target: Vec<i64> =
            shape.iter().map(|&length| if length == 1 { 2 } else { length as i64 }).collect();
        Some(vec![list(&[&[2], &target[..]].concat())])
    }),
    ("Flatten", Any, |shape, random| Some(vec![int("axis", random.random_range(0..=shape.len() as i64))])),
    ("Floor", Any, alone),
    ("GRU", Any, |shape, random| recurrent(shape, 3, int("linear_before_reset", random.random_range(0..=1)))),
    ("Gather", Any, |shape, random| {
        let mut parts = axis(shape, random)?;
        parts.push(Integers(vec![2, 1], vec![0, -1]));
        Some(parts)
    }),
    ("GatherElements", Any, |shape, random| {
        let mut parts = axis(shape, random)?;
        let count = shape.iter().product();
        parts.push(Integers(shape.to_vec(), (0..count).map(|at: usize| -((at % 2) as i64)).collect()));
        shape.iter().all(|&length| length > 1).then_some(parts)
    }),
    ("GatherND", Any, |shape, _| match shape {
        [(2..), (2..), ..] => Some(vec![Integers(vec![3, 2], vec![0, 1, 1, 0, 0, 1])]),
        _ => None,
    }),
    ("Gelu", Any, alone),
    ("Gemm", Any, |shape, random| {
        let &[rows, columns] = shape else { return None };
        let is_transposed = random.random_bool(0.5);
        let inner = if is_transposed { rows } else { columns };
        Some(vec![
            Weight(vec![3, inner]),
            Weight(vec![3]),
            int("transA", is_transposed.into()),
            int("transB", 1),
            float("alpha", 0.7),
        ])
    }),
    ("GlobalAveragePool", Any, images),
    ("GlobalLpPool", Positive, images),
    ("GlobalMaxPool", Any, images),
    ("GridSample", Any, |shape, random| {
        let &[n, _, _, _] = shape else { return None };
        let mode = ["linear", "nearest", "cubic"][random.random_range(0..3)];
        let outside = ["zeros", "border", "reflection"][random.random_range(0..3)];
        Some(vec![Weight(vec![n, 2, 3, 2]), word("mode", mode), word("padding_mode", outside)])
    }),
    ("GroupNormalization", Any, |shape, _| match *shape {
        [_, channels, _, ..] if channels % 2 == 0 => Some(vec![
            Weight(vec![channels]),
            Weight(vec![channels]),
            int("num_groups", 2),
            float("epsilon", 0.1),
        ]),
        _ => None,
    }),
    ("HardSigmoid", Any, alone),
    ("HardSwish", Any, alone),
    ("Hardmax", Any, axis),
    ("Identity", Any, alone),
    ("InstanceNormalization", Any, |shape, _| match *shape {
        [_, channels, _, _] => {
            Some(vec![Weight(vec![channels]), Weight(vec![channels]), float("epsilon", 0.1)])
        }
        _ => None,
    }),
    ("LRN", Any, |shape, _| (shape.len() == 4).then(|| vec![int("size", 3), float("alpha", 0.5)])),
    ("LSTM", Any, |shape, random| recurrent(shape, 4, int("layout", random.random_range(0..=1)))),
    ("LayerNormalization", Any, |shape, _| {
        let &last = shape.last().filter(|&&last| last > 1)?;
        Some(vec![Weight(vec![last]), Weight(vec![last]), int("axis", -1), float("epsilon", 0.1)])
    }),
    ("LeakyRelu", Any, alone),
    ("Log", Positive, alone),
    ("LogSoftmax", Any, axis),
    ("LpNormalization", Positive, |shape, random| {
        let mut parts = axis(shape, random)?;
        parts.push(int("p", random.random_range(1..=2)));
        Some(parts)
    }),
    ("LpPool", Positive, window),
    ("MatMul", Any, |shape, _| (shape.len() > 1).then(|| vec![Weight(vec![shape[shape.len() - 1], 3])])),
    ("Max", Any, pair),
    ("MaxPool", Any, window),
    ("MaxRoiPool", Any, |shape, _| {
        let &[_, _, 2..=6, 2..=6] = shape else { return None };
        let regions = vec![0.0, 1.0, 0.0, 4.0, 5.0, 0.0, -2.0, 1.0, 9.0, 2.0];
        Some(vec![Numbers(vec![2, 5], regions), ints("pooled_shape", &[2, 3])])
    }),
    ("MaxUnpool", Any, |shape, _| {
        let &[_, _, 1..=6, width @ 1..=6] = shape else { return None };
        let count = shape.iter().product();
        // The first place of each window.
        let place = |at: usize| (at / width * 2 * 2 * width + at % width * 2) as i64;
        let places = Integers(shape.to_vec(), (0..count).map(place).collect());
        Some(vec![places, ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
    }),
    ("Mean", Any, pair),
    ("MeanVarianceNormalization", Any, |shape, _| match shape {
        [(2..), _, (2..), (2..)] => Some(vec![]),
        _ => None,
    }),
    ("Min", Any, pair),
    ("Mish", Any, alone),
    ("Mod", Any, |shape, random| Some(vec![Part::Positive(broadcast(shape, random)), int("fmod", 1)])),
    ("Mul", Any, pair),
    ("Neg", Any, alone),
    ("PRelu", Any, |shape, random| Some(vec![Weight(broadcast(shape, random))])),
    ("Pad", Any, |shape, random| {
        let &[_, _, (2..), (2..)] = shape else { return None };
        let mode = ["constant", "reflect", "edge"][random.random_range(0..3)];
        Some(vec![list(&[0, 0, 1, 0, 0, 0, 0, 1]), word("mode", mode)])
    }),
    ("Pow", Positive, |shape, random| Some(vec![Part::Positive(broadcast(shape, random))])),
    ("RMSNormalization", Any, |shape, _| {
        let &last = shape.last()?;
        Some(vec![Weight(vec![last]), int("axis", -1), float("epsilon", 0.1)])
    }),
    ("RNN", Any, |shape, _| recurrent(shape, 1, float("clip", 5.0))),
    ("Reciprocal", Positive, alone),
    ("ReduceL1", Any, reduction),
    ("ReduceL2", Positive, reduction),
    ("ReduceLogSum", Positive, reduction),
    ("ReduceLogSumExp", Any, reduction),
    ("ReduceMax", Any, reduction),
    ("ReduceMean", Any, reduction),
    ("ReduceMin", Any, reduction),
    ("ReduceProd", Positive, |shape, random| {
        let axis = (0..shape.len()).find(|&axis| shape[axis] <= 4)?;
        Some(vec![list(&[axis as i64]), int("keepdims", random.random_range(0..=1))])
    }),
    ("ReduceSum", Any, reduction),
    ("ReduceSumSquare", Any, reduction),
    ("Relu", Any, alone),
    ("Reshape", Any, |shape, _| {
        let count: usize = shape.iter().product();
        let whole = [[2, 4, 3, 3], [2, 2, 4, 4], [1, 2, 6, 6]]
            .into_iter()
            .find(|to| to.iter().product::<usize>() == count);
        let target = whole.map_or(vec![2, -1], |to| to.map(|length| length as i64).to_vec());
        (count.is_multiple_of(2)).then(|| vec![list(&target)])
    }),
    ("Resize", Any, |shape, random| {
        let &[batch, channels, 2..=6, 2..=6] = shape else { return None };
        let mode = ["linear", "nearest", "cubic"][random.random_range(0..3)];
        let sizes = [batch as i64, channels as i64, 5, 7];
        Some(vec![Absent, Absent, list(&sizes), word("mode", mode)])
    }),
    ("ReverseSequence", Any, |shape, _| {
        let (&batch, &time) = (shape.first()?, shape.get(1)?);
        let lengths = list(&(0..batch).map(|at| (at % (time + 1)) as i64).collect::<Vec<_>>());
        Some(vec![lengths, int("batch_axis", 0), int("time_axis", 1)])
    }),
    ("RoiAlign", Any, |shape, random| {
        let &[_, _, 2..=6, 2..=6] = shape else { return None };
        let regions = vec![0.3, 1.1, 3.7, 5.2, -2.3, 1.2, 9.1, 2.9];
        let mode = ["avg", "max"][random.random_range(0..2)];
        let samples = int("sampling_ratio", random.random_range(0..3));
        let bins = [int("output_height", 2), int("output_width", 3)];
        let operands = [Numbers(vec![2, 4], regions), list(&[0, 1]), samples, word("mode", mode)];
        Some(operands.into_iter().chain(bins).collect())
    }),
    ("RotaryEmbedding", Any, |shape, random| match *shape {
        [n, _, rows, depth] if depth > 1 => {
            let angles = || Weight(vec![n, rows, depth / 2]);
            let turned = int("rotary_embedding_dim", (depth / 2 * 2) as i64);
            Some(vec![angles(), angles(), turned, int("interleaved", random.random_range(0..=1))])
        }
        _ => None,
    }),
    ("Round", Any, alone),
    ("Scatter", Any, |shape, _| scattered(shape)),
    ("ScatterElements", Any, |shape, random| {
        let mut parts = scattered(shape)?;
        parts.push(merging(random));
        Some(parts)
    }),
    ("ScatterND", Any, |shape, random| match shape {
        [(2..), rest @ ..] => {
            let (places, updates) = (Integers(vec![2, 1], vec![1, 0]), Weight([&[2], rest].concat()));
            Some(vec![places, updates, merging(random)])
        }
        _ => None,
    }),
    ("Selu", Any, alone),
    ("Shrink", Any, |_, _| Some(vec![float("lambd", 0.3), float("bias", 0.1)])),
    ("Sigmoid", Any, alone),
    ("Sign", Any, alone),
    ("Sin", Any, alone),
    ("Sinh", Bounded, alone),
    ("Slice", Any, |shape, random| {
        let axis = random.random_range(0..shape.len().max(1));
        let step = random.random_range(1..=2);
        (shape.get(axis)? > &1)
            .then(|| vec![list(&[1]), list(&[i64::MAX]), list(&[axis as i64]), list(&[step])])
    }),
    ("Softmax", Any, axis),
    ("Softplus", Any, alone),
    ("Softsign", Any, alone),
    ("SpaceToDepth", Any, |shape, _| match shape {
        [_, _, height, width] if height % 2 == 0 && width % 2 == 0 => Some(vec![int("blocksize", 2)]),
        _ => None,
    }),
    ("Split", Any, |shape, _| {
        let axis = shape.iter().position(|&length| length > 1 && length % 2 == 0)?;
        Some(vec![int("axis", axis as i64), int("num_outputs", 2)])
    }),
    ("Sqrt", Positive, alone),
    ("Squeeze", Any, |shape, _| {
        let axis = shape.iter().position(|&length| length == 1)?;
        Some(vec![list(&[axis as i64])])
    }),
    ("Sub", Any, pair),
    ("Sum", Any, pair),
    ("Swish", Any, |_, _| Some(vec![float("alpha", 1.3)])),
    ("Tan", Inside, alone),
    ("Tanh", Any, alone),
    ("ThresholdedRelu", Any, |_, _| Some(vec![float("alpha", 0.2)])),
    ("Tile", Any, |shape, random| {
        let repeats: Vec<i64> = shape.iter().map(|_| random.random_range(1..=2)).collect();
        Some(vec![list(&repeats)])
    }),
    ("TopK", Any, |shape, random| {
        let axis = random.random_range(0..shape.len().max(1));
        (shape.get(axis)? > &1).then(|| vec![list(&[2]), int("axis", axis as i64)])
    }),
    ("Transpose", Any, |shape, random| {
        let mut order: Vec<i64> = (0..shape.len() as i64).collect();
        if order.len() > 1 {
            let at = random.random_range(1..order.len());
            order.swap(0, at);
        }
        Some(vec![ints("perm", &order)])
    }),
    ("Trilu", Any, |shape, random| (shape.len() > 1).then(|| vec![int("upper", random.random_range(0..=1))])),
    ("Unsqueeze", Any, |shape, random| {
        (shape.len() < 4).then(|| vec![list(&[random.random_range(0..=shape.len() as i64)])])
    }),
    ("Upsample", Any, |shape, _| {
        (shape.len() == 4).then(|| vec![Numbers(vec![4], vec![1.0, 1.0, 2.0, 2.0]), word("mode", "nearest")])
    }),
    ("Where", Any, |shape, _| Some(vec![Condition(shape.to_vec()), Itself, Same])),
];

/// Indices and updates for every second place of the last axis.
/// What becomes of values that are written to places of others.
fn merging(random: &mut ChaCha8Rng) -> Part {
    word("reduction", ["none", "add", "mul", "max", "min"][random.random_range(0..5)])
}

fn scattered(shape: &[usize]) -> Option<Vec<Part>> {
    let &last = shape.last().filter(|&&last| last > 1)?;
    let part = [&shape[..shape.len() - 1], &[last / 2]].concat();
    let count: usize = part.iter().product();
    let indices = (0..count).map(|at| (at % (last / 2) * 2) as i64).collect();
    Some(vec![Integers(part.clone(), indices), Weight(part), int("axis", shape.len() as i64 - 1)])
}

/// The weights of both directions of a layer with `gates` gates of two values.
fn recurrent(shape: &[usize], gates: usize, option: Part) -> Option<Vec<Part>> {
    let &[_, _, width] = shape else { return None };
    let (input, state) = (vec![2, 2 * gates, width], vec![2, 2 * gates, 2]);
    let bias = Weight(vec![2, 4 * gates]);
    Some(vec![Weight(input), Weight(state), bias, word("direction", "bidirectional"), option])
}
