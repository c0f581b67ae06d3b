//! Activations of a layer for any number of images.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fovea_pipeline::geometry::Size;
use fovea_pipeline::{EvalCrops, Loader, LoaderConfig, Records};
use fovea_runtime::Loaded;
use fovea_trainer::backend::{Inference, OrtOptions};
use fovea_trainer::names;
use fovea_trainer::recipe::{LayerKind, Recipe};
use fovea_trainer::training::{Trained, TrainingError, crop_size};

/// Images that go through the network at once.
const BATCH: usize = 64;

/// The name of the layer before the logits: the last hidden layer, after its activation, where networks keep what they see.
/// `None` when the recipe names no such layer, as for a network out of a file.
#[must_use]
pub fn last_hidden(recipe: &Recipe) -> Option<&str> {
    let layers = &recipe.network.layer;
    let logits = layers.iter().rposition(|layer| matches!(layer.kind, LayerKind::Linear(_)))?;
    let before = layers[..logits].iter().rev();
    before
        .into_iter()
        .find(|layer| !matches!(layer.kind, LayerKind::Dropout(_)))
        .map(|layer| layer.name.as_str())
}

/// What a network sees in N images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Activations of the layer, `f32 [N,D]`; empty when no layer was asked for.
    pub features: Vec<f32>,
    /// Logits, `f32 [N,K]`.
    pub logits: Vec<f32>,
    /// Probabilities, `f32 [N,K]`.
    pub probabilities: Vec<f32>,
}

/// A trained network that is asked for its answers and for the activations of one layer.
pub struct Extractor {
    network: Inference,
    width: usize,
    classes: usize,
    crop: Size,
}

impl Extractor {
    /// Readies `trained`; `layer` is one of its recipe's, or `None` for answers alone.
    ///
    /// # Errors
    /// [`TrainingError::Graph`] when there is no such layer, [`TrainingError::Checkpoint`] when a tensor is missing,
    /// [`TrainingError::Backend`] when the device cannot be used.
    pub fn new(
        trained: Trained,
        layer: Option<&str>,
        loaded: &Loaded,
        options: &OrtOptions,
    ) -> Result<Self, TrainingError> {
        let (crop, classes) = (crop_size(&trained.recipe), trained.classes());
        let graph = match layer {
            Some(layer) => trained.feature_graph(layer)?,
            None => trained.inference_graph(Default::default())?,
        };
        let outputs = graph.outputs();
        let features = outputs.iter().find(|port| port.name == names::FEATURES);
        let width = features.and_then(|port| port.ty.shape.get(1).copied()).unwrap_or(0);
        Ok(Self { network: Inference::new(loaded, &graph, options)?, width, classes, crop })
    }

    /// D: values of the layer for one image.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// K.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Size of what the network sees.
    #[must_use]
    pub fn crop(&self) -> Size {
        self.crop
    }

    /// Looks at images `u8 [N,3,H,W]`, any number of them.
    ///
    /// # Errors
    /// [`TrainingError::Backend`].
    pub fn look(&mut self, images: &[u8]) -> Result<Seen, TrainingError> {
        let mut seen = Seen::default();
        for images in images.chunks(BATCH * 3 * self.crop.area()) {
            let mut outputs = self.network.run(images)?;
            let mut take = |name| outputs.remove(name).unwrap_or_default();
            seen.features.extend(take(names::FEATURES));
            seen.logits.extend(take(names::LOGITS));
            seen.probabilities.extend(take(names::PROBABILITIES));
        }
        Ok(seen)
    }

    /// Looks at the centre of every image of a split, in the order of its shards; `visit` gets the number of the first image
    /// and what was seen in it and those that follow. Ends early once `stop` is set, and says whether it came to the end.
    ///
    /// # Errors
    /// [`TrainingError`] of the loader or the backend, and whatever `visit` returns.
    pub fn look_at_all<E: From<TrainingError>>(
        &mut self,
        records: &Arc<Records>,
        workers: usize,
        stop: &AtomicBool,
        visit: &mut dyn FnMut(usize, &Seen) -> Result<(), E>,
    ) -> Result<bool, E> {
        let config = LoaderConfig {
            batch_size: BATCH,
            workers,
            ..LoaderConfig::evaluation(EvalCrops::Center, self.crop)
        };
        let mut first = 0;
        for batch in Loader::start(Arc::clone(records), config).map_err(TrainingError::from)? {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let batch = batch.map_err(TrainingError::from)?;
            let seen = self.look(&batch.image_bytes()[..batch.len() * 3 * self.crop.area()])?;
            visit(first, &seen)?;
            first += batch.len();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hidden_layer_is_that_before_the_logits_after_its_activation() {
        for (name, expected) in [("alexnet", "relu7"), ("demo", "relu7"), ("alexnet-tanh", "relu7")] {
            assert_eq!(last_hidden(&Recipe::load(name, &[]).unwrap()), Some(expected), "{name}");
        }
        let recipe = Recipe::load("cifar-quick", &[]).unwrap();
        assert_eq!(last_hidden(&recipe), Some("pool3"));
    }
}
