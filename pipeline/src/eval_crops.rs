//! The crops on which a trained network is evaluated.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::augment::AugmentError;
use crate::geometry::{Rect, Size};
use crate::names::UnknownName;
use crate::view::View;

/// The fixed crops of an image that a network is evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvalCrops {
    /// The centre crop.
    Center,
    /// The four corners and the centre, each also mirrored; the network's softmax outputs are averaged.
    ///
    /// Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.
    TenCrop,
    /// A grid of three by three crops, from corner to corner, none of them mirrored; averaged as the ten.
    ///
    /// Source: the CIFAR-10 tests of cuda-convnet, where 24×24 crops of 32×32 pixels lie 4 pixels apart.
    NineCrop,
}

impl EvalCrops {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Center, Self::TenCrop, Self::NineCrop];

    /// The name in recipes and on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Center => "center",
            Self::TenCrop => "ten-crop",
            Self::NineCrop => "nine-crop",
        }
    }

    /// The name in reports and on progress bars.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Center => "centre crop",
            Self::TenCrop => "ten crops",
            Self::NineCrop => "nine crops",
        }
    }

    /// Views of each image.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Center => 1,
            Self::TenCrop => 10,
            Self::NineCrop => 9,
        }
    }

    /// Checks that `crop` fits into images of size `input`.
    ///
    /// # Errors
    /// [`AugmentError::TooSmall`] when it does not fit.
    pub fn check(self, input: Size, crop: Size) -> Result<(), AugmentError> {
        if crop.width > input.width || crop.height > input.height {
            return Err(AugmentError::TooSmall { op: "evaluation crop", wanted: crop, input });
        }
        Ok(())
    }

    /// Narrows `view`, the whole of an image, to evaluation crop number `index` of size `crop`.
    ///
    /// Numbers 0..=4 of the ten are top left, top right, bottom left, bottom right and centre; 5..=9 are
    /// their mirror images. The nine go row by row.
    ///
    /// # Panics
    /// When the crop does not fit or there is no such view.
    pub fn apply(self, index: usize, crop: Size, view: &mut View<'_>) {
        assert!(index < self.count(), "view {index} of {}", self.count());
        let (right, bottom) = (view.size().width - crop.width, view.size().height - crop.height);
        let center = (middle(right), middle(bottom));
        let along = |end: u32, third: usize| [0, end / 2, end][third];
        let (x, y) = match self {
            Self::Center => center,
            Self::TenCrop => [(0, 0), (right, 0), (0, bottom), (right, bottom), center][index % 5],
            Self::NineCrop => (along(right, index % 3), along(bottom, index / 3)),
        };
        view.crop(Rect { x, y, size: crop });
        if self == Self::TenCrop && index >= 5 {
            view.flip_horizontal();
        }
    }
}

/// Half of the pixels that a crop leaves, rounded to an even number, as torchvision's centre crop has it.
fn middle(space: u32) -> u32 {
    space / 2 + u32::from(space % 4 == 3)
}

impl fmt::Display for EvalCrops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EvalCrops {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("views", name, &Self::ALL, Self::name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Scratch;

    /// Column and row of the pixel that stands at the upper left of each view of size `crop` out of `size`
    /// pixels.
    fn upper_left(views: EvalCrops, size: Size, crop: Size) -> Vec<(u8, u8)> {
        // Each pixel holds its column in red and its row in green.
        let (width, area) = (size.width as u8, size.area() as u8);
        let column = (0..area).map(|i| i % width);
        let row = (0..area).map(|i| i / width);
        let pixels: Vec<u8> = column.chain(row).chain((0..area).map(|_| 0)).collect();
        let written = |index| {
            let mut scratch = Scratch::default();
            let mut view = View::planar(&pixels, size, &mut scratch);
            views.apply(index, crop, &mut view);
            let mut written = vec![0; 3 * crop.area()];
            view.write_u8(&mut written);
            (written[0], written[crop.area()])
        };
        (0..views.count()).map(written).collect()
    }

    #[test]
    fn the_centre_is_in_the_middle_of_both_axes() {
        let (size, crop) = (Size { width: 10, height: 6 }, Size { width: 3, height: 4 });
        assert_eq!(upper_left(EvalCrops::Center, size, crop), [(4, 1)]);
        let of = |left: u32| {
            let crop = Size { width: 10 - left, height: 4 };
            upper_left(EvalCrops::Center, size, crop)[0].0
        };
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(of), [0, 0, 1, 2, 2, 2, 3, 4, 4, 4]);
    }

    #[test]
    fn every_title_has_the_number_of_views() {
        let titles = EvalCrops::ALL.map(|crops| (crops.count(), crops.title()));
        assert_eq!(titles, [(1, "centre crop"), (10, "ten crops"), (9, "nine crops")]);
    }

    #[test]
    fn a_view_that_does_not_fit_is_refused_with_both_sizes() {
        let input = Size { width: 10, height: 6 };
        for crop in [Size { width: 11, height: 6 }, Size { width: 10, height: 7 }] {
            let error = EvalCrops::Center.check(input, crop).unwrap_err().to_string();
            assert!(error.contains(&format!("{crop} pixels out of an image of 10x6")), "{error}");
        }
        EvalCrops::TenCrop.check(input, input).unwrap();
    }

    #[test]
    fn the_ten_views_are_corners_and_centre_and_their_mirror_images() {
        let expected = [(0, 0), (2, 0), (0, 2), (2, 2), (1, 1), (3, 0), (5, 0), (3, 2), (5, 2), (4, 1)];
        assert_eq!(upper_left(EvalCrops::TenCrop, Size::square(6), Size::square(4)), expected);
    }

    #[test]
    fn the_nine_views_are_a_grid_from_corner_to_corner_and_none_is_mirrored() {
        let expected = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)];
        assert_eq!(upper_left(EvalCrops::NineCrop, Size::square(6), Size::square(4)), expected);
    }
}
