//! A crop of random position, area and shape, rescaled.

use rand::RngExt;
use serde::Deserialize;

use super::parameters::{check_range, check_side};
use super::{AugmentError, Augmentation};
use crate::geometry::{Rect, Size};
use crate::random::SampleRng;
use crate::view::View;

/// Draws of area and shape before the central crop is taken instead.
const ATTEMPTS: usize = 10;

/// Cuts out a rectangle of random area and aspect ratio and rescales it to a square.
///
/// Source: Szegedy et al., *Going Deeper with Convolutions*, 2015, section 6; the procedure is that of
/// torchvision's `RandomResizedCrop`.
#[derive(Clone, Debug)]
pub struct RandomResizedCrop {
    parameters: Parameters,
}

/// Parameters of [`RandomResizedCrop`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Side of the resulting square in pixels.
    pub size: u32,
    /// Least and largest share of the image's area; 0.08 to 1 by default.
    #[serde(default = "default_scale")]
    pub scale: [f64; 2],
    /// Least and largest width over height; 3/4 to 4/3 by default.
    #[serde(default = "default_ratio")]
    pub ratio: [f64; 2],
}

fn default_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

impl RandomResizedCrop {
    /// Name in recipes.
    pub const OP: &str = "random_resized_crop";

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when a range is empty or not positive.
    pub fn new(parameters: Parameters) -> Result<Self, AugmentError> {
        check_side(Self::OP, parameters.size)?;
        check_range(Self::OP, "scale", parameters.scale, 1.0)?;
        check_range(Self::OP, "ratio", parameters.ratio, f64::MAX)?;
        Ok(Self { parameters })
    }

    fn draw(&self, input: Size, rng: &mut SampleRng) -> Rect {
        let [least, largest] = self.parameters.scale;
        let [narrowest, widest] = self.parameters.ratio;
        for _ in 0..ATTEMPTS {
            let area = input.area() as f64 * rng.random_range(least..=largest);
            let ratio = rng.random_range(narrowest.ln()..=widest.ln()).exp();
            let width = (area * ratio).sqrt().round() as u32;
            let height = (area / ratio).sqrt().round() as u32;
            if (1..=input.width).contains(&width) && (1..=input.height).contains(&height) {
                let x = rng.random_range(0..=input.width - width);
                let y = rng.random_range(0..=input.height - height);
                return Rect { x, y, size: Size { width, height } };
            }
        }
        // The largest central crop whose shape is allowed.
        let (width, height) = (f64::from(input.width), f64::from(input.height));
        let size = Size {
            width: width.min((height * widest).round()).max(1.0) as u32,
            height: height.min((width / narrowest).round()).max(1.0) as u32,
        };
        Rect { x: (input.width - size.width) / 2, y: (input.height - size.height) / 2, size }
    }
}

impl Augmentation for RandomResizedCrop {
    fn output_size(&self, _input: Size) -> Result<Size, AugmentError> {
        Ok(Size::square(self.parameters.size))
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        let part = self.draw(view.size(), rng);
        view.crop(part);
        view.resize(Size::square(self.parameters.size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    fn crop(scale: [f64; 2], ratio: [f64; 2]) -> RandomResizedCrop {
        RandomResizedCrop::new(Parameters { size: 8, scale, ratio }).unwrap()
    }

    #[test]
    fn area_and_shape_stay_in_their_ranges() {
        let input = Size { width: 256, height: 200 };
        let crop = crop([0.2, 0.5], [0.5, 2.0]);
        for position in 0..1000 {
            let Rect { x, y, size } = crop.draw(input, &mut sample_rng(0, 0, position));
            assert!(x + size.width <= 256 && y + size.height <= 200);
            let share = size.area() as f64 / input.area() as f64;
            let ratio = f64::from(size.width) / f64::from(size.height);
            // Sides are rounded to whole pixels.
            assert!(
                (0.19..0.51).contains(&share) && (0.49..2.04).contains(&ratio),
                "{size}: {share}, {ratio}"
            );
        }
    }

    #[test]
    fn the_central_crop_is_taken_where_no_draw_fits() {
        let input = Size { width: 400, height: 10 };
        let Rect { x, y, size } = crop([1.0, 1.0], [1.0, 1.0]).draw(input, &mut sample_rng(0, 0, 0));
        assert_eq!((x, y, size), (195, 0, Size::square(10)));
        let upright = Size { width: 10, height: 400 };
        let Rect { x, y, size } = crop([1.0, 1.0], [0.5, 2.0]).draw(upright, &mut sample_rng(0, 0, 0));
        assert_eq!((x, y, size), (0, 190, Size { width: 10, height: 20 }));
        let Rect { x, y, size } = crop([1.0, 1.0], [0.5, 2.0]).draw(input, &mut sample_rng(0, 0, 0));
        assert_eq!((x, y, size), (190, 0, Size { width: 20, height: 10 }));
    }

    #[test]
    fn area_and_logarithm_of_the_shape_are_spread_evenly_and_places_reach_every_edge() {
        let input = Size::square(1000);
        let crop = crop([0.1, 0.5], [0.25, 4.0]);
        let rects: Vec<Rect> = (0..4000).map(|i| crop.draw(input, &mut sample_rng(0, 0, i))).collect();
        let share = |is: &dyn Fn(&Rect) -> bool| rects.iter().filter(|rect| is(rect)).count() as f64 / 4000.0;
        // Half of the areas are below the middle of their range, half of the rectangles upright; large and
        // long ones are drawn anew a little more often.
        let small = share(&|rect| rect.size.area() < 300_000);
        assert!((0.49..0.60).contains(&small), "{small} are small");
        let upright = share(&|rect| rect.size.width < rect.size.height);
        assert!((0.47..0.53).contains(&upright), "{upright} are upright");
        let wide = share(&|rect| rect.size.width > 2 * rect.size.height);
        assert!((0.18..0.26).contains(&wide), "{wide} are more than twice as wide as high");
        for place in [|rect: &Rect| rect.x, |rect: &Rect| rect.y] {
            let (first, last) = (rects.iter().map(place).min(), rects.iter().map(place).max());
            assert!(first < Some(10) && last > Some(700), "{first:?} to {last:?}");
        }
    }

    #[test]
    fn the_view_shows_the_part_that_was_drawn_in_the_requested_size() {
        let input = Size { width: 30, height: 20 };
        let crop = crop([0.1, 0.5], [0.5, 2.0]);
        let pixels = vec![0; 3 * input.area()];
        let mut scratch = Scratch::default();
        let mut view = View::planar(&pixels, input, &mut scratch);
        crop.apply(&mut view, &mut sample_rng(0, 0, 3));
        assert_eq!(view.size(), Size::square(8));
        let Rect { x, y, size } = crop.draw(input, &mut sample_rng(0, 0, 3));
        let frame = view.frame();
        assert_eq!((frame.x, frame.y), (x as f32, y as f32));
        assert_eq!((frame.width, frame.height), (size.width as f32, size.height as f32));
    }

    #[test]
    fn ranges_are_those_of_torchvision_by_default() {
        let parameters: Parameters = serde_json::from_str(r#"{ "size": 8 }"#).unwrap();
        assert_eq!((parameters.scale, parameters.ratio), ([0.08, 1.0], [0.75, 4.0 / 3.0]));
    }
}
