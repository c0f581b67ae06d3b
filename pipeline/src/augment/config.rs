//! Augmentations by name, as recipes give them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    AugmentError, Augmentation, CenterCrop, ColorJitter, GaussianBlur, Grayscale, HorizontalFlip, PcaJitter,
    RandAugment, RandomCrop, RandomErasing, RandomResizedCrop, TrivialAugment, VerticalFlip,
};
use crate::ColorStatistics;

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
    /// The augmentation `op` with the parameters in `parameters`, a JSON object; others have their defaults.
    ///
    /// # Panics
    /// When `parameters` is not an object.
    #[must_use]
    pub fn new(op: &str, parameters: Value) -> Self {
        let Value::Object(parameters) = parameters else {
            panic!("parameters of `{op}` must be an object, got {parameters}");
        };
        Self { op: op.into(), parameters }
    }

    /// Creates the augmentation for a data set with the given statistics.
    ///
    /// # Errors
    /// [`AugmentError`] when no augmentation has this name or its parameters are wrong.
    pub fn build(&self, statistics: Option<&ColorStatistics>) -> Result<Box<dyn Augmentation>, AugmentError> {
        let Some((_, build)) = REGISTRY.iter().find(|(op, _)| *op == self.op) else {
            return Err(AugmentError::Unknown { op: self.op.clone(), known: names().collect() });
        };
        build(self, statistics)
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, AugmentError> {
        serde_json::from_value(Value::Object(self.parameters.clone()))
            .map_err(|error| AugmentError::Parameters { op: self.op.clone(), reason: error.to_string() })
    }
}

/// The names of all augmentations, as recipes give them.
pub fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|(op, _)| *op)
}

type Build = fn(&AugmentationConfig, Option<&ColorStatistics>) -> Result<Box<dyn Augmentation>, AugmentError>;

/// Every augmentation that a recipe can name.
const REGISTRY: &[(&str, Build)] = &[
    (CenterCrop::OP, |config, _| Ok(Box::new(CenterCrop::new(config.parse()?)?))),
    (ColorJitter::OP, |config, _| Ok(Box::new(ColorJitter::new(config.parse()?)?))),
    (GaussianBlur::OP, |config, _| Ok(Box::new(GaussianBlur::new(config.parse()?)?))),
    (Grayscale::OP, |config, _| Ok(Box::new(Grayscale::new(config.parse()?)?))),
    (HorizontalFlip::OP, |config, _| Ok(Box::new(HorizontalFlip::new(config.parse()?)?))),
    (PcaJitter::OP, |config, statistics| Ok(Box::new(PcaJitter::new(config.parse()?, statistics)?))),
    (RandAugment::OP, |config, _| Ok(Box::new(RandAugment::new(config.parse()?)?))),
    (RandomCrop::OP, |config, _| Ok(Box::new(RandomCrop::new(config.parse()?)?))),
    (RandomErasing::OP, |config, _| Ok(Box::new(RandomErasing::new(config.parse()?)?))),
    (RandomResizedCrop::OP, |config, _| Ok(Box::new(RandomResizedCrop::new(config.parse()?)?))),
    (TrivialAugment::OP, |config, _| Ok(Box::new(TrivialAugment::new(config.parse()?)?))),
    (VerticalFlip::OP, |config, _| Ok(Box::new(VerticalFlip::new(config.parse()?)?))),
];

/// The paper's augmentation: random 224×224 crop, horizontal flip, colour jitter along the principal axes.
///
/// Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.
#[must_use]
pub fn alexnet() -> Vec<AugmentationConfig> {
    let none = || Value::Object(Map::new());
    vec![
        AugmentationConfig::new(RandomCrop::OP, serde_json::json!({ "size": 224 })),
        AugmentationConfig::new(HorizontalFlip::OP, none()),
        AugmentationConfig::new(PcaJitter::OP, none()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use crate::random::sample_rng;
    use crate::view::{Scratch, View};

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
            ("gaussian_blur", serde_json::json!({ "kernel_size": 9 })),
            ("grayscale", serde_json::json!({ "p": 0.5 })),
            ("horizontal_flip", serde_json::json!({})),
            ("pca_jitter", serde_json::json!({})),
            ("rand_augment", serde_json::json!({ "fill": [1, 2, 3], "interpolation": "bilinear" })),
            ("random_crop", serde_json::json!({ "size": 24 })),
            ("random_erasing", serde_json::json!({ "value": "random" })),
            ("random_resized_crop", serde_json::json!({ "size": 24 })),
            ("trivial_augment", serde_json::json!({ "fill": 128 })),
            ("vertical_flip", serde_json::json!({})),
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
        assert_eq!(REGISTRY.len(), 12, "add the new augmentation to this test");
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
            ("color_jitter", serde_json::json!({ "hue": 0.6 }), "hue = 0.6"),
            ("color_jitter", serde_json::json!({ "p": 1.1 }), "p = 1.1"),
            ("grayscale", serde_json::json!({ "p": 1.1 }), "p = 1.1"),
            ("vertical_flip", serde_json::json!({ "p": 1.1 }), "p = 1.1"),
            ("gaussian_blur", serde_json::json!({}), "kernel_size"),
            ("random_erasing", serde_json::json!({ "scale": [0.5, 1.5] }), "scale = [0.5, 1.5]"),
            ("random_erasing", serde_json::json!({ "ratio": [0.0, 1.5] }), "ratio = [0.0, 1.5]"),
            ("random_erasing", serde_json::json!({ "p": 7 }), "p = 7"),
            ("random_erasing", serde_json::json!({ "value": 256 }), "0 to 255"),
            ("random_erasing", serde_json::json!({ "value": "rndom" }), "\"random\""),
            ("trivial_augment", serde_json::json!({ "fill": -1 }), "-1.0 in a colour"),
            ("trivial_augment", serde_json::json!({ "fill": [1, 2] }), "three for red, green and blue"),
            ("trivial_augment", serde_json::json!({ "interpolation": "cubic" }), "bilinear"),
            ("trivial_augment", serde_json::json!({ "num_magnitude_bins": 1 }), "num_magnitude_bins = 1"),
            ("rand_augment", serde_json::json!({ "magnitude": -1 }), "-1"),
            ("pca_jitter", serde_json::json!({ "stddev": -0.1 }), "stddev"),
        ] {
            let error = build(op, parameters).unwrap_err().to_string();
            assert!(error.contains(op) && error.contains(word), "{op}: {error}");
        }
    }
}
