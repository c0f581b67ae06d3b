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

    #[test]
    fn the_ten_views_are_corners_and_centre_and_their_mirror_images() {
        // Each pixel holds its column in red and its row in green.
        let size = Size::square(6);
        let pixels: Vec<u8> =
            [|i: u8| i % 6, |i: u8| i / 6, |_| 0].iter().flat_map(|value| (0..36).map(value)).collect();
        let upper_left: Vec<(u8, u8)> = (0..10)
            .map(|index| {
                let mut scratch = Scratch::default();
                let mut view = View::planar(&pixels, size, &mut scratch);
                TestViews::TenCrop.apply(index, Size::square(4), &mut view);
                let mut written = vec![0; 3 * 16];
                view.write_u8(&mut written);
                (written[0], written[16])
            })
            .collect();
        let expected = [(0, 0), (2, 0), (0, 2), (2, 2), (1, 1), (3, 0), (5, 0), (3, 2), (5, 2), (4, 1)];
        assert_eq!(upper_left, expected);
    }
}
