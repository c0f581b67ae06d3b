//! Random numbers of graphs for training, such as those of stochastic depth.
//!
//! A run must be able to resume at any step, so what is drawn comes from the host, as Boolean masks. Uniform
//! random numbers therefore stay unevaluated until they are compared with a constant; in evaluation, a mask
//! stands for its expectation.

use std::collections::HashMap;

use super::bound::{Bound, Random};
use super::constant::{Constant, Values};
use super::file::NodeAttributes;
use super::translation::{Translation, given};
use crate::Result;
use crate::onnx::NodeProto;

/// Whether nodes of this operator are random numbers that can be drawn by the host.
pub(super) fn is_drawn(operator: &str) -> bool {
    matches!(operator, "RandomUniform" | "RandomUniformLike" | "Bernoulli")
}

impl<'a> Translation<'a> {
    /// Binds the output of `node` if it makes random numbers or takes them; false if it has nothing to do
    /// with them.
    pub(super) fn appended_random(&mut self, node: &'a NodeProto) -> Result<bool> {
        let operands: Vec<Option<Random>> =
            node.input.iter().map(|name| self.random(name).cloned()).collect();
        let bound = match (node.op_type(), &operands[..]) {
            ("RandomUniform" | "RandomUniformLike", _) => self.uniform(node)?,
            ("Bernoulli", _) => {
                let keep = self.probability(node)?;
                let shape = self.shape_of(node, 0).unwrap_or_default();
                let mask = self.mask_or_chance(node, &self.of_batch(node, 0, shape), keep)?;
                self.numbers(mask)?
            }
            (_, operands) if operands.iter().all(Option::is_none) => return Ok(false),
            ("Less" | "LessOrEqual", [Some(Random::Uniform { shape, low, high }), None])
            | ("Greater" | "GreaterOrEqual", [None, Some(Random::Uniform { shape, low, high })]) => {
                let at = usize::from(operands[0].is_some());
                let limit = self.limit(node, at)?;
                self.mask_or_chance(node, shape, (limit - low) / (high - low))?
            }
            ("Greater" | "GreaterOrEqual", [Some(Random::Uniform { shape, low, high }), None])
            | ("Less" | "LessOrEqual", [None, Some(Random::Uniform { shape, low, high })]) => {
                let at = usize::from(operands[0].is_some());
                let limit = self.limit(node, at)?;
                self.mask_or_chance(node, shape, (high - limit) / (high - low))?
            }
            ("Add", [Some(Random::Uniform { shape, low, high }), None])
            | ("Add", [None, Some(Random::Uniform { shape, low, high })]) => {
                let shift = self.limit(node, usize::from(operands[0].is_some()))?;
                Bound::Random(Random::Uniform { shape: shape.clone(), low: low + shift, high: high + shift })
            }
            // Of numbers in p..1+p, the fraction p is 1 or more.
            ("Floor", [Some(Random::Uniform { shape, low, high })])
                if (0.0..=1.0).contains(low) && (high - low - 1.0).abs() < 1e-6 =>
            {
                let mask = self.mask_or_chance(node, shape, *low)?;
                self.numbers(mask)?
            }
            ("Identity", [Some(random)]) => Bound::Random(random.clone()),
            ("Cast" | "CastLike", [Some(Random::Chance { rank, keep }), ..]) => expectation(*rank, *keep),
            ("Not", [Some(Random::Chance { rank, keep })]) => {
                Bound::Random(Random::Chance { rank: *rank, keep: 1.0 - keep })
            }
            ("Where", [Some(Random::Chance { keep, .. }), None, None]) => {
                let (a, b) = (self.operand(node, 1)?, self.operand(node, 2)?);
                let (a, b) = (self.g.scale(a, *keep)?, self.g.scale(b, 1.0 - keep)?);
                Bound::Tensor(self.g.add(a, b)?)
            }
            _ => {
                let reason = "computes with random numbers, which are only supported where they are compared \
                              with a constant, or in Dropout and Bernoulli";
                return Err(self.at_node(node, reason));
            }
        };
        if let Some(output) = node.output.first() {
            self.bind(output, bound);
        }
        Ok(true)
    }

    /// The values, by name, that what `nodes` draw in training has in this graph, for evaluation.
    pub(super) fn expectations(&self, nodes: &[NodeProto]) -> HashMap<String, Constant> {
        let takes_random = |node: &NodeProto| node.input.iter().any(|name| self.random(name).is_some());
        let drawn = nodes.iter().filter(|node| is_drawn(node.op_type()) || takes_random(node));
        let outputs = drawn.filter_map(|node| node.output.first());
        outputs.filter_map(|output| Some((output.clone(), self.known(output)?.clone()))).collect()
    }

    fn uniform(&self, node: &'a NodeProto) -> Result<Bound> {
        let attributes = NodeAttributes(node);
        let (low, high) = (attributes.float("low", 0.0), attributes.float("high", 1.0));
        let shape = attributes.sizes("shape").or_else(|| self.shape_of(node, 0));
        let Some(shape) = shape.filter(|_| low < high) else {
            let reason = format!("draws from {low}..{high}, expected a shape and a range that is not empty");
            return Err(self.at_node(node, reason));
        };
        Ok(Bound::Random(Random::Uniform { shape: self.of_batch(node, 0, shape), low, high }))
    }

    /// A shape, from that of operand `at`, whose batch is that of the network where a trace has fixed it.
    fn of_batch(&self, node: &NodeProto, at: usize, shape: Vec<usize>) -> Vec<usize> {
        if given(node, at) && self.constant(node, at).is_none() {
            return shape;
        }
        let target = shape.iter().map(|&length| length as i64).collect();
        let target = self.target_shape(node, at, target, 0);
        target.into_iter().map(|length| usize::try_from(length).unwrap_or(0)).collect()
    }

    /// The one probability of a Bernoulli node.
    fn probability(&self, node: &NodeProto) -> Result<f64> {
        let values = self.constant(node, 0).map(|constant| &constant.values);
        match values {
            Some(Values::Floats(values)) if values.windows(2).all(|pair| pair[0] == pair[1]) => {
                if let Some(&p) = values.first() {
                    return Ok(p.into());
                }
            }
            _ => {}
        }
        Err(self.at_node(node, "draws with probabilities that are computed, expected a constant one"))
    }

    fn limit(&self, node: &NodeProto, at: usize) -> Result<f64> {
        match self.constant(node, at).map(|constant| &constant.values) {
            Some(Values::Floats(values)) if values.len() == 1 => Ok(values[0].into()),
            _ => {
                let reason = "combines random numbers with a value that is computed, expected a constant";
                Err(self.at_node(node, reason))
            }
        }
    }

    /// A mask of `shape` that is true with probability `keep`.
    fn mask_or_chance(&mut self, node: &'a NodeProto, shape: &[usize], keep: f64) -> Result<Bound> {
        let keep = keep.clamp(0.0, 1.0);
        if !self.is_training() {
            return Ok(Bound::Random(Random::Chance { rank: shape.len(), keep }));
        }
        let (rows, first) = (self.batch, shape.first().copied().unwrap_or(1));
        let rest: usize = shape.iter().skip(1).product();
        // A mask is drawn row by row; one that all rows share is that of the first row.
        let is_by_row = first % rows == 0;
        let row = if is_by_row { first / rows * rest } else { first * rest };
        let drawn_shape = if first == rows { shape.to_vec() } else { vec![rows, row] };
        let Some(mask) = self.drawn(node, &drawn_shape, keep)? else {
            return Ok(Bound::Random(Random::Chance { rank: shape.len(), keep }));
        };
        let mask = if is_by_row { mask } else { self.g.slice(mask, 0, 0, 1)? };
        let mask = if self.g.shape(mask) == shape { mask } else { self.g.reshape(mask, shape)? };
        Ok(Bound::Tensor(mask))
    }

    /// A mask as 1 and 0.
    fn numbers(&mut self, mask: Bound) -> Result<Bound> {
        Ok(match mask {
            Bound::Tensor(mask) => {
                let element = self.element();
                Bound::Tensor(self.g.cast(mask, element)?)
            }
            Bound::Random(Random::Chance { rank, keep }) => expectation(rank, keep),
            other => other,
        })
    }
}

/// `keep` in a shape that broadcasts to any of `rank` axes.
fn expectation(rank: usize, keep: f64) -> Bound {
    let constant = Constant::new(vec![1; rank], Values::Floats([keep as f32].into()));
    Bound::Known { constant, of_shape: false }
}
