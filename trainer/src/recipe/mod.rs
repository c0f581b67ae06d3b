//! Recipes: all settings of a training run except its data, as TOML.
//!
//! A recipe is either complete or builds upon another one:
//!
//! ```toml
//! base = "alexnet"
//! without = ["norm1", "norm2"]          # layers left out
//!
//! [set]                                 # keys given other values
//! "network.layer.pool.kernel" = 2       # in all layers of the kind `pool`
//! "network.layer.conv2.groups" = 1      # in the layer named `conv2`
//! ```
//!
//! `--set key=value` on the command line uses the same keys. The built-in recipes are in `trainer/recipes`; a
//! user's file works the same way.

mod architecture;
mod built_in;
mod error;
mod legacy;
mod loss;
mod nearest;
mod network;
mod optimizer;
mod pattern;
mod ranges;
mod resolve;
mod shapes;
mod sizes;
mod validate;

use fovea_pipeline::{AugmentationConfig, EvalCrops, Mixing};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use architecture::{Architecture, InvertedResidual, ResidualBlock};
pub use error::RecipeError;
pub use loss::{Loss, Measure};
pub use network::{
    ActivationLayer, BatchNormStatistics, ConvLayer, DropoutLayer, DropoutScaling, Function, Head,
    Initializer, Layer, LayerKind, LinearLayer, LocalLayer, LrnAlpha, LrnLayer, LrnRegion, NetworkConfig,
    PoolLayer, PoolMode, TrainedNames, Weights,
};
pub use optimizer::{GroupConfig, NetworkPart, OptimizerConfig, OptimizerKind};
pub(crate) use pattern::matches;
pub use ranges::{MOST_BATCH, MOST_EPOCHS, MOST_OUTPUTS, MOST_PX};
pub use shapes::LayerShape;
pub use sizes::TrainingSize;

use fovea_files::{canonical_json, hexadecimal, sha256_of};

use crate::optimizer::{Rule, Warmup};

/// A complete recipe, with every value filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Short name.
    pub name: String,
    /// One sentence about its purpose.
    pub description: String,
    /// Conversion of images to the network's input.
    pub input: Input,
    /// Augmentation of training images.
    pub augmentation: Augmentation,
    /// The layers.
    pub network: NetworkConfig,
    /// The update rule.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the run.
    pub schedule: Rule,
    /// Its rise at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
    /// Batches and epochs.
    pub training: Training,
    /// The measurement of the error.
    pub evaluation: Evaluation,
}

/// Conversion of images to the network's input: x = (image − mean) / std · scale, with image values in
/// 0..=255.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Side of the prepared images in pixels.
    pub image_px: usize,
    /// Side of the network's input in pixels.
    pub crop_px: usize,
    /// Mean that is subtracted.
    pub mean: Mean,
    /// Divisors of the difference in R, G and B, in units of 0..=255 [default: 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<[f64; 3]>,
    /// Factor of the result.
    #[serde(default = "unscaled")]
    pub scale: f64,
}

impl Input {
    /// Shape of the mean: `[3,H,W]` for the mean image, otherwise `[3]`, even if nothing is subtracted.
    #[must_use]
    pub fn mean_shape(&self) -> Vec<usize> {
        match self.mean {
            Mean::Image => vec![3, self.crop_px, self.crop_px],
            Mean::Channel | Mean::Values(_) | Mean::None => vec![3],
        }
    }

    /// Factors of R, G and B after the mean is subtracted.
    #[must_use]
    pub fn factors(&self) -> [f64; 3] {
        self.std.unwrap_or([1.0; 3]).map(|std| self.scale / std)
    }
}

fn unscaled() -> f64 {
    1.0
}

/// Mean that is subtracted from an image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "expected `image`, `channel`, `none` or three numbers")]
pub enum Mean {
    /// The mean image of the training set, cropped at its centre for every crop of the image.
    Image,
    /// The mean of each channel over the training set.
    Channel,
    /// Nothing.
    None,
    /// These values of R, G and B, in units of 0..=255, for any data set.
    #[serde(untagged)]
    Values([f64; 3]),
}

/// Augmentation of training images, drawn anew at every use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Tables `{ op = "…", … }` in the order in which they are applied. Crops without `size` have
    /// `input.crop_px`.
    pub train: Vec<AugmentationConfig>,
    /// How often each photo of a batch is in it, with draws of its own each time [default: 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<usize>,
    /// Another side of the images after some epochs, in ascending order; `input.crop_px` before the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<TrainingSize>,
    /// [`Mixing::mixup_alpha`]; 0 or nothing for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixup_alpha: Option<f64>,
    /// [`Mixing::cutmix_alpha`]; 0 or nothing for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutmix_alpha: Option<f64>,
}

/// Batches and epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Images in a batch, all views of its photos.
    pub batch_size: usize,
    /// Passes over the training set.
    pub epochs: u32,
    /// What training minimises.
    #[serde(default, skip_serializing_if = "Loss::is_default")]
    pub loss: Loss,
    /// Share of each label that is spread over all classes in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// Limit of the norm of the gradients of all parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Decay of the running average of the weights, which evaluation and export then use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
}

/// The measurement of the error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Views after every epoch.
    pub every_epoch: EvalCrops,
    /// Views after the last epoch.
    pub at_end: EvalCrops,
}

impl Recipe {
    /// The names of the built-in recipes, in alphabetical order.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        built_in::ALL.iter().map(|(name, _)| *name)
    }

    /// The recipe with this name, or in this file, with `overrides` of the form `key=value` applied in order.
    ///
    /// # Errors
    /// [`RecipeError`] names the recipe, the key, the given value and the valid ones.
    pub fn load(name_or_path: &str, overrides: &[String]) -> Result<Self, RecipeError> {
        let recipe = Self::load_used(name_or_path, overrides)?;
        recipe.check_units()?;
        Ok(recipe)
    }

    /// As [`Recipe::load`], with the network in the `.onnx` file `network` in place of the recipe's, before
    /// the overrides apply; `classes` says what becomes of its last layer, if not the recipe does.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn load_with_network(
        name_or_path: &str,
        network: &str,
        classes: Option<Head>,
        overrides: &[String],
    ) -> Result<Self, RecipeError> {
        let mut table = resolve::complete_table(name_or_path)?;
        resolve::replace_network(&mut table, network, classes);
        let recipe = Self::from_table(table, name_or_path, overrides)?;
        recipe.check_units()?;
        Ok(recipe)
    }

    /// As [`Recipe::load`], for the recipe of a run that has begun: a mean or a standard deviation that seems
    /// to be in other units is taken as it is.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn load_used(name_or_path: &str, overrides: &[String]) -> Result<Self, RecipeError> {
        Self::from_table(resolve::complete_table(name_or_path)?, name_or_path, overrides)
    }

    fn from_table(
        mut table: toml::Table,
        name_or_path: &str,
        overrides: &[String],
    ) -> Result<Self, RecipeError> {
        for text in overrides {
            resolve::apply_override(&mut table, name_or_path, text)?;
        }
        let notes = legacy::modernise(&mut table);
        if !notes.is_empty() {
            tracing::warn!("{name_or_path} has keys of an earlier version: {}", notes.join(", "));
        }
        let recipe = resolve::typed(table, name_or_path)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Reads a complete recipe that [`Recipe::to_toml`] has written; `place` is its name in errors.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn from_toml(text: &str, place: &str) -> Result<Self, RecipeError> {
        let mut table = resolve::parse(text, place)?;
        legacy::modernise(&mut table);
        let recipe = resolve::typed(table, place)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The lines before the first key of the built-in recipe `name`, or else of the one that it builds on:
    /// where its values are from. Empty for a recipe without them.
    #[must_use]
    pub fn sources(name: &str) -> &'static str {
        let Some(&(_, text)) = built_in::ALL.iter().find(|(known, _)| *known == name) else { return "" };
        let length = text.split_inclusive('\n').take_while(|line| line.starts_with('#')).map(str::len).sum();
        let base = || text.lines().find_map(|line| line.strip_prefix("base = \"")?.strip_suffix('"'));
        match (length, base()) {
            (0, Some(base)) => Self::sources(base),
            _ => &text[..length],
        }
    }

    /// How often each photo of a batch is in it.
    #[must_use]
    pub fn views(&self) -> usize {
        self.augmentation.views.unwrap_or(1)
    }

    /// The mixing of the images of a batch.
    #[must_use]
    pub fn mixing(&self) -> Mixing {
        let Augmentation { mixup_alpha, cutmix_alpha, .. } = self.augmentation;
        Mixing {
            mixup_alpha: mixup_alpha.unwrap_or_default(),
            cutmix_alpha: cutmix_alpha.unwrap_or_default(),
        }
    }

    /// Whether images of the batch have two classes in training; other labels are mixed by themselves.
    #[must_use]
    pub fn mixes_classes(&self) -> bool {
        self.training.loss == Loss::CrossEntropy && !self.mixing().is_none()
    }

    /// The recipe as TOML, complete and independent of any base.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe holds nothing that TOML cannot express")
    }

    /// A hash, in hexadecimal, of everything that affects training: two recipes with the same hash take the
    /// same steps. The name, the description and the number of epochs are left out, so that a run may be
    /// extended, unless the schedule depends on its length. For the files of a network and its weights their
    /// content counts, not their path, unless it cannot be read.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut value = serde_json::to_value(self).expect("a validated recipe holds finite numbers only");
        let mut left_out = vec![("", "name"), ("", "description")];
        if !self.schedule.depends_on_length() {
            left_out.push(("/training", "epochs"));
        }
        for (section, key) in left_out {
            if let Some(object) = value.pointer_mut(section).and_then(|value| value.as_object_mut()) {
                object.remove(key);
            }
        }
        for (key, path) in [("onnx", &self.network.onnx), ("weights", &self.network.weights)] {
            if let (Some(file), Some(path)) = (value.pointer_mut(&format!("/network/{key}")), path)
                && let Ok(digest) = sha256_of(path)
            {
                *file = digest.into();
            }
        }
        if let Some(schedule) = value.pointer_mut("/schedule").and_then(|schedule| schedule.as_object_mut()) {
            legacy::age_schedule(schedule);
        }
        hexadecimal(&Sha256::digest(canonical_json(&value)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(name: &str, overrides: &[&str]) -> Result<Recipe, RecipeError> {
        Recipe::load(name, &overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_default_recipe_is_the_papers_to_the_number() {
        let recipe = load("alexnet", &[]).unwrap();
        assert_eq!((recipe.input.image_px, recipe.input.crop_px, recipe.input.mean), (256, 224, Mean::Image));
        let optimizer = &recipe.optimizer;
        assert_eq!(
            (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay),
            (0.01, Some(0.9), 0.0005)
        );
        assert_eq!((optimizer.bias_lr_mult, optimizer.bias_decay), (1.0, true));
        assert_eq!((recipe.training.batch_size, recipe.training.epochs), (128, 90));
        assert!(matches!(recipe.schedule, Rule::ReduceOnPlateau { gamma: 0.1, times: 3, .. }));
        let mut biases_of_one = Vec::new();
        for layer in &recipe.network.layer {
            match &layer.kind {
                LayerKind::Lrn(lrn) => {
                    assert_eq!((lrn.size, lrn.k, lrn.printed_alpha(), lrn.beta), (5, 2.0, 1e-4, 0.75));
                }
                LayerKind::Pool(pool) => {
                    assert_eq!((pool.mode, pool.kernel, pool.stride), (PoolMode::Max, 3, 2));
                }
                LayerKind::Dropout(dropout) => {
                    assert_eq!((dropout.p, dropout.scaling), (0.5, DropoutScaling::Printed));
                }
                _ => {}
            }
            let Some(weights) = layer.kind.weights() else { continue };
            assert_eq!((weights.weight_std, weights.weight_decay), (Some(0.01), None));
            if weights.bias == 1.0 {
                biases_of_one.push(layer.name.as_str());
            }
        }
        assert_eq!(biases_of_one, ["conv2", "conv4", "conv5", "fc6", "fc7"]);
        let expected = [
            AugmentationConfig::new("random_crop", json!({ "size": 224 })),
            AugmentationConfig::new("horizontal_flip", json!({ "p": 0.5 })),
            AugmentationConfig::new("pca_jitter", json!({ "stddev": 0.1, "scale": "eigenvalue" })),
        ];
        assert_eq!(recipe.train_augmentations(0), expected);
    }

    #[test]
    fn every_built_in_recipe_loads_under_its_own_name_and_survives_being_written() {
        for name in Recipe::built_in() {
            let recipe = load(name, &[]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(recipe.name, name);
            let again = Recipe::from_toml(&recipe.to_toml(), name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(again, recipe);
            assert_eq!(again.hash(), recipe.hash());
        }
    }

    #[test]
    fn a_network_from_a_file_replaces_layers_and_leaves_what_else_is_said_of_the_network() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let text = load("resnet18", &[]).unwrap().to_toml();
        let text = text.replace("[network]\n", "");
        let freeze = "[network]\nfreeze = [\"layer1.*\"]\nbatch_norm = \"frozen\"\nclasses = \"file\"\n";
        let text = text.replace("[network.architecture]", &format!("{freeze}[network.architecture]"));
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let with = |classes, set: &[&str]| {
            let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
            Recipe::load_with_network(path, "/x.onnx", classes, &set).unwrap().network
        };
        let plain = with(None, &[]);
        assert_eq!((plain.architecture, plain.onnx), (None, Some("/x.onnx".into())));
        assert_eq!(plain.freeze, ["layer1.*"]);
        assert_eq!((plain.batch_norm, plain.classes), (BatchNormStatistics::Frozen, Head::File));
        let other = with(Some(Head::Auto), &["network.freeze=[\"conv1.*\"]", "network.batch_norm=batch"]);
        assert_eq!(other.freeze, ["conv1.*"]);
        assert_eq!((other.batch_norm, other.classes), (BatchNormStatistics::Batch, Head::Auto));
        let demo = Recipe::load_with_network("demo", "/x.onnx", None, &[]).unwrap().network;
        assert!(demo.layer.is_empty() && demo.classes == Head::File);
    }

    #[test]
    fn the_sources_of_a_recipe_are_its_first_lines() {
        assert!(Recipe::sources("alexnet").starts_with("# ImageNet Classification with Deep"));
        assert!(Recipe::sources("alexnet").ends_with("this is shorter.\n"));
        assert_eq!(Recipe::sources("alexnet-no-lrn"), Recipe::sources("alexnet"));
        assert_eq!(Recipe::sources("mine.toml"), "");
    }

    #[test]
    fn an_ablation_differs_from_its_base_only_in_its_own_keys() {
        let base = load("alexnet", &[]).unwrap();
        let mut plain = load("alexnet-no-lrn", &[]).unwrap();
        plain.network.layer.insert(2, base.network.layer[2].clone());
        plain.network.layer.insert(6, base.network.layer[6].clone());
        assert_eq!(plain.network, base.network);
        assert_eq!((plain.optimizer, plain.augmentation), (base.optimizer, base.augmentation));
    }

    #[test]
    fn an_override_reaches_one_layer_by_name_and_many_by_kind() {
        let recipe = load(
            "alexnet",
            &[
                "optimizer.learning_rate=0.02",
                "network.layer.conv2.groups=1",
                "network.layer.activation.function=tanh",
                "augmentation.train.pca_jitter.stddev=0",
                "schedule={kind=\"multi_step\", gamma=0.1, milestones=[30, 60]}",
                "network.layer.0.out = 48",
            ],
        )
        .unwrap();
        assert_eq!(recipe.optimizer.learning_rate, 0.02);
        let groups: Vec<_> = recipe
            .network
            .layer
            .iter()
            .filter_map(
                |layer| if let LayerKind::Conv(conv) = &layer.kind { Some(conv.groups) } else { None },
            )
            .collect();
        assert_eq!(groups, [1, 1, 1, 2, 2]);
        let tanh = recipe.network.layer.iter().filter(|layer| {
            matches!(&layer.kind, LayerKind::Activation(activation) if activation.function == Function::Tanh)
        });
        assert_eq!(tanh.count(), 7);
        assert_eq!(recipe.augmentation.train[2].parameters["stddev"], 0);
        assert_eq!(recipe.schedule, Rule::MultiStep { gamma: 0.1, milestones: vec![30, 60] });
    }

    #[test]
    fn an_unknown_key_is_an_error_with_the_nearest_known_one() {
        for (text, key, nearest) in [
            ("optimizer.learnig_rate=0.1", "optimizer.learnig_rate", "optimizer.learning_rate"),
            ("optimiser.momentum=0.1", "optimiser", "optimizer"),
            ("trainnig={}", "trainnig", "training"),
            ("network.layer.conv2.kernle=3", "network.layer.conv2.kernle", "network.layer.conv2.kernel"),
            ("network.layer.cnov2.kernel=3", "network.layer.cnov2", "network.layer.conv2"),
            (
                "augmentation.train.0.op=random_corp",
                "augmentation.train.random_corp",
                "augmentation.train.random_crop",
            ),
            ("schedule.patiense=3", "schedule.patiense", "schedule.patience"),
        ] {
            let error = load("alexnet", &[text]).unwrap_err();
            let RecipeError::UnknownKey { key: found_key, nearest: found, .. } = &error else {
                panic!("{text}: {error}")
            };
            assert_eq!((found_key.as_str(), found.as_deref()), (key, Some(nearest)), "{error}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_an_error_with_its_key() {
        let error = load("alexnet", &["training.batch_size=many"]).unwrap_err();
        assert!(
            matches!(&error, RecipeError::WrongType { key, .. } if key == "training.batch_size"),
            "{error}"
        );
        let error = load("alexnet", &["network.layer.conv3.out=-1"]).unwrap_err();
        assert!(error.to_string().contains("network.layer.conv3"), "{error}");
    }

    #[test]
    fn the_authors_alpha_is_the_printed_one_over_the_size() {
        let recipe = load("alexnet-code", &[]).unwrap();
        let alphas: Vec<_> = recipe
            .network
            .layer
            .iter()
            .filter_map(
                |layer| if let LayerKind::Lrn(lrn) = &layer.kind { Some(lrn.printed_alpha()) } else { None },
            )
            .collect();
        assert_eq!(alphas, [2e-5, 2e-5]);
    }

    #[test]
    fn an_override_without_an_equals_sign_is_an_error() {
        let error = load("alexnet", &["optimizer.momentum"]).unwrap_err();
        assert!(matches!(error, RecipeError::BadOverride { .. }), "{error}");
    }

    #[test]
    fn an_unknown_recipe_is_an_error_with_the_nearest_known_one() {
        let error = load("alexnt", &[]).unwrap_err();
        assert!(error.to_string().contains("did you mean `alexnet`?"), "{error}");
    }

    #[test]
    fn a_file_may_build_upon_a_built_in_recipe_and_upon_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.into_os_string().into_string().unwrap()
        };
        write("one.toml", "base = \"alexnet\"\nwithout = [\"norm1\"]\n[set]\n\"training.epochs\" = 5");
        let two =
            write("two.toml", "base = \"one.toml\"\nname = \"two\"\n[set]\n\"training.batch_size\" = 7");
        let recipe = load(&two, &[]).unwrap();
        assert_eq!((recipe.training.epochs, recipe.training.batch_size), (5, 7));
        assert!(recipe.network.layer.iter().all(|layer| layer.name != "norm1"));
        assert_eq!(recipe.name, "two");
        let circle = write("circle.toml", "base = \"circle.toml\"");
        assert!(matches!(load(&circle, &[]).unwrap_err(), RecipeError::EndlessBase { .. }));
    }

    #[test]
    fn a_mistake_in_a_file_is_an_error_with_its_position() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let mistake = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(path.to_str().unwrap(), &[]).unwrap_err().to_string()
        };
        assert!(mistake("base = \n").contains("line 1"), "{}", mistake("base = \n"));
        let text = mistake("base = \"alexnet\"\nwihtout = []");
        assert!(text.contains("did you mean `without`?"), "{text}");
        let text = mistake("base = \"alexnet\"\nwithout = [\"nrom1\"]");
        assert!(text.contains("did you mean `network.layer.norm1`?"), "{text}");
        let text = mistake("name = \"half a recipe\"");
        assert!(text.contains("missing field"), "{text}");
    }

    #[test]
    fn the_hash_changes_only_with_keys_that_affect_training() {
        let hash = |overrides: &[&str]| load("alexnet", overrides).unwrap().hash();
        let plain = hash(&[]);
        assert_eq!(plain, hash(&["training.epochs=91", "name=other", "description=other"]));
        for change in [
            "training.batch_size=64",
            "network.layer.fc6.bias=0.1",
            "augmentation.train.0.size=224",
            "schedule.patience=9",
        ] {
            assert_ne!(plain, hash(&[change]), "{change}");
        }
        let cosine = "schedule={kind=\"cosine\"}";
        assert_ne!(hash(&[cosine]), hash(&[cosine, "training.epochs=91"]));
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        // A checkpoint of an earlier version must still match this recipe.
        let text = include_str!("testdata/hashed.toml");
        let recipe = Recipe::from_toml(text, "hashed").unwrap();
        assert_eq!(recipe.hash(), include_str!("testdata/hashed.sha256").trim());
    }

    #[test]
    fn means_and_deviations_of_pixels_in_0_to_1_are_refused() {
        let refused = |overrides: &[&str]| load("demo", overrides).unwrap_err().to_string();
        let error = refused(&["input.mean=[0.485, 0.456, 0.406]"]);
        let parts = ["`input.mean` is [0.485, 0.456, 0.406]", "units of 0..=255", "multiply"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        let error = refused(&["input.mean=[123, 116, 103]", "input.std=[0.229, 0.224, 0.225]"]);
        assert!(error.contains("`input.std` is [0.229, 0.224, 0.225]"), "{error}");
        refused(&["input.mean=[1.0, 0.0, 0.0]"]);
        for (mean, std) in [("[0, 0, 0]", "[1, 1, 1]"), ("[127.5, 127.5, 0.5]", "[58.4, 57.1, 57.4]")] {
            let both = [&*format!("input.mean={mean}"), &*format!("input.std={std}")];
            load("demo", &both).unwrap_or_else(|error| panic!("{error}"));
        }
        for (mean, std) in [("[0, 255, 128]", "[255, 255, 256]"), ("[0, 0, 1.5]", "[0.01, 1, 1]")] {
            load("demo", &[&format!("input.mean={mean}"), &format!("input.std={std}")])
                .unwrap_or_else(|error| panic!("{error}"));
        }
        for (key, value, expected) in [
            ("mean", "[300, 116, 103]", "three numbers from 0 to 255"),
            ("mean", "[123, 116, 255.5]", "three numbers from 0 to 255"),
            ("mean", "[-1, 116, 103]", "three numbers from 0 to 255"),
            ("mean", "[123, 1e30, 103]", "three numbers from 0 to 255"),
            ("std", "[58, 57, 300]", "three numbers from 0.01 to 256"),
            ("std", "[58, 57, 0.001]", "three numbers from 0.01 to 256"),
            ("std", "[1e30, 1e30, 1e30]", "three numbers from 0.01 to 256"),
        ] {
            let error = refused(&[&format!("input.{key}={value}")]);
            assert!(error.contains(&format!("`input.{key}` is {value}, expected {expected}")), "{error}");
        }
        for (key, value, found) in
            [("std", "[58, 0, 57]", "0"), ("std", "[58, -57, 57]", "-57"), ("mean", "[nan, 0, 0]", "NaN")]
        {
            let error = refused(&[&format!("input.{key}={value}")]);
            assert!(error.contains(&format!("`input.{key}` is {found}, expected a number")), "{error}");
        }
        // A run that was started with such values still opens.
        let overrides = ["input.mean=[0.5, 300, 0.5]".to_owned()];
        let used = Recipe::load_used("demo", &overrides).unwrap();
        assert_eq!(Recipe::from_toml(&used.to_toml(), "recipe.toml").unwrap(), used);
    }
}
