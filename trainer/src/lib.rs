//! Placeholder.

pub mod checkpoint;
pub mod files;
pub mod metrics;
pub mod recipe;
pub mod runtime;
pub mod schedule;
