//! A rectangle of random place, area and shape, painted over.

use rand::{Rng, RngExt};
use serde::Deserialize;

use super::parameters::{Color, check_probability, check_range};
use super::{AugmentError, Augmentation};
use crate::geometry::{Rect, Size};
use crate::random::SampleRng;
use crate::view::View;

/// Draws of area and shape before the view is left as it is.
const ATTEMPTS: usize = 10;

/// Paints over a rectangle of random place, area and shape.
///
/// Source: Zhong et al., *Random Erasing Data Augmentation*, 2017; the procedure is that of torchvision's
/// `RandomErasing`.
#[derive(Clone, Debug)]
pub struct RandomErasing {
    parameters: Parameters,
}

/// Parameters of [`RandomErasing`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Probability; ½ by default.
    pub p: f64,
    /// Least and largest share of the view's area; 0.02 to 0.33 by default.
    pub scale: [f64; 2],
    /// Least and largest height over width; 0.3 to 3.3 by default.
    pub ratio: [f64; 2],
    /// What the rectangle becomes; black by default.
    pub value: Value,
}

/// What a rectangle is painted with, before colours are offset or normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "value: expected a number 0 to 255, three of them, or \"random\"")]
pub enum Value {
    /// A colour.
    Color(Color),
    /// A random value for every channel of every pixel, each as likely as any other.
    Random(Random),
}

/// The word `"random"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Random {
    /// The only one.
    Random,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { p: 0.5, scale: [0.02, 0.33], ratio: [0.3, 3.3], value: Value::Color(Color::default()) }
    }
}

impl RandomErasing {
    /// Name in recipes.
    pub const OP: &str = "random_erasing";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when a range is empty or not positive, or `p` no probability.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        check_probability(Self::OP, parameters.p)?;
        check_range(Self::OP, "scale", parameters.scale, 1.0)?;
        check_range(Self::OP, "ratio", parameters.ratio, f64::MAX)?;
        Ok(Self { parameters })
    }

    /// The rectangle, unless none that was drawn is smaller than the view.
    fn draw(&self, input: Size, rng: &mut SampleRng) -> Option<Rect> {
        let ([least, largest], [widest, narrowest]) = (self.parameters.scale, self.parameters.ratio);
        for _ in 0..ATTEMPTS {
            let area = input.area() as f64 * rng.random_range(least..=largest);
            let ratio = rng.random_range(widest.ln()..=narrowest.ln()).exp();
            let width = (area / ratio).sqrt().round() as u32;
            let height = (area * ratio).sqrt().round() as u32;
            if width < input.width && height < input.height {
                let x = rng.random_range(0..=input.width - width);
                let y = rng.random_range(0..=input.height - height);
                return Some(Rect { x, y, size: Size { width, height } });
            }
        }
        None
    }
}

impl Augmentation for RandomErasing {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        if !rng.random_bool(self.parameters.p) {
            return;
        }
        let stride = view.size().width as usize;
        let Some(Rect { x, y, size }) = self.draw(view.size(), rng) else { return };
        for (channel, plane) in view.planes_mut().into_iter().enumerate() {
            let rows = plane[y as usize * stride..].chunks_exact_mut(stride).take(size.height as usize);
            for row in rows {
                let part = &mut row[x as usize..][..size.width as usize];
                match self.parameters.value {
                    Value::Color(color) => part.fill(color.rgb()[channel]),
                    Value::Random(Random::Random) => rng.fill_bytes(part),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    const SIZE: Size = Size { width: 40, height: 30 };

    /// What becomes of a view whose pixels are all 255.
    fn erased(json: &str, position: u64) -> Vec<u8> {
        let pixels = vec![255; 3 * SIZE.area()];
        let mut scratch = Scratch::default();
        let mut view = View::planar(&pixels, SIZE, &mut scratch);
        let erasing = RandomErasing::new(serde_json::from_str(json).unwrap()).unwrap();
        erasing.apply(&mut view, &mut sample_rng(0, 0, position));
        view.planes_mut().concat()
    }

    #[test]
    fn a_rectangle_is_painted_in_all_channels_and_nothing_else() {
        let planes = erased(r#"{ "p": 1.0, "value": [10, 20.4, 30] }"#, 3);
        let (columns, rows): (Vec<usize>, Vec<usize>) =
            (0..SIZE.area()).filter(|&i| planes[i] != 255).map(|i| (i % 40, i / 40)).unzip();
        let [left, top] = [&columns, &rows].map(|places| *places.iter().min().unwrap());
        let [right, bottom] = [&columns, &rows].map(|places| *places.iter().max().unwrap());
        assert_eq!(columns.len(), (right - left + 1) * (bottom - top + 1));
        for (plane, value) in planes.chunks(SIZE.area()).zip([10, 20, 30]) {
            for (i, &found) in plane.iter().enumerate() {
                let is_inside = (left..=right).contains(&(i % 40)) && (top..=bottom).contains(&(i / 40));
                assert_eq!(found, if is_inside { value } else { 255 });
            }
        }
    }

    #[test]
    fn area_and_shape_stay_in_their_ranges_and_views_are_erased_as_often_as_asked() {
        let erasing = RandomErasing::new(Parameters::default()).unwrap();
        let size = Size { width: 300, height: 200 };
        let mut seen = [false; 4];
        for position in 0..2000 {
            let Some(Rect { x, y, size: part }) = erasing.draw(size, &mut sample_rng(0, 0, position)) else {
                panic!("position {position}: no rectangle");
            };
            assert!(x + part.width <= 300 && y + part.height <= 200);
            let share = part.area() as f64 / 60_000.0;
            let ratio = f64::from(part.height) / f64::from(part.width);
            assert!((0.0195..0.335).contains(&share) && (0.28..3.5).contains(&ratio), "{part}");
            for (seen, is) in seen.iter_mut().zip([share < 0.03, share > 0.3, ratio < 0.35, ratio > 2.5]) {
                *seen |= is;
            }
        }
        assert_eq!(seen, [true; 4]);
        let count = (0..1000).filter(|&position| erased("{}", position).contains(&0)).count();
        assert!((440..560).contains(&count), "{count} of 1000");
    }

    #[test]
    fn random_values_are_of_every_kind_and_depend_on_the_position_alone() {
        let json = r#"{ "p": 1.0, "scale": [0.5, 0.5], "ratio": [1.0, 1.0], "value": "random" }"#;
        let planes = erased(json, 1);
        assert_eq!(planes, erased(json, 1));
        let different = (0..=255).filter(|value| planes.contains(value)).count();
        assert!(different > 240, "{different} values");
        assert_ne!(planes[..SIZE.area()], planes[SIZE.area()..2 * SIZE.area()]);
    }

    #[test]
    fn a_rectangle_that_never_fits_leaves_the_view() {
        let json = r#"{ "p": 1.0, "scale": [1.0, 1.0], "ratio": [1.0, 1.0] }"#;
        assert!(!erased(json, 0).contains(&0));
    }
}
