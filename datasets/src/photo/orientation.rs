//! The orientation that EXIF data give: how a camera was held.

use std::fmt;
use std::mem;
use std::str::FromStr;

use fovea_pipeline::UnknownName;
use image::metadata::Orientation as Turn;
use image::{DynamicImage, ImageBuffer};
use serde::{Deserialize, Serialize};

use super::Photo;
use super::directory::Directory;
use super::metadata::Metadata;

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

const TAG_ORIENTATION: u16 = 0x112;

/// What EXIF data say and, where they have no orientation, XMP. Data that cannot be understood say nothing.
pub(super) fn turn_in(metadata: &Metadata<'_>) -> Turn {
    let exif = metadata.exif.as_deref().and_then(in_exif);
    let number = exif.or_else(|| in_xmp(metadata.xmp.as_deref()?));
    number.and_then(|number| Turn::from_exif(u8::try_from(number).ok()?)).unwrap_or(Turn::NoTransforms)
}

/// The number of the orientation; 0 for one that is no number.
fn in_exif(exif: &[u8]) -> Option<u64> {
    let directory = Directory::read(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))?;
    let entry = directory.find(TAG_ORIENTATION)?;
    Some(directory.whole_number(entry).unwrap_or(0))
}

/// The number in `tiff:Orientation="6"` or `<tiff:Orientation>6`.
fn in_xmp(xmp: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"tiff:Orientation";
    let named = xmp.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    let mut numbers = named.filter_map(|(at, _)| {
        let rest = &xmp[at + NAME.len()..];
        let digit = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?.first()?;
        char::from(*digit).to_digit(10).map(u64::from)
    });
    numbers.next()
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
