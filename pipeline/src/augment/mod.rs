//! Augmentations: random changes of an image, drawn anew for every use of it.
//!
//! An augmentation is a file in this folder and a line in the `REGISTRY` of `config.rs`. It declares the size
//! of its output before it sees an image, draws from the generator that it is given, and changes a
//! [`View`](crate::view::View).

mod augmentation;
mod center_crop;
mod chain;
mod color_jitter;
mod config;
mod error;
mod horizontal_flip;
mod parameters;
mod pca_jitter;
mod random_crop;
mod random_resized_crop;

pub use augmentation::Augmentation;
pub use center_crop::CenterCrop;
pub use chain::Chain;
pub use color_jitter::ColorJitter;
pub use config::{AugmentationConfig, alexnet, names};
pub use error::AugmentError;
pub use horizontal_flip::HorizontalFlip;
pub use pca_jitter::{PcaJitter, PcaScale, PcaStatistics};
pub use random_crop::RandomCrop;
pub use random_resized_crop::RandomResizedCrop;
