//! Training of image classifiers through ONNX Runtime: recipes, graphs, sessions, checkpoints.

pub mod backend;
pub mod bench;
pub mod checkpoint;
pub mod metrics;
pub mod models;
pub mod recipe;
pub mod schedule;
pub mod training;
