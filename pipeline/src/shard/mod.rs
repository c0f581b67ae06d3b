//! Shards: Arrow IPC files that each hold a part of one split.
//!
//! | column | Arrow type | content |
//! | --- | --- | --- |
//! | `image` | fixed-size binary (raw) or binary (JPEG) | `u8 [3,S,S]`, or a JPEG file of S×S pixels |
//! | `label` | int64, or a list of K uint8 or float32 | position in the class list; or marks, or numbers |
//! | `key` | utf8 | name of the image in its source |
//! | `crc32` | uint32 | CRC-32 of the bytes in `image` |
//!
//! The schema's metadata hold a [`ShardHeader`] as JSON under `fovea`, and under `huggingface` what the
//! `datasets` package needs. [`ShardWriter`] writes a shard, [`Shard`] maps one into memory.

mod error;
mod header;
mod index;
mod reader;
#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod tests;
mod writer;

pub use error::ShardError;
pub(crate) use header::MAX_IMAGE_SIZE;
pub use header::{FORMAT_VERSION, ShardHeader, shard_file_name};
pub use reader::{Record, Shard};
pub use writer::{FinishedShard, ShardWriter};
