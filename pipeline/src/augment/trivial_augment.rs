//! One operation of random kind and strength.

use rand::RngExt;
use serde::Deserialize;

use super::operations::{Interpolation, Operation, Space};
use super::parameters::{Color, check_bins};
use super::{AugmentError, Augmentation};
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// Applies one of 14 operations, with one of the magnitudes that it has, all equally likely.
///
/// Source: Müller and Hutter, *TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation*, 2021; the
/// operations and magnitudes are those of torchvision's `TrivialAugmentWide`.
#[derive(Clone, Debug)]
pub struct TrivialAugment {
    parameters: Parameters,
}

/// Parameters of [`TrivialAugment`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Magnitudes of each operation; 31 by default.
    pub num_magnitude_bins: u32,
    /// How values between pixels are found; `"nearest"` by default.
    pub interpolation: Interpolation,
    /// The colour of what comes from outside the view; black by default.
    pub fill: Color,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { num_magnitude_bins: 31, interpolation: Interpolation::Nearest, fill: Color::default() }
    }
}

impl TrivialAugment {
    /// Name in recipes.
    pub const OP: &str = "trivial_augment";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when there are less than two magnitudes, or very many.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        check_bins(Self::OP, parameters.num_magnitude_bins)?;
        Ok(Self { parameters })
    }
}

impl Augmentation for TrivialAugment {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        let Parameters { num_magnitude_bins: bins, interpolation, fill } = self.parameters;
        let operation = Operation::ALL[rng.random_range(0..Operation::ALL.len() as u32) as usize];
        let magnitude = operation.magnitude(Space::Wide, rng.random_range(0..bins), bins, view.size());
        let sign = if operation.is_signed() && rng.random_bool(0.5) { -1.0 } else { 1.0 };
        operation.apply(sign * magnitude, interpolation, fill.rgb(), view);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    #[test]
    fn every_operation_comes_up_in_both_directions() {
        let size = Size::square(20);
        let pixels: Vec<u8> = (0..3 * 400_u32).map(|i| (i * i % 251) as u8).collect();
        let with = |change: &dyn Fn(&mut View<'_>)| {
            let mut scratch = Scratch::default();
            let mut view = View::planar(&pixels, size, &mut scratch);
            change(&mut view);
            view.planes_mut().concat()
        };
        // With two magnitudes, each operation does nothing or its utmost, in one direction or both.
        let parameters = Parameters { num_magnitude_bins: 2, ..Parameters::default() };
        let augment = TrivialAugment::new(parameters).unwrap();
        let drawn: HashSet<Vec<u8>> = (0..2000)
            .map(|position| with(&|view| augment.apply(view, &mut sample_rng(0, 0, position))))
            .collect();
        let mut possible = HashSet::new();
        for operation in Operation::ALL {
            let signs = if operation.is_signed() { &[1.0, -1.0][..] } else { &[1.0] };
            for (&sign, bin) in signs.iter().flat_map(|sign| [(sign, 0), (sign, 1)]) {
                let magnitude = sign * operation.magnitude(Space::Wide, bin, 2, size);
                possible.insert(with(&|view| {
                    operation.apply(magnitude, Interpolation::Nearest, [0; 3], view);
                }));
            }
        }
        assert_eq!(drawn, possible);
    }
}
