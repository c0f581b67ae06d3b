//! What a data set has in addition to its images: splits, classes, encoding, statistics.
//!
//! [`DatasetInfo`] is the content of `dataset.json`, the file next to the shards.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::image_shape::{ImageShape, ImageSizes};
use crate::labels::LabelKind;
use crate::names::UnknownName;

/// A part of a data set: for training or for evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training images.
    Train,
    /// Validation images, on which the error is measured.
    Val,
}

impl Split {
    /// Both splits, in the order in which they are prepared.
    pub const ALL: [Self; 2] = [Self::Train, Self::Val];

    /// The name used in file names: `train` or `val`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("split", name, &Self::ALL, Self::name)
    }
}

/// A class of a data set. Its index is its position in the list sorted by [`Class::wnid`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// WordNet id such as `n01440764`, or the folder's name where the data set has no WordNet ids.
    pub wnid: String,
    /// Id 1..=1000 of the ILSVRC development kit, where there is one. Not in the order of the WNIDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ilsvrc_id: Option<u32>,
    /// Readable names, synonyms separated by `, `. Not unique: ImageNet has two cranes and two maillots.
    pub name: String,
}

/// How the bytes of the `image` column hold an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Planar pixels, `u8 [3,H,W]`, in a fixed-size binary column if all images have one size, else in a
    /// binary column.
    Raw,
    /// A baseline JPEG file, in a binary column.
    Jpeg,
}

impl Encoding {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Raw, Self::Jpeg];

    /// The name used on command lines and in metadata: `raw` or `jpeg`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Jpeg => "jpeg",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Encoding {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("encoding", name, &Self::ALL, Self::name)
    }
}

/// Colour statistics over every pixel of the training images, in units of 0..=255.
///
/// The mean image, `f32 [3,S,S]`, is in a file of its own: `mean_image.npy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColorStatistics {
    /// Mean of R, G and B.
    pub mean: [f64; 3],
    /// Covariance of R, G and B.
    pub covariance: [[f64; 3]; 3],
    /// Eigenvalues of the covariance, largest first.
    pub eigenvalues: [f64; 3],
    /// Unit eigenvectors; `eigenvectors[k]` belongs to `eigenvalues[k]` and its largest component is
    /// positive.
    pub eigenvectors: [[f64; 3]; 3],
}

impl ColorStatistics {
    /// The statistics of the ILSVRC-2012 training set, as published with cuda-convnet:
    /// means, and standard deviations along the principal axes of the colours.
    #[must_use]
    pub fn imagenet() -> Self {
        let stddev = [121.78, 37.09, 19.72];
        let eigenvalues = stddev.map(|s: f64| s * s);
        let eigenvectors = [[0.5635, 0.5762, 0.5920], [0.7126, 0.0235, -0.7012], [-0.4180, 0.8170, -0.3973]];
        let covariance = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                (0..3).map(|k| eigenvalues[k] * eigenvectors[k][i] * eigenvectors[k][j]).sum()
            })
        });
        Self { mean: [127.3, 119.7, 104.9], covariance, eigenvalues, eigenvectors }
    }
}

/// One shard file as `dataset.json` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// File name, e.g. `train-00000.arrow`.
    pub file: String,
    /// Records in the file.
    pub images: u64,
    /// Size of the file.
    pub bytes: u64,
    /// BLAKE3 digest of the whole file, in hexadecimal.
    pub blake3: String,
    /// BLAKE3 digest of what the file says about its records, in hexadecimal, which is looked at whenever it
    /// is opened; `docs/SHARDS.md` has its definition. Data sets of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_blake3: Option<String>,
}

/// The content of `dataset.json`: what the shards next to it hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetInfo {
    /// Version of the shard format, [`ImageShape::format_version`].
    pub format_version: u32,
    /// The program and version that wrote the shards.
    pub writer: String,
    /// Where the images came from, e.g. `ilsvrc2012-tars`.
    pub source: String,
    /// Side S of every image in pixels; the shorter side, if images keep the proportions of their photos.
    pub image_size: u32,
    /// The shape of the images. Not in the file if they are squares.
    #[serde(default, skip_serializing_if = "ImageShape::is_square")]
    pub image_shape: ImageShape,
    /// How images are stored.
    pub encoding: Encoding,
    /// Shards of the training images.
    pub train: Vec<ShardInfo>,
    /// Shards of the validation images.
    pub val: Vec<ShardInfo>,
    /// Colour statistics of the training images; `None` if there are no training images.
    pub statistics: Option<ColorStatistics>,
    /// BLAKE3 digest of the file of the mean image, in hexadecimal. Data sets of earlier versions have none,
    /// and images of differing sizes have no mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_image_blake3: Option<String>,
    /// Images that were not stored upright, by the EXIF data of their files. Not in the file if there are
    /// none; data sets of earlier versions did not count them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turned_images: u64,
    /// Images of photos whose longer side was more than [`ImageShape::MOST_ASPECT`] times the shorter one, so
    /// that only their middle was kept. Not in the file if there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut_images: u64,
    /// What the labels are. Not in the file if they are classes.
    #[serde(default, skip_serializing_if = "LabelKind::is_class")]
    pub labels: LabelKind,
    /// The classes; a label is a position in this list, or a mark or number for each element of it.
    pub classes: Vec<Class>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl DatasetInfo {
    /// Name of the file that holds this, next to the shards.
    pub const FILE_NAME: &'static str = "dataset.json";

    /// Name of the file with the options that the shards were prepared with, next to them.
    pub const PREPARATION_FILE_NAME: &'static str = "preparation.json";

    /// Name of the file that holds the mean image, `f32 [3,S,S]`, next to the shards.
    pub const MEAN_IMAGE_FILE_NAME: &'static str = "mean_image.npy";

    /// The sizes of the images.
    #[must_use]
    pub fn image_sizes(&self) -> ImageSizes {
        self.image_shape.sizes(self.image_size)
    }

    /// The shards of `split`.
    #[must_use]
    pub fn shards(&self, split: Split) -> &[ShardInfo] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
        }
    }

    /// A digest of the images of `split` and their order, in hexadecimal: BLAKE3 of the digests of its
    /// shards.
    #[must_use]
    pub fn digest(&self, split: Split) -> String {
        let mut hasher = blake3::Hasher::new();
        for shard in self.shards(split) {
            hasher.update(shard.blake3.as_bytes());
        }
        hasher.finalize().to_string()
    }

    /// The number of images of `split`.
    #[must_use]
    pub fn images(&self, split: Split) -> u64 {
        self.shards(split).iter().map(|shard| shard.images).fold(0, u64::saturating_add)
    }
}
