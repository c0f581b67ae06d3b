//! The orientation that EXIF data give: how a camera was held.

use std::fmt;
use std::mem;
use std::str::FromStr;

use fovea_pipeline::UnknownName;
use image::metadata::Orientation as Turn;
use image::{DynamicImage, ImageBuffer};
use serde::{Deserialize, Serialize};

use super::Photo;

/// What is done with the orientation that the EXIF data of a file give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orientation {
    /// Nothing: the pixels stay as they are stored, as for ImageNet's usual readers.
    #[default]
    Ignore,
    /// The photo is turned and mirrored until it is upright.
    Apply,
}

impl Orientation {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Ignore, Self::Apply];

    /// The name on command lines and in `preparation.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Apply => "apply",
        }
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Orientation {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("orientation", name, &Self::ALL, Self::name)
    }
}

/// What EXIF data, a TIFF structure, say. Data that cannot be understood say nothing.
pub(super) fn turn_in(exif: &[u8]) -> Turn {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    Turn::from_exif_chunk(tiff).unwrap_or(Turn::NoTransforms)
}

impl Photo {
    /// Turns and mirrors the pixels.
    pub(super) fn apply(&mut self, turn: Turn) {
        if turn == Turn::NoTransforms {
            return;
        }
        let pixels = ImageBuffer::from_raw(self.width, self.height, mem::take(&mut self.rgb));
        let mut image = DynamicImage::ImageRgb8(pixels.expect("a photo has as many pixels as its sides say"));
        image.apply_orientation(turn);
        (self.width, self.height) = (image.width(), image.height());
        self.rgb = image.into_rgb8().into_raw();
    }
}
