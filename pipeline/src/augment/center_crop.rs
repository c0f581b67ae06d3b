//! The crop at the centre, always the same.

use serde::Deserialize;

use super::parameters::check_side;
use super::{AugmentError, Augmentation};
use crate::eval_crops::EvalCrops;
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// Cuts the square at the centre out of the view, as evaluation does: training without random crops.
#[derive(Clone, Debug)]
pub struct CenterCrop {
    size: Size,
}

/// Parameters of [`CenterCrop`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Side of the square in pixels.
    pub size: u32,
}

impl CenterCrop {
    /// Name in recipes.
    pub const OP: &str = "center_crop";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when the size is 0.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        check_side(Self::OP, parameters.size)?;
        Ok(Self { size: Size::square(parameters.size) })
    }
}

impl Augmentation for CenterCrop {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        if self.size.width > input.width || self.size.height > input.height {
            return Err(AugmentError::TooSmall { op: Self::OP, wanted: self.size, input });
        }
        Ok(self.size)
    }

    fn apply(&self, view: &mut View<'_>, _rng: &mut SampleRng) {
        EvalCrops::Center.apply(0, self.size, view);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    #[test]
    fn every_sample_is_cut_at_the_centre() {
        let pixels = vec![0; 3 * 11 * 9];
        let crop = CenterCrop::new(Parameters { size: 4 }).unwrap();
        for position in 0..20 {
            let mut scratch = Scratch::default();
            let mut view = View::planar(&pixels, Size { width: 11, height: 9 }, &mut scratch);
            crop.apply(&mut view, &mut sample_rng(0, 0, position));
            assert_eq!((view.frame().x, view.frame().y, view.size()), (4.0, 2.0, Size::square(4)));
        }
    }
}
