//! Several operations of random kind and given strength.

use rand::RngExt;
use serde::Deserialize;

use super::operations::{Interpolation, Operation, Space};
use super::parameters::{Color, check_bins};
use super::{AugmentError, Augmentation};
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// Applies several of 14 operations one after the other, all equally likely, with the same magnitude.
///
/// Source: Cubuk et al., *RandAugment: Practical Automated Data Augmentation with a Reduced Search Space*,
/// 2019; the operations and magnitudes are those of torchvision's `RandAugment`.
#[derive(Clone, Debug)]
pub struct RandAugment {
    parameters: Parameters,
}

/// Parameters of [`RandAugment`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Operations; 2 by default.
    pub num_ops: u32,
    /// Magnitude of all operations, 0 to `num_magnitude_bins` - 1; 9 by default.
    pub magnitude: u32,
    /// Magnitudes that there are; 31 by default.
    pub num_magnitude_bins: u32,
    /// How values between pixels are found; `"nearest"` by default.
    pub interpolation: Interpolation,
    /// The colour of what comes from outside the view; black by default.
    pub fill: Color,
}

/// More operations than leave anything of an image.
const MOST_OPERATIONS: u32 = 100;

impl Default for Parameters {
    fn default() -> Self {
        Self {
            num_ops: 2,
            magnitude: 9,
            num_magnitude_bins: 31,
            interpolation: Interpolation::Nearest,
            fill: Color::default(),
        }
    }
}

impl RandAugment {
    /// Name in recipes.
    pub const OP: &str = "rand_augment";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when there is no such magnitude, or there are very many operations.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        let Parameters { num_ops, magnitude, num_magnitude_bins: bins, .. } = parameters;
        check_bins(Self::OP, bins)?;
        let refuse = |reason| Err(AugmentError::Parameters { op: Self::OP.into(), reason });
        if magnitude >= bins {
            return refuse(format!(
                "magnitude = {magnitude}, expected 0 to {}, with num_magnitude_bins = {bins}",
                bins - 1
            ));
        }
        if num_ops > MOST_OPERATIONS {
            return refuse(format!("num_ops = {num_ops}, expected at most {MOST_OPERATIONS}"));
        }
        Ok(Self { parameters })
    }
}

impl Augmentation for RandAugment {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        let Parameters { num_ops, magnitude, num_magnitude_bins: bins, interpolation, fill } =
            self.parameters;
        for _ in 0..num_ops {
            let operation = Operation::ALL[rng.random_range(0..Operation::ALL.len() as u32) as usize];
            let magnitude = operation.magnitude(Space::Rand, magnitude, bins, view.size());
            let sign = if operation.is_signed() && rng.random_bool(0.5) { -1.0 } else { 1.0 };
            operation.apply(sign * magnitude, interpolation, fill.rgb(), view);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    fn drawn(parameters: Parameters) -> HashSet<Vec<u8>> {
        let pixels: Vec<u8> = (0..3 * 400_u32).map(|i| (i * i % 251) as u8).collect();
        let augment = RandAugment::new(parameters).unwrap();
        let view = |position| {
            let mut scratch = Scratch::default();
            let mut view = View::planar(&pixels, Size::square(20), &mut scratch);
            augment.apply(&mut view, &mut sample_rng(0, 0, position));
            view.planes_mut().concat()
        };
        (0..1000).map(view).collect()
    }

    #[test]
    fn operations_are_as_many_and_as_strong_as_asked() {
        let one = Parameters { num_ops: 1, ..Parameters::default() };
        // Nothing, 9 operations in two directions and 4 in one.
        assert_eq!(drawn(one).len(), 1 + 2 * 9 + 4);
        assert!(drawn(Parameters::default()).len() > 200, "two operations make many more");
        assert_eq!(drawn(Parameters { num_ops: 0, ..one }).len(), 1);
        // Without strength only posterising, stretching, equalising and solarising may change anything.
        assert!(drawn(Parameters { magnitude: 0, ..one }).len() <= 4);
    }

    #[test]
    fn magnitudes_that_there_are_not_are_refused() {
        for (parameters, word) in [
            (Parameters { magnitude: 31, ..Parameters::default() }, "magnitude = 31, expected 0 to 30"),
            (Parameters { num_magnitude_bins: 1, ..Parameters::default() }, "num_magnitude_bins = 1"),
            (Parameters { num_ops: 101, ..Parameters::default() }, "num_ops = 101"),
        ] {
            let error = RandAugment::new(parameters).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
