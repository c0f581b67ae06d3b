//! Graphs whose batch size is free.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{GraphError, Result};
use super::model::Graph;
use super::node::{Node, Origin, Tensor, Value};
use super::operator::Operator;
use super::ops::{ADD, MUL, SHAPE, SLICE};
use super::types::{ElementType, TensorType};

/// Batch sizes at which a graph with constants that depend on it is built; no other length is like them.
const PROBES: [usize; 3] = [1009, 1014, 1021];

/// Builds a graph whose first axis is free wherever it is the batch size.
///
/// `build` is called with two batch sizes. The graph is accepted if both calls return the same nodes and
/// constants, because then nothing in it depends on the size; or if integers in constants, such as the target
/// of a reshape, grow in proportion to it, which are then inferred or computed. Inputs and outputs whose type
/// differs get a free first axis.
///
/// # Errors
/// Those of `build`, or [`GraphError::BatchDependent`] with the first node that differs.
pub fn free_batch(build: impl Fn(usize) -> Result<Graph>) -> Result<Graph> {
    let (graph, other) = (build(2)?, build(3)?);
    let is_same = first_difference(&graph, &other, true).is_none();
    let (mut graph, other) = match is_same {
        true => (graph, other),
        false => {
            let [first, second, third] = PROBES.map(&build);
            let (mut first, second, third) = (first?, second?, third?);
            let differs =
                [&second, &third].into_iter().find_map(|other| first_difference(&first, other, false));
            if let Some(node) = differs {
                return Err(GraphError::BatchDependent { graph: first.name, node });
            }
            compute_lengths(&mut first, &second, &third)?;
            (first, second)
        }
    };
    let differs = |t: &&Tensor| graph.values[t.index()].ty != other.values[t.index()].ty;
    graph.free = graph.inputs.iter().chain(&graph.outputs).filter(differs).copied().collect();
    Ok(graph)
}

/// The first node that is not the same in both, or has other constants.
fn first_difference(graph: &Graph, other: &Graph, with_constants: bool) -> Option<String> {
    let same_origin = |t: &Tensor| graph.values[t.index()].origin == other.values[t.index()].origin;
    let differs = |(a, b): (&Node, &Node)| a != b || (with_constants && !a.inputs.iter().all(same_origin));
    if let Some(at) = graph.nodes.iter().zip(&other.nodes).position(differs) {
        return Some(graph.nodes[at].name.clone());
    }
    (graph.nodes.len() != other.nodes.len()).then(|| "number of nodes".into())
}

/// Replaces constants that differ by computations from the length of the first input.
fn compute_lengths(graph: &mut Graph, second: &Graph, third: &Graph) -> Result<()> {
    let mut lengths: BTreeMap<Tensor, Linear> = BTreeMap::new();
    for node in &graph.nodes {
        for &input in &node.inputs {
            let origins = [&*graph, second, third].map(|graph| &graph.values[input.index()].origin);
            if origins[0] == origins[1] && origins[0] == origins[2] {
                continue;
            }
            let Some(linear) = Linear::of(&graph.values[input.index()].ty, origins) else {
                return Err(GraphError::BatchDependent {
                    graph: graph.name.clone(),
                    node: node.name.clone(),
                });
            };
            lengths.insert(input, linear);
        }
    }
    let is_target = |tensor: &Tensor| {
        let uses = |node: &Node| node.inputs.iter().position(|input| input == tensor);
        graph.nodes.iter().all(|node| uses(node).is_none_or(|at| node.operator.name == "Reshape" && at == 1))
    };
    let inferred: BTreeSet<Tensor> = lengths.keys().filter(|tensor| is_target(tensor)).copied().collect();
    let mut nodes = Vec::new();
    let mut batch = None;
    for (tensor, linear) in lengths {
        let target = if inferred.contains(&tensor) { linear.inferred() } else { None };
        if let Some(target) = target {
            graph.values[tensor.index()].origin = constant(&target);
            continue;
        }
        let Some(&images) = graph.inputs.first() else { continue };
        let rank = graph.values[images.index()].ty.rank();
        let mut add = |name: String, length: usize, origin: Origin| {
            let ty = TensorType::new(ElementType::I64, [length]);
            graph.values.push(Value { name, ty, origin });
            Tensor(graph.values.len() as u32 - 1)
        };
        let length = *batch.get_or_insert_with(|| {
            let start = add("batch_size/start".into(), 1, constant(&[0]));
            let end = add("batch_size/end".into(), 1, constant(&[1]));
            let shape = add("batch_size/shape".into(), rank, Origin::Node);
            let length = add("batch_size/length".into(), 1, Origin::Node);
            nodes.push(node("batch_size/Shape".into(), &SHAPE, vec![images], shape));
            nodes.push(node("batch_size/Slice".into(), &SLICE, vec![shape, start, end], length));
            length
        });
        let count = linear.factors.len();
        let name = |part: &str| format!("batch_size/{}/{part}", tensor.0);
        let factors = add(name("factors"), count, constant(&linear.factors));
        let rest = add(name("rest"), count, constant(&linear.rest));
        let product = add(name("product"), count, Origin::Node);
        nodes.push(node(name("Mul"), &MUL, vec![length, factors], product));
        nodes.push(node(name("Add"), &ADD, vec![product, rest], tensor));
        graph.values[tensor.index()].origin = Origin::Node;
    }
    graph.nodes.splice(0..0, nodes);
    Ok(())
}

fn node(name: String, operator: &'static Operator, inputs: Vec<Tensor>, output: Tensor) -> Node {
    let outputs = vec![output];
    Node { name, operator, inputs, outputs, attributes: Vec::new(), copied: None, covered: true }
}

/// Integers in proportion to the batch size, plus others.
struct Linear {
    factors: Vec<i64>,
    rest: Vec<i64>,
}

impl Linear {
    /// The list that a constant is at the three probes.
    fn of(ty: &TensorType, origins: [&Origin; 3]) -> Option<Self> {
        if ty.element != ElementType::I64 || ty.rank() != 1 {
            return None;
        }
        let [first, second, third] = origins.map(|origin| match origin {
            Origin::Constant(bytes) => {
                Some(bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect())
            }
            _ => None,
        });
        let (first, second, third): (Vec<i64>, Vec<i64>, Vec<i64>) = (first?, second?, third?);
        let [a, b, c] = PROBES.map(|length| length as i64);
        let factors: Vec<i64> = first.iter().zip(&second).map(|(x, y)| (y - x) / (b - a)).collect();
        let rest: Vec<i64> = first.iter().zip(&factors).map(|(x, factor)| x - factor * a).collect();
        let at = |length: i64| factors.iter().zip(&rest).map(move |(factor, rest)| factor * length + rest);
        let fits = at(b).eq(second.iter().copied()) && at(c).eq(third.iter().copied());
        fits.then_some(Self { factors, rest })
    }

    /// The target of a reshape whose only length that varies is inferred.
    fn inferred(&self) -> Option<Vec<i64>> {
        let varies: Vec<usize> = (0..self.factors.len()).filter(|&at| self.factors[at] != 0).collect();
        let [at] = varies[..] else { return None };
        let mut target = self.rest.clone();
        target[at] = -1;
        (target.iter().enumerate().all(|(other, &length)| other == at || length > 0)).then_some(target)
    }
}

fn constant(values: &[i64]) -> Origin {
    Origin::Constant(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use fovea_runtime::testing::{self, Data};

    use super::free_batch;
    use crate::model::tests::graph;
    use crate::{GraphError, TensorType};

    #[test]
    fn a_graph_that_works_for_every_batch_size_gets_a_free_first_axis() {
        let free = free_batch(|n| graph(n, |g, x| g.flatten(x, 1))).unwrap();
        assert!(free.inputs()[0].free_batch && free.outputs()[0].free_batch);
        assert!(
            free_batch(|n| graph(n, |g, x| if n % 2 == 0 { g.relu(x) } else { g.flatten(x, 1) })).is_err()
        );
    }

    #[test]
    fn lengths_in_proportion_to_the_batch_size_are_inferred_or_computed() {
        // The 4 rows of an image, each beside a token, by reshapes and an expansion.
        let free = free_batch(|n| {
            graph(n, |g, x| {
                let rows = g.reshape(x, &[n * 4, 4])?;
                let token = g.floats(TensorType::f32([1, 2]), &[7.0, 8.0]);
                let tokens = g.expand(token, &[n * 4, 2])?;
                let both = g.concat(&[tokens, rows], 1)?;
                g.reshape(both, &[n, 4, 6])
            })
        })
        .unwrap();
        assert!(free.inputs()[0].free_batch && free.outputs()[0].free_batch);
        for rows in [1, 5] {
            let pixels: Vec<f64> = (0..rows * 16).map(|pixel| pixel as f64).collect();
            let x = Data::F32(pixels.iter().map(|&pixel| pixel as f32).collect());
            let mut session = testing::session(&free.to_bytes());
            let y = testing::run(&mut session, &[("x", &[rows, 1, 4, 4], x)]).remove("y").unwrap();
            let expected: Vec<f64> =
                pixels.chunks(4).flat_map(|row| [7.0, 8.0].into_iter().chain(row.iter().copied())).collect();
            assert_eq!(y, expected);
        }
    }

    #[test]
    fn a_batch_size_in_other_values_is_an_error_that_names_the_node() {
        let error = free_batch(|n| {
            graph(n, |g, x| {
                let factor = g.floats(TensorType::f32([1]), &[n as f64]);
                g.mul(x, factor)
            })
        });
        let node = "Mul".into();
        assert_eq!(error.unwrap_err(), GraphError::BatchDependent { graph: "test".into(), node });
        assert!(free_batch(|n| graph(n, |g, x| g.slice(x, 2, 0, 1 + n % 2))).is_err());
    }
}
