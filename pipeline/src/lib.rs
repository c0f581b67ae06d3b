//! Shards of labelled images to batches on a channel.
//!
//! In the order in which data flows: [`shard`] and [`dataset`] are what is on disk; [`order`] and [`random`] say which record
//! comes when and what is drawn for it; [`decode`] turns JPEG into pixels; a [`view`] is an image and what part of it is used,
//! changed by [`augment`] or [`test_views`]; [`form`] and [`kernels`] write it into a slot of a [`batch`], whose [`memory`] may be the
//! consumer's own. The [`loader`] does all this on worker threads. Start with [`Dataset`], [`Chain`] and [`Loader`].

pub mod augment;
pub mod batch;
pub mod dataset;
pub mod dataset_info;
pub mod decode;
pub mod form;
pub mod geometry;
pub mod kernels;
pub mod loader;
pub mod memory;
mod names;
pub mod order;
pub mod random;
pub mod shard;
#[cfg(test)]
mod test_support;
pub mod test_views;
pub mod threads;
pub mod view;

pub use augment::{AugmentationConfig, Chain};
pub use batch::{Batch, Images};
pub use dataset::{Dataset, DatasetError, Records};
pub use dataset_info::{Class, ColorStatistics, DatasetInfo, Encoding, ShardInfo, Split};
pub use form::{MeanValue, Normalization, OutputForm};
pub use loader::{Loader, LoaderConfig, LoaderError};
pub use names::UnknownName;
pub use test_views::TestViews;
pub use threads::cores;
