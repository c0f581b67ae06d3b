//! Recipes, graphs and sessions: from batches to a trained network.

pub mod backend;
pub mod checkpoint;
pub mod files;
pub mod metrics;
pub mod recipe;
pub mod runtime;
pub mod schedule;
