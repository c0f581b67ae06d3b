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
mod tests;
