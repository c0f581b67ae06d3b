//! The layers of a recipe as a network.

use std::ops::Range;

use fovea_graph::ops::{Conv, DropoutScaling, Local, Lrn, LrnRegion, Pool};
use fovea_graph::{
    Builder, DropoutMask, ElementType, Forward, Init, Mode, Network, Parameter, ParameterKind, Result,
    Tensor, TensorType, mask_name, unknown_tap,
};

use crate::recipe::{self, Function, Initializer, Layer, LayerKind, PoolMode, Recipe, Weights};

/// The network of a recipe that lists layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Layers {
    /// Name of the recipe.
    pub name: String,
    /// Layers from input to logits.
    pub layers: Vec<Layer>,
    /// Outputs of a last layer without `out`.
    pub classes: usize,
}

impl Layers {
    /// The layers of `recipe` for a data set of `classes` classes.
    #[must_use]
    pub fn new(recipe: &Recipe, classes: usize) -> Self {
        Self { name: recipe.name.clone(), layers: recipe.network.layer.clone(), classes }
    }

    fn begin(&self, x: Tensor, mode: Mode) -> Sequence<'_> {
        Sequence { network: self, mode, forward: Forward::new(x) }
    }
}

impl Network for Layers {
    fn name(&self) -> &str {
        &self.name
    }

    fn forward(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward> {
        let mut sequence = self.begin(x, mode);
        sequence.append_all(g, &self.layers)?;
        Ok(sequence.forward)
    }

    fn taps(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.name.clone()).collect()
    }

    /// The layer before the last linear one, dropout skipped.
    fn last_hidden(&self) -> Option<String> {
        let logits = self.layers.iter().rposition(|layer| matches!(layer.kind, LayerKind::Linear(_)))?;
        let mut before = self.layers[..logits].iter().rev();
        let hidden = before.find(|layer| !matches!(layer.kind, LayerKind::Dropout(_)))?;
        Some(hidden.name.clone())
    }

    fn forward_with_tap(&self, g: &mut Builder, x: Tensor, tap: &str) -> Result<(Forward, Tensor)> {
        let Some(at) = self.layers.iter().position(|layer| layer.name == tap) else {
            return Err(unknown_tap(self, tap));
        };
        // Layers are reordered within each part only, so that the activation is that of the recipe's layer.
        let (before, after) = self.layers.split_at(at + 1);
        let mut sequence = self.begin(x, Mode::Evaluate);
        sequence.append_all(g, before)?;
        let activation = sequence.forward.logits;
        sequence.append_all(g, after)?;
        Ok((sequence.forward, activation))
    }
}

/// Layers being appended to a builder.
struct Sequence<'a> {
    network: &'a Layers,
    mode: Mode,
    /// Declarations so far; the output of the last layer so far takes the place of the logits.
    forward: Forward,
}

/// The layers with each max-pool moved before the activation that it follows: an increasing function and a
/// maximum commute, and after the pool the function has a quarter of the work.
fn in_cheapest_order(layers: &[Layer]) -> Vec<&Layer> {
    let mut order: Vec<&Layer> = layers.iter().collect();
    for at in 1..order.len() {
        if let (LayerKind::Activation(_), LayerKind::Pool(pool)) = (&order[at - 1].kind, &order[at].kind)
            && pool.mode == PoolMode::Max
        {
            order.swap(at - 1, at);
        }
    }
    order
}

impl Sequence<'_> {
    fn append_all(&mut self, g: &mut Builder, layers: &[Layer]) -> Result<()> {
        for layer in in_cheapest_order(layers) {
            self.forward.logits = self.append(g, layer)?;
        }
        Ok(())
    }

    fn append(&mut self, g: &mut Builder, layer: &Layer) -> Result<Tensor> {
        let (x, name) = (self.forward.logits, layer.name.as_str());
        match &layer.kind {
            LayerKind::Conv(conv) => {
                let channels = g.shape(x).get(1).copied().unwrap_or(0);
                let shape = [conv.out, channels / conv.groups.max(1), conv.kernel, conv.kernel];
                let (w, b) = self.weights(g, layer, &shape, &[conv.out], 1..4)?;
                let geometry = Conv::new(conv.stride, conv.pad).groups(conv.groups);
                g.scope(name, |g| g.conv(x, w, Some(b), geometry))
            }
            LayerKind::Local(local) => {
                let geometry = Local { kernel: local.kernel, stride: local.stride, padding: local.pad };
                let [rows, columns] = g.scope(name, |g| g.local_places(x, geometry))?;
                let shape = [rows, columns, geometry.inputs(g.shape(x)[1]), local.out];
                let (w, b) = self.weights(g, layer, &shape, &[local.out, rows, columns], 2..3)?;
                g.scope(name, |g| g.local(x, w, b, geometry))
            }
            LayerKind::Linear(linear) => {
                let x = g.scope(name, |g| if g.shape(x).len() == 2 { Ok(x) } else { g.flatten(x, 1) })?;
                let shape = [linear.out.unwrap_or(self.network.classes), g.shape(x)[1]];
                let (w, b) = self.weights(g, layer, &shape, &shape[..1], 1..2)?;
                g.scope(name, |g| g.linear(x, w, b))
            }
            LayerKind::Activation(activation) => g.scope(name, |g| match activation.function {
                Function::Relu => g.relu(x),
                Function::Tanh => g.tanh(x),
                Function::Sigmoid => g.sigmoid(x),
            }),
            LayerKind::Lrn(lrn) => {
                let region = match lrn.region {
                    recipe::LrnRegion::Channels => LrnRegion::Channels,
                    recipe::LrnRegion::Pixels => LrnRegion::Pixels,
                };
                let alpha = lrn.printed_alpha();
                g.scope(name, |g| g.lrn(x, Lrn { region, size: lrn.size, alpha, beta: lrn.beta, k: lrn.k }))
            }
            LayerKind::Pool(pool) => {
                let window =
                    Pool { kernel: pool.kernel, stride: pool.stride, padding: pool.pad, ceil: pool.ceil };
                g.scope(name, |g| match pool.mode {
                    PoolMode::Max => g.max_pool(x, window),
                    PoolMode::Avg => g.average_pool(x, window),
                })
            }
            LayerKind::Dropout(dropout) => {
                let keep = 1.0 - dropout.p;
                let scaling = match dropout.scaling {
                    recipe::DropoutScaling::Printed => DropoutScaling::AtEvaluation,
                    recipe::DropoutScaling::Inverted => DropoutScaling::InTraining,
                };
                match self.mode {
                    Mode::Evaluate => g.scope(name, |g| g.dropout_expectation(x, keep, scaling)),
                    Mode::Train if dropout.p == 0.0 => Ok(x),
                    Mode::Train => {
                        let mask_name = mask_name(name);
                        let mask = g.input(&mask_name, g.ty(x).with_element(ElementType::Bool))?;
                        self.forward.drawn.masks.push(DropoutMask {
                            name: mask_name,
                            shape: g.shape(x).to_vec(),
                            keep,
                        });
                        g.scope(name, |g| g.dropout(x, mask, keep, scaling))
                    }
                }
            }
        }
    }

    /// Declares `layer.weight` and `layer.bias` of these shapes and returns them in the type that the layer
    /// computes in; `inputs` are the axes of the weights over which an output sums.
    fn weights(
        &mut self,
        g: &mut Builder,
        layer: &Layer,
        weight: &[usize],
        bias: &[usize],
        inputs: Range<usize>,
    ) -> Result<(Tensor, Tensor)> {
        let weights = layer.kind.weights().expect("only layers with weights get here");
        let (weight_init, bias_init) = initial(&weights, weight[inputs].iter().product());
        let element = g.element(self.forward.logits);
        let mut declare = |part: &str, shape: &[usize], kind, init| {
            let name = format!("{}.{part}", layer.name);
            let tensor = g.input(&name, TensorType::f32(shape))?;
            let weight_decay = weights.weight_decay;
            self.forward
                .parameters
                .push((Parameter { name, shape: shape.to_vec(), kind, init, weight_decay }, tensor));
            g.cast(tensor, element)
        };
        let weight = declare("weight", weight, ParameterKind::Weight, weight_init)?;
        let bias = declare("bias", bias, ParameterKind::Bias, bias_init)?;
        Ok((weight, bias))
    }
}

/// Initialisers of weights and biases in a layer whose outputs have `inputs` inputs each.
fn initial(weights: &Weights, inputs: usize) -> (Init, Init) {
    match weights.init {
        Some(Initializer::FanInUniform) => {
            let init = Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() };
            (init.clone(), init)
        }
        None => {
            let std = weights.weight_std.unwrap_or_default();
            (Init::Normal { std }, Init::Constant(weights.bias as f32))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hidden_layer_is_the_one_before_the_logits_after_its_activation() {
        let last_hidden = |recipe: &Recipe| Layers::new(recipe, 10).last_hidden();
        for (name, expected) in
            [("alexnet", "relu7"), ("demo", "relu7"), ("alexnet-tanh", "relu7"), ("cifar-quick", "pool3")]
        {
            let recipe = Recipe::load(name, &[]).unwrap();
            assert_eq!(last_hidden(&recipe).as_deref(), Some(expected), "{name}");
        }
        let mut convolutions = Recipe::load("demo", &[]).unwrap();
        convolutions.network.layer.truncate(4);
        assert_eq!(last_hidden(&convolutions), None);
    }
}
