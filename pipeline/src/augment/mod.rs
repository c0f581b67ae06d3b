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
mod gaussian_blur;
mod grayscale;
mod horizontal_flip;
mod operations;
mod parameters;
mod pca_jitter;
mod rand_augment;
mod random_crop;
mod random_erasing;
mod random_resized_crop;
mod trivial_augment;
mod vertical_flip;

pub use augmentation::Augmentation;
pub use center_crop::CenterCrop;
pub use chain::Chain;
pub use color_jitter::ColorJitter;
pub use config::{AugmentationConfig, alexnet, names};
pub use error::AugmentError;
pub use gaussian_blur::GaussianBlur;
pub use grayscale::Grayscale;
pub use horizontal_flip::HorizontalFlip;
pub use pca_jitter::{PcaJitter, PcaScale, PcaStatistics};
pub use rand_augment::RandAugment;
pub use random_crop::RandomCrop;
pub use random_erasing::RandomErasing;
pub use random_resized_crop::RandomResizedCrop;
pub use trivial_augment::TrivialAugment;
pub use vertical_flip::VerticalFlip;
