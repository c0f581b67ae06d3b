//! A network for a data set, for training, evaluation and export.

use std::sync::Arc;

use fovea_graph::{
    Buffer, Builder, ElementType, Forward, GraphError, Imported, Lowering, Mode, Network, Parameter, Result,
    Target, Tensor, TensorType,
};

use super::architectures::FamilyNetwork;
use super::layers::Layers;
use super::weights::Initialised;
use crate::names;
use crate::recipe::{BatchNormStatistics, Head, Loss, Recipe, TrainedNames};

/// A network that turns square images into one logit for each class of a data set.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// Layers of a recipe, or a file's graph; read once, shared by all clones.
    pub network: Arc<dyn Network>,
    /// Side of the input images in pixels.
    pub input_px: usize,
    /// Number of classes K.
    pub classes: usize,
    /// Which of its parameters are trained.
    pub trained: TrainedNames,
    /// Parameters of the last layer that are new although the recipe names a file of weights, which has them
    /// for other classes.
    pub kept_head: Vec<String>,
    /// The file that the network is from.
    pub file: Option<Arc<Imported>>,
}

impl Classifier {
    /// The network of `recipe` for a data set of `classes` classes; reads the network's file if the recipe
    /// names one, and the file of weights.
    ///
    /// # Errors
    /// [`GraphError::File`] when that file does not hold a network, [`GraphError::Weights`] when the weights
    /// are not those of the network.
    pub fn new(recipe: &Recipe, classes: usize) -> Result<Self> {
        check_file(recipe)?;
        let file = match &recipe.network.onnx {
            Some(path) => {
                let mut file = Imported::read(path)?.reserving(names::RESERVED);
                if recipe.training.loss != Loss::MeanSquaredError {
                    file = file.without_sigmoid()?;
                }
                if recipe.network.batch_norm == BatchNormStatistics::Frozen {
                    file = file.with_frozen_statistics();
                }
                Some(Arc::new(match recipe.network.classes {
                    Head::File => file,
                    Head::Auto => file.with_classes(classes)?,
                }))
            }
            None => None,
        };
        let network: Arc<dyn Network> = match (&file, &recipe.network.architecture) {
            (Some(file), _) => Arc::<Imported>::clone(file),
            (None, Some(architecture)) => Arc::new(FamilyNetwork {
                name: recipe.name.clone(),
                architecture: architecture.clone(),
                statistics: recipe.network.batch_norm,
                classes,
                input_px: recipe.input.crop_px,
            }),
            (None, None) => Arc::new(Layers::new(recipe, classes)),
        };
        let (input_px, trained) = (recipe.input.crop_px, recipe.network.trained());
        let Some(weights) = &recipe.network.weights else {
            return Ok(Self { network, input_px, classes, trained, kept_head: Vec::new(), file });
        };
        let is_new = recipe.network.onnx.is_none() || recipe.network.classes == Head::Auto;
        let constant = |name: &str| file.as_ref()?.constant(name);
        let (network, kept_head) = Initialised::new(network, input_px, weights, is_new, constant)?;
        Ok(Self { network: Arc::new(network), input_px, classes, trained, kept_head, file })
    }

    /// Name in files and messages.
    #[must_use]
    pub fn name(&self) -> &str {
        self.network.name()
    }

    /// [`Network::forward`], with the logits `[N,K]` checked and in f32.
    ///
    /// # Errors
    /// Those of [`Network::forward`], and when there is not one logit for each class.
    pub fn forward(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward> {
        let forward = self.network.forward(g, x, mode)?;
        self.check_logits(g, x, forward)
    }

    /// [`Network::forward_with_tap`], with the logits `[N,K]` checked and in f32.
    ///
    /// # Errors
    /// Those of [`Network::forward_with_tap`], and when there is not one logit for each class.
    pub fn forward_with_tap(&self, g: &mut Builder, x: Tensor, tap: &str) -> Result<(Forward, Tensor)> {
        let (forward, activation) = self.network.forward_with_tap(g, x, tap)?;
        Ok((self.check_logits(g, x, forward)?, activation))
    }

    fn check_logits(&self, g: &mut Builder, x: Tensor, mut forward: Forward) -> Result<Forward> {
        let shape = g.shape(forward.logits);
        if shape != [g.shape(x)[0], self.classes] {
            let (found, classes) = (shape.last().copied().unwrap_or_default(), self.classes);
            let reason = format!(
                "its last layer gives {found} values for an image, the data set has {classes} classes"
            );
            return Err(match &self.file {
                Some(file) => file.failed(format!(
                    "{reason}; --classes auto makes a new last layer, or use a data set of {found} classes"
                )),
                None => GraphError::Network { network: self.name().to_owned(), reason },
            });
        }
        forward.logits = g.cast(forward.logits, ElementType::F32)?;
        Ok(forward)
    }

    /// The same network for images of `input_px` pixels.
    #[must_use]
    pub fn at(&self, input_px: usize) -> Self {
        Self { input_px, ..self.clone() }
    }

    /// The parameters in order.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        Ok(self.declared()?.0)
    }

    /// The parameters in order, and the buffers in order.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn declared(&self) -> Result<(Vec<Parameter>, Vec<Buffer>)> {
        let mut g = Builder::new(self.name(), Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 3, self.input_px, self.input_px]))?;
        let Forward { parameters, buffers, .. } = self.forward(&mut g, x, Mode::Evaluate)?;
        let parameters = parameters.into_iter().map(|(parameter, _)| parameter).collect();
        Ok((parameters, buffers.into_iter().map(|used| used.buffer).collect()))
    }
}

/// Fails if `recipe` is for networks from files and names none.
///
/// # Errors
/// [`GraphError::Network`].
pub fn check_file(recipe: &Recipe) -> Result<()> {
    match &recipe.network.onnx {
        Some(path) if path.as_os_str().is_empty() => {
            let reason = "it trains a network from a file; name one with --network FILE.onnx".to_owned();
            Err(GraphError::Network { network: recipe.name.clone(), reason })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use fovea_graph::Init;

    use super::Classifier;
    use crate::recipe::Recipe;

    fn count(recipe: &str, classes: usize) -> usize {
        let network = Classifier::new(&Recipe::load(recipe, &[]).unwrap(), classes).unwrap();
        network.parameters().unwrap_or_else(|error| panic!("{error}")).iter().map(|p| p.len()).sum()
    }

    #[test]
    fn networks_have_their_known_numbers_of_parameters() {
        // Weights and biases by hand. Fully connected layers of the large nets: 4096·(256·6·6 + 1) +
        // 4096·4097 + 1000·4097 = 58,631,144. Convolutions of alexnet: 96·(3·11² + 1) + 256·(48·5² + 1) +
        // 384·(256·3² + 1) + 384·(192·3² + 1) + 256·(192·3² + 1) = 2,334,080.
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
            // 64·(3·11² + 1) + 192·(64·5² + 1) + 384·(192·3² + 1) + 256·(384·3² + 1) + 256·(256·3² + 1) =
            // 2,469,696.
            ("alexnet-torchvision", 61_100_840),
            // 96·(3·11² + 1) + 256·(96·5² + 1) + 384·(256·3² + 1) + 384·(384·3² + 1) + 256·(384·3² + 1).
            ("alexnet-ungrouped", 58_631_144 + 3_747_200),
            // Those of torchvision, and of timm's vit_small_patch16_224.
            ("resnet18", 11_689_512),
            ("resnet50", 25_557_032),
            ("mobilenet-v3-small", 2_542_856),
            ("convnext-tiny", 28_589_128),
            ("vit-small", 22_050_664),
        ] {
            assert_eq!(count(recipe, 1000), expected, "{recipe}");
        }
        for (recipe, expected) in [
            // 64·(3·5² + 1) + 64·(64·5² + 1) = 107,328; 6² places of 64·(64·3² + 1) and of 32·(64·3² + 1);
            // 10·(32·6² + 1).
            ("cifar-11pct", 107_328 + 36 * 64 * 577 + 36 * 32 * 577 + 11_530),
            // The same convolutions; 6² places of 32·(64·3² + 1) and of 32·(32·3² + 1).
            ("cifar-13pct", 107_328 + 36 * 32 * 577 + 36 * 32 * 289 + 11_530),
            // 32·(3·5² + 1) + 32·(32·5² + 1) + 64·(32·5² + 1) + 10·(64·4² + 1).
            ("cifar-quick", 89_578),
            ("cifar-relu", 89_578),
            ("cifar-tanh", 89_578),
            // 32·(3·5² + 1) + 64·(16·5² + 1) + 96·(64·3² + 1) + 96·(48·3² + 1) + 64·(48·3² + 1) + 256·(64·2²
            // + 1) + 256·257 + 10·257.
            ("demo", 286_922),
        ] {
            assert_eq!(count(recipe, 10), expected, "{recipe}");
        }
    }

    #[test]
    fn a_recipe_for_networks_from_files_needs_one() {
        let error = Classifier::new(&Recipe::load("finetune", &[]).unwrap(), 10).unwrap_err().to_string();
        assert!(error.contains("finetune") && error.contains("--network FILE.onnx"), "{error}");
    }

    #[test]
    fn initial_values_follow_the_recipe() {
        let parameters = |recipe: &str| {
            Classifier::new(&Recipe::load(recipe, &[]).unwrap(), 10).unwrap().parameters().unwrap()
        };
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
        let local = &Classifier::new(&recipe, 10).unwrap().parameters().unwrap()[4];
        assert_eq!(
            (local.name.as_str(), local.init.clone()),
            ("local3.weight", Init::Uniform { bound: 1.0 / 24.0 })
        );
    }

    #[test]
    fn graphs_have_the_parameters_that_the_recipe_counts() {
        for name in Recipe::built_in() {
            let recipe = Recipe::load(name, &[]).unwrap();
            if recipe.network.layer.is_empty() {
                continue;
            }
            let expected: u64 = recipe.shapes(3, 10).unwrap().iter().map(|shape| shape.parameters).sum();
            assert_eq!(count(name, 10) as u64, expected, "{name}");
        }
    }

    #[test]
    fn a_layers_own_decay_reaches_its_parameters() {
        let recipe = Recipe::load("cifar-quick", &[]).unwrap();
        let decays: Vec<_> = Classifier::new(&recipe, 10)
            .unwrap()
            .parameters()
            .unwrap()
            .into_iter()
            .map(|parameter| (parameter.name, parameter.weight_decay))
            .collect();
        assert_eq!(decays[0], ("conv1.weight".into(), None));
        assert_eq!(decays[6], ("fc10.weight".into(), Some(1.0)));
    }
}
