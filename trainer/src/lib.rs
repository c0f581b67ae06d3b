//! Training of image classifiers through ONNX Runtime: recipes, graphs, sessions, checkpoints.

pub mod backend;
pub mod checkpoint;
pub mod files;
pub mod graph;
pub mod metrics;
pub mod models;
pub mod onnx;
pub mod recipe;
pub mod runtime;
pub mod schedule;

// The tests inside and outside of the crate share a module, which needs one name for the crate.
#[cfg(test)]
extern crate self as fovea_trainer;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
