//! Training images of another side after some epochs.

use fovea_pipeline::AugmentationConfig;
use fovea_pipeline::augment::{CenterCrop, RandomCrop, RandomResizedCrop};
use serde::{Deserialize, Serialize};

use super::Recipe;

/// The side of training images from an epoch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSize {
    /// Epochs done before it applies.
    pub after: u32,
    /// Side of the training images in pixels.
    pub crop_px: usize,
}

impl Recipe {
    /// Side in pixels of the training images after `epochs` epochs.
    #[must_use]
    pub fn training_px(&self, epochs: u32) -> usize {
        let reached = self.augmentation.sizes.iter().take_while(|size| size.after <= epochs);
        reached.last().map_or(self.input.crop_px, |size| size.crop_px)
    }

    /// The epochs, counted from 0, from which on training images have another side, and that side in pixels;
    /// the first is 0.
    #[must_use]
    pub fn training_sizes(&self) -> Vec<TrainingSize> {
        let first = TrainingSize { after: 0, crop_px: self.training_px(0) };
        let later = self.augmentation.sizes.iter().copied().filter(|size| size.after > 0);
        let mut sizes: Vec<_> = [first].into_iter().chain(later).collect();
        sizes.dedup_by_key(|size| size.crop_px);
        sizes
    }

    /// Side in pixels of the largest images, of training or evaluation.
    #[must_use]
    pub fn largest_px(&self) -> usize {
        let sides = self.training_sizes().into_iter().map(|size| size.crop_px);
        sides.fold(self.input.crop_px, usize::max)
    }

    /// The augmentations of training images after `epochs` epochs, with every crop's size filled in.
    #[must_use]
    pub fn train_augmentations(&self, epochs: u32) -> Vec<AugmentationConfig> {
        let px = self.training_px(epochs);
        let mut configs = self.augmentation.train.clone();
        for config in configs.iter_mut().filter(|config| is_crop(config)) {
            config.parameters.entry("size").or_insert_with(|| px.into());
        }
        configs
    }

    /// Whether a crop among the augmentations takes the side that the recipe says.
    pub(super) fn has_crop_without_size(&self) -> bool {
        self.augmentation
            .train
            .iter()
            .any(|config| is_crop(config) && !config.parameters.contains_key("size"))
    }
}

fn is_crop(config: &AugmentationConfig) -> bool {
    [CenterCrop::OP, RandomCrop::OP, RandomResizedCrop::OP].contains(&config.op.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::RecipeError;

    fn load(set: &[&str]) -> Result<Recipe, RecipeError> {
        let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
        Recipe::load("resnet18", &set)
    }

    fn sizes(recipe: &Recipe) -> Vec<(u32, usize)> {
        recipe.training_sizes().iter().map(|size| (size.after, size.crop_px)).collect()
    }

    #[test]
    fn images_have_the_side_of_the_last_size_that_is_reached() {
        let recipe = load(&[
            "augmentation.sizes=[{after=3, crop_px=128}, {after=5, crop_px=128}, {after=6, crop_px=240}]",
        ]);
        let recipe = recipe.unwrap();
        let sides: Vec<usize> = (0..8).map(|epochs| recipe.training_px(epochs)).collect();
        assert_eq!(sides, [224, 224, 224, 128, 128, 128, 240, 240]);
        assert_eq!(sizes(&recipe), [(0, 224), (3, 128), (6, 240)]);
        assert_eq!(recipe.largest_px(), 240);
        let crop = |epochs| recipe.train_augmentations(epochs)[0].parameters["size"].clone();
        assert_eq!([crop(2), crop(3), crop(6)], [224, 128, 240]);
        let from_start = load(&["augmentation.sizes=[{after=0, crop_px=96}]"]).unwrap();
        assert_eq!(sizes(&from_start), [(0, 96)]);
        assert_eq!(from_start.largest_px(), 224);
        assert_eq!(sizes(&load(&[]).unwrap()), [(0, 224)]);
    }

    #[test]
    fn a_recipe_without_sizes_has_the_hash_that_it_had_and_one_with_them_another() {
        let (without, with) =
            (load(&[]).unwrap(), load(&["augmentation.sizes=[{after=1, crop_px=96}]"]).unwrap());
        assert!(!without.to_toml().contains("sizes"));
        assert_ne!(without.hash(), with.hash());
        assert_eq!(Recipe::from_toml(&with.to_toml(), "a recipe").unwrap(), with);
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused_by_their_key() {
        let refused = [
            (
                &["augmentation.sizes=[{after=2, crop_px=96}, {after=2, crop_px=128}]"][..],
                "`augmentation.sizes` is [2, 2], expected `after` in ascending order",
            ),
            (&["augmentation.sizes=[{after=2, crop_px=0}]"], "augmentation.sizes.crop_px"),
            (&["augmentation.sizes=[{after=-1, crop_px=96}]"], "augmentation.sizes.0.after"),
            (&["augmentation.sizes=[{epoch=1, crop_px=96}]"], "unknown key `augmentation.sizes.0.epoch`"),
            (
                &[
                    "augmentation.sizes=[{after=1, crop_px=96}]",
                    "augmentation.train=[{op=\"random_crop\", size=224}]",
                ],
                "a crop without `size` in `augmentation.train`",
            ),
            (
                &["augmentation.sizes=[{after=1, crop_px=300}]", "augmentation.train=[{op=\"random_crop\"}]"],
                "300",
            ),
            (
                &["augmentation.sizes=[{after=1, crop_px=96}]", "input.mean=\"image\""],
                "`input.mean` is image, expected `channel`, or numbers, with `augmentation.sizes`",
            ),
        ];
        let errors = refused.map(|(set, expected)| (load(set).unwrap_err().to_string(), expected));
        assert!(errors.iter().all(|(error, expected)| error.contains(expected)), "{errors:#?}");
    }
}
