//! Prepared images to training batches: shards on disk, decoding, augmentation, batches in memory that the
//! consumer chooses.
//!
//! A data set is a folder of shards (`fovea-datasets` prepares one from photos). A [`Loader`] turns it into
//! an iterator over batches, made by worker threads. The same seed gives the same batches, for any number of
//! workers, for several processes that share an epoch, and after a restart at any batch.
//!
//! ```text
//! Dataset ──► Records ──► Loader ─────────────────────────────────────► Batch ──► your trainer
//! a folder,    shards,     order ► decode ► view ► augment ► write       u8, f32 or f16 [N·V,3,H,W],
//! dataset.json mmap        (worker threads)                              labels i64 [N]
//!                              ▲                                           │
//!                              └──────── memory of dropped batches ◄───────┘
//! ```
//!
//! An epoch of training batches, with the augmentation of AlexNet (Krizhevsky et al., 2012):
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use fovea_pipeline::{Chain, Dataset, Images, Loader, LoaderConfig, Split, augment};
//!
//! let dataset = Dataset::open("shards".as_ref())?;
//! let info = dataset.info();
//! let records = Arc::new(dataset.records(Split::Train)?);
//! let chain = Chain::from_configs(&augment::alexnet(), info.image_sizes(), info.statistics.as_ref())?;
//! let config = LoaderConfig { epochs: 0..1, batch_size: 128, seed: 7, ..LoaderConfig::training(chain) };
//! for batch in Loader::start(records, config)? {
//!     let batch = batch?;
//!     let Images::U8(pixels) = batch.images() else { unreachable!("u8 is the default") };
//!     println!("batch {}: {} bytes, labels {:?}", batch.index(), pixels.len(), batch.labels());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Modules, in the order in which data flow:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`shard`], [`dataset`], [`dataset_info`], [`records`], [`shard_files`] | what is on disk, or elsewhere |
//! | [`labels`] | classes, marks of several, numbers |
//! | [`image_shape`] | squares, or photos in their own proportions |
//! | [`order`], [`random`] | which record comes when, and which random numbers it gets |
//! | [`decode`] | JPEG to pixels |
//! | [`geometry`], [`view`] | an image and the part of it that is used |
//! | [`augment`], [`eval_crops`] | random changes of a view, and fixed crops |
//! | [`form`], [`kernels`] | writing a view into its slot of a batch |
//! | [`mixing`] | mixing the images of a batch with each other |
//! | [`batch`], [`memory`] | what the consumer gets, in memory that it may supply |
//! | [`loader`] | the threads that do all this |
//! | [`room`] | what a cache with a limit must hold of a data set |
//! | [`summary`], [`sizes`], [`text`] | results, byte counts and names as people read them |
//!
//! With the feature `turbojpeg`, JPEG shards are decoded by libjpeg-turbo, a little faster; building it needs
//! cmake and nasm.

pub mod augment;
pub mod batch;
#[cfg(test)]
mod damage_tests;
pub mod dataset;
mod dataset_error;
pub mod dataset_info;
pub mod decode;
pub mod eval_crops;
pub mod form;
pub mod geometry;
pub mod image_shape;
pub mod kernels;
pub mod labels;
pub mod loader;
mod mapped;
mod mapping;
pub mod memory;
pub mod mixing;
mod names;
pub mod order;
pub mod random;
pub mod records;
pub mod resize;
pub mod room;
pub mod shard;
mod shard_check;
pub mod shard_files;
pub mod sizes;
pub mod summary;
#[cfg(test)]
mod test_support;
pub mod text;
pub mod threads;
pub mod view;

pub use augment::{AugmentationConfig, Chain};
pub use batch::{Batch, Images};
pub use dataset::Dataset;
pub use dataset_error::DatasetError;
pub use dataset_info::{Class, ColorStatistics, DatasetInfo, Encoding, ShardInfo, Split};
pub use eval_crops::EvalCrops;
pub use form::{Axes, MeanValue, Normalization, OutputForm};
pub use image_shape::{ImageShape, ImageSizes};
pub use labels::{Label, LabelKind};
pub use loader::{Loader, LoaderConfig, LoaderError};
pub use mapped::report_bus_errors;
pub use mixing::Mixing;
pub use names::UnknownName;
pub use records::Records;
pub use threads::cores;
