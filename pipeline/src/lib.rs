//! Shards of labelled images to batches on a channel.

pub mod dataset_info;
pub mod shard;

pub use dataset_info::{Class, ColorStatistics, DatasetInfo, Encoding, ShardInfo, Split};
