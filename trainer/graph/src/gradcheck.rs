//! The check of gradient rules in tests: gradients of Σ y·r, with random r, against central differences.

use std::collections::HashMap;

use fovea_runtime::testing::{self, Data};
use ort::session::Session;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::lowering::{Lowering, Target};
use super::types::{ElementType, TensorType};
use super::{Builder, Graph, Result, Tensor};

/// Largest number of entries that are varied per operand.
const ENTRIES: usize = 60;

/// The operands of one operator, and the lowerings under which it is checked.
pub(crate) struct Case {
    name: String,
    element: ElementType,
    lowerings: Vec<Lowering>,
    operands: Vec<(Vec<usize>, Vec<f64>)>,
    random: ChaCha8Rng,
}

impl Case {
    /// A case in double precision, for operators with an f64 kernel on the CPU.
    pub fn f64(name: &str) -> Self {
        Self::new(name, ElementType::F64)
    }

    /// A case in single precision.
    pub fn f32(name: &str) -> Self {
        Self::new(name, ElementType::F32)
    }

    fn new(name: &str, element: ElementType) -> Self {
        let targets = [Target::Cpu, Target::Cuda, Target::CudaTf32, Target::CudaF16];
        let mut lowerings = targets.map(Lowering::training).to_vec();
        let of_files = Lowering::training(Target::Cpu).of_files(true);
        lowerings.push(of_files);
        if element == ElementType::F32 {
            let on_gpu = Lowering::training(Target::Cuda);
            lowerings.extend([of_files, on_gpu].map(|forms| Lowering { own_operators: true, ..forms }));
        }
        let random = ChaCha8Rng::seed_from_u64(7);
        Self { name: name.to_owned(), element, lowerings, operands: Vec::new(), random }
    }

    /// Checks only this lowering instead of those of all targets.
    pub fn lowering(mut self, lowering: Lowering) -> Self {
        self.lowerings = vec![lowering];
        self
    }

    /// Adds an operand with the given values.
    pub fn values(mut self, shape: impl Into<Vec<usize>>, values: Vec<f64>) -> Self {
        self.operands.push((shape.into(), values));
        self
    }

    /// Adds an operand of both signs with a standard deviation of about 1.
    pub fn normal(self, shape: impl Into<Vec<usize>>) -> Self {
        self.drawn(shape, |u| 3.4 * (u - 0.5))
    }

    /// Adds an operand of values from 0.5 to 2.
    pub fn positive(self, shape: impl Into<Vec<usize>>) -> Self {
        self.drawn(shape, |u| 0.5 + 1.5 * u)
    }

    /// Adds an operand whose values all differ by more than the step of the differences.
    pub fn distinct(mut self, shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let count: usize = shape.iter().product();
        let mut order: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            order.swap(i, self.random.random_range(0..=i));
        }
        self.values(shape, order.into_iter().map(|i| i as f64 / count as f64).collect())
    }

    fn drawn(mut self, shape: impl Into<Vec<usize>>, map: impl Fn(f64) -> f64) -> Self {
        let shape = shape.into();
        let count = shape.iter().product();
        let values = (0..count).map(|_| map(self.random.random::<f64>())).collect();
        self.values(shape, values)
    }

    fn data(&self, values: &[f64]) -> Data {
        match self.element {
            ElementType::F64 => Data::F64(values.to_vec()),
            _ => Data::F32(values.iter().map(|&v| v as f32).collect()),
        }
    }

    /// Step of the differences, and tolerance relative to the largest gradient or 1, whichever is larger.
    fn accuracy(&self) -> (f64, f64) {
        match self.element {
            ElementType::F64 => (1.0 / 4096.0, 1e-8),
            _ => (1.0 / 64.0, 1e-4),
        }
    }
}

/// The output of one operator under the first lowering of a case.
pub(crate) fn evaluate(case: Case, build: impl Fn(&mut Builder, &[Tensor]) -> Result<Tensor>) -> Vec<f64> {
    let mut g = Builder::new(&case.name, case.lowerings[0]);
    let x = operands(&mut g, &case);
    let y = build(&mut g, &x).unwrap();
    g.output("y", y).unwrap();
    let mut session = open(&g.finish());
    run_case(&mut session, &case, &case.operands, None).remove("y").unwrap()
}

/// The gradient of the sum of an operator's output with respect to its first operand, under the first
/// lowering of a case.
pub(crate) fn gradient(case: Case, build: impl Fn(&mut Builder, &[Tensor]) -> Result<Tensor>) -> Vec<f64> {
    evaluate(case, |g, x| {
        let y = build(g, x)?;
        let total = g.sum(y)?;
        let gradient = g.grad(total, &x[..1])?[0];
        g.identity(gradient)
    })
}

/// Compares the gradients of an operator with fourth-order differences, and prints the largest error.
pub(crate) fn check_gradients(case: Case, build: impl Fn(&mut Builder, &[Tensor]) -> Result<Tensor>) {
    for lowering in case.lowerings.clone() {
        check(&case, lowering, &build);
    }
}

fn check(case: &Case, lowering: Lowering, build: &impl Fn(&mut Builder, &[Tensor]) -> Result<Tensor>) {
    let mut g = Builder::new(&case.name, lowering);
    let x = operands(&mut g, case);
    let y = build(&mut g, &x).unwrap();
    let ty = g.ty(y).clone();
    let r = g.input("r", ty.clone()).unwrap();
    let product = g.mul(y, r).unwrap();
    let loss = g.sum(product).unwrap();
    let gradients = g.grad(loss, &x).unwrap();
    g.output("y", y).unwrap();
    for (i, gradient) in gradients.into_iter().enumerate() {
        g.output(&format!("d{i}"), gradient).unwrap();
    }
    let mut session = open(&g.finish());

    let mut random = ChaCha8Rng::seed_from_u64(11);
    let r: Vec<f64> = (0..ty.len()).map(|_| random.random::<f64>() - 0.3).collect();
    let r = (ty.shape, r);
    let analytic = run_case(&mut session, case, &case.operands, Some(&r));
    let (step, tolerance) = case.accuracy();
    let (mut worst, mut place) = (0.0, String::new());
    for i in 0..case.operands.len() {
        let gradient = &analytic[&format!("d{i}")];
        let scale = gradient.iter().fold(1.0f64, |m, g| m.max(g.abs()));
        let stride = gradient.len().div_ceil(ENTRIES);
        for at in (0..gradient.len()).step_by(stride) {
            let mut loss_at = |offset: f64| -> f64 {
                let mut moved = case.operands.clone();
                moved[i].1[at] += offset;
                let y = &run_case(&mut session, case, &moved, Some(&r))["y"];
                y.iter().zip(&r.1).map(|(y, r)| y * r).sum()
            };
            let near = loss_at(step) - loss_at(-step);
            let far = loss_at(2.0 * step) - loss_at(-2.0 * step);
            let numeric = (8.0 * near - far) / (12.0 * step);
            let error = (numeric - gradient[at]).abs() / scale;
            if error.is_nan() || error > worst {
                (worst, place) =
                    (error, format!("operand {i} entry {at}: {} against {numeric}", gradient[at]));
            }
            assert!(!error.is_nan(), "{}: {place}", case.name);
        }
    }
    println!("{}: largest difference {worst:.1e} at {place}", case.name);
    assert!(worst <= tolerance, "{}: {worst:.1e} at {place}", case.name);
}

fn operands(g: &mut Builder, case: &Case) -> Vec<Tensor> {
    let declare = |(i, (shape, _)): (usize, &(Vec<usize>, Vec<f64>))| {
        g.input(&format!("x{i}"), TensorType::new(case.element, shape.clone())).unwrap()
    };
    case.operands.iter().enumerate().map(declare).collect()
}

type Operand = (Vec<usize>, Vec<f64>);

fn run_case(
    session: &mut Session,
    case: &Case,
    operands: &[Operand],
    r: Option<&Operand>,
) -> HashMap<String, Vec<f64>> {
    let names: Vec<String> = (0..operands.len()).map(|i| format!("x{i}")).collect();
    let named = names.iter().map(String::as_str).zip(operands).chain(r.map(|r| ("r", r)));
    let inputs: Vec<_> =
        named.map(|(name, (shape, values))| (name, shape.as_slice(), case.data(values))).collect();
    testing::run(session, &inputs)
}

/// A session for `graph`, on the CPU if it is in double precision.
fn open(graph: &Graph) -> Session {
    let is_double = graph.inputs().iter().any(|port| port.ty.element == ElementType::F64);
    let open = if is_double { testing::cpu_session } else { testing::session };
    open(&graph.to_bytes())
}

/// Runs a graph whose inputs are all f32.
pub(crate) fn run_f32(graph: &Graph, inputs: &[(&str, &[f64])]) -> HashMap<String, Vec<f64>> {
    run_graph(graph, inputs, |v| Data::F32(v.iter().map(|&v| v as f32).collect()))
}

/// Runs a graph whose inputs are all f64.
pub(crate) fn run_f64(graph: &Graph, inputs: &[(&str, &[f64])]) -> HashMap<String, Vec<f64>> {
    run_graph(graph, inputs, |v| Data::F64(v.to_vec()))
}

fn run_graph(
    graph: &Graph,
    inputs: &[(&str, &[f64])],
    data: impl Fn(&[f64]) -> Data,
) -> HashMap<String, Vec<f64>> {
    let ports = graph.inputs();
    let inputs: Vec<_> = inputs
        .iter()
        .map(|(name, values)| {
            let port = ports.iter().find(|p| p.name == *name).expect("the graph has the input");
            (*name, port.ty.shape.as_slice(), data(values))
        })
        .collect();
    testing::run(&mut open(graph), &inputs)
}
