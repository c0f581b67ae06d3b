//! The shape of the images of a data set: squares, or photos in their own proportions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::geometry::Size;
use crate::labels::LabelKind;

/// The shape of the images of a data set, whose side is S pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageShape {
    /// All have S×S pixels.
    #[default]
    Square,
    /// Each has the proportions of its photo, and S pixels along its shorter side.
    Keep,
}

impl ImageShape {
    /// The longer side of an image is at most so many times the shorter one.
    pub const MOST_ASPECT: u32 = 16;

    /// More pixels along a side than a JPEG file can have.
    pub const MOST_SIDE_PX: u32 = 65_535;

    /// The name in files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Square => "square",
            Self::Keep => "keep",
        }
    }

    /// Version of the format of shards with such images and labels.
    #[must_use]
    pub fn format_version(self, labels: LabelKind) -> u32 {
        match self {
            Self::Square => labels.format_version(),
            Self::Keep => 3,
        }
    }

    /// Whether it is [`ImageShape::Square`], which files leave out.
    #[must_use]
    pub fn is_square(&self) -> bool {
        *self == Self::Square
    }

    /// The sizes of images of this shape whose side is `side` pixels.
    #[must_use]
    pub fn sizes(self, side: u32) -> ImageSizes {
        match self {
            Self::Square => ImageSizes::Same(Size::square(side)),
            Self::Keep => ImageSizes::ShorterSide(side),
        }
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The sizes that images of a data set have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSizes {
    /// All have this one.
    Same(Size),
    /// The shorter side of each has so many pixels; the longer one is at most [`ImageShape::MOST_ASPECT`]
    /// times as long.
    ShorterSide(u32),
}

impl ImageSizes {
    /// The size of the smallest, into which every other image could be cropped.
    #[must_use]
    pub fn smallest(self) -> Size {
        match self {
            Self::Same(size) => size,
            Self::ShorterSide(side) => Size::square(side),
        }
    }

    /// Why an image cannot have this size, if it cannot.
    pub(crate) fn problem(self, size: Size) -> Option<String> {
        let fits = match self {
            Self::Same(only) => size == only,
            Self::ShorterSide(side) => {
                let longer = size.width.max(size.height);
                size.width.min(size.height) == side
                    && longer <= side.saturating_mul(ImageShape::MOST_ASPECT).min(ImageShape::MOST_SIDE_PX)
            }
        };
        let most = match self {
            Self::Same(_) => String::new(),
            Self::ShorterSide(_) => {
                format!(", and a longer one at most {} times as long", ImageShape::MOST_ASPECT)
            }
        };
        (!fits).then(|| format!("{size} pixels, expected {self}{most}"))
    }
}

impl From<Size> for ImageSizes {
    fn from(size: Size) -> Self {
        Self::Same(size)
    }
}

impl fmt::Display for ImageSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(size) => write!(f, "{size}"),
            Self::ShorterSide(side) => write!(f, "a shorter side of {side}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_is_at_most_sixteen_times_the_shorter_one() {
        let keep = ImageShape::Keep.sizes(10);
        for (width, height, fits) in [
            (10, 10, true),
            (160, 10, true),
            (10, 160, true),
            (161, 10, false),
            (10, 161, false),
            (9, 10, false),
            (11, 11, false),
            (0, 10, false),
        ] {
            let size = Size { width, height };
            assert_eq!(keep.problem(size).is_none(), fits, "{size}");
            assert_eq!(ImageShape::Square.sizes(10).problem(size).is_none(), size == Size::square(10));
        }
        let problem = keep.problem(Size { width: 161, height: 10 }).unwrap();
        assert_eq!(
            problem,
            "161x10 pixels, expected a shorter side of 10, and a longer one at most 16 times as long"
        );
        // No JPEG file has more.
        assert!(ImageShape::Keep.sizes(4096).problem(Size { width: 65_536, height: 4096 }).is_some());
        assert!(ImageShape::Keep.sizes(4096).problem(Size { width: 65_535, height: 4096 }).is_none());
    }
}
