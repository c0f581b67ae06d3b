//! Why an augmentation cannot be used.

use crate::geometry::Size;
use crate::image_shape::ImageSizes;

/// An augmentation cannot be used as it was configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AugmentError {
    /// No augmentation has this name.
    #[error("there is no augmentation `{op}`; there are {}", known.join(", "))]
    Unknown {
        /// The name that was given.
        op: String,
        /// The names in the registry.
        known: Vec<&'static str>,
    },
    /// A parameter is missing, unknown or of the wrong type.
    #[error("augmentation `{op}`: {reason}")]
    Parameters {
        /// The augmentation.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// A view is smaller than the crop.
    #[error("augmentation `{op}` cuts {wanted} pixels out of an image of {input}; prepare larger images")]
    TooSmall {
        /// The augmentation.
        op: &'static str,
        /// The crop.
        wanted: Size,
        /// The view.
        input: Size,
    },
    /// Images of differing sizes would leave the augmentations in differing sizes.
    #[error(
        "of images with {input} pixels, the augmentations leave {first} of one and {other} of another; add one that \
         makes all the same, such as random_resized_crop or center_crop"
    )]
    DifferingSizes {
        /// Sizes of the images.
        input: ImageSizes,
        /// What becomes of the smallest.
        first: Size,
        /// What becomes of another.
        other: Size,
    },
    /// The data set's own statistics are needed, and it has none.
    #[error(
        "augmentation `{op}` needs the colour statistics of the data set, which has none; \
         set statistics = \"imagenet\" to use those of ILSVRC-2012"
    )]
    NoStatistics {
        /// The augmentation.
        op: &'static str,
    },
}
