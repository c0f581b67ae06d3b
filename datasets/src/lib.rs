//! Where labelled images come from, and how they become shards.

pub mod error;
pub mod source;

pub use error::SourceError;
pub use source::{Entry, Payload, Source};
