//! Labelled photos to prepared data sets: finds images in archives and folders, writes shards for training.
//!
//! ```text
//! archives, ──► open ──► Source ──► Preparer ──────────────────────────────► folder of shards,
//! folders       detects   classes,   read ► decode ► resize, crop ► write      dataset.json,
//!               a Layout  entries    (worker threads)      └► statistics       mean_image.npy, rejected.tsv
//! ```
//!
//! * [`open`] detects what is at the paths that a user gives: the official ImageNet archives, which are
//!   indexed and read in place, trees of folders, and the other layouts of [`Layout`]. Each is a [`Source`];
//!   implement the trait for a source of your own.
//! * [`prepare`] takes the images of a source through [`photo`] (decode, resize, crop) into shards and
//!   collects their [`statistics`]. It can be interrupted at any moment and run again; the result is the same
//!   bytes.
//! * [`verify`] reads every byte of the result again.
//!
//! `fovea-pipeline` turns the result into batches. This example prepares the sample of Fashion-MNIST that is
//! part of the crate and checks the result:
//!
//! ```
//! use std::num::NonZeroUsize;
//!
//! use fovea_datasets::prepare::{PrepareOptions, Preparer, Progress};
//! use fovea_datasets::{EmbeddedSample, verify};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let source = EmbeddedSample::new();
//! let options = PrepareOptions { size: 28, limit_per_class: Some(10), ..PrepareOptions::default() };
//! let summary = Preparer::new(&source, options, folder)?.run(&Progress::default())?;
//! assert_eq!(summary.info.train[0].images, 100);
//!
//! let report = verify::verify(&verify::open(folder)?, NonZeroUsize::MIN, &|_bytes| ());
//! assert!(report.problems.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Your own photos, in one folder for each class:
//!
//! ```no_run
//! use fovea_datasets::{OpenOptions, open};
//! use fovea_pipeline::Split;
//!
//! let source = open(&OpenOptions { train: Some("photos".into()), ..OpenOptions::default() })?;
//! println!("{}: {} classes", source.name(), source.classes().len());
//! println!("{} training images", source.entries(Split::Train).len());
//! # Ok::<(), fovea_datasets::SourceError>(())
//! ```

pub mod detect;
pub mod embedded;
pub mod error;
pub mod note;
pub mod official;
pub mod photo;
pub mod prepare;
pub mod source;
pub mod statistics;
pub mod verify;

mod cifar10;
mod collection;
mod compression;
mod devkit;
mod eigen;
mod files;
mod folder;
mod gunzip;
mod ilsvrc;
mod image_labels;
mod kaggle;
mod label_table;
mod labelled;
mod matlab;
mod names;
mod others;
mod positioned;
mod splits;
mod tar_folder;
mod tar_header;
mod tar_index;
mod tar_members;
mod tar_pax;
#[cfg(test)]
mod tests;
mod tiny_imagenet;
mod tree;

pub use collection::is_image_file;
pub use detect::{Layout, OpenOptions, open};
pub use embedded::EmbeddedSample;
pub use error::SourceError;
pub use note::Note;
pub use source::{Entry, Payload, Source, Stamp};
pub use splits::Reading;
