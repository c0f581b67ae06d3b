//! A trained network from a run's folder, for evaluation, prediction and export.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fovea_graph::{self, Graph, Target};
use fovea_pipeline::UnknownName;
use serde_json::json;

use super::TrainingError;
use super::folder::read_recipe;
use crate::checkpoint::{self, Meta, Store};
use crate::models::{Classifier, GraphOptions, PixelType, features, inference, saliency};
use crate::names;
use crate::optimizer::Averaged;
use crate::recipe::{Mean, Recipe};
use crate::state::Tensors;

/// Builds a graph from a network, its options, the mean and the parameters.
type BuildGraph<'a> =
    dyn Fn(&Classifier, &GraphOptions, &[f32], &[&[f32]]) -> fovea_graph::Result<Graph> + 'a;

/// The choice of a run's checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointChoice {
    /// The one with the lowest validation error.
    #[default]
    Best,
    /// The latest.
    Last,
}

impl CheckpointChoice {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Best, Self::Last];

    /// The name on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Last => "last",
        }
    }
}

impl fmt::Display for CheckpointChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CheckpointChoice {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("checkpoint", name, &Self::ALL, Self::name)
    }
}

/// How the images of a data set were made from photos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImages {
    /// Whether photos were turned upright.
    pub upright: bool,
    /// Whether both sides became those of the image, instead of the shorter one.
    pub squashed: bool,
    /// Name of the kernel that they were resized with.
    pub filter: &'static str,
}

/// A checkpoint with its recipe.
#[derive(Clone, Debug)]
pub struct TrainedModel {
    /// The checkpoint's folder.
    pub path: PathBuf,
    /// The recipe that it was trained with.
    pub recipe: Recipe,
    /// Classes, position in training and other metadata.
    pub meta: Meta,
    /// Mean that is subtracted from images, as in [`crate::backend::Setup`].
    pub mean: Vec<f32>,
    /// Weights and optimizer slots.
    pub state: Tensors,
    /// The recipe's network for the checkpoint's classes.
    pub network: Classifier,
}

impl TrainedModel {
    /// Reads a checkpoint of the run in the folder `run`.
    ///
    /// # Errors
    /// [`TrainingError::Read`] when `run` holds no run, [`TrainingError::Checkpoint`] when there is no
    /// checkpoint, or it is damaged or of another recipe, [`TrainingError::Graph`] when the network's file
    /// cannot be read.
    pub fn load(run: &Path, choice: CheckpointChoice) -> Result<Self, TrainingError> {
        let recipe = read_recipe(run)?;
        let path = Self::path(run, choice)?;
        let (meta, mut state) = checkpoint::load(&path)?;
        // A file of the network that is gone or damaged makes another recipe too.
        let network = Classifier::new(&recipe, meta.classes.len())?;
        meta.check_recipe(&recipe.name, &recipe.hash())?;
        let mean = state.take(names::SAVED_MEAN, &recipe.input.mean_shape())?.values;
        Ok(Self { path, recipe, meta, mean, state, network })
    }

    /// The folder of a checkpoint of the run in the folder `run`.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when there is none.
    pub fn path(run: &Path, choice: CheckpointChoice) -> Result<PathBuf, TrainingError> {
        let store = Store::new(run, usize::MAX);
        Ok(match choice {
            CheckpointChoice::Best => store.best()?,
            CheckpointChoice::Last => store.latest()?,
        })
    }

    /// Number of classes K.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.meta.classes.len()
    }

    /// The graph for export: images in, probabilities out, mean and weights as constants.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when a tensor is missing, [`TrainingError::Graph`] when the network
    /// cannot be expressed.
    pub fn inference_graph(self, pixels: PixelType) -> Result<Graph, TrainingError> {
        self.graph(&|network, options, mean, weights| inference(network, options, pixels, mean, weights))
    }

    /// The graph for features: like [`inference_graph`](Self::inference_graph) for bytes, with the activation
    /// of the layer `layer` as an additional output.
    ///
    /// # Errors
    /// As [`inference_graph`](Self::inference_graph), and when the recipe has no such layer.
    pub fn feature_graph(self, layer: &str) -> Result<Graph, TrainingError> {
        self.graph(&|network, options, mean, weights| features(network, options, layer, mean, weights))
    }

    /// The graph for saliency maps: like [`inference_graph`](Self::inference_graph) for bytes, with how much
    /// the highest logit depends on each pixel as an additional output.
    ///
    /// # Errors
    /// As [`inference_graph`](Self::inference_graph), and when an operator has no gradient.
    pub fn saliency_graph(&self) -> Result<Graph, TrainingError> {
        self.graph(&|network, options, mean, weights| saliency(network, options, mean, weights))
    }

    /// The network's own file with the trained values, under its own names, with
    /// [`metadata`](Self::metadata) of images made like `stored`; its input is normalised. `None` if the
    /// network is not from a file.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when a tensor is missing, [`TrainingError::Graph`] when the file cannot
    /// be written with these values.
    pub fn own_file(mut self, stored: &StoredImages) -> Result<Option<Vec<u8>>, TrainingError> {
        let Some(file) = self.network.file.clone() else { return Ok(None) };
        let metadata = self.metadata(stored);
        let mut tensors = HashMap::new();
        let (parameters, buffers) = self.network.declared()?;
        for parameter in parameters {
            let values = self.state.take(&self.deployed(&parameter.name), &parameter.shape)?.values;
            tensors.insert(parameter.name, values);
        }
        for buffer in buffers {
            let values = self.state.take(&buffer.name, &buffer.shape)?.values;
            tensors.insert(buffer.name, values);
        }
        Ok(Some(file.rewritten(&|name| tensors.get(name).cloned(), &metadata)?))
    }

    /// What an exported file says of itself, as JSON by key: `classes` and `class_names` in the order of the
    /// outputs, `preprocessing` from a photo to the input, and `provenance`.
    #[must_use]
    pub fn metadata(&self, stored: &StoredImages) -> Vec<(String, String)> {
        let input = &self.recipe.input;
        // A mean image has its place in the graph alone.
        let mean = match input.mean {
            Mean::None => json!([0.0, 0.0, 0.0]),
            Mean::Channel | Mean::Values(_) => json!(self.mean),
            Mean::Image => json!("image"),
        };
        let resize = if stored.squashed { "resize_both_sides_px" } else { "resize_shorter_side_px" };
        let preprocessing = json!({
            "turned_upright": stored.upright,
            resize: input.image_px,
            "resize_filter": stored.filter,
            "center_crop_px": input.crop_px,
            "colour_order": "RGB",
            "layout": "NCHW",
            "pixels": [0, 255],
            "mean": mean,
            "std": input.std.unwrap_or([1.0; 3]).map(|std| std / input.scale),
        });
        let meta = &self.meta;
        let provenance = json!({
            "written_by": meta.written_by,
            "recipe": meta.recipe,
            "recipe_hash": meta.recipe_hash,
            "data": meta.data,
            "seed": meta.seed,
            "epochs": meta.epoch,
            "updates": meta.step,
        });
        [
            ("classes", json!(meta.classes)),
            ("class_names", json!(meta.class_names)),
            ("preprocessing", preprocessing),
            ("provenance", provenance),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_string()))
        .to_vec()
    }

    /// The tensor of the state that holds what is evaluated and exported as the parameter `name`: the running
    /// average, if there is one.
    fn deployed(&self, name: &str) -> String {
        let has_average = self.recipe.training.ema.is_some() && self.network.trained.contains(name);
        if has_average { names::slot(name, Averaged::SLOT) } else { name.to_owned() }
    }

    fn graph(&self, build: &BuildGraph<'_>) -> Result<Graph, TrainingError> {
        let mut weights: Vec<&[f32]> = Vec::new();
        let (parameters, buffers) = self.network.declared()?;
        for parameter in parameters {
            weights.push(&self.state.expect(&self.deployed(&parameter.name), &parameter.shape)?.values);
        }
        for buffer in buffers {
            weights.push(&self.state.expect(&buffer.name, &buffer.shape)?.values);
        }
        let mean = if self.recipe.input.mean == Mean::None { &[0.0; 3][..] } else { &self.mean };
        let options = GraphOptions::from_recipe(&self.recipe, 1, Target::Cpu);
        Ok(build(&self.network, &options, mean, &weights)?)
    }
}
