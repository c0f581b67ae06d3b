//! Training of image classifiers through ONNX Runtime: graphs, sessions, recipes, checkpoints.

pub mod graph;
pub mod models;
pub mod onnx;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
