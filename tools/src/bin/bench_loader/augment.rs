//! The augmentations that are measured, as they are given on the command line.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fovea_files::read_regular_text;
use fovea_pipeline::augment::{CenterCrop, RandomCrop, RandomResizedCrop, alexnet};
use fovea_pipeline::{AugmentationConfig, ColorStatistics};
use serde::Deserialize;

/// Augmentations one after the other.
#[derive(Clone, Debug)]
pub struct Steps(Vec<AugmentationConfig>);

/// The part of a recipe that is read.
#[derive(Deserialize)]
struct Recipe {
    augmentation: Augmentation,
}

#[derive(Deserialize)]
struct Augmentation {
    train: Vec<AugmentationConfig>,
}

impl Steps {
    /// Reads names, a list or the file of a recipe.
    ///
    /// # Errors
    /// When there is no such file or augmentation, or its parameters are wrong.
    pub fn parse(given: &str) -> Result<Self> {
        let steps = if given.trim_start().starts_with('[') {
            of_recipe(&format!("augmentation.train = {given}"))?
        } else if given.contains(['.', '/']) || Path::new(given).exists() {
            let text = read_regular_text(Path::new(given)).with_context(|| format!("cannot read {given}"))?;
            of_recipe(&text).with_context(|| format!("{given} has no list augmentation.train of its own"))?
        } else {
            let none = || serde_json::json!({});
            given.split(',').map(|name| AugmentationConfig::new(name.trim(), none())).collect()
        };
        ensure!(!steps.is_empty(), "expected one augmentation or more");
        let steps = Self(steps);
        for step in steps.clone().with_crop(1) {
            step.build(Some(&ColorStatistics::imagenet()))?;
        }
        Ok(steps)
    }

    /// The paper's, whose crop says no size.
    pub fn of_paper() -> Self {
        let mut steps = alexnet();
        steps.iter_mut().for_each(|step| drop(step.parameters.remove("size")));
        Self(steps)
    }

    /// The augmentations with `crop_px` pixels for crops that say no size.
    pub fn with_crop(mut self, crop_px: u32) -> Vec<AugmentationConfig> {
        for step in &mut self.0 {
            if [CenterCrop::OP, RandomCrop::OP, RandomResizedCrop::OP].contains(&step.op.as_str()) {
                step.parameters.entry("size").or_insert_with(|| crop_px.into());
            }
        }
        self.0
    }
}

fn of_recipe(text: &str) -> Result<Vec<AugmentationConfig>> {
    Ok(toml::from_str::<Recipe>(text)?.augmentation.train)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn written(steps: Steps) -> String {
        serde_json::to_string(&steps.with_crop(24)).unwrap()
    }

    #[test]
    fn names_lists_and_recipes_are_read_and_crops_have_a_size() {
        let read = |given: &str| written(Steps::parse(given).unwrap());
        let resized = r#"[{"op":"random_resized_crop","size":24},{"op":"horizontal_flip"}]"#;
        assert_eq!(read("random_resized_crop, horizontal_flip"), resized);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recipe");
        fs::write(&file, "[augmentation]\ntrain = [{ op = \"random_crop\", size = 8 }]\n").unwrap();
        assert_eq!(read(file.to_str().unwrap()), r#"[{"op":"random_crop","size":8}]"#);
        let list = r#"[{ op = "random_resized_crop", scale = [0.5, 1] }, { op = "horizontal_flip", p = 1 }]"#;
        let expected =
            r#"[{"op":"random_resized_crop","scale":[0.5,1],"size":24},{"op":"horizontal_flip","p":1}]"#;
        assert_eq!(read(list), expected);
        let paper = r#"[{"op":"random_crop","size":24},{"op":"horizontal_flip"},{"op":"pca_jitter"}]"#;
        assert_eq!(written(Steps::of_paper()), paper);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_it() {
        for (given, word) in [
            ("missing.toml", "cannot read missing.toml"),
            ("[{ op = 3 }]", "op = 3"),
            ("[]", "one augmentation or more"),
            ("random_corp", "there is no augmentation `random_corp`"),
            ("random_crop,", "there is no augmentation ``"),
            (r#"[{ op = "horizontal_flip", p = 2.5 }]"#, "p = 2.5"),
        ] {
            let error = format!("{:#}", Steps::parse(given).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
