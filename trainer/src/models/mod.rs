//! Networks and the graphs that train, evaluate and export them.
//!
//! A [`Network`] is a list of layers with input size and classes; [`AlexNet`] writes the list for the paper's network
//! and its ablations. [`TrainingGraphs`] turns a network into the graphs of a training session, [`inference`] into
//! one for export.

mod alexnet;
mod cifar;
mod graphs;
mod init;
mod network;

pub use alexnet::{AlexNet, Kernel, LrnAlpha};
pub use cifar::cifar_quick;
pub use graphs::{GraphOptions, MeanShape, PixelType, TrainingGraphs, gradient_name, inference, names};
pub use init::Init;
pub use network::{
    Activation, DropoutMask, Forward, Layer, Mode, Network, Parameter, ParameterKind, Scaling,
};
