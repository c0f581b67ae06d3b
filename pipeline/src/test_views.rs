//! The views on which a trained network is evaluated.

use serde::{Deserialize, Serialize};

use crate::augment::AugmentError;
use crate::view::{Rect, Size, View};

/// Which fixed crops of an image are shown to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestViews {
    /// The centre crop.
    Center,
    /// The four corners and the centre, each also mirrored; the network's softmax outputs are averaged.
    ///
    /// Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.
    TenCrop,
}

impl TestViews {
    /// Views of each image.
    pub fn count(self) -> usize {
        match self {
            TestViews::Center => 1,
            TestViews::TenCrop => 10,
        }
    }

    /// Checks that `crop` fits into images of size `input`.
    ///
    /// # Errors
    /// [`AugmentError::TooSmall`] when it does not.
    pub fn check(self, input: Size, crop: Size) -> Result<(), AugmentError> {
        if crop.width > input.width || crop.height > input.height {
            return Err(AugmentError::TooSmall { op: "test view", wanted: crop, input });
        }
        Ok(())
    }

    /// Narrows `view`, the whole of an image, to test view number `index` of size `crop`.
    ///
    /// Numbers 0..=4 of the ten are top left, top right, bottom left, bottom right and centre; 5..=9 are their mirror
    /// images.
    ///
    /// # Panics
    /// When the crop does not fit or there is no such view.
    pub fn apply(self, index: usize, crop: Size, view: &mut View<'_>) {
        assert!(index < self.count(), "view {index} of {}", self.count());
        let (right, bottom) = (view.size().width - crop.width, view.size().height - crop.height);
        let center = (right / 2, bottom / 2);
        let (x, y) = match self {
            TestViews::Center => center,
            TestViews::TenCrop => [(0, 0), (right, 0), (0, bottom), (right, bottom), center][index % 5],
        };
        view.crop(Rect { x, y, size: crop });
        if index >= 5 {
            view.flip_horizontal();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Scratch;

    /// Row and column of the upper left pixel of a view of an image of `size` pixels, whose values tell where they are.
    fn upper_left(views: TestViews, index: usize, size: Size, crop: Size) -> (u8, u8) {
        let (width, area) = (size.width as u8, size.area() as u8);
        let pixels: Vec<u8> = [|i: u8, width: u8| i / width, |i, width| i % width, |_, _| 0]
            .iter()
            .flat_map(|value| (0..area).map(move |i| value(i, width)))
            .collect();
        let mut scratch = Scratch::default();
        let mut view = View::planar(&pixels, size, &mut scratch);
        views.apply(index, crop, &mut view);
        let mut written = vec![0; 3 * crop.area()];
        view.write_u8(&mut written);
        (written[0], written[crop.area()])
    }

    #[test]
    fn the_centre_is_in_the_middle_of_both_axes() {
        let (size, crop) = (Size { width: 10, height: 6 }, Size { width: 3, height: 4 });
        assert_eq!(upper_left(TestViews::Center, 0, size, crop), (1, 3));
    }

    #[test]
    fn a_view_that_does_not_fit_is_refused_with_both_sizes() {
        let input = Size { width: 10, height: 6 };
        for crop in [Size { width: 11, height: 6 }, Size { width: 10, height: 7 }] {
            let error = TestViews::Center.check(input, crop).unwrap_err().to_string();
            assert!(error.contains(&format!("{crop} pixels out of an image of 10x6")), "{error}");
        }
        TestViews::TenCrop.check(input, input).unwrap();
    }

    #[test]
    fn the_ten_views_are_corners_and_centre_and_their_mirror_images() {
        let views: Vec<(u8, u8)> = (0..10)
            .map(|index| upper_left(TestViews::TenCrop, index, Size::square(6), Size::square(4)))
            .collect();
        let expected = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1), (0, 3), (0, 5), (2, 3), (2, 5), (1, 4)];
        assert_eq!(views, expected);
    }
}
