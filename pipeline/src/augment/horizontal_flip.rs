//! Mirroring left to right.

use rand::RngExt;
use serde::Deserialize;

use super::parameters::check_probability;
use super::{AugmentError, Augmentation};
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// Mirrors the view left to right with a given probability.
#[derive(Clone, Debug)]
pub struct HorizontalFlip {
    p: f64,
}

/// Parameters of [`HorizontalFlip`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Probability of mirroring; ½ by default.
    pub p: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl HorizontalFlip {
    /// Name in recipes.
    pub const OP: &str = "horizontal_flip";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when `p` is not a probability.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        check_probability(Self::OP, parameters.p)?;
        Ok(Self { p: parameters.p })
    }
}

impl Augmentation for HorizontalFlip {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        if rng.random_bool(self.p) {
            view.flip_horizontal();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    #[test]
    fn half_of_the_views_are_mirrored_by_default() {
        assert_eq!(Parameters::default().p, 0.5);
    }

    #[test]
    fn it_mirrors_as_often_as_asked() {
        for (p, expected) in [(0.0, 0..1), (0.2, 150..250), (1.0, 1000..1001)] {
            let flip = HorizontalFlip::new(Parameters { p }).unwrap();
            let flipped = (0..1000)
                .filter(|&position| {
                    let mut scratch = Scratch::default();
                    let mut view = View::planar(&[0; 12], Size::square(2), &mut scratch);
                    flip.apply(&mut view, &mut sample_rng(0, 0, position));
                    view.is_flipped()
                })
                .count();
            assert!(expected.contains(&flipped), "p = {p}: {flipped} of 1000");
        }
    }
}
