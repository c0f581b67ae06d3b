//! Random graphs of all operators that have gradients, imported and differentiated, against differences.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::super::bound::Bound;
use super::super::constant::Values;
use super::*;
use crate::onnx::attribute_proto::AttributeType;

/// Number of graphs.
const GRAPHS: u64 = 300;
/// Operators of a graph.
const NODES: usize = 7;
/// Most values of a tensor.
const VALUES: usize = 2000;

/// Operators whose results are no real numbers, or that have the same gradients as another operator.
const LEFT_OUT: [&str; 14] = [
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
    "Or",
    "Xor",
];

/// Values that an operator has derivatives for, and keeps to a moderate size.
#[derive(Clone, Copy, PartialEq)]
enum Domain {
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
enum Part {
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
type Make = fn(&[usize], &mut ChaCha8Rng) -> Option<Vec<Part>>;

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

const OPERATORS: &[(&str, Domain, Make)] = &[
    ("Abs", Any, alone),
    ("Acos", Inside, alone),
    ("Acosh", AboveOne, alone),
    ("Add", Any, pair),
    ("Asin", Inside, alone),
    ("Asinh", Any, alone),
    ("Atan", Any, alone),
    ("Atanh", Inside, alone),
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
    ("GlobalMaxPool", Any, images),
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
    ("Round", Any, alone),
    ("Scatter", Any, |shape, random| scattered(shape, random)),
    ("ScatterElements", Any, |shape, random| scattered(shape, random)),
    ("ScatterND", Any, |shape, _| match shape {
        [(2..), rest @ ..] => Some(vec![Integers(vec![1, 1], vec![1]), Weight([&[1], rest].concat())]),
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
fn scattered(shape: &[usize], _: &mut ChaCha8Rng) -> Option<Vec<Part>> {
    let &last = shape.last().filter(|&&last| last > 1)?;
    let part = [&shape[..shape.len() - 1], &[last / 2]].concat();
    let count: usize = part.iter().product();
    let indices = (0..count).map(|at| (at % (last / 2) * 2) as i64).collect();
    Some(vec![Integers(part.clone(), indices), Weight(part), int("axis", shape.len() as i64 - 1)])
}

/// A graph while it grows.
struct Growing<'a> {
    translation: Translation<'a>,
    file: &'a Imported,
    random: ChaCha8Rng,
    names: usize,
    /// Values that operators may take, and whether one has.
    values: Vec<(&'a str, bool)>,
    /// Parameters and their values.
    weights: Vec<(String, Tensor, Vec<usize>, Vec<f32>)>,
    /// Floating-point constants; statistics among them are inputs of the graph.
    constants: BTreeMap<String, (Vec<usize>, Data)>,
    operators: Vec<&'static str>,
}

/// Tests may keep what lives as long as a translation.
fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

impl Growing<'static> {
    fn new_name(&mut self, stem: &str) -> &'static str {
        self.names += 1;
        kept(format!("{stem}{}", self.names))
    }

    fn weight(&mut self, shape: Vec<usize>, from: f32, to: f32) -> &'static str {
        let name = self.new_name("w");
        let tensor = self.translation.g.input(name, TensorType::f32(shape.clone())).unwrap();
        let values = (0..shape.iter().product()).map(|_| self.random.random_range(from..to)).collect();
        self.translation.define(name, tensor);
        self.weights.push((name.to_owned(), tensor, shape, values));
        name
    }

    fn known(&mut self, shape: Vec<usize>, values: Values) -> &'static str {
        let name = self.new_name("k");
        if let Values::Floats(values) = &values {
            self.constants.insert(name.to_owned(), (shape.clone(), Data::F32(values.to_vec())));
        }
        let constant = Constant::new(shape, values);
        self.translation.bind(name, Bound::Known { constant, of_shape: false });
        name
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.translation.shape_here(name).unwrap().to_vec()
    }

    /// Appends a node; returns its first output.
    fn append(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        outputs: usize,
    ) -> Result<Vec<&'static str>> {
        let outputs: Vec<&'static str> = (0..outputs).map(|_| self.new_name("y")).collect();
        let node: &'static NodeProto = kept(NodeProto {
            output: outputs.iter().map(|&name| name.to_owned()).collect(),
            ..node(operator, inputs, "y", attributes)
        });
        self.translation.append(node, || self.file.import(node))?;
        Ok(outputs)
    }

    /// `name` as a value in a domain.
    fn moved(&mut self, name: &'static str, domain: Domain) -> &'static str {
        let mut one = |operator: &str, inputs: &[&str]| self.append(operator, inputs, vec![], 1).unwrap()[0];
        if domain == Any {
            return name;
        }
        let wave = one("Sin", &[name]);
        let (operator, number) = match domain {
            Any | Bounded => return wave,
            Inside => ("Mul", 0.7),
            Positive => return one("Exp", &[wave]),
            AboveOne => ("Add", 1.0),
        };
        let base = if domain == AboveOne { one("Exp", &[wave]) } else { wave };
        let number = self.known(vec![], Values::Floats([number].into()));
        self.append(operator, &[base, number], vec![], 1).unwrap()[0]
    }

    /// Appends an operator to a value, if it takes one of its shape and the result is of moderate size.
    fn grow(&mut self, operator: &'static str, domain: Domain, make: Make) {
        let at = self.random.random_range(0..self.values.len());
        let operand = self.values[at].0;
        let shape = self.shape(operand);
        let Some(parts) = make(&shape, &mut self.random) else { return };
        let first = self.moved(operand, domain);
        let (mut inputs, mut attributes) = (vec![first], Vec::new());
        for part in parts {
            match part {
                Attribute(attribute) => attributes.push(*attribute),
                Weight(shape) => inputs.push(self.weight(shape, -1.0, 1.0)),
                Part::Positive(shape) => inputs.push(self.weight(shape, 0.5, 2.0)),
                Same => {
                    let other = (0..self.values.len())
                        .find(|&other| other != at && self.shape(self.values[other].0) == shape);
                    inputs.push(match other {
                        Some(other) => {
                            self.values[other].1 = true;
                            self.values[other].0
                        }
                        None => self.weight(shape.clone(), -1.0, 1.0),
                    });
                }
                Integers(shape, values) => inputs.push(self.known(shape, Values::Integers(values))),
                Numbers(shape, values) => inputs.push(self.known(shape, Values::Floats(values.into()))),
                Condition(shape) => {
                    let count = shape.iter().product();
                    let values = (0..count).map(|_| self.random.random_bool(0.5)).collect();
                    let condition = self.known(shape, Values::Booleans(values));
                    inputs.insert(0, condition);
                    inputs.truncate(1);
                }
                Itself => inputs.push(first),
                Absent => inputs.push(""),
            }
        }
        let outputs = if matches!(operator, "Split" | "TopK") { 2 } else { 1 };
        let outputs = self
            .append(operator, &inputs, attributes, outputs)
            .unwrap_or_else(|error| panic!("{operator} of {shape:?}: {error}"));
        self.values[at].1 = true;
        for output in outputs {
            let is_float = match self.translation.found(output) {
                Some(found) => self.translation.g.element(found.tensor) == ElementType::F32,
                None => false,
            };
            let count = if is_float { self.shape(output).iter().product() } else { 0 };
            if (1..=VALUES).contains(&count) {
                self.values.push((output, false));
            }
        }
        self.operators.push(operator);
    }
}

/// What the comparisons of a graph came to.
struct Outcome {
    operators: Vec<&'static str>,
    compared: usize,
    /// Directions in which the graph is not smooth where it is.
    skipped: usize,
}

/// Builds the graph number `seed` and compares its gradients.
fn compare(seed: u64) -> std::result::Result<Outcome, String> {
    let file = kept(Imported {
        path: "random".into(),
        nodes: vec![],
        constants: HashMap::new(),
        initializers: HashSet::new(),
        held: HashMap::new(),
        input: Input::default(),
        logits: String::new(),
        opset: 24,
        external: vec![],
        initial: HashMap::new(),
        classes: None,
        reserved: HashSet::new(),
        asked: HashSet::new(),
        frozen_statistics: false,
    });
    let g: &'static mut Builder =
        Box::leak(Box::new(Builder::new("random", Lowering::training(Target::Cpu).of_files(true))));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let shapes: [&[usize]; 5] = [&[2, 4, 6, 6], &[2, 4, 6, 6], &[3, 8], &[2, 1, 5, 4], &[2, 5, 4]];
    let shape = shapes[random.random_range(0..shapes.len())].to_vec();
    let x = g.input("x", TensorType::f32(shape.clone())).unwrap();
    let mode = if random.random_bool(0.5) { Mode::Train } else { Mode::Evaluate };
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| random.random_range(-1.5..1.5)).collect();
    let translation = Translation::new(file, g, &[("x", x)], mode, HashMap::new());
    let weights = vec![("x".to_owned(), x, shape, values)];
    let mut growing = Growing {
        translation,
        file,
        random,
        names: 0,
        values: vec![("x", false)],
        weights,
        constants: BTreeMap::new(),
        operators: vec![],
    };
    // Every operator begins some graphs, and others follow at random.
    let (first, domain, make) = OPERATORS[seed as usize % OPERATORS.len()];
    growing.grow(first, domain, make);
    for _ in 0..3 * NODES {
        if growing.operators.len() < NODES {
            let (operator, domain, make) = OPERATORS[growing.random.random_range(0..OPERATORS.len())];
            growing.grow(operator, domain, make);
        }
    }
    let Growing { mut translation, mut random, values, weights, constants, operators, .. } = growing;
    let leaves: Vec<Tensor> = values
        .iter()
        .filter(|(name, is_taken)| !is_taken && *name != "x")
        .map(|(name, _)| translation.found(name).unwrap().tensor)
        .collect();
    let g = translation.g;
    let mut seeded = Vec::new();
    let mut given: BTreeMap<String, (Vec<usize>, Data)> = BTreeMap::new();
    let mut seeds = Vec::new();
    for (at, &leaf) in leaves.iter().enumerate() {
        let ty = g.ty(leaf).clone();
        let seed = g.input(&format!("seed{at}"), ty.clone()).unwrap();
        let values: Vec<f32> = (0..ty.len()).map(|_| random.random_range(-1.0..1.0)).collect();
        given.insert(format!("seed{at}"), (ty.shape.clone(), Data::F32(values.clone())));
        seeds.push(values);
        seeded.push((leaf, seed));
    }
    let wrt: Vec<Tensor> = weights.iter().map(|(_, tensor, ..)| *tensor).collect();
    let gradients = g.vector_jacobian_product(&seeded, &wrt).map_err(|error| error.to_string())?;
    for (at, &leaf) in leaves.iter().enumerate() {
        g.output(&format!("leaf{at}"), leaf).unwrap();
    }
    for ((name, ..), gradient) in weights.iter().zip(&gradients) {
        if let Some(gradient) = gradient {
            g.output(&format!("{name}.grad"), *gradient).unwrap();
        }
    }
    for (name, _, shape, values) in &weights {
        given.insert(name.clone(), (shape.clone(), Data::F32(values.clone())));
    }
    let graph = std::mem::replace(g, Builder::new("empty", Lowering::training(Target::Cpu))).finish();
    let ports = graph.inputs();
    given.extend(constants.into_iter().filter(|(name, _)| ports.iter().any(|port| port.name == *name)));
    // Masks of dropout.
    for port in ports.into_iter().filter(|port| port.ty.element == ElementType::Bool) {
        let values = (0..port.ty.len()).map(|_| random.random_bool(0.5)).collect();
        given.insert(port.name, (port.ty.shape, Data::Bool(values)));
    }
    let mut session = testing::session(&graph.to_bytes());
    let mut run = |given: &BTreeMap<String, (Vec<usize>, Data)>| {
        let inputs: Vec<_> = given
            .iter()
            .map(|(name, (shape, data))| (name.as_str(), shape.as_slice(), data.clone()))
            .collect();
        testing::run(&mut session, &inputs)
    };
    let analytic = run(&given);
    let mut outcome = Outcome { operators, compared: 0, skipped: 0 };
    for (name, _, shape, values) in &weights {
        let direction: Vec<f32> = values.iter().map(|_| random.random_range(-1.0..1.0)).collect();
        // Sum of the leaves times their seeds at a distance along the direction, and the sum of its parts'
        // sizes.
        let mut at = |distance: f64| -> (f64, f64) {
            let moved = values.iter().zip(&direction).map(|(v, d)| v + distance as f32 * d).collect();
            let mut given = given.clone();
            given.insert(name.clone(), (shape.clone(), Data::F32(moved)));
            let outputs = run(&given);
            let mut sums = (0.0, 0.0);
            for (leaf, seed) in seeds.iter().enumerate() {
                for (y, &seed) in outputs[&format!("leaf{leaf}")].iter().zip(seed) {
                    sums = (sums.0 + y * f64::from(seed), sums.1 + (y * f64::from(seed)).abs());
                }
            }
            sums
        };
        const STEP: f64 = 1.0 / 128.0;
        let (here, size) = at(0.0);
        let [near, middle, far] = [STEP, 2.0 * STEP, 4.0 * STEP].map(|step| (at(step).0, at(-step).0));
        let slope = |near: (f64, f64), far: (f64, f64), step: f64| {
            (8.0 * (near.0 - near.1) - (far.0 - far.1)) / (12.0 * step)
        };
        let (fine, coarse) = (slope(near, middle, STEP), slope(middle, far, 2.0 * STEP));
        // The difference of the slopes on both sides is in proportion to the step where there is no edge.
        let bend = |(after, before): (f64, f64), step: f64| (after - 2.0 * here + before) / step;
        // An edge at two thirds of a step does not show in it.
        let edge_within = |near: (f64, f64), far: (f64, f64), step: f64| {
            (bend(far, 2.0 * step) - 2.0 * bend(near, step)).abs()
        };
        let edge = edge_within(near, middle, STEP).max(edge_within(middle, far, 2.0 * STEP));
        let gradient = analytic.get(&format!("{name}.grad"));
        let exact: f64 = gradient.map_or(0.0, |gradient| {
            gradient.iter().zip(&direction).map(|(gradient, &d)| gradient * f64::from(d)).sum()
        });
        let tolerance = 0.01 * coarse.abs().max(exact.abs()) + 1e-4 * size + 1e-5;
        if !coarse.is_finite() || (coarse - fine).abs().max(edge) > 0.5 * tolerance {
            outcome.skipped += 1;
            continue;
        }
        outcome.compared += 1;
        if (exact - fine).abs() > tolerance || !exact.is_finite() {
            return Err(format!(
                "graph {seed} of {}: along {name} {shape:?} the slope is {exact}, by differences {fine}",
                outcome.operators.join(", ")
            ));
        }
    }
    Ok(outcome)
}

#[test]
fn gradients_of_random_graphs_of_all_operators_are_those_of_differences() {
    let all: BTreeSet<&str> =
        imports().filter(|(_, import)| import.is_some()).map(|(operator, _)| operator.name).collect();
    let here: BTreeSet<&str> = OPERATORS.iter().map(|(operator, ..)| *operator).chain(LEFT_OUT).collect();
    assert_eq!(all.symmetric_difference(&here).collect::<Vec<_>>(), Vec::<&&str>::new());
    let (mut compared, mut skipped, mut failures) = (0, 0, Vec::new());
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..GRAPHS {
        match compare(seed) {
            Ok(outcome) => {
                compared += outcome.compared;
                skipped += outcome.skipped;
                if outcome.compared > 0 {
                    outcome
                        .operators
                        .into_iter()
                        .for_each(|operator| *uses.entry(operator).or_default() += 1);
                }
            }
            Err(failure) => failures.push(failure),
        }
    }
    println!("{compared} slopes agree, {skipped} are not smooth; uses: {uses:?}");
    assert!(failures.is_empty(), "{} of {GRAPHS} fail:\n{}", failures.len(), failures.join("\n"));
    assert!(compared > 2 * skipped, "{compared} of {}", compared + skipped);
    let unused: Vec<_> =
        OPERATORS.iter().map(|(operator, ..)| operator).filter(|name| !uses.contains_key(*name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}
