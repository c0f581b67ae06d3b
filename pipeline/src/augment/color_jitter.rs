//! Random brightness, contrast, saturation and hue.

use rand::RngExt;
use serde::Deserialize;

use super::operations::{Blend, mix, turn_hue};
use super::parameters::check_probability;
use super::{AugmentError, Augmentation};
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// Scales brightness, contrast and saturation by random factors and turns the hue, in random order.
///
/// Source: Howard, *Some Improvements on Deep Convolutional Neural Network Based Image Classification*, 2013;
/// the factors and blends are those of torchvision's `ColorJitter`.
#[derive(Clone, Debug)]
pub struct ColorJitter {
    parameters: Parameters,
}

/// Parameters of [`ColorJitter`]: a factor is drawn from 1 ± the parameter, but not below 0.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Blend with black.
    pub brightness: f32,
    /// Blend with the image's mean luma.
    pub contrast: f32,
    /// Blend with each pixel's luma.
    pub saturation: f32,
    /// How far hues are turned at most, in full circles; 0 to 0.5.
    pub hue: f32,
    /// Probability that a view is changed; 1 by default.
    pub p: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0, p: 1.0 }
    }
}

impl ColorJitter {
    /// Name in recipes.
    pub const OP: &str = "color_jitter";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when one is negative, `hue` above 0.5, or `p` no probability.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        for (name, value) in [
            ("brightness", parameters.brightness),
            ("contrast", parameters.contrast),
            ("saturation", parameters.saturation),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                let reason = format!("{name} = {value:?}, expected 0 or more");
                return Err(AugmentError::Parameters { op: Self::OP.into(), reason });
            }
        }
        if !(0.0..=0.5).contains(&parameters.hue) {
            let reason = format!("hue = {:?}, expected 0 to 0.5", parameters.hue);
            return Err(AugmentError::Parameters { op: Self::OP.into(), reason });
        }
        check_probability(Self::OP, parameters.p)?;
        Ok(Self { parameters })
    }
}

impl Augmentation for ColorJitter {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        let Parameters { brightness, contrast, saturation, hue, p } = self.parameters;
        // Draws that are not needed are not made: those of a seed stay as they are.
        if p < 1.0 && !rng.random_bool(p) {
            return;
        }
        let mut blends =
            [(Blend::Brightness, brightness), (Blend::Contrast, contrast), (Blend::Saturation, saturation)];
        for last in (1..blends.len()).rev() {
            blends.swap(last, rng.random_range(0..=last as u32) as usize);
        }
        // Before which blend the hue is turned; 3 is after them.
        let turn = if hue > 0.0 { rng.random_range(0..=3) } else { u32::MAX };
        for number in 0..=3 {
            if number == turn {
                turn_hue(rng.random_range(-hue..=hue), view.planes_mut());
            }
            let Some((kind, reach)) = blends.get(number as usize).copied() else { break };
            if reach > 0.0 {
                let factor = rng.random_range((1.0 - reach).max(0.0)..=1.0 + reach);
                mix(kind, factor, view.planes_mut());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    fn blended(kind: Blend, factor: f32) -> [[u8; 2]; 3] {
        let mut planes = [[100, 200], [50, 100], [0, 250]];
        let [red, green, blue] = &mut planes;
        mix(kind, factor, [red, green, blue]);
        planes
    }

    #[test]
    fn brightness_scales_and_saturates() {
        assert_eq!(blended(Blend::Brightness, 2.0), [[200, 255], [100, 200], [0, 255]]);
    }

    #[test]
    fn no_contrast_is_the_mean_luma_everywhere() {
        // Lumas 59.25 and 147.0, mean 103.1.
        assert_eq!(blended(Blend::Contrast, 0.0), [[103; 2]; 3]);
    }

    #[test]
    fn no_saturation_is_each_pixels_luma() {
        assert_eq!(blended(Blend::Saturation, 0.0), [[59, 147]; 3]);
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        for blend in [Blend::Brightness, Blend::Contrast, Blend::Saturation] {
            assert_eq!(blended(blend, 1.0), [[100, 200], [50, 100], [0, 250]]);
        }
    }

    #[test]
    fn values_are_rounded() {
        assert_eq!(blended(Blend::Brightness, 0.006), [[1, 1], [0, 1], [0, 2]]);
    }

    /// The pixels of [`blended`] after the jitter of sample `position`.
    fn jittered(parameters: &Parameters, position: u64) -> [[u8; 2]; 3] {
        let mut scratch = Scratch::default();
        let pixels = [100, 200, 50, 100, 0, 250];
        let mut view = View::planar(&pixels, Size { width: 2, height: 1 }, &mut scratch);
        ColorJitter::new(parameters.clone()).unwrap().apply(&mut view, &mut sample_rng(0, 0, position));
        let mut written = [0; 6];
        view.write_u8(&mut written);
        [[written[0], written[1]], [written[2], written[3]], [written[4], written[5]]]
    }

    #[test]
    fn each_parameter_is_the_reach_of_its_blend() {
        let none = Parameters::default();
        for (blend, parameters) in [
            (Blend::Brightness, Parameters { brightness: 0.25, ..none.clone() }),
            (Blend::Contrast, Parameters { contrast: 0.25, ..none.clone() }),
            (Blend::Saturation, Parameters { saturation: 0.25, ..none.clone() }),
        ] {
            // Factors 0.75 to 1.25, in steps that change a value by less than rounding does.
            let possible: Vec<_> =
                (750..=1250).map(|factor| blended(blend, factor as f32 / 1000.0)).collect();
            let drawn: Vec<_> = (0..300).map(|position| jittered(&parameters, position)).collect();
            for pixels in &drawn {
                let near = |other: &[[u8; 2]; 3]| {
                    pixels.iter().flatten().zip(other.iter().flatten()).all(|(a, b)| a.abs_diff(*b) <= 1)
                };
                assert!(possible.iter().any(near), "{pixels:?}");
            }
            // Both ends of the range are nearly reached.
            for end in [0.76, 1.24] {
                let end = blended(blend, end);
                let is_beyond = |pixels: &&[[u8; 2]; 3]| {
                    let unchanged = blended(blend, 1.0);
                    (0..3).all(|c| {
                        pixels[c][0].abs_diff(unchanged[c][0]) >= end[c][0].abs_diff(unchanged[c][0])
                    }) && pixels[0][0].cmp(&unchanged[0][0]) == end[0][0].cmp(&unchanged[0][0])
                };
                assert!(drawn.iter().any(|pixels| is_beyond(&pixels)), "{end:?} is never reached");
            }
        }
    }

    #[test]
    fn a_factor_is_never_negative() {
        let parameters = Parameters { saturation: 5.0, ..Parameters::default() };
        for position in 0..200 {
            // A negative factor would turn red into the least of the three.
            let [red, _, blue] = jittered(&parameters, position);
            assert!(red[0] >= blue[0], "{red:?}, {blue:?}");
        }
    }

    #[test]
    fn the_blends_come_in_any_order() {
        // Contrast before or after a change of brightness that saturates gives different pixels for the same
        // factors; the first draw of the generator decides which comes first.
        let parameters = Parameters { brightness: 0.9, contrast: 0.9, ..Parameters::default() };
        let mut fixed_order_fits = 0;
        for position in 0..100 {
            let pixels = jittered(&parameters, position);
            let mut rng = sample_rng(0, 0, position);
            for last in [2u32, 1] {
                rng.random_range(0..=last);
            }
            let mut planes = [[100, 200], [50, 100], [0, 250]];
            for kind in [Blend::Brightness, Blend::Contrast] {
                let factor = rng.random_range(1.0 - 0.9f32..=1.0 + 0.9);
                let [red, green, blue] = &mut planes;
                mix(kind, factor, [red, green, blue]);
            }
            fixed_order_fits += usize::from(pixels == planes);
        }
        assert!(
            (30..70).contains(&fixed_order_fits),
            "{fixed_order_fits} of 100 in the order of the parameters"
        );
    }

    #[test]
    fn hues_are_turned_in_both_directions_and_views_are_changed_as_often_as_asked() {
        let parameters = Parameters { hue: 0.1, ..Parameters::default() };
        let possible: Vec<[[u8; 2]; 3]> = (-1000..=1000)
            .map(|turns| {
                let mut planes = [[100, 200], [50, 100], [0, 250]];
                let [red, green, blue] = &mut planes;
                turn_hue(turns as f32 / 10_000.0, [red, green, blue]);
                planes
            })
            .collect();
        let drawn: Vec<_> = (0..300).map(|position| jittered(&parameters, position)).collect();
        assert!(drawn.iter().all(|pixels| possible.contains(pixels)));
        for end in [&possible[..100], &possible[1900..]] {
            assert!(drawn.iter().any(|pixels| end.contains(pixels)), "an end is never reached");
        }
        let parameters = Parameters { p: 0.8, ..parameters };
        let unchanged = [[100, 200], [50, 100], [0, 250]];
        let count = (0..1000).filter(|&position| jittered(&parameters, position) != unchanged).count();
        assert!((750..850).contains(&count), "{count} of 1000");
    }

    #[test]
    fn draws_are_the_same_as_ever() {
        // Changing these values breaks the resumption of runs that exist.
        let parameters =
            Parameters { brightness: 0.4, contrast: 0.4, saturation: 0.4, ..Parameters::default() };
        assert_eq!(jittered(&parameters, 5), [[133, 252], [57, 102], [2, 252]]);
    }
}
