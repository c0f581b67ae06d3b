//! A crop at a random place.

use rand::RngExt;
use serde::Deserialize;

use super::{AugmentError, Augmentation, check_side};
use crate::random::SampleRng;
use crate::view::{Rect, Size, View};

/// Cuts a square out of the view, every position being as likely as the others.
///
/// 224 out of 256 leaves 33×33 positions, both ends included.
#[derive(Clone, Debug)]
pub struct RandomCrop {
    size: Size,
}

/// Parameters of [`RandomCrop`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Side of the square in pixels.
    pub size: u32,
}

impl RandomCrop {
    /// Name in recipes.
    pub const OP: &str = "random_crop";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when the size is 0.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        check_side(Self::OP, parameters.size)?;
        Ok(RandomCrop { size: Size::square(parameters.size) })
    }
}

impl Augmentation for RandomCrop {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        if self.size.width > input.width || self.size.height > input.height {
            return Err(AugmentError::TooSmall { op: Self::OP, wanted: self.size, input });
        }
        Ok(self.size)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        let input = view.size();
        let x = rng.random_range(0..=input.width - self.size.width);
        let y = rng.random_range(0..=input.height - self.size.height);
        view.crop(Rect { x, y, size: self.size });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    #[test]
    fn every_position_comes_up_and_none_outside() {
        let pixels = vec![0; 3 * 10 * 10];
        let crop = RandomCrop::new(Parameters { size: 8 }).unwrap();
        let mut counts = [[0; 3]; 3];
        for position in 0..9000 {
            let mut scratch = Scratch::default();
            let mut view = View::planar(&pixels, Size::square(10), &mut scratch);
            crop.apply(&mut view, &mut sample_rng(0, 0, position));
            counts[view.frame().y as usize][view.frame().x as usize] += 1;
        }
        // Expected 1000 each with a standard deviation of 30.
        assert!(counts.iter().flatten().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
