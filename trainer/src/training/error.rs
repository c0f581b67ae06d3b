//! Errors that end a run.

use std::io;
use std::path::PathBuf;

use fovea_graph::GraphError;
use fovea_pipeline::augment::AugmentError;
use fovea_pipeline::{DatasetError, LabelKind, LoaderError};

use super::Divergence;
use crate::backend::BackendError;
use crate::checkpoint::CheckpointError;
use crate::collective::CollectiveError;
use crate::metrics::MetricsError;
use crate::recipe::{Loss, RecipeError};
use crate::state::StateError;

/// A run cannot begin or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// The data set cannot be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The loader cannot start, or fails.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// The recipe's augmentations do not fit the data set.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// The backend fails.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The tensors of a checkpoint are not those of the network.
    #[error(transparent)]
    State(#[from] StateError),
    /// A checkpoint cannot be written or used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run's records cannot be written.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The recipe in the run's folder cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The network cannot be made into a graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The images have another size than the recipe's.
    #[error(
        "{}: the images have {found_px} pixels a side, recipe `{recipe}` needs {expected_px} (its crop has {crop_px}); {}",
        directory.display(), size_remedy(*found_px, *expected_px, *crop_px, *is_trained)
    )]
    ImageSize {
        /// The data set.
        directory: PathBuf,
        /// Side of its images.
        found_px: usize,
        /// The recipe.
        recipe: String,
        /// Side of the images that the recipe needs.
        expected_px: usize,
        /// Side of the network's input.
        crop_px: usize,
        /// Whether the network is trained already, so that its sizes are fixed.
        is_trained: bool,
    },
    /// The training images are not those of the checkpoint.
    #[error(
        "the training images are not those of the checkpoint, or are in other shards (digest {found}, expected {saved}); \
         resume with the data set of the run"
    )]
    OtherData {
        /// Digest of the checkpoint's.
        saved: String,
        /// Digest of those in the data set.
        found: String,
    },
    /// The checkpoint's position is beyond the end of an epoch of this data set.
    #[error(
        "the checkpoint is at batch {batch} of an epoch, which has {batches} batches with this data set; resume with the \
         data set and the --limit-batches of the run"
    )]
    Position {
        /// Batches done in the epoch.
        batch: u64,
        /// Batches of an epoch.
        batches: u64,
    },
    /// The checkpoint's epoch is after the last.
    #[error("the checkpoint is in epoch {epochs}, but the run has {wanted}; give --epochs {epochs} or more")]
    Over {
        /// Epochs begun.
        epochs: u32,
        /// Epochs of the recipe.
        wanted: u32,
    },
    /// A batch has more images than the data set.
    #[error(
        "{}: a batch of {batch} images is larger than the data set of {images} training images; lower --batch-size",
        directory.display()
    )]
    Batch {
        /// The data set.
        directory: PathBuf,
        /// Its training images.
        images: usize,
        /// Images of a batch.
        batch: usize,
    },
    /// The loss is for other labels than those of the data set.
    #[error(
        "{}: its labels are of the kind {labels}, and the loss `{loss}` is for {}; begin a run with \
         --set training.loss={}", directory.display(), loss.labels(), Loss::of(*labels)
    )]
    Labels {
        /// The data set.
        directory: PathBuf,
        /// Its labels.
        labels: LabelKind,
        /// The loss of the recipe.
        loss: Loss,
    },
    /// A batch cannot be divided into equal parts.
    #[error(
        "a batch of {batch} images has no {parts} equal parts; give --parts or --batch-size another value"
    )]
    Parts {
        /// Images of a batch.
        batch: usize,
        /// Parts.
        parts: usize,
    },
    /// A part of a batch has not all views of its photos.
    #[error(
        "{parts} parts of a batch of {batch} images do not have all {views} views of their photos; give --parts or \
         --batch-size another value"
    )]
    Views {
        /// Images of a batch.
        batch: usize,
        /// Parts.
        parts: usize,
        /// Views of a photo.
        views: usize,
    },
    /// A part of a batch does not consist of pairs, although images are mixed in pairs.
    #[error(
        "{parts} parts of a batch of {batch} images have an odd number of images, and mixup and CutMix mix them in \
         pairs; give --parts or --batch-size another value"
    )]
    Pairs {
        /// Images of a batch.
        batch: usize,
        /// Parts.
        parts: usize,
    },
    /// The processes cannot train together, or have lost each other.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    /// A new run would overwrite checkpoints in its folder.
    #[error("{} holds a run already; continue it with --resume, or give another --run folder", path.display())]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder of the run was removed or moved during the run.
    #[error(
        "{} was removed or moved during the run; {} was saved there since: continue with --resume once the other files of \
         the run, recipe.toml and run.json at least, are back beside `checkpoints`",
        path.display(),
        checkpoint.display()
    )]
    RunGone {
        /// The folder.
        path: PathBuf,
        /// A checkpoint that was saved after that, in a new folder of this name.
        checkpoint: PathBuf,
    },
    /// The loss is not a finite number.
    #[error("{0}")]
    NotFinite(Box<Divergence>),
    /// A file of the run cannot be read.
    #[error("cannot read {}: {reason}; name the folder of a run", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file of the run is not what was written.
    #[error(
        "{}: {reason}; begin a new run, or, if the change was meant, remove `sha256` from the file", path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Both hashes.
        reason: String,
    },
    /// A file of the run cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The file system's message.
        reason: io::Error,
    },
}

impl TrainingError {
    /// Whether the recipe, the network, the data set or an option is to blame; nothing has been trained then.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Dataset(error) => !matches!(
                error,
                DatasetError::Io { .. }
                    | DatasetError::Shard(_)
                    | DatasetError::NotFetched { .. }
                    | DatasetError::Unwanted { .. }
            ),
            Self::Backend(error) => error.is_usage(),
            Self::Checkpoint(error) => error.is_usage(),
            Self::Collective(error) => error.is_usage(),
            Self::Augment(_)
            | Self::Recipe(_)
            | Self::Graph(_)
            | Self::ImageSize { .. }
            | Self::OtherData { .. }
            | Self::Position { .. }
            | Self::Over { .. }
            | Self::Batch { .. }
            | Self::Parts { .. }
            | Self::Views { .. }
            | Self::Pairs { .. }
            | Self::Labels { .. }
            | Self::RunExists { .. } => true,
            Self::Loader(_)
            | Self::State(_)
            | Self::Metrics(_)
            | Self::NotFinite(_)
            | Self::RunGone { .. }
            | Self::Read { .. }
            | Self::Changed { .. }
            | Self::Write { .. } => false,
        }
    }
}

fn size_remedy(found_px: usize, expected_px: usize, crop_px: usize, is_trained: bool) -> String {
    let prepare = format!("prepare them with prepare_imagenet --size {expected_px}");
    if is_trained || found_px == 0 {
        return prepare;
    }
    let sizes = format!("--set input.image_px={found_px}");
    if crop_px <= found_px {
        return format!("{prepare}, or begin a run on them as they are with {sizes}");
    }
    let crop_px = (found_px * crop_px / expected_px).max(1);
    format!(
        "{prepare}, or begin a run on them as they are with {sizes} --set input.crop_px={crop_px}, if the network \
             takes images that small"
    )
}
