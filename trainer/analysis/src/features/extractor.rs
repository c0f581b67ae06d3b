//! Activations of a layer for any number of images.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fovea_pipeline::geometry::Size;
use fovea_pipeline::{EvalCrops, Loader, LoaderConfig, Records};
use fovea_runtime::OnnxRuntime;
use fovea_trainer::backend::{Inference, OrtOptions};
use fovea_trainer::names;
use fovea_trainer::training::{TrainedModel, TrainingError, crop_size};

/// Images per batch.
const BATCH: usize = 64;

/// What a network computes from N images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activations {
    /// Activations of the chosen layer, `f32 [N,D]`; empty without a layer.
    pub features: Vec<f32>,
    /// Logits, `f32 [N,K]`.
    pub logits: Vec<f32>,
    /// Probabilities, `f32 [N,K]`.
    pub probabilities: Vec<f32>,
}

/// A trained network that computes probabilities and the activations of one layer.
pub struct Extractor {
    network: Inference,
    width: usize,
    classes: usize,
    crop: Size,
}

impl Extractor {
    /// Prepares `trained`; `layer` is one of its network's [taps](fovea_graph::Network::taps), or `None` for
    /// probabilities only.
    ///
    /// # Errors
    /// [`TrainingError::Graph`] when there is no such layer, [`TrainingError::Checkpoint`] when a tensor is
    /// missing, [`TrainingError::Backend`] when the device cannot be used.
    pub fn new(
        trained: TrainedModel,
        layer: Option<&str>,
        loaded: &OnnxRuntime,
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

    /// Size of the network's input.
    #[must_use]
    pub fn crop(&self) -> Size {
        self.crop
    }

    /// Runs the network on images `u8 [N,3,H,W]`, any number of them.
    ///
    /// # Errors
    /// [`TrainingError::Backend`].
    pub fn run(&mut self, images: &[u8]) -> Result<Activations, TrainingError> {
        let mut activations = Activations::default();
        for images in images.chunks(BATCH * 3 * self.crop.area()) {
            let mut outputs = self.network.run(images)?;
            let mut take = |name| outputs.remove(name).unwrap_or_default();
            activations.features.extend(take(names::FEATURES));
            activations.logits.extend(take(names::LOGITS));
            activations.probabilities.extend(take(names::PROBABILITIES));
        }
        Ok(activations)
    }

    /// Runs the network on the centre of every image of a split, in the order of its shards; `visit` receives
    /// each batch with the index of its first image. Stops early once `stop` is set; returns whether all
    /// images were visited.
    ///
    /// # Errors
    /// [`TrainingError`] of the loader or the backend, and any error of `visit`.
    pub fn run_all<E: From<TrainingError>>(
        &mut self,
        records: &Arc<Records>,
        workers: usize,
        stop: &AtomicBool,
        visit: &mut dyn FnMut(usize, &Activations) -> Result<(), E>,
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
            let activations = self.run(&batch.image_bytes()[..batch.len() * 3 * self.crop.area()])?;
            visit(first, &activations)?;
            first += batch.len();
        }
        Ok(true)
    }
}
