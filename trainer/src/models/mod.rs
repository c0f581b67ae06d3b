//! Networks, and the graphs that train, evaluate and export them.
//!
//! A [`Classifier`] is a [`Network`](fovea_graph::Network) with the data set's number of classes: a recipe's
//! [`Layers`] or [`FamilyNetwork`], or an imported file. [`TrainingGraphs`] turns it into the graphs of a
//! training session, [`inference`] into one for export.

#[cfg(test)]
mod architecture_tests;
mod architectures;
mod assembly;
mod classifier;
mod convnext;
mod export;
mod graphs;
#[cfg(test)]
mod imported_tests;
mod layers;
mod mobilenet;
mod resnet;
mod vit;
mod weights;

pub use architectures::FamilyNetwork;
pub use classifier::{Classifier, check_file};
pub use export::{PixelType, features, inference, saliency};
pub use graphs::{GraphOptions, MeanShape, TrainingGraphs};
pub use layers::Layers;
pub use weights::head;
