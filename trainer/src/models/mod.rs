//! Networks, and the graphs that train, evaluate and export them.
//!
//! A [`Classifier`] is a [`Network`](fovea_graph::Network) (a recipe's [`Layers`], or an imported file) with
//! the data set's number of classes. [`TrainingGraphs`] turns it into the graphs of a training session,
//! [`inference`] into one for export.

mod classifier;
mod export;
mod graphs;
#[cfg(test)]
mod imported_tests;
mod layers;

pub use classifier::Classifier;
pub use export::{PixelType, features, inference};
pub use graphs::{GraphOptions, MeanShape, TrainingGraphs};
pub use layers::Layers;
