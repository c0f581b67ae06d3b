//! The built-in recipes.

/// Name and text of each, in alphabetical order.
pub(super) const ALL: &[(&str, &str)] = &[
    ("alexnet", include_str!("../../recipes/alexnet.toml")),
    ("alexnet-bias-0.1", include_str!("../../recipes/alexnet-bias-0.1.toml")),
    ("alexnet-caffe", include_str!("../../recipes/alexnet-caffe.toml")),
    ("alexnet-code", include_str!("../../recipes/alexnet-code.toml")),
    ("alexnet-no-augmentation", include_str!("../../recipes/alexnet-no-augmentation.toml")),
    ("alexnet-no-conv3", include_str!("../../recipes/alexnet-no-conv3.toml")),
    ("alexnet-no-conv4", include_str!("../../recipes/alexnet-no-conv4.toml")),
    ("alexnet-no-conv5", include_str!("../../recipes/alexnet-no-conv5.toml")),
    ("alexnet-no-dropout", include_str!("../../recipes/alexnet-no-dropout.toml")),
    ("alexnet-no-jitter", include_str!("../../recipes/alexnet-no-jitter.toml")),
    ("alexnet-no-lrn", include_str!("../../recipes/alexnet-no-lrn.toml")),
    ("alexnet-no-overlap", include_str!("../../recipes/alexnet-no-overlap.toml")),
    ("alexnet-no-weight-decay", include_str!("../../recipes/alexnet-no-weight-decay.toml")),
    ("alexnet-one-gpu", include_str!("../../recipes/alexnet-one-gpu.toml")),
    ("alexnet-tanh", include_str!("../../recipes/alexnet-tanh.toml")),
    ("alexnet-torchvision", include_str!("../../recipes/alexnet-torchvision.toml")),
    ("alexnet-ungrouped", include_str!("../../recipes/alexnet-ungrouped.toml")),
    ("cifar-11pct", include_str!("../../recipes/cifar-11pct.toml")),
    ("cifar-13pct", include_str!("../../recipes/cifar-13pct.toml")),
    ("cifar-alexnet", include_str!("../../recipes/cifar-alexnet.toml")),
    ("cifar-alexnet-no-augmentation", include_str!("../../recipes/cifar-alexnet-no-augmentation.toml")),
    ("cifar-alexnet-no-dropout", include_str!("../../recipes/cifar-alexnet-no-dropout.toml")),
    ("cifar-alexnet-no-lrn", include_str!("../../recipes/cifar-alexnet-no-lrn.toml")),
    ("cifar-alexnet-no-overlap", include_str!("../../recipes/cifar-alexnet-no-overlap.toml")),
    ("cifar-quick", include_str!("../../recipes/cifar-quick.toml")),
    ("cifar-relu", include_str!("../../recipes/cifar-relu.toml")),
    ("cifar-tanh", include_str!("../../recipes/cifar-tanh.toml")),
    ("convnext-tiny", include_str!("../../recipes/convnext-tiny.toml")),
    ("demo", include_str!("../../recipes/demo.toml")),
    ("finetune", include_str!("../../recipes/finetune.toml")),
    ("mobilenet-v3-small", include_str!("../../recipes/mobilenet-v3-small.toml")),
    ("resnet18", include_str!("../../recipes/resnet18.toml")),
    ("resnet50", include_str!("../../recipes/resnet50.toml")),
    ("vit-small", include_str!("../../recipes/vit-small.toml")),
];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn the_list_holds_every_file_of_the_folder_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let listed: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, files);
    }

    #[test]
    fn every_recipe_is_described_in_one_line() {
        for (name, _) in ALL {
            let description = Recipe::load(name, &[]).unwrap().description;
            assert!((10..=110).contains(&description.len()), "{name}: {description}");
            assert!(!description.contains('\n') && !description.ends_with('.'), "{name}: {description}");
        }
    }
}
