//! Several augmentations, applied one after the other.

use super::{AugmentError, Augmentation, AugmentationConfig};
use crate::ColorStatistics;
use crate::geometry::Size;
use crate::image_shape::ImageSizes;
use crate::random::SampleRng;
use crate::view::View;

/// Augmentations one after the other.
#[derive(Debug)]
pub struct Chain {
    steps: Vec<Box<dyn Augmentation>>,
    input: ImageSizes,
    output: Size,
}

impl Chain {
    /// A chain for images of size `input`, or sizes.
    ///
    /// # Errors
    /// [`AugmentError`] when a step cannot be applied to the output of the steps before it, or images of
    /// differing sizes are not made the same.
    pub fn new(
        steps: Vec<Box<dyn Augmentation>>,
        input: impl Into<ImageSizes>,
    ) -> Result<Self, AugmentError> {
        let input = input.into();
        let output_of = |input| steps.iter().try_fold(input, |size, step| step.output_size(size));
        let first = output_of(input.smallest())?;
        if let ImageSizes::ShorterSide(side) = input {
            let longer = 2 * side;
            for (width, height) in [(longer, side), (side, longer)] {
                let other = output_of(Size { width, height })?;
                if other != first {
                    return Err(AugmentError::DifferingSizes { input, first, other });
                }
            }
        }
        Ok(Self { steps, input, output: first })
    }

    /// The chain that a recipe describes, for images of size `input`, or sizes, of a data set with the given
    /// statistics.
    ///
    /// # Errors
    /// [`AugmentError`] when a step is unknown, wrongly configured or cannot be applied.
    pub fn from_configs(
        configs: &[AugmentationConfig],
        input: impl Into<ImageSizes>,
        statistics: Option<&ColorStatistics>,
    ) -> Result<Self, AugmentError> {
        let steps = configs.iter().map(|config| config.build(statistics)).collect::<Result<_, _>>()?;
        Self::new(steps, input)
    }

    /// The chain that leaves images of size `input` as they are.
    #[must_use]
    pub fn empty(input: Size) -> Self {
        Self { steps: Vec::new(), input: input.into(), output: input }
    }

    /// The sizes of the images that the chain was made for.
    #[must_use]
    pub fn input_sizes(&self) -> ImageSizes {
        self.input
    }

    /// The size of every view that leaves the chain.
    #[must_use]
    pub fn output_size(&self) -> Size {
        self.output
    }

    /// Applies all steps to a view of a size that the chain was made for.
    pub fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        for step in &self.steps {
            step.apply(view, rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::alexnet;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    #[test]
    fn every_step_is_applied_to_the_output_of_the_step_before_it() {
        let steps = ["horizontal_flip", "random_crop", "random_crop"].map(|op| {
            let parameters = match op {
                "random_crop" => serde_json::json!({ "size": 8 }),
                _ => serde_json::json!({ "p": 1.0 }),
            };
            AugmentationConfig::new(op, parameters)
        });
        let chain = Chain::from_configs(&steps, Size { width: 40, height: 30 }, None).unwrap();
        assert_eq!(chain.output_size(), Size::square(8));
        let mut scratch = Scratch::default();
        let pixels = vec![0; 3600];
        let mut view = View::planar(&pixels, chain.input_sizes().smallest(), &mut scratch);
        chain.apply(&mut view, &mut sample_rng(0, 0, 0));
        assert!(view.is_flipped() && view.size() == Size::square(8));

        let too_small =
            [8, 9].map(|size| AugmentationConfig::new("random_crop", serde_json::json!({ "size": size })));
        let error = Chain::from_configs(&too_small, Size::square(40), None).unwrap_err().to_string();
        assert!(error.contains("9x9 pixels out of an image of 8x8"), "{error}");
    }

    #[test]
    fn a_crop_larger_than_the_image_is_refused_before_any_image_is_seen() {
        let error = Chain::from_configs(&alexnet(), Size::square(200), Some(&ColorStatistics::imagenet()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("224x224") && error.contains("200x200"), "{error}");
    }
}
