//! Augmentations: what happens to an image anew at every use.
//!
//! An augmentation is a file in this folder and a line in `REGISTRY`. It declares the size of what it leaves before it
//! sees an image, draws from the generator it is given, and changes a [`View`].

mod center_crop;
mod color_jitter;
mod horizontal_flip;
mod pca_jitter;
mod random_crop;
mod random_resized_crop;

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use center_crop::CenterCrop;
pub use color_jitter::ColorJitter;
pub use horizontal_flip::HorizontalFlip;
pub use pca_jitter::{PcaJitter, PcaScale, PcaStatistics};
pub use random_crop::RandomCrop;
pub use random_resized_crop::RandomResizedCrop;

use crate::ColorStatistics;
use crate::random::SampleRng;
use crate::view::{Size, View};

/// One step of an augmentation.
pub trait Augmentation: Send + Sync + Debug {
    /// The size of the view that [`apply`](Self::apply) leaves of one of size `input`.
    ///
    /// # Errors
    /// [`AugmentError::TooSmall`], for instance, when it cannot be applied to such a view.
    fn output_size(&self, input: Size) -> Result<Size, AugmentError>;

    /// Changes the view with draws from `rng`.
    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng);
}

/// An augmentation cannot be used as it was configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AugmentError {
    /// No augmentation has this name.
    #[error("there is no augmentation `{op}`; there are {}", known.join(", "))]
    Unknown {
        /// The name that was given.
        op: String,
        /// The names in the registry.
        known: Vec<&'static str>,
    },
    /// A parameter is missing, unknown or of the wrong type.
    #[error("augmentation `{op}`: {reason}")]
    Parameters {
        /// The augmentation.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// A view smaller than what should be cut out of it.
    #[error("augmentation `{op}` cuts {wanted} pixels out of an image of {input}; prepare larger images")]
    TooSmall {
        /// The augmentation.
        op: &'static str,
        /// The crop.
        wanted: Size,
        /// What there is to crop.
        input: Size,
    },
    /// The data set's own statistics are asked for, and there are none.
    #[error(
        "augmentation `{op}` needs the colour statistics of the data set, which has none; \
         set statistics = \"imagenet\" to use those of ILSVRC-2012"
    )]
    NoStatistics {
        /// The augmentation.
        op: &'static str,
    },
}

/// An augmentation as a recipe names it: `{ op = "random_crop", size = 224 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AugmentationConfig {
    /// Name in the registry.
    pub op: String,
    /// Everything else: the parameters of that augmentation.
    #[serde(flatten)]
    pub parameters: Map<String, Value>,
}

impl AugmentationConfig {
    /// The augmentation `op` with default parameters but for those in `parameters`, a JSON object.
    ///
    /// # Panics
    /// When `parameters` is not an object.
    pub fn new(op: &str, parameters: Value) -> Self {
        let Value::Object(parameters) = parameters else {
            panic!("parameters of `{op}` must be an object, got {parameters}");
        };
        AugmentationConfig { op: op.into(), parameters }
    }

    /// Makes the augmentation, for a data set with the given statistics.
    ///
    /// # Errors
    /// [`AugmentError`] when there is none of this name or its parameters are wrong.
    pub fn build(&self, statistics: Option<&ColorStatistics>) -> Result<Box<dyn Augmentation>, AugmentError> {
        let Some((_, build)) = REGISTRY.iter().find(|(op, _)| *op == self.op) else {
            let known = REGISTRY.iter().map(|(op, _)| *op).collect();
            return Err(AugmentError::Unknown { op: self.op.clone(), known });
        };
        build(self, statistics)
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, AugmentError> {
        serde_json::from_value(Value::Object(self.parameters.clone()))
            .map_err(|error| AugmentError::Parameters { op: self.op.clone(), reason: error.to_string() })
    }
}

type Build = fn(&AugmentationConfig, Option<&ColorStatistics>) -> Result<Box<dyn Augmentation>, AugmentError>;

/// Every augmentation that a recipe can name.
const REGISTRY: &[(&str, Build)] = &[
    (CenterCrop::OP, |config, _| Ok(Box::new(CenterCrop::new(config.parse()?)?))),
    (ColorJitter::OP, |config, _| Ok(Box::new(ColorJitter::new(config.parse()?)?))),
    (HorizontalFlip::OP, |config, _| Ok(Box::new(HorizontalFlip::new(config.parse()?)?))),
    (PcaJitter::OP, |config, statistics| Ok(Box::new(PcaJitter::new(config.parse()?, statistics)?))),
    (RandomCrop::OP, |config, _| Ok(Box::new(RandomCrop::new(config.parse()?)?))),
    (RandomResizedCrop::OP, |config, _| Ok(Box::new(RandomResizedCrop::new(config.parse()?)?))),
];

/// Augmentations one after the other.
#[derive(Debug)]
pub struct Chain {
    steps: Vec<Box<dyn Augmentation>>,
    input: Size,
    output: Size,
}

impl Chain {
    /// A chain for images of size `input`.
    ///
    /// # Errors
    /// [`AugmentError`] when a step cannot be applied to what the steps before it leave.
    pub fn new(steps: Vec<Box<dyn Augmentation>>, input: Size) -> Result<Self, AugmentError> {
        let output = steps.iter().try_fold(input, |size, step| step.output_size(size))?;
        Ok(Chain { steps, input, output })
    }

    /// The chain that a recipe describes, for images of size `input` of a data set with the given statistics.
    ///
    /// # Errors
    /// [`AugmentError`] when a step is unknown, wrongly configured or cannot be applied.
    pub fn from_configs(
        configs: &[AugmentationConfig],
        input: Size,
        statistics: Option<&ColorStatistics>,
    ) -> Result<Self, AugmentError> {
        let steps = configs.iter().map(|config| config.build(statistics)).collect::<Result<_, _>>()?;
        Chain::new(steps, input)
    }

    /// The chain that leaves images of size `input` as they are.
    pub fn empty(input: Size) -> Self {
        Chain { steps: Vec::new(), input, output: input }
    }

    /// The size of the images that the chain was made for.
    pub fn input_size(&self) -> Size {
        self.input
    }

    /// The size of every view that leaves the chain.
    pub fn output_size(&self) -> Size {
        self.output
    }

    /// Applies all steps to a view of the size that the chain was made for.
    pub fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        for step in &self.steps {
            step.apply(view, rng);
        }
    }
}

/// The paper's augmentation: random 224×224 crop, horizontal flip, colour jitter along the principal axes.
///
/// Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.
pub fn alexnet() -> Vec<AugmentationConfig> {
    let none = || Value::Object(Map::new());
    vec![
        AugmentationConfig::new(RandomCrop::OP, serde_json::json!({ "size": 224 })),
        AugmentationConfig::new(HorizontalFlip::OP, none()),
        AugmentationConfig::new(PcaJitter::OP, none()),
    ]
}

/// Checks that a probability is one.
fn check_probability(op: &str, p: f64) -> Result<(), AugmentError> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(AugmentError::Parameters { op: op.into(), reason: format!("p = {p}, expected a probability 0 to 1") })
}

/// Checks that the side of a crop is at least one pixel.
fn check_side(op: &str, size: u32) -> Result<(), AugmentError> {
    if size > 0 {
        return Ok(());
    }
    Err(AugmentError::Parameters { op: op.into(), reason: "size = 0, expected at least 1 pixel".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    fn build(op: &str, parameters: Value) -> Result<Box<dyn Augmentation>, AugmentError> {
        AugmentationConfig::new(op, parameters).build(Some(&ColorStatistics::imagenet()))
    }

    #[test]
    fn every_augmentation_leaves_the_size_it_declares() {
        let pixels: Vec<u8> = (0..3 * 40 * 30u32).map(|i| (i * 37 % 251) as u8).collect();
        let size = Size { width: 40, height: 30 };
        for (op, parameters) in [
            ("center_crop", serde_json::json!({ "size": 24 })),
            ("color_jitter", serde_json::json!({ "brightness": 0.4, "contrast": 0.4, "saturation": 0.4 })),
            ("horizontal_flip", serde_json::json!({})),
            ("pca_jitter", serde_json::json!({})),
            ("random_crop", serde_json::json!({ "size": 24 })),
            ("random_resized_crop", serde_json::json!({ "size": 24 })),
        ] {
            let augmentation = build(op, parameters).expect(op);
            let declared = augmentation.output_size(size).expect(op);
            for position in 0..50 {
                let mut scratch = Scratch::default();
                let mut view = if position % 2 == 0 {
                    View::planar(&pixels, size, &mut scratch)
                } else {
                    View::interleaved(&pixels, size, &mut scratch)
                };
                augmentation.apply(&mut view, &mut sample_rng(1, 0, position));
                assert_eq!(view.size(), declared, "{op}");
            }
        }
        assert_eq!(REGISTRY.len(), 6, "a new augmentation belongs into this test");
    }

    #[test]
    fn an_unknown_augmentation_is_refused_with_the_known_names() {
        let error = build("random_corp", serde_json::json!({})).unwrap_err().to_string();
        assert!(error.contains("`random_corp`") && error.contains("random_crop"), "{error}");
    }

    #[test]
    fn wrong_parameters_are_refused_by_name() {
        for (op, parameters, word) in [
            ("center_crop", serde_json::json!({ "size": 0 }), "size = 0"),
            ("random_crop", serde_json::json!({}), "size"),
            ("random_crop", serde_json::json!({ "size": 0 }), "size = 0"),
            ("random_crop", serde_json::json!({ "size": 8, "sise": 9 }), "sise"),
            ("random_resized_crop", serde_json::json!({ "size": 8, "scale": [0.5, 0.1] }), "scale"),
            ("horizontal_flip", serde_json::json!({ "p": 1.5 }), "p = 1.5"),
            ("horizontal_flip", serde_json::json!({ "p": -0.5 }), "p = -0.5"),
            ("color_jitter", serde_json::json!({ "brightness": -1.0 }), "brightness"),
            ("pca_jitter", serde_json::json!({ "stddev": -0.1 }), "stddev"),
        ] {
            let error = build(op, parameters).unwrap_err().to_string();
            assert!(error.contains(op) && error.contains(word), "{op}: {error}");
        }
    }

    #[test]
    fn steps_come_one_after_the_other_each_on_what_the_last_one_left() {
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
        let mut view = View::planar(&pixels, chain.input_size(), &mut scratch);
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
