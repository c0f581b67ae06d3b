//! Turning upside down.

use rand::RngExt;
use serde::Deserialize;

use super::parameters::check_probability;
use super::{AugmentError, Augmentation};
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// Mirrors the view top to bottom with a given probability.
#[derive(Clone, Debug)]
pub struct VerticalFlip {
    p: f64,
}

/// Parameters of [`VerticalFlip`].
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

impl VerticalFlip {
    /// Name in recipes.
    pub const OP: &str = "vertical_flip";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when `p` is not a probability.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        check_probability(Self::OP, parameters.p)?;
        Ok(Self { p: parameters.p })
    }
}

impl Augmentation for VerticalFlip {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        if !rng.random_bool(self.p) {
            return;
        }
        let width = view.size().width as usize;
        for plane in view.planes_mut() {
            let half = plane.len() / width / 2 * width;
            let (above, rest) = plane.split_at_mut(half);
            let below = rest.rchunks_exact_mut(width);
            for (above, below) in above.chunks_exact_mut(width).zip(below) {
                above.swap_with_slice(below);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    fn flipped(p: f64, rows: usize, position: u64) -> Vec<u8> {
        let pixels: Vec<u8> = (0..(3 * rows * 2) as u8).collect();
        let size = Size { width: 2, height: rows as u32 };
        let mut scratch = Scratch::default();
        let mut view = View::planar(&pixels, size, &mut scratch);
        let flip = VerticalFlip::new(Parameters { p }).unwrap();
        flip.apply(&mut view, &mut sample_rng(0, 0, position));
        view.planes_mut().concat()
    }

    #[test]
    fn the_last_row_comes_first() {
        assert_eq!(flipped(1.0, 3, 0)[..8], [4, 5, 2, 3, 0, 1, 10, 11]);
        assert_eq!(flipped(1.0, 2, 0)[..6], [2, 3, 0, 1, 6, 7]);
        assert_eq!(flipped(0.0, 2, 0)[..6], [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn it_mirrors_as_often_as_asked() {
        assert_eq!(Parameters::default().p, 0.5);
        let count = (0..1000).filter(|&position| flipped(0.2, 2, position)[0] == 2).count();
        assert!((150..250).contains(&count), "{count} of 1000");
    }
}
