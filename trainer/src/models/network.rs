//! A recipe's layers as a graph: parameters, masks and the forward direction.

use std::path::PathBuf;

use super::import::Imported;
use super::init::Init;
use crate::graph::ops::{Conv, DropoutScaling, Lrn, Pool};
use crate::graph::{Builder, ElementType, GraphError, Lowering, Result, Target, Tensor, TensorType};
use crate::recipe::{self, Function, Layer, LayerKind, PoolMode, Recipe};

/// A recipe's network for a data set: layers that turn square images into one logit for each class.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// Name in files and messages.
    pub name: String,
    /// Side of the input images in pixels.
    pub input_px: usize,
    /// Number of classes K.
    pub classes: usize,
    /// Layers from input to logits.
    pub layers: Vec<Layer>,
    /// The `.onnx` file that takes the place of layers.
    pub file: Option<PathBuf>,
}

/// Whether a graph is for training or for evaluation; dropout differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout masks are inputs.
    Train,
    /// No masks.
    Evaluate,
}

/// What role a parameter plays; learning rates and decay may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Weights of a layer.
    Weight,
    /// Bias of a layer.
    Bias,
}

/// A trained tensor of f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name of the graph input, `layer.weight` or `layer.bias`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Role.
    pub kind: ParameterKind,
    /// Initial values.
    pub init: Init,
    /// Weight decay instead of the optimizer's.
    pub weight_decay: Option<f64>,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The initial values in a run with `seed`; `index` is the parameter's place in the network.
    pub fn initial(&self, seed: u64, index: usize) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.init.fill(seed, index, &mut values);
        values
    }
}

/// A Boolean input that the host draws anew for every step.
#[derive(Clone, Debug, PartialEq)]
pub struct DropoutMask {
    /// Name of the graph input.
    pub name: String,
    /// Shape, the batch first.
    pub shape: Vec<usize>,
    /// Probability of true.
    pub keep: f64,
}

/// The forward direction of a network in a builder.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Logits `[N,K]`.
    pub logits: Tensor,
    /// Parameters in order with their graph inputs.
    pub parameters: Vec<(Parameter, Tensor)>,
    /// Masks in order; empty in evaluation.
    pub masks: Vec<DropoutMask>,
}

impl Classifier {
    /// The network of `recipe` for a data set of `classes` classes.
    pub fn new(recipe: &Recipe, classes: usize) -> Self {
        let (name, network) = (recipe.name.clone(), recipe.network.clone());
        Self { name, input_px: recipe.input.crop_px, classes, layers: network.layer, file: network.onnx }
    }

    /// Appends the network to `g`, from `x` `[N,3,H,W]` in f32 or f16; parameters and masks become graph inputs.
    ///
    /// The layers compute in the type of `x`; parameters and logits are f32 whatever it is.
    ///
    /// # Errors
    /// A layer does not fit the one before it or cannot be expressed, a name is taken twice, or the last layer does not
    /// give a value for each class.
    pub fn forward(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward> {
        let mut forward = match &self.file {
            Some(path) => Imported::read(path)?.forward(g, x, mode)?,
            None => Forward { logits: x, parameters: Vec::new(), masks: Vec::new() },
        };
        for layer in in_cheapest_order(&self.layers) {
            forward.logits = forward.append(g, self, layer, mode)?;
        }
        let shape = g.shape(forward.logits);
        if shape != [g.shape(x)[0], self.classes] {
            let classes = self.classes;
            return Err(self.unusable(format!(
                "the last layer gives {shape:?}, expected one value for each of {classes} classes"
            )));
        }
        forward.logits = g.cast(forward.logits, ElementType::F32)?;
        Ok(forward)
    }

    /// The parameters in order.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut g = Builder::new(&self.name, Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 3, self.input_px, self.input_px]))?;
        let forward = self.forward(&mut g, x, Mode::Evaluate)?;
        Ok(forward.parameters.into_iter().map(|(parameter, _)| parameter).collect())
    }

    fn unusable(&self, reason: String) -> GraphError {
        GraphError::Network { network: self.name.clone(), reason }
    }
}

/// The layers with a max-pool before an activation that it follows: a rising function and a maximum may change places, and
/// after the pool the function has a quarter of the work.
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

impl Forward {
    fn append(&mut self, g: &mut Builder, network: &Classifier, layer: &Layer, mode: Mode) -> Result<Tensor> {
        let (x, name) = (self.logits, layer.name.as_str());
        match &layer.kind {
            LayerKind::Conv(conv) => {
                let channels = g.shape(x).get(1).copied().unwrap_or(0);
                let shape = [conv.out, channels / conv.groups.max(1), conv.kernel, conv.kernel];
                let (w, b) =
                    self.weights(g, name, &shape, (conv.weight_std, conv.bias), conv.weight_decay)?;
                let geometry = Conv::new(conv.stride, conv.pad).groups(conv.groups);
                g.scope(name, |g| g.conv(x, w, Some(b), geometry))
            }
            LayerKind::Local(_) => Err(network.unusable(format!(
                "layer `{name}` is of the kind `local`, which graphs do not support; use `conv`"
            ))),
            LayerKind::Linear(linear) => {
                let x = g.scope(name, |g| if g.shape(x).len() == 2 { Ok(x) } else { g.flatten(x, 1) })?;
                let shape = [linear.out.unwrap_or(network.classes), g.shape(x)[1]];
                let init = (linear.weight_std, linear.bias);
                let (w, b) = self.weights(g, name, &shape, init, linear.weight_decay)?;
                g.scope(name, |g| g.linear(x, w, b))
            }
            LayerKind::Activation(activation) => g.scope(name, |g| match activation.function {
                Function::Relu => g.relu(x),
                Function::Tanh => g.tanh(x),
                Function::Sigmoid => g.sigmoid(x),
            }),
            LayerKind::Lrn(lrn) => {
                let alpha = lrn.printed_alpha();
                g.scope(name, |g| g.lrn(x, Lrn { size: lrn.size, alpha, beta: lrn.beta, k: lrn.k }))
            }
            LayerKind::Pool(pool) => {
                let window = Pool { kernel: pool.kernel, stride: pool.stride, padding: pool.pad };
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
                match mode {
                    Mode::Evaluate => g.scope(name, |g| g.dropout_expectation(x, keep, scaling)),
                    Mode::Train if dropout.p == 0.0 => Ok(x),
                    Mode::Train => {
                        let mask_name = format!("{name}.mask");
                        let mask = g.input(&mask_name, g.ty(x).of(ElementType::Bool))?;
                        self.masks.push(DropoutMask { name: mask_name, shape: g.shape(x).to_vec(), keep });
                        g.scope(name, |g| g.dropout(x, mask, keep, scaling))
                    }
                }
            }
        }
    }

    /// Declares `layer.weight` and `layer.bias` and gives them in the type that the layer computes in; `init` is the weights' standard deviation and the biases' value.
    fn weights(
        &mut self,
        g: &mut Builder,
        layer: &str,
        shape: &[usize],
        (std, bias): (f64, f64),
        weight_decay: Option<f64>,
    ) -> Result<(Tensor, Tensor)> {
        let element = g.element(self.logits);
        let mut declare = |part: &str, shape: &[usize], kind, init| {
            let name = format!("{layer}.{part}");
            let tensor = g.input(&name, TensorType::f32(shape))?;
            self.parameters
                .push((Parameter { name, shape: shape.to_vec(), kind, init, weight_decay }, tensor));
            g.cast(tensor, element)
        };
        let weight = declare("weight", shape, ParameterKind::Weight, Init::Normal { std })?;
        let bias = declare("bias", &shape[..1], ParameterKind::Bias, Init::Constant(bias as f32))?;
        Ok((weight, bias))
    }
}

#[cfg(test)]
mod tests {
    use super::Classifier;
    use crate::recipe::Recipe;

    fn count(recipe: &str, classes: usize) -> usize {
        let network = Classifier::new(&Recipe::load(recipe, &[]).unwrap(), classes);
        network.parameters().unwrap_or_else(|error| panic!("{error}")).iter().map(|p| p.len()).sum()
    }

    #[test]
    fn the_network_of_the_paper_has_its_number_of_parameters() {
        assert_eq!(count("alexnet", 1000), 60_965_224);
    }

    #[test]
    fn graphs_have_the_parameters_that_the_recipe_counts() {
        for name in Recipe::built_in() {
            let recipe = Recipe::load(name, &[]).unwrap();
            if recipe.network.layer.iter().any(|layer| layer.kind.word() == "local") {
                continue;
            }
            let told: u64 = recipe.shapes(3, 10).unwrap().iter().map(|shape| shape.parameters).sum();
            assert_eq!(count(name, 10) as u64, told, "{name}");
        }
    }

    #[test]
    fn a_layer_that_graphs_do_not_support_is_named() {
        let recipe = Recipe::load("cifar10-13pct", &[]).unwrap();
        let error = Classifier::new(&recipe, 10).parameters().unwrap_err().to_string();
        assert!(error.contains("`cifar10-13pct`: layer `local3`"), "{error}");
    }

    #[test]
    fn a_decay_of_a_layers_own_reaches_its_parameters() {
        let recipe = Recipe::load("cifar10-quick", &[]).unwrap();
        let decays: Vec<_> = Classifier::new(&recipe, 10)
            .parameters()
            .unwrap()
            .into_iter()
            .map(|parameter| (parameter.name, parameter.weight_decay))
            .collect();
        assert_eq!(decays[0], ("conv1.weight".into(), None));
        assert_eq!(decays[6], ("fc10.weight".into(), Some(1.0)));
    }
}
