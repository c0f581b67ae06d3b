//! Random graphs of all operators that have gradients, imported and differentiated, against differences.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::super::bound::Bound;
use super::super::constant::Values;
use super::*;

mod operators;

use operators::Domain::{self, AboveOne, Any, Bounded, Inside, Positive};
use operators::Part::{self, Absent, Attribute, Condition, Integers, Itself, Numbers, Same, Weight};
use operators::{LEFT_OUT, Make, OPERATORS};

/// Number of graphs.
const GRAPHS: u64 = 300;
/// Operators of a graph.
const NODES: usize = 7;
/// Most values of a tensor.
const VALUES: usize = 2000;

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
    let file = kept(Imported { path: "random".into(), opset: 24, ..Default::default() });
    let g: &'static mut Builder =
        Box::leak(Box::new(Builder::new("random", Lowering::training(Target::Cpu).of_files(true))));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let shapes: [&[usize]; 6] =
        [&[2, 4, 6, 6], &[2, 4, 6, 6], &[3, 8], &[2, 1, 5, 4], &[2, 5, 4], &[2, 2, 3]];
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
