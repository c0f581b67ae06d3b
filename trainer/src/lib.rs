//! Training of image classifiers through ONNX Runtime: recipes, graphs, sessions, checkpoints.

pub mod backend;
pub mod bench;
pub mod checkpoint;
pub mod comparison;
pub mod features;
pub mod figure;
pub mod files;
pub mod graph;
pub mod metrics;
pub mod models;
pub mod onnx;
pub mod recipe;
pub mod report;
pub mod runtime;
pub mod schedule;
pub mod terminal;
pub mod training;

// The support module is shared with the integration tests, which see the crate from outside.
#[cfg(test)]
extern crate self as fovea_trainer;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
