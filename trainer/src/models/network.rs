//! A recipe's layers as a graph: parameters, masks and the forward direction.

use std::ops::Range;
use std::path::PathBuf;

use super::import::Imported;
use super::init::Init;
use crate::graph::ops::{Conv, DropoutScaling, Local, Lrn, LrnRegion, Pool};
use crate::graph::{Builder, ElementType, GraphError, Lowering, Result, Target, Tensor, TensorType};
use crate::recipe::{self, Function, Initializer, Layer, LayerKind, PoolMode, Recipe, Weights};

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
        let mut forward = self.beginning(g, x, mode)?;
        forward.append_all(g, self, &self.layers, mode)?;
        self.ended(g, x, forward)
    }

    /// As [`forward`](Self::forward) in evaluation; gives the activation of the layer `layer` besides.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward), and when there is no such layer.
    pub fn forward_noting(&self, g: &mut Builder, x: Tensor, layer: &str) -> Result<(Forward, Tensor)> {
        let Some(at) = self.layers.iter().position(|candidate| candidate.name == layer) else {
            let names: Vec<&str> = self.layers.iter().map(|layer| layer.name.as_str()).collect();
            let there = if names.is_empty() { "none has a name".into() } else { names.join(", ") };
            return Err(self.unusable(format!("it has no layer `{layer}`; its layers: {there}")));
        };
        // Layers change places within each part only, so what is noted is what the recipe says.
        let (before, after) = self.layers.split_at(at + 1);
        let mut forward = self.beginning(g, x, Mode::Evaluate)?;
        forward.append_all(g, self, before, Mode::Evaluate)?;
        let activation = forward.logits;
        forward.append_all(g, self, after, Mode::Evaluate)?;
        Ok((self.ended(g, x, forward)?, activation))
    }

    fn beginning(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward> {
        match &self.file {
            Some(path) => Imported::read(path)?.forward(g, x, mode),
            None => Ok(Forward { logits: x, parameters: Vec::new(), masks: Vec::new() }),
        }
    }

    /// Checks what the last layer gives.
    fn ended(&self, g: &mut Builder, x: Tensor, mut forward: Forward) -> Result<Forward> {
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
    fn append_all(
        &mut self,
        g: &mut Builder,
        network: &Classifier,
        layers: &[Layer],
        mode: Mode,
    ) -> Result<()> {
        for layer in in_cheapest_order(layers) {
            self.logits = self.append(g, network, layer, mode)?;
        }
        Ok(())
    }

    fn append(&mut self, g: &mut Builder, network: &Classifier, layer: &Layer, mode: Mode) -> Result<Tensor> {
        let (x, name) = (self.logits, layer.name.as_str());
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
                let shape = [linear.out.unwrap_or(network.classes), g.shape(x)[1]];
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

    /// Declares `layer.weight` and `layer.bias` of these shapes and gives them in the type that the layer computes in;
    /// `inputs` are the axes of the weights along which an output sums.
    fn weights(
        &mut self,
        g: &mut Builder,
        layer: &Layer,
        weight: &[usize],
        bias: &[usize],
        inputs: Range<usize>,
    ) -> Result<(Tensor, Tensor)> {
        let of_layer = layer.kind.weights().expect("only layers with weights ask for them");
        let (weight_init, bias_init) = initial(&of_layer, weight[inputs].iter().product());
        let element = g.element(self.logits);
        let mut declare = |part: &str, shape: &[usize], kind, init| {
            let name = format!("{}.{part}", layer.name);
            let tensor = g.input(&name, TensorType::f32(shape))?;
            let weight_decay = of_layer.weight_decay;
            self.parameters
                .push((Parameter { name, shape: shape.to_vec(), kind, init, weight_decay }, tensor));
            g.cast(tensor, element)
        };
        let weight = declare("weight", weight, ParameterKind::Weight, weight_init)?;
        let bias = declare("bias", bias, ParameterKind::Bias, bias_init)?;
        Ok((weight, bias))
    }
}

/// How weights and biases begin in a layer whose outputs have `inputs` inputs each.
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
    use super::{Classifier, Init};
    use crate::recipe::Recipe;

    fn count(recipe: &str, classes: usize) -> usize {
        let network = Classifier::new(&Recipe::load(recipe, &[]).unwrap(), classes);
        network.parameters().unwrap_or_else(|error| panic!("{error}")).iter().map(|p| p.len()).sum()
    }

    #[test]
    fn networks_have_their_known_numbers_of_parameters() {
        // Weights and biases by hand. Fully connected layers of the large nets: 4096·(256·6·6 + 1) + 4096·4097 + 1000·4097
        // = 58,631,144. Convolutions of alexnet: 96·(3·11² + 1) + 256·(48·5² + 1) + 384·(256·3² + 1) + 384·(192·3² + 1) +
        // 256·(192·3² + 1) = 2,334,080.
        let paper = 58_631_144 + 2_334_080;
        for (recipe, expected) in [
            ("alexnet", 60_965_224),
            ("alexnet-bias-0.1", paper),
            ("alexnet-caffe", paper),
            ("alexnet-code", paper),
            ("alexnet-no-augmentation", paper),
            // The fourth convolution sees 256 channels, 128 in each group, instead of 384.
            ("alexnet-no-conv3", paper - 384 * (256 * 9 + 1) - 384 * (192 - 128) * 9),
            ("alexnet-no-conv4", paper - 384 * (192 * 9 + 1)),
            // The first fully connected layer sees 384 channels of 6×6 instead of 256.
            ("alexnet-no-conv5", paper - 256 * (192 * 9 + 1) + 4096 * (384 - 256) * 36),
            ("alexnet-no-dropout", paper),
            ("alexnet-no-jitter", paper),
            ("alexnet-no-lrn", paper),
            ("alexnet-no-overlap", paper),
            ("alexnet-no-weight-decay", paper),
            // 48·(3·11² + 1) + 128·(48·5² + 1) + 192·(128·3² + 1) + 192·(192·3² + 1) + 256·(192·3² + 1).
            ("alexnet-one-gpu", 58_631_144 + 1_167_168),
            ("alexnet-tanh", paper),
            // 64·(3·11² + 1) + 192·(64·5² + 1) + 384·(192·3² + 1) + 256·(384·3² + 1) + 256·(256·3² + 1) = 2,469,696.
            ("alexnet-torchvision", 61_100_840),
            // 96·(3·11² + 1) + 256·(96·5² + 1) + 384·(256·3² + 1) + 384·(384·3² + 1) + 256·(384·3² + 1).
            ("alexnet-ungrouped", 58_631_144 + 3_747_200),
        ] {
            assert_eq!(count(recipe, 1000), expected, "{recipe}");
        }
        for (recipe, expected) in [
            // 64·(3·5² + 1) + 64·(64·5² + 1) = 107,328; 6² places of 64·(64·3² + 1) and of 32·(64·3² + 1); 10·(32·6² + 1).
            ("cifar-11pct", 107_328 + 36 * 64 * 577 + 36 * 32 * 577 + 11_530),
            // The same convolutions; 6² places of 32·(64·3² + 1) and of 32·(32·3² + 1).
            ("cifar-13pct", 107_328 + 36 * 32 * 577 + 36 * 32 * 289 + 11_530),
            // 32·(3·5² + 1) + 32·(32·5² + 1) + 64·(32·5² + 1) + 10·(64·4² + 1).
            ("cifar-quick", 89_578),
            ("cifar-relu", 89_578),
            ("cifar-tanh", 89_578),
            // 32·(3·5² + 1) + 64·(16·5² + 1) + 96·(64·3² + 1) + 96·(48·3² + 1) + 64·(48·3² + 1) + 256·(64·2² + 1) + 256·257 +
            // 10·257.
            ("demo", 286_922),
        ] {
            assert_eq!(count(recipe, 10), expected, "{recipe}");
        }
    }

    #[test]
    fn initial_values_follow_the_recipe() {
        let parameters =
            |recipe: &str| Classifier::new(&Recipe::load(recipe, &[]).unwrap(), 10).parameters().unwrap();
        let of = |recipe: &str, name: &str| {
            let parameter = parameters(recipe).into_iter().find(|parameter| parameter.name == name);
            (parameter.as_ref().unwrap().init.clone(), parameter.unwrap().shape)
        };
        assert_eq!(of("alexnet", "fc6.bias"), (Init::Constant(1.0), vec![4096]));
        assert_eq!(of("alexnet-caffe", "fc6.weight").0, Init::Normal { std: 0.005 });
        // The first convolution's outputs have 3·11² inputs each.
        let bound = 1.0 / 363f64.sqrt();
        assert_eq!(of("alexnet-torchvision", "conv1.weight").0, Init::Uniform { bound });
        assert_eq!(of("alexnet-torchvision", "conv1.bias").0, Init::Uniform { bound });
        assert_eq!(of("alexnet-torchvision", "fc6.bias").0, Init::Uniform { bound: 1.0 / 96.0 });
        assert_eq!(of("cifar-13pct", "local3.weight"), (Init::Normal { std: 0.04 }, vec![6, 6, 576, 32]));
        assert_eq!(of("cifar-13pct", "local3.bias"), (Init::Constant(0.0), vec![32, 6, 6]));
        let mut recipe = Recipe::load("cifar-13pct", &[]).unwrap().to_toml();
        recipe = recipe.replacen("weight_std = 0.04\n", "init = \"fan_in_uniform\"\n", 1);
        let recipe = Recipe::from_toml(&recipe, "here").unwrap();
        let local = &Classifier::new(&recipe, 10).parameters().unwrap()[4];
        assert_eq!(
            (local.name.as_str(), local.init.clone()),
            ("local3.weight", Init::Uniform { bound: 1.0 / 24.0 })
        );
    }

    #[test]
    fn graphs_have_the_parameters_that_the_recipe_counts() {
        for name in Recipe::built_in() {
            let recipe = Recipe::load(name, &[]).unwrap();
            let told: u64 = recipe.shapes(3, 10).unwrap().iter().map(|shape| shape.parameters).sum();
            assert_eq!(count(name, 10) as u64, told, "{name}");
        }
    }

    #[test]
    fn a_decay_of_a_layers_own_reaches_its_parameters() {
        let recipe = Recipe::load("cifar-quick", &[]).unwrap();
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
