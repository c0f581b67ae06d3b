//! Smoothing of random strength.

use rand::RngExt;
use serde::Deserialize;

use super::operations::{gaussian, smooth};
use super::parameters::{check_probability, check_range};
use super::{AugmentError, Augmentation};
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// Smooths the view by a Gaussian kernel of random width, as torchvision's `GaussianBlur`.
#[derive(Clone, Debug)]
pub struct GaussianBlur {
    parameters: Parameters,
}

/// Parameters of [`GaussianBlur`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Side of the kernel in pixels, odd.
    pub kernel_size: u32,
    /// Least and largest standard deviation in pixels; 0.1 to 2 by default.
    #[serde(default = "default_sigma")]
    pub sigma: [f32; 2],
    /// Probability that a view is smoothed; 1 by default.
    #[serde(default = "always")]
    pub p: f64,
}

fn default_sigma() -> [f32; 2] {
    [0.1, 2.0]
}

fn always() -> f64 {
    1.0
}

/// The largest kernel. Beyond four standard deviations weights are nearly 0.
const MOST_PX: u32 = 255;

impl GaussianBlur {
    /// Name in recipes.
    pub const OP: &str = "gaussian_blur";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when the kernel has no centre or is very large, a standard deviation is
    /// not positive, or `p` no probability.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        let size = parameters.kernel_size;
        if size.is_multiple_of(2) || size > MOST_PX {
            let reason = format!("kernel_size = {size}, expected an odd number of pixels, at most {MOST_PX}");
            return Err(AugmentError::Parameters { op: Self::OP.into(), reason });
        }
        check_range(Self::OP, "sigma", parameters.sigma.map(f64::from), f64::from(f32::MAX))?;
        check_probability(Self::OP, parameters.p)?;
        Ok(Self { parameters })
    }
}

impl Augmentation for GaussianBlur {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        let least = self.parameters.kernel_size / 2 + 1;
        if input.width < least || input.height < least {
            let size = self.parameters.kernel_size;
            let reason = format!(
                "kernel_size = {size} needs views of at least {least}x{least} pixels, these have {input}"
            );
            return Err(AugmentError::Parameters { op: Self::OP.into(), reason });
        }
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        let Parameters { kernel_size, sigma: [least, most], p } = self.parameters;
        if p < 1.0 && !rng.random_bool(p) {
            return;
        }
        let kernel = gaussian(kernel_size as usize, rng.random_range(least..=most));
        let width = view.size().width as usize;
        view.map_planes(|_, from, to, row| smooth(&kernel, width, from, to, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    fn parameters(json: &str) -> Parameters {
        serde_json::from_str(json).unwrap()
    }

    /// A white pixel in the middle of 9×9, smoothed.
    fn spot(parameters: Parameters, position: u64) -> Vec<u8> {
        let mut pixels = vec![0; 3 * 81];
        pixels[40] = 255;
        let mut scratch = Scratch::default();
        let mut view = View::planar(&pixels, Size::square(9), &mut scratch);
        let blur = GaussianBlur::new(parameters).unwrap();
        blur.apply(&mut view, &mut sample_rng(0, 0, position));
        view.planes_mut()[0].to_vec()
    }

    #[test]
    fn widths_are_spread_over_their_range_and_views_are_smoothed_as_often_as_asked() {
        let peak = |sigma: f32| {
            let weight = gaussian(5, sigma)[2];
            (255.0 * weight * weight).round() as u8
        };
        let peaks: Vec<u8> =
            (0..500).map(|position| spot(parameters(r#"{ "kernel_size": 5 }"#), position)[40]).collect();
        assert!(peaks.iter().all(|&found| (peak(2.0)..=peak(0.1)).contains(&found)), "{peaks:?}");
        assert!(peaks.iter().any(|&found| found <= peak(1.95)));
        assert!(peaks.contains(&255), "the least width leaves the pixel as it is");
        let half = r#"{ "kernel_size": 5, "sigma": [2.0, 2.0], "p": 0.5 }"#;
        let count = (0..500).filter(|&position| spot(parameters(half), position)[40] < 255).count();
        assert!((200..300).contains(&count), "{count} of 500");
    }

    #[test]
    fn a_kernel_must_have_a_centre_and_fit() {
        for (json, word) in [
            (r#"{ "kernel_size": 4 }"#, "kernel_size = 4"),
            (r#"{ "kernel_size": 0 }"#, "kernel_size = 0"),
            (r#"{ "kernel_size": 257 }"#, "at most 255"),
            (r#"{ "kernel_size": 3, "sigma": [0.0, 1.0] }"#, "sigma = [0.0, 1.0]"),
            (r#"{ "kernel_size": 3, "sigma": [2.0, 1.0] }"#, "sigma = [2.0, 1.0]"),
            (r#"{ "kernel_size": 3, "p": 2.0 }"#, "p = 2.0"),
        ] {
            let error = GaussianBlur::new(parameters(json)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let blur = GaussianBlur::new(parameters(r#"{ "kernel_size": 9 }"#)).unwrap();
        blur.output_size(Size { width: 5, height: 5 }).unwrap();
        let error = blur.output_size(Size { width: 9, height: 4 }).unwrap_err().to_string();
        assert!(error.contains("at least 5x5 pixels, these have 9x4"), "{error}");
    }
}
