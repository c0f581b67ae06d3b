//! Where labelled images come from, and how they become shards.
//!
//! [`open`] finds out what lies at the paths that a user gives: the official ImageNet archives, which are indexed
//! and read in place, trees of folders, and what else [`Layout`] lists. All of them are a [`Source`].
//!
//! [`prepare`] takes the images of a source through [`photo`] (decode, resize, crop) into shards, and collects their
//! [`statistics`] on the way. [`verify`] reads the result again, byte by byte.

pub mod detect;
pub mod embedded;
pub mod error;
pub mod official;
pub mod photo;
pub mod prepare;
pub mod source;
pub mod statistics;
pub mod verify;

mod cifar10;
mod collection;
mod devkit;
mod eigen;
mod folder;
mod ilsvrc;
mod kaggle;
mod matlab;
mod positioned;
mod tar_folder;
mod tar_index;
#[cfg(test)]
mod tests;
mod tiny_imagenet;
mod tree;

pub use collection::is_image_name;
pub use detect::{Layout, OpenOptions, open};
pub use embedded::EmbeddedSample;
pub use error::SourceError;
pub use source::{Entry, Payload, Source};
