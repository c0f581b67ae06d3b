//! The augmentations that are measured, as they are given on the command line.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fovea_pipeline::AugmentationConfig;
use fovea_pipeline::augment::{CenterCrop, RandomCrop, RandomResizedCrop, alexnet};
use serde::Deserialize;

/// The part of a recipe that is read.
#[derive(Deserialize)]
struct Recipe {
    augmentation: Augmentation,
}

#[derive(Deserialize)]
struct Augmentation {
    train: Vec<AugmentationConfig>,
}

/// The augmentations of `given`, the paper's if there are none; crops that say no size have `crop_px` pixels.
///
/// # Errors
/// When they cannot be read. Whether there are augmentations of these names is not looked at.
pub fn steps(given: Option<&str>, crop_px: u32) -> Result<Vec<AugmentationConfig>> {
    let mut steps = match given {
        None => alexnet(),
        Some(list) if list.trim_start().starts_with('[') => {
            of_recipe(&format!("augmentation.train = {list}")).with_context(|| format!("--augment {list}"))?
        }
        Some(file) if file.contains('.') || file.contains('/') || Path::new(file).is_file() => {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
            of_recipe(&text).with_context(|| format!("{file}: no augmentation.train of its own"))?
        }
        Some(names) => {
            let none = || serde_json::json!({});
            names.split(',').map(|name| AugmentationConfig::new(name.trim(), none())).collect()
        }
    };
    ensure!(!steps.is_empty(), "--augment names no augmentation");
    if given.is_none() {
        steps[0].parameters.remove("size");
    }
    for step in &mut steps {
        if [CenterCrop::OP, RandomCrop::OP, RandomResizedCrop::OP].contains(&step.op.as_str()) {
            step.parameters.entry("size").or_insert_with(|| crop_px.into());
        }
    }
    Ok(steps)
}

fn of_recipe(text: &str) -> Result<Vec<AugmentationConfig>> {
    Ok(toml::from_str::<Recipe>(text)?.augmentation.train)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(given: Option<&str>) -> String {
        serde_json::to_string(&steps(given, 24).unwrap()).unwrap()
    }

    #[test]
    fn names_lists_and_recipes_are_read_and_crops_have_a_size() {
        let resized = r#"[{"op":"random_resized_crop","size":24},{"op":"horizontal_flip"}]"#;
        assert_eq!(written(Some("random_resized_crop, horizontal_flip")), resized);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recipe");
        fs::write(&file, "[augmentation]\ntrain = [{ op = \"random_crop\", size = 8 }]\n").unwrap();
        assert_eq!(written(file.to_str()), r#"[{"op":"random_crop","size":8}]"#);
        let list = r#"[{ op = "random_resized_crop", scale = [0.5, 1] }, { op = "horizontal_flip", p = 1 }]"#;
        let read = r#"[{"op":"random_resized_crop","scale":[0.5,1],"size":24},{"op":"horizontal_flip","p":1}]"#;
        assert_eq!(written(Some(list)), read);
        let paper = r#"[{"op":"random_crop","size":24},{"op":"horizontal_flip"},{"op":"pca_jitter"}]"#;
        assert_eq!(written(None), paper);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_it() {
        for (given, word) in [
            ("missing.toml", "missing.toml"),
            ("[{ op = 3 }]", "op = 3"),
            ("[]", "--augment names no augmentation"),
        ] {
            let error = format!("{:#}", steps(Some(given), 24).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
