//! Colours replaced by their luma.

use rand::RngExt;
use serde::Deserialize;

use super::operations::to_gray;
use super::parameters::check_probability;
use super::{AugmentError, Augmentation};
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// Takes the colours out of the view with a given probability, as torchvision's `RandomGrayscale`: all
/// channels become the luma.
#[derive(Clone, Debug)]
pub struct Grayscale {
    p: f64,
}

/// Parameters of [`Grayscale`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Probability; 0.1 by default.
    pub p: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { p: 0.1 }
    }
}

impl Grayscale {
    /// Name in recipes.
    pub const OP: &str = "grayscale";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when `p` is not a probability.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        check_probability(Self::OP, parameters.p)?;
        Ok(Self { p: parameters.p })
    }
}

impl Augmentation for Grayscale {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        if rng.random_bool(self.p) {
            to_gray(view.planes_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    fn gray(p: f64, position: u64) -> Vec<u8> {
        let pixels = [100, 200, 50, 100, 0, 250];
        let mut scratch = Scratch::default();
        let mut view = View::planar(&pixels, Size { width: 2, height: 1 }, &mut scratch);
        let gray = Grayscale::new(Parameters { p }).unwrap();
        gray.apply(&mut view, &mut sample_rng(0, 0, position));
        view.planes_mut().concat()
    }

    #[test]
    fn all_channels_become_the_luma_as_often_as_asked() {
        // 59.25 and 147.0.
        assert_eq!(gray(1.0, 0), [59, 147, 59, 147, 59, 147]);
        let count = (0..1000).filter(|&position| gray(Parameters::default().p, position)[0] == 59).count();
        assert!((60..140).contains(&count), "{count} of 1000");
    }
}
