//! Recipes' networks as the graphs that train, evaluate and export them.
//!
//! A [`Classifier`] is a recipe's list of layers, or a network [from a file](Imported), with the data set's number of classes. [`TrainingGraphs`] turns it into
//! the graphs of a training session, [`inference`] into one for export.

mod graphs;
mod import;
mod init;
mod network;

pub use graphs::{
    GraphOptions, MeanShape, PixelType, TrainingGraphs, features, gradient_name, inference, names,
};
pub use import::Imported;
pub use init::Init;
pub use network::{Classifier, DropoutMask, Forward, Mode, Parameter, ParameterKind};
