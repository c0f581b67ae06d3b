//! Training of image classifiers through ONNX Runtime: recipes, graphs, sessions, checkpoints.

pub mod backend;
pub mod bench;
pub mod checkpoint;
pub mod metrics;
pub mod models;
pub mod names;
pub mod optimizer;
pub mod recipe;
pub mod state;
pub mod summary;
pub mod training;
