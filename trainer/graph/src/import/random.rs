//! Random numbers of graphs for training, such as those of stochastic depth.
//!
//! A run must be able to resume at any step, so what is drawn comes from the host: Boolean masks, and noises.
//! Uniform random numbers stay unevaluated until they are used: compared with a constant they are a mask. In
//! evaluation, a mask and a noise stand for their expectations.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::bound::{Bound, Random};
use super::constant::{Constant, Values};
use super::file::NodeAttributes;
use super::limits::check_made;
use super::translation::{Translation, given};
use crate::module::{Distribution, DropoutMask, Noise, mask_name, noise_name};
use crate::onnx::NodeProto;
use crate::{ElementType, Result, Tensor, TensorType};

/// Whether nodes of this operator are random numbers that can be drawn by the host.
pub(super) fn is_drawn(operator: &str) -> bool {
    matches!(
        operator,
        "RandomUniform" | "RandomUniformLike" | "RandomNormal" | "RandomNormalLike" | "Bernoulli"
    )
}

impl<'a> Translation<'a> {
    /// Binds the first output of `node`, which has one, if it makes random numbers or takes them; false if it
    /// has nothing to do with them.
    pub(super) fn appended_random(&mut self, node: &'a NodeProto) -> Result<bool> {
        let operands: Vec<Option<Random>> =
            node.input.iter().map(|name| self.random(name).cloned()).collect();
        if !is_drawn(node.op_type()) && operands.iter().all(Option::is_none) {
            return Ok(false);
        }
        if let Some(bound) = self.beside_number(node, &operands)? {
            self.bind(&node.output[0], bound);
            return Ok(true);
        }
        let bound = match (node.op_type(), &operands[..]) {
            ("RandomUniform" | "RandomUniformLike", _) => self.uniform(node)?,
            ("RandomNormal" | "RandomNormalLike", _) => self.normal(node)?,
            ("Bernoulli", _) => {
                let keep = self.probability(node)?;
                let shape = self.shape_of(node, 0).unwrap_or_default();
                let mask = self.mask_or_chance(node, &self.of_batch(node, 0, shape), keep)?;
                self.numbers(mask)?
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
            (_, operands) => {
                let is_mask = |operand: &Option<Random>| matches!(operand, Some(Random::Chance { .. }));
                if operands.iter().any(is_mask) {
                    let reason = "computes with a random mask, which is only supported where it selects, is \
                                  negated or becomes numbers";
                    return Err(self.at_node(node, reason));
                }
                for name in &node.input {
                    self.settle(name)?;
                }
                return Ok(false);
            }
        };
        if matches!(bound, Bound::Known { .. }) {
            self.expected.push(&node.output[0]);
        }
        self.bind(&node.output[0], bound);
        Ok(true)
    }

    /// Draws `name` as a noise, if it stands for uniform random numbers; in evaluation it is their mean.
    fn settle(&mut self, name: &'a str) -> Result<()> {
        let Some(&Random::Uniform { ref shape, low, high }) = self.random(name) else { return Ok(()) };
        let shape = shape.clone();
        let bound = if self.is_training() {
            self.noise(name, &shape, Distribution::Uniform, (high - low, low))?
        } else {
            self.expected.push(name);
            expectation(shape.len(), (low + high) / 2.0)
        };
        self.bind(name, bound);
        Ok(())
    }

    /// The values, by name, that stand for random numbers in this graph, for evaluation.
    pub(super) fn expectations(&self) -> HashMap<String, Constant> {
        let expected = self.expected.iter();
        expected.filter_map(|&name| Some((name.to_owned(), self.known(name)?.clone()))).collect()
    }

    fn uniform(&mut self, node: &'a NodeProto) -> Result<Bound> {
        let attributes = NodeAttributes(node);
        let (low, high) = (attributes.float("low", 0.0), attributes.float("high", 1.0));
        if low.partial_cmp(&high) != Some(Ordering::Less) {
            let reason = format!("draws from {low}..{high}, expected a range that is not empty");
            return Err(self.at_node(node, reason));
        }
        let shape = self.drawn_shape(node)?;
        // Nodes that use the same numbers must see the same.
        let uses =
            self.file.nodes.iter().flat_map(|user| &user.input).filter(|name| **name == node.output[0]);
        if self.is_training() && uses.count() > 1 {
            return self.noise(&node.output[0], &shape, Distribution::Uniform, (high - low, low));
        }
        Ok(Bound::Random(Random::Uniform { shape, low, high }))
    }

    fn normal(&mut self, node: &'a NodeProto) -> Result<Bound> {
        let attributes = NodeAttributes(node);
        let (mean, deviation) = (attributes.float("mean", 0.0), attributes.float("scale", 1.0));
        let shape = self.drawn_shape(node)?;
        if !self.is_training() {
            return Ok(expectation(shape.len(), mean));
        }
        self.noise(&node.output[0], &shape, Distribution::Normal, (deviation, mean))
    }

    /// The shape of what a node draws: that of its attribute, or of its operand.
    fn drawn_shape(&self, node: &NodeProto) -> Result<Vec<usize>> {
        let shape = NodeAttributes(node).sizes("shape").or_else(|| self.shape_of(node, 0));
        let Some(shape) = shape.filter(|shape| !shape.contains(&0)) else {
            return Err(self.at_node(node, "draws nothing, expected a shape"));
        };
        let shape = self.of_batch(node, 0, shape);
        check_made(&TensorType::f32(shape.clone())).map_err(|reason| self.at_node(node, reason))?;
        Ok(shape)
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

    /// What `node` makes of uniform random numbers and a known number: a mask by comparing them, or others by
    /// adding it.
    fn beside_number(&mut self, node: &'a NodeProto, operands: &[Option<Random>]) -> Result<Option<Bound>> {
        let (random, at) = match operands {
            [Some(random), None] => (random, 1),
            [None, Some(random)] => (random, 0),
            _ => return Ok(None),
        };
        let Random::Uniform { shape, low, high } = random else { return Ok(None) };
        let number = match self.constant(node, at).map(|constant| &constant.values) {
            Some(Values::Floats(values)) if values.len() == 1 => f64::from(values[0]),
            _ => return Ok(None),
        };
        let kept = match (node.op_type(), at) {
            ("Less" | "LessOrEqual", 1) | ("Greater" | "GreaterOrEqual", 0) => number - low,
            ("Less" | "LessOrEqual", 0) | ("Greater" | "GreaterOrEqual", 1) => high - number,
            ("Add", _) => {
                let (shape, low, high) = (shape.clone(), low + number, high + number);
                return Ok(Some(Bound::Random(Random::Uniform { shape, low, high })));
            }
            _ => return Ok(None),
        };
        self.mask_or_chance(node, shape, kept / (high - low)).map(Some)
    }

    /// The mask, drawn by the host, of a dropout that keeps a fraction `keep` of `x`; `None` in evaluation.
    pub fn mask(&mut self, node: &'a NodeProto, x: Tensor, keep: f64) -> Result<Option<Tensor>> {
        let shape = self.g.shape(x).to_vec();
        self.is_training().then(|| self.drawn_mask(node, &shape, keep)).transpose()
    }

    /// A mask of `shape` that is true with probability `keep`.
    fn mask_or_chance(&mut self, node: &'a NodeProto, shape: &[usize], keep: f64) -> Result<Bound> {
        let keep = keep.clamp(0.0, 1.0);
        if !self.is_training() {
            return Ok(Bound::Random(Random::Chance { rank: shape.len(), keep }));
        }
        let mask = self.drawn_mask(node, shape, keep)?;
        self.drawn.insert(mask);
        Ok(Bound::Tensor(mask))
    }

    fn drawn_mask(&mut self, node: &'a NodeProto, shape: &[usize], keep: f64) -> Result<Tensor> {
        let rows = self.rows_of(shape);
        let name = mask_name(&node.output[0]);
        let mask = self.g.input(&name, TensorType::new(ElementType::Bool, rows.clone()))?;
        self.forward.drawn.masks.push(DropoutMask { name, shape: rows, keep });
        self.of_rows(mask, shape)
    }

    /// Random numbers of `shape` that the host draws, `name` in the file, times a factor, plus a number.
    fn noise(
        &mut self,
        name: &str,
        shape: &[usize],
        distribution: Distribution,
        (factor, number): (f64, f64),
    ) -> Result<Bound> {
        let rows = self.rows_of(shape);
        let name = noise_name(name);
        let noise = self.g.input(&name, TensorType::f32(rows.clone()))?;
        self.forward.drawn.noises.push(Noise { name, shape: rows, distribution });
        let mut y = self.of_rows(noise, shape)?;
        y = self.g.cast(y, self.element())?;
        y = self.g.scale(y, factor)?;
        if number != 0.0 {
            let number = self.g.scalar(self.element(), number);
            y = self.g.add(y, number)?;
        }
        self.drawn.insert(y);
        Ok(Bound::Tensor(y))
    }

    /// What is drawn for values of `shape`: the rows of the batch are the first axis, if they are part of it.
    fn rows_of(&self, shape: &[usize]) -> Vec<usize> {
        match *shape {
            [] => vec![1],
            [first, ref rest @ ..] if first > self.batch && first.is_multiple_of(self.batch) => {
                vec![self.batch, first / self.batch * rest.iter().product::<usize>()]
            }
            _ => shape.to_vec(),
        }
    }

    /// What was drawn [row by row](Self::rows_of), in `shape`.
    fn of_rows(&mut self, drawn: Tensor, shape: &[usize]) -> Result<Tensor> {
        if self.g.shape(drawn) == shape { Ok(drawn) } else { self.g.reshape(drawn, shape) }
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
