//! Recipes as files, with what they extend and what is overridden.

use serde_json::json;

use super::*;

fn load(name: &str, overrides: &[&str]) -> Result<Recipe, RecipeError> {
    Recipe::load(name, &overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
}

#[test]
fn the_default_recipe_is_the_papers_to_the_number() {
    let recipe = load("alexnet", &[]).unwrap();
    assert_eq!((recipe.input.image_px, recipe.input.crop_px, recipe.input.mean), (256, 224, Mean::Image));
    let optimizer = &recipe.optimizer;
    assert_eq!(
        (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay),
        (0.01, Some(0.9), 0.0005)
    );
    assert_eq!((optimizer.bias_lr_mult, optimizer.bias_decay), (1.0, true));
    assert_eq!((recipe.training.batch_size, recipe.training.epochs), (128, 90));
    assert!(matches!(recipe.schedule, Rule::ReduceOnPlateau { gamma: 0.1, times: 3, .. }));
    let mut biases_of_one = Vec::new();
    for layer in &recipe.network.layer {
        match &layer.kind {
            LayerKind::Lrn(lrn) => {
                assert_eq!((lrn.size, lrn.k, lrn.printed_alpha(), lrn.beta), (5, 2.0, 1e-4, 0.75));
            }
            LayerKind::Pool(pool) => {
                assert_eq!((pool.mode, pool.kernel, pool.stride), (PoolMode::Max, 3, 2));
            }
            LayerKind::Dropout(dropout) => {
                assert_eq!((dropout.p, dropout.scaling), (0.5, DropoutScaling::Printed));
            }
            _ => {}
        }
        let Some(weights) = layer.kind.weights() else { continue };
        assert_eq!((weights.weight_std, weights.weight_decay), (Some(0.01), None));
        if weights.bias == 1.0 {
            biases_of_one.push(layer.name.as_str());
        }
    }
    assert_eq!(biases_of_one, ["conv2", "conv4", "conv5", "fc6", "fc7"]);
    let expected = [
        AugmentationConfig::new("random_crop", json!({ "size": 224 })),
        AugmentationConfig::new("horizontal_flip", json!({ "p": 0.5 })),
        AugmentationConfig::new("pca_jitter", json!({ "stddev": 0.1, "scale": "eigenvalue" })),
    ];
    assert_eq!(recipe.train_augmentations(0), expected);
}

#[test]
fn every_built_in_recipe_loads_under_its_own_name_and_survives_being_written() {
    for name in Recipe::built_in() {
        let recipe = load(name, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(recipe.name, name);
        let again = Recipe::from_toml(&recipe.to_toml(), name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again, recipe);
        assert_eq!(again.hash(), recipe.hash());
    }
}

#[test]
fn a_network_from_a_file_replaces_layers_and_leaves_what_else_is_said_of_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let text = load("resnet18", &[]).unwrap().to_toml();
    let text = text.replace("[network]\n", "");
    let freeze = "[network]\nfreeze = [\"layer1.*\"]\nbatch_norm = \"frozen\"\nclasses = \"file\"\n";
    let text = text.replace("[network.architecture]", &format!("{freeze}[network.architecture]"));
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let with = |classes, set: &[&str]| {
        let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
        Recipe::load_with_network(path, "/x.onnx", classes, &set).unwrap().network
    };
    let plain = with(None, &[]);
    assert_eq!((plain.architecture, plain.onnx), (None, Some("/x.onnx".into())));
    assert_eq!(plain.freeze, ["layer1.*"]);
    assert_eq!((plain.batch_norm, plain.classes), (BatchNormStatistics::Frozen, Head::File));
    let other = with(Some(Head::Auto), &["network.freeze=[\"conv1.*\"]", "network.batch_norm=batch"]);
    assert_eq!(other.freeze, ["conv1.*"]);
    assert_eq!((other.batch_norm, other.classes), (BatchNormStatistics::Batch, Head::Auto));
    let demo = Recipe::load_with_network("demo", "/x.onnx", None, &[]).unwrap().network;
    assert!(demo.layer.is_empty() && demo.classes == Head::File);
}

#[test]
fn the_sources_of_a_recipe_are_its_first_lines() {
    assert!(Recipe::sources("alexnet").starts_with("# ImageNet Classification with Deep"));
    assert!(Recipe::sources("alexnet").ends_with("this is shorter.\n"));
    assert_eq!(Recipe::sources("alexnet-no-lrn"), Recipe::sources("alexnet"));
    assert_eq!(Recipe::sources("mine.toml"), "");
}

#[test]
fn an_ablation_differs_from_its_base_only_in_its_own_keys() {
    let base = load("alexnet", &[]).unwrap();
    let mut plain = load("alexnet-no-lrn", &[]).unwrap();
    plain.network.layer.insert(2, base.network.layer[2].clone());
    plain.network.layer.insert(6, base.network.layer[6].clone());
    assert_eq!(plain.network, base.network);
    assert_eq!((plain.optimizer, plain.augmentation), (base.optimizer, base.augmentation));
}

#[test]
fn an_override_reaches_one_layer_by_name_and_many_by_kind() {
    let recipe = load(
        "alexnet",
        &[
            "optimizer.learning_rate=0.02",
            "network.layer.conv2.groups=1",
            "network.layer.activation.function=tanh",
            "augmentation.train.pca_jitter.stddev=0",
            "schedule={kind=\"multi_step\", gamma=0.1, milestones=[30, 60]}",
            "network.layer.0.out = 48",
        ],
    )
    .unwrap();
    assert_eq!(recipe.optimizer.learning_rate, 0.02);
    let groups: Vec<_> = recipe
        .network
        .layer
        .iter()
        .filter_map(|layer| if let LayerKind::Conv(conv) = &layer.kind { Some(conv.groups) } else { None })
        .collect();
    assert_eq!(groups, [1, 1, 1, 2, 2]);
    let tanh = recipe.network.layer.iter().filter(|layer| {
        matches!(&layer.kind, LayerKind::Activation(activation) if activation.function == Function::Tanh)
    });
    assert_eq!(tanh.count(), 7);
    assert_eq!(recipe.augmentation.train[2].parameters["stddev"], 0);
    assert_eq!(recipe.schedule, Rule::MultiStep { gamma: 0.1, milestones: vec![30, 60] });
}

#[test]
fn an_unknown_key_is_an_error_with_the_nearest_known_one() {
    for (text, key, nearest) in [
        ("optimizer.learnig_rate=0.1", "optimizer.learnig_rate", "optimizer.learning_rate"),
        ("optimiser.momentum=0.1", "optimiser", "optimizer"),
        ("trainnig={}", "trainnig", "training"),
        ("network.layer.conv2.kernle=3", "network.layer.conv2.kernle", "network.layer.conv2.kernel"),
        ("network.layer.cnov2.kernel=3", "network.layer.cnov2", "network.layer.conv2"),
        (
            "augmentation.train.0.op=random_corp",
            "augmentation.train.random_corp",
            "augmentation.train.random_crop",
        ),
        ("schedule.patiense=3", "schedule.patiense", "schedule.patience"),
    ] {
        let error = load("alexnet", &[text]).unwrap_err();
        let RecipeError::UnknownKey { key: found_key, nearest: found, .. } = &error else {
            panic!("{text}: {error}")
        };
        assert_eq!((found_key.as_str(), found.as_deref()), (key, Some(nearest)), "{error}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_an_error_with_its_key() {
    let error = load("alexnet", &["training.batch_size=many"]).unwrap_err();
    assert!(matches!(&error, RecipeError::WrongType { key, .. } if key == "training.batch_size"), "{error}");
    let error = load("alexnet", &["network.layer.conv3.out=-1"]).unwrap_err();
    assert!(error.to_string().contains("network.layer.conv3"), "{error}");
}

#[test]
fn the_authors_alpha_is_the_printed_one_over_the_size() {
    let recipe = load("alexnet-code", &[]).unwrap();
    let alphas: Vec<_> = recipe
        .network
        .layer
        .iter()
        .filter_map(
            |layer| if let LayerKind::Lrn(lrn) = &layer.kind { Some(lrn.printed_alpha()) } else { None },
        )
        .collect();
    assert_eq!(alphas, [2e-5, 2e-5]);
}

#[test]
fn an_override_without_an_equals_sign_is_an_error() {
    let error = load("alexnet", &["optimizer.momentum"]).unwrap_err();
    assert!(matches!(error, RecipeError::BadOverride { .. }), "{error}");
}

#[test]
fn an_unknown_recipe_is_an_error_with_the_nearest_known_one() {
    let error = load("alexnt", &[]).unwrap_err();
    assert!(error.to_string().contains("did you mean `alexnet`?"), "{error}");
}

#[test]
fn a_file_may_build_upon_a_built_in_recipe_and_upon_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    write("one.toml", "base = \"alexnet\"\nwithout = [\"norm1\"]\n[set]\n\"training.epochs\" = 5");
    let two = write("two.toml", "base = \"one.toml\"\nname = \"two\"\n[set]\n\"training.batch_size\" = 7");
    let recipe = load(&two, &[]).unwrap();
    assert_eq!((recipe.training.epochs, recipe.training.batch_size), (5, 7));
    assert!(recipe.network.layer.iter().all(|layer| layer.name != "norm1"));
    assert_eq!(recipe.name, "two");
    let circle = write("circle.toml", "base = \"circle.toml\"");
    assert!(matches!(load(&circle, &[]).unwrap_err(), RecipeError::EndlessBase { .. }));
}

#[test]
fn a_mistake_in_a_file_is_an_error_with_its_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let mistake = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load(path.to_str().unwrap(), &[]).unwrap_err().to_string()
    };
    assert!(mistake("base = \n").contains("line 1"), "{}", mistake("base = \n"));
    let text = mistake("base = \"alexnet\"\nwihtout = []");
    assert!(text.contains("did you mean `without`?"), "{text}");
    let text = mistake("base = \"alexnet\"\nwithout = [\"nrom1\"]");
    assert!(text.contains("did you mean `network.layer.norm1`?"), "{text}");
    let text = mistake("name = \"half a recipe\"");
    assert!(text.contains("missing field"), "{text}");
}

#[test]
fn the_hash_changes_only_with_keys_that_affect_training() {
    let hash = |overrides: &[&str]| load("alexnet", overrides).unwrap().hash();
    let plain = hash(&[]);
    assert_eq!(plain, hash(&["training.epochs=91", "name=other", "description=other"]));
    for change in [
        "training.batch_size=64",
        "network.layer.fc6.bias=0.1",
        "augmentation.train.0.size=224",
        "schedule.patience=9",
    ] {
        assert_ne!(plain, hash(&[change]), "{change}");
    }
    let cosine = "schedule={kind=\"cosine\"}";
    assert_ne!(hash(&[cosine]), hash(&[cosine, "training.epochs=91"]));
}

#[test]
fn the_hash_is_the_same_for_ever() {
    // A checkpoint of an earlier version must still match this recipe.
    let text = include_str!("testdata/hashed.toml");
    let recipe = Recipe::from_toml(text, "hashed").unwrap();
    assert_eq!(recipe.hash(), include_str!("testdata/hashed.sha256").trim());
}

#[test]
fn means_and_deviations_of_pixels_in_0_to_1_are_refused() {
    let refused = |overrides: &[&str]| load("demo", overrides).unwrap_err().to_string();
    let error = refused(&["input.mean=[0.485, 0.456, 0.406]"]);
    let parts = ["`input.mean` is [0.485, 0.456, 0.406]", "units of 0..=255", "multiply"];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    let error = refused(&["input.mean=[123, 116, 103]", "input.std=[0.229, 0.224, 0.225]"]);
    assert!(error.contains("`input.std` is [0.229, 0.224, 0.225]"), "{error}");
    refused(&["input.mean=[1.0, 0.0, 0.0]"]);
    for (mean, std) in [("[0, 0, 0]", "[1, 1, 1]"), ("[127.5, 127.5, 0.5]", "[58.4, 57.1, 57.4]")] {
        let both = [&*format!("input.mean={mean}"), &*format!("input.std={std}")];
        load("demo", &both).unwrap_or_else(|error| panic!("{error}"));
    }
    for (mean, std) in [("[0, 255, 128]", "[255, 255, 256]"), ("[0, 0, 1.5]", "[0.01, 1, 1]")] {
        load("demo", &[&format!("input.mean={mean}"), &format!("input.std={std}")])
            .unwrap_or_else(|error| panic!("{error}"));
    }
    for (key, value, expected) in [
        ("mean", "[300, 116, 103]", "three numbers from 0 to 255"),
        ("mean", "[123, 116, 255.5]", "three numbers from 0 to 255"),
        ("mean", "[-1, 116, 103]", "three numbers from 0 to 255"),
        ("mean", "[123, 1e30, 103]", "three numbers from 0 to 255"),
        ("std", "[58, 57, 300]", "three numbers from 0.01 to 256"),
        ("std", "[58, 57, 0.001]", "three numbers from 0.01 to 256"),
        ("std", "[1e30, 1e30, 1e30]", "three numbers from 0.01 to 256"),
    ] {
        let error = refused(&[&format!("input.{key}={value}")]);
        assert!(error.contains(&format!("`input.{key}` is {value}, expected {expected}")), "{error}");
    }
    for (key, value, found) in
        [("std", "[58, 0, 57]", "0"), ("std", "[58, -57, 57]", "-57"), ("mean", "[nan, 0, 0]", "NaN")]
    {
        let error = refused(&[&format!("input.{key}={value}")]);
        assert!(error.contains(&format!("`input.{key}` is {found}, expected a number")), "{error}");
    }
    // A run that was started with such values still opens.
    let overrides = ["input.mean=[0.5, 300, 0.5]".to_owned()];
    let used = Recipe::load_used("demo", &overrides).unwrap();
    assert_eq!(Recipe::from_toml(&used.to_toml(), "recipe.toml").unwrap(), used);
}
