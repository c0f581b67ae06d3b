//! The options of a preparation.

use std::num::NonZeroUsize;

use fovea_pipeline::threads::MOST_THREADS;
use fovea_pipeline::{Encoding, ImageShape, cores};

use super::PrepareError;
use crate::photo::{Filter, Fit, Orientation, expected_jpeg_bytes};

/// How images become records, and records shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareOptions {
    /// Side S of the images in pixels, 1..=[`MAX_SIZE`](Self::MAX_SIZE); the shorter side if photos keep
    /// their proportions.
    pub size: u32,
    /// Whether photos are turned upright.
    pub orientation: Orientation,
    /// What becomes of a rectangle.
    pub fit: Fit,
    /// The kernel for resizing.
    pub filter: Filter,
    /// How images are stored.
    pub encoding: Encoding,
    /// JPEG quality 1..=100; without effect on raw shards.
    pub quality: u8,
    /// Seed of the order of the training images.
    pub seed: u64,
    /// Approximate size of a shard.
    pub shard_bytes: u64,
    /// Takes only the first images of each class and split, in the order of their keys.
    pub limit_per_class: Option<usize>,
    /// Threads that decode and resize. The shards do not depend on it.
    pub workers: NonZeroUsize,
    /// Whether a folder whose images have changed since it was prepared is prepared again; else that is an
    /// error, unless all that has changed are images that could not be decoded.
    pub update: bool,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        Self {
            size: 256,
            orientation: Orientation::default(),
            fit: Fit::default(),
            filter: Filter::default(),
            encoding: Encoding::Raw,
            quality: 90,
            seed: 0,
            shard_bytes: 256 << 20,
            limit_per_class: None,
            workers: cores(),
            update: false,
        }
    }
}

/// Approximate size of a record without its image: label, checksum and key.
const RECORD_OVERHEAD_BYTES: u64 = 48;

impl PrepareOptions {
    /// The largest side of a prepared image, in pixels.
    pub const MAX_SIZE: u32 = 4096;

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`PrepareError::Option`] names the first option that is out of its range.
    pub fn validate(&self) -> Result<(), PrepareError> {
        let out_of_range = |option, given: u64, expected: String| {
            Err(PrepareError::Option { option, given: given.to_string(), expected })
        };
        if !(1..=Self::MAX_SIZE).contains(&self.size) {
            return out_of_range("size", self.size.into(), format!("1 to {} pixels", Self::MAX_SIZE));
        }
        if !(1..=100).contains(&self.quality) {
            return out_of_range("quality", self.quality.into(), "1 to 100".into());
        }
        if self.workers.get() > MOST_THREADS {
            let workers = self.workers.get() as u64;
            return out_of_range("workers", workers, format!("1 to {MOST_THREADS} threads"));
        }
        if self.shard_bytes == 0 {
            return out_of_range("shard-size", 0, "at least 1 byte".into());
        }
        if self.limit_per_class == Some(0) {
            return out_of_range("limit-per-class", 0, "at least 1 image".into());
        }
        Ok(())
    }

    /// Values of the mean image: 3·S·S; 0 if images differ in size, and have none.
    pub(crate) fn mean_values(&self) -> usize {
        match self.fit.image_shape() {
            ImageShape::Square => self.image_bytes(),
            ImageShape::Keep => 0,
        }
    }

    /// Bytes of a decoded image: 3·S·S; about, if images differ in size.
    pub(crate) fn image_bytes(&self) -> usize {
        3 * usize::try_from(self.image_pixels()).unwrap_or(usize::MAX / 3)
    }

    fn image_pixels(&self) -> u64 {
        let square = u64::from(self.size) * u64::from(self.size);
        match self.fit.image_shape() {
            ImageShape::Square => square,
            // Of photos of 4:3.
            ImageShape::Keep => square * 4 / 3,
        }
    }

    /// Approximate size of a record in a shard; depends on the options only.
    pub(crate) fn expected_record_bytes(&self) -> u64 {
        RECORD_OVERHEAD_BYTES
            + match self.encoding {
                Encoding::Raw => self.image_bytes() as u64,
                Encoding::Jpeg => expected_jpeg_bytes(self.image_pixels(), self.quality),
            }
    }

    /// Images that a full shard is planned with.
    pub(crate) fn images_per_shard(&self) -> usize {
        usize::try_from(self.shard_bytes / self.expected_record_bytes()).unwrap_or(usize::MAX).max(1)
    }
}
