//! A crop at a random position.

use rand::RngExt;
use serde::Deserialize;

use super::parameters::check_side;
use super::{AugmentError, Augmentation};
use crate::geometry::{Rect, Size};
use crate::random::SampleRng;
use crate::view::View;

/// Cuts a square out of the view, every position equally likely.
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
        Ok(Self { size: Size::square(parameters.size) })
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
        let input = Size { width: 10, height: 11 };
        let pixels = vec![0; 3 * input.area()];
        let crop = RandomCrop::new(Parameters { size: 8 }).unwrap();
        let mut counts = [[0; 3]; 4];
        for position in 0..12_000 {
            let mut scratch = Scratch::default();
            let mut view = View::planar(&pixels, input, &mut scratch);
            crop.apply(&mut view, &mut sample_rng(0, 0, position));
            counts[view.frame().y as usize][view.frame().x as usize] += 1;
        }
        // Expected 1000 each with a standard deviation of 30.
        assert!(counts.iter().flatten().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_crop_that_does_not_fit_is_refused_with_both_sizes() {
        let crop = RandomCrop::new(Parameters { size: 8 }).unwrap();
        for input in [Size { width: 7, height: 8 }, Size { width: 8, height: 7 }] {
            let error = crop.output_size(input).unwrap_err().to_string();
            assert!(error.contains(&format!("8x8 pixels out of an image of {input}")), "{error}");
        }
    }
}
