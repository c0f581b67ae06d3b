//! The data set of a run, prepared for its recipe.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fovea_pipeline::form::center_of;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::loader::{LoaderError, OnBadRecord, Views};
use fovea_pipeline::memory::MemoryProvider;
use fovea_pipeline::order::Order;
use fovea_pipeline::{Batch, Chain, Class, Dataset, Loader, LoaderConfig, Mixing, Records, Split};

use super::TrainingError;
use crate::backend::{BackendError, Setup};
use crate::models::check_file;
use crate::recipe::{Mean, Recipe, TrainingSize};

/// Opens the data set in `directory` for a trained network.
///
/// # Errors
/// [`TrainingError::Dataset`] when there is no data set; as [`check_images`] and [`check_labels`].
pub fn open_dataset(directory: &Path, recipe: &Recipe) -> Result<Dataset, TrainingError> {
    let dataset = Dataset::open(directory)?;
    check_images(&dataset, recipe)?;
    check_labels(&dataset, recipe)?;
    Ok(dataset)
}

/// Checks that the images of a data set have the size that a trained network takes: the side of squares, or
/// the shorter side of photos that kept their proportions.
///
/// # Errors
/// [`TrainingError::ImageSize`].
pub fn check_images(dataset: &Dataset, recipe: &Recipe) -> Result<(), TrainingError> {
    check_size(dataset, recipe, true)
}

fn check_size(dataset: &Dataset, recipe: &Recipe, is_trained: bool) -> Result<(), TrainingError> {
    let found_px = dataset.info().image_size as usize;
    if found_px != recipe.input.image_px {
        return Err(TrainingError::ImageSize {
            directory: dataset.directory().into(),
            found_px,
            recipe: recipe.name.clone(),
            expected_px: recipe.input.image_px,
            crop_px: recipe.input.crop_px,
            is_trained,
        });
    }
    Ok(())
}

/// Checks that the labels of a data set are of the kind that the loss is for.
///
/// # Errors
/// [`TrainingError::Labels`].
pub fn check_labels(dataset: &Dataset, recipe: &Recipe) -> Result<(), TrainingError> {
    let (labels, loss) = (dataset.info().labels, recipe.training.loss);
    if labels != loss.labels() {
        return Err(TrainingError::Labels { directory: dataset.directory().into(), labels, loss });
    }
    Ok(())
}

/// The images that errors are measured on: the validation images, or the training images of a data set that
/// has no others.
#[must_use]
pub fn evaluated_split(dataset: &Dataset) -> Split {
    if dataset.info().images(Split::Val) > 0 { Split::Val } else { Split::Train }
}

/// Size of the network's input.
#[must_use]
pub fn crop_size(recipe: &Recipe) -> Size {
    Size::square(recipe.input.crop_px as u32)
}

/// A data set with everything that training with a recipe needs.
#[derive(Debug)]
pub struct TrainingData {
    directory: PathBuf,
    classes: Vec<Class>,
    digest: String,
    mean: Vec<f32>,
    train: Arc<Records>,
    evaluated: Arc<Records>,
    split: Split,
    /// The augmentations, and the epoch from which on they apply; the first is 0.
    chains: Vec<(u64, Arc<Chain>)>,
    mixing: Mixing,
    views: usize,
}

impl TrainingData {
    /// Opens the data set in `directory`.
    ///
    /// If there are no validation images, the training images take their place.
    ///
    /// # Errors
    /// As [`open_dataset`]; also when it has no training images, or lacks statistics that the recipe needs.
    /// First of all, when the recipe is for a network from a file and names none.
    pub fn open(directory: &Path, recipe: &Recipe) -> Result<Self, TrainingError> {
        check_file(recipe)?;
        Self::new(&Dataset::open(directory)?, recipe)
    }

    /// A data set that is open, wherever its shards are.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(dataset: &Dataset, recipe: &Recipe) -> Result<Self, TrainingError> {
        check_file(recipe)?;
        check_size(dataset, recipe, false)?;
        check_labels(dataset, recipe)?;
        let info = dataset.info();
        let train = Arc::new(dataset.records(Split::Train)?);
        let split = evaluated_split(dataset);
        let evaluated = match split {
            Split::Val => Arc::new(dataset.records(Split::Val)?),
            Split::Train => Arc::clone(&train),
        };
        let chain = |size: &TrainingSize| -> Result<(u64, Arc<Chain>), TrainingError> {
            let configs = recipe.train_augmentations(size.after);
            let chain = Chain::from_configs(&configs, info.image_sizes(), info.statistics.as_ref())?;
            Ok((size.after.into(), Arc::new(chain)))
        };
        let chains = recipe.training_sizes().iter().map(chain).collect::<Result<_, _>>()?;
        let mean = mean_of(dataset, recipe)?;
        let (classes, digest) = (info.classes.clone(), info.digest(Split::Train));
        let directory = dataset.directory().into();
        let (mixing, views) = (recipe.mixing(), recipe.views());
        Ok(Self { directory, classes, digest, mean, train, evaluated, split, chains, mixing, views })
    }

    /// Checks that there are enough training images for a batch, and that it has `parts` equal parts, with
    /// all views of their photos, and of whole pairs if images are mixed.
    ///
    /// # Errors
    /// [`TrainingError::Batch`], [`TrainingError::Parts`], [`TrainingError::Views`] and
    /// [`TrainingError::Pairs`].
    pub fn check_batch(&self, recipe: &Recipe, parts: usize) -> Result<(), TrainingError> {
        let (images, batch, views) = (self.train.len(), recipe.training.batch_size, self.views);
        if batch / views > images {
            let (directory, batch) = (self.directory.clone(), batch / views);
            return Err(TrainingError::Batch { directory, images, batch });
        }
        if parts == 0 || !batch.is_multiple_of(parts) {
            return Err(TrainingError::Parts { batch, parts });
        }
        if !(batch / parts).is_multiple_of(views) {
            return Err(TrainingError::Views { batch, parts, views });
        }
        if !self.mixing.is_none() && parts > 1 && !(batch / parts / views).is_multiple_of(2) {
            return Err(TrainingError::Pairs { batch, parts });
        }
        Ok(())
    }

    /// Shards among which training images are to be shuffled because no more fit where they are brought;
    /// `None` if all do.
    ///
    /// # Errors
    /// [`DatasetError::NoRoom`](fovea_pipeline::DatasetError::NoRoom) when windows of one shard do not fit.
    pub fn window_that_fits(&self) -> Result<Option<NonZeroU32>, TrainingError> {
        Ok(self.train.window_that_fits()?)
    }

    /// Checks that images can be shuffled among `window` shards at a time where the shards are brought.
    ///
    /// # Errors
    /// [`DatasetError`](fovea_pipeline::DatasetError) with a limit that suffices, and a window that fits.
    pub fn check_window(&self, window: NonZeroU32) -> Result<(), TrainingError> {
        Ok(self.train.check_window(window)?)
    }

    /// The folder with what lies beside the shards.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The classes in the order of their labels.
    #[must_use]
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// [`DatasetInfo::digest`](fovea_pipeline::DatasetInfo::digest) of the training images.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Mean that is subtracted from images, in units of 0..=255: `f32 [3,H,W]` or `[3]`, as in
    /// [`crate::backend::Setup`].
    #[must_use]
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The training images.
    #[must_use]
    pub fn train(&self) -> &Arc<Records> {
        &self.train
    }

    /// The images for evaluation.
    #[must_use]
    pub fn evaluated(&self) -> &Arc<Records> {
        &self.evaluated
    }

    /// The split that they are of, as in [`evaluated_split`].
    #[must_use]
    pub fn split(&self) -> Split {
        self.split
    }

    /// The setup of the backend for a run with this recipe; it takes `rows` rows at once.
    ///
    /// # Errors
    /// Those of [`Setup::new`].
    pub fn setup<'a>(
        &'a self,
        recipe: &'a Recipe,
        rows: usize,
        seed: u64,
    ) -> Result<Setup<'a>, BackendError> {
        Setup::new(recipe, self.classes.len(), rows, &self.mean, seed)
    }
}

fn mean_of(dataset: &Dataset, recipe: &Recipe) -> Result<Vec<f32>, TrainingError> {
    Ok(match (recipe.input.mean, &dataset.info().statistics) {
        (Mean::Image, _) => {
            center_of(dataset.mean_image()?.view(), crop_size(recipe)).into_raw_vec_and_offset().0
        }
        (Mean::Values(values), _) => values.map(|mean| mean as f32).to_vec(),
        (Mean::Channel, Some(statistics)) => statistics.mean.map(|mean| mean as f32).to_vec(),
        // Without statistics there are no training images, which is an error when batches are requested.
        (Mean::Channel, None) | (Mean::None, _) => vec![0.0; 3],
    })
}

/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until a loader has its next batch; `false` once `stop` is set. A shard that comes from elsewhere may
/// take minutes.
pub(crate) fn is_ready(loader: &Loader, stop: &AtomicBool) -> bool {
    while !loader.is_ready_within(LOOK) {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
    }
    true
}

/// The training batches of a run, from any position on.
pub(crate) struct Batches {
    records: Arc<Records>,
    /// With the augmentations that come first.
    config: LoaderConfig,
    chains: Vec<(u64, Arc<Chain>)>,
    limit: Option<u64>,
    memory: Box<dyn MemoryProvider>,
    /// With the epoch and number of the next batch.
    running: Option<(Loader, (u64, u64))>,
    /// That batch, if it was requested early by `ready`.
    ahead: Option<Result<Batch, LoaderError>>,
}

impl Batches {
    /// Batches of `batch_size` images, in which the views of a photo follow each other.
    pub fn new(
        data: &TrainingData,
        batch_size: usize,
        seed: u64,
        workers: usize,
        on_bad_record: OnBadRecord,
        limit: Option<u64>,
        memory: Box<dyn MemoryProvider>,
    ) -> Self {
        let chain = &data.chains[0].1;
        let views = Views::Augmented { chain: Arc::clone(chain), count: data.views };
        let (mixing, chain) = (data.mixing, Chain::empty(chain.output_size()));
        let config = LoaderConfig {
            batch_size: batch_size / data.views,
            seed,
            workers,
            on_bad_record,
            views,
            mixing,
            ..LoaderConfig::training(chain)
        };
        let (records, chains) = (Arc::clone(&data.train), data.chains.clone());
        Self { records, config, chains, limit, memory, running: None, ahead: None }
    }

    /// Takes the images in `order`.
    pub fn in_order(mut self, order: Order) -> Self {
        self.config.order = order;
        self
    }

    /// Leaves to this process, number `rank` of `world`, its share of each batch.
    pub fn shared(mut self, rank: usize, world: usize) -> Self {
        self.config.batch_size /= world;
        (self.config.rank, self.config.world) = (rank, world);
        self
    }

    /// Adds buffers, for a caller that keeps this many batches while others are made.
    pub fn with_more_buffers(mut self, buffers: usize) -> Self {
        self.config.buffers += buffers;
        self
    }

    /// Batches of an epoch; never 0, as a loader that cannot fill one batch reports that at the first
    /// request.
    pub fn per_epoch(&self) -> u64 {
        let full = (self.records.len() / (self.config.batch_size * self.config.world)) as u64;
        self.limit.map_or(full, |limit| limit.min(full)).max(1)
    }

    /// The batch number `batch` of `epoch`, both counted from 0; `None` if `stop` is set before it is there.
    /// A single loader makes all of them while they are requested in order, until images have another size.
    ///
    /// # Errors
    /// [`TrainingError::Loader`].
    pub fn at(&mut self, epoch: u64, batch: u64, stop: &AtomicBool) -> Result<Option<Batch>, TrainingError> {
        let ahead = self.ahead.take();
        let (mut loader, ahead) = match self.running.take() {
            Some((loader, next)) if next == (epoch, batch) => (loader, ahead),
            _ => (self.start(epoch, batch)?, None),
        };
        if ahead.is_none() && !is_ready(&loader, stop) {
            return Ok(None);
        }
        let made = match ahead.or_else(|| loader.next()) {
            Some(made) => made?,
            // Its epochs do not end, so the workers are gone, and they report an error before they exit.
            None => unreachable!("a loader ends with an error only"),
        };
        let next = if batch + 1 == loader.batches_per_epoch() { (epoch + 1, 0) } else { (epoch, batch + 1) };
        let is_over = next.0 == self.end_of_size(epoch);
        if !is_over && (next.1 == 0 || next.1 < self.per_epoch()) {
            self.running = Some((loader, next));
        }
        Ok(Some(made))
    }

    /// The batch after the last one, if it is ready and needs no new loader.
    pub fn ready(&mut self) -> Option<&Batch> {
        if let (None, Some((loader, _))) = (&self.ahead, &mut self.running) {
            self.ahead = loader.next_if_ready();
        }
        self.ahead.as_ref()?.as_ref().ok()
    }

    /// The first epoch after `epoch` in which images have another size.
    fn end_of_size(&self, epoch: u64) -> u64 {
        self.chains.iter().map(|(from, _)| *from).find(|from| *from > epoch).unwrap_or(u64::MAX)
    }

    fn start(&mut self, epoch: u64, batch: u64) -> Result<Loader, TrainingError> {
        let mut config = self.config.clone();
        (config.epochs, config.first_batch) = (epoch..self.end_of_size(epoch), batch);
        if let (Views::Augmented { chain, .. }, Some((_, now))) =
            (&mut config.views, self.chains.iter().rev().find(|(from, _)| *from <= epoch))
        {
            chain.clone_from(now);
        }
        Ok(Loader::start_with_memory(Arc::clone(&self.records), config, &mut *self.memory)?)
    }
}
