//! Recipes that are refused, by key.

use toml::{Table, Value};

use super::*;

#[test]
fn invalid_values_are_refused_by_their_key() {
    for (key, values) in [
        ("name", &["../evil", "", ".hidden", "a b"] as &[_]),
        ("optimizer.learning_rate", &["0", "-0.01", "nan", "inf", "1e39"]),
        ("optimizer.momentum", &["1", "-0.1", "nan"]),
        ("optimizer.weight_decay", &["-1", "nan"]),
        ("optimizer.bias_lr_mult", &["-1"]),
        ("augmentation.views", &["0", "3", "65"]),
        ("input.crop_px", &["0", "257"]),
        ("input.scale", &["0", "nan"]),
        ("input.mean", &["[nan, 1, 1]"]),
        ("input.std", &["[1, 0, 1]", "[1, 1, inf]"]),
        ("input.image_px", &["0", "16385", "4294967520"]),
        ("training.batch_size", &["0", "1000001", "9223372036854775807"]),
        ("training.epochs", &["0", "1000001", "4294967295"]),
        ("training.label_smoothing", &["1", "-0.1", "nan"]),
        ("training.clip_norm", &["0", "-1", "inf"]),
        ("training.ema", &["1", "-0.1", "nan"]),
        ("schedule.gamma", &["1", "0", "-1", "nan"]),
        ("schedule.patience", &["0"]),
        ("schedule.threshold", &["-1", "nan"]),
        ("augmentation.train", &["[]"]),
        ("augmentation.mixup_alpha", &["-0.1", "nan", "1001"]),
        ("augmentation.cutmix_alpha", &["-1", "inf"]),
        ("network.layer.conv1.out", &["0"]),
        ("network.layer.conv1.kernel", &["0"]),
        ("network.layer.conv1.stride", &["0"]),
        ("network.layer.conv1.pad", &["11"]),
        ("network.layer.conv1.groups", &["0", "5"]),
        ("network.layer.conv1.weight_std", &["-1", "nan"]),
        ("network.layer.conv1.bias", &["inf"]),
        ("network.layer.conv1.weight_decay", &["-1"]),
        ("network.layer.norm1.size", &["0", "4", "1000001"]),
        ("network.layer.norm1.k", &["0"]),
        ("network.layer.norm1.alpha", &["-1", "0", "1e-60"]),
        ("network.layer.norm1.beta", &["0", "1e-60"]),
        ("network.layer.pool1.stride", &["0"]),
        ("network.layer.drop6.p", &["1", "-0.5", "nan"]),
        ("network.layer.fc6.out", &["0"]),
    ] {
        for value in values {
            let text = format!("{key}={value}");
            let error = Recipe::load("alexnet", std::slice::from_ref(&text)).expect_err(&text);
            assert!(
                matches!(&error, RecipeError::BadValue { key: found, .. } if found == key),
                "{text}: {error}"
            );
        }
    }
}

/// The keys of all numbers below `value`, as for `--set`.
fn numbers(value: &Value, key: &str, found: &mut Vec<String>) {
    let below = |part: &str| if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(part, value)| numbers(value, &below(part), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, value)| numbers(value, &below(&at.to_string()), found));
        }
        Value::Integer(_) | Value::Float(_) => found.push(key.to_owned()),
        _ => {}
    }
}

#[test]
fn no_number_is_too_large_or_too_strange_to_be_refused_or_used() {
    let integers =
        ["0", "-1", "-9223372036854775808", "4294967296", "9223372036854775807", "18446744073709551616"];
    let floats = ["0.5", "-0.0", "1e39", "-1e39", "1e308", "5e-324", "1e400", "nan", "inf", "-inf"];
    let mut walked = 0;
    for recipe in ["alexnet", "alexnet-torchvision", "cifar-quick", "cifar-11pct", "demo"] {
        let toml = Recipe::load(recipe, &[]).unwrap().to_toml();
        let mut keys = Vec::new();
        numbers(&toml.parse::<Table>().unwrap().into(), "", &mut keys);
        for key in keys {
            for value in integers.iter().chain(&floats) {
                walked += 1;
                let error = match Recipe::load(recipe, &[format!("{key}={value}")]) {
                    Ok(recipe) => recipe.shapes(3, 1000).err(),
                    Err(error) => Some(error),
                };
                let Some(error) = error.map(|error| error.to_string()) else { continue };
                assert!(error.len() < 250 && !error.contains("usize"), "{key}={value}: {error}");
                let is_whole = key.split('.').any(|part| range(part).is_some());
                let is_huge = value.parse::<f64>().is_ok_and(|value| value.abs() > 1e9);
                assert!(!is_whole || !is_huge || error.contains(" to "), "{key}={value}: {error}");
            }
        }
    }
    assert!(walked > 2000, "{walked}");
}

#[test]
fn layers_of_more_values_than_can_be_counted_are_refused_with_their_factors() {
    let set = |key: &str| format!("network.layer.{key}");
    for (keys, part) in [
        (
            ["conv2.out=1000000", "conv3.kernel=16384", "conv3.pad=16383"],
            "layer `conv3`: 1000000 x 16384 x 16384 inputs of an output are more than the 1099511627776",
        ),
        (
            ["conv1.pad=10", "conv2.out=1000000", "conv3.out=1000000"],
            "layer `conv3`: 1000000 x 9000001 parameters are more than",
        ),
        (["conv5.out=1000000", "fc6.out=1000000", "drop6.p=0"], "layer `fc6`: 36000000 x 1000000 parameters"),
    ] {
        let recipe = Recipe::load("alexnet", &keys.map(set)).unwrap();
        let error = recipe.shapes(3, 1000).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn architectures_have_their_ranges_and_no_layers_beside_them() {
    for (recipe, text, key) in [
        ("resnet18", "depths=[1, 0, 1, 1]", "depths"),
        ("mobilenet-v3-small", "stem=0", "stem"),
        ("mobilenet-v3-small", "hidden=0", "hidden"),
        ("mobilenet-v3-small", "block=[]", "block"),
        ("mobilenet-v3-small", "block.3.kernel=4", "block.3.kernel"),
        ("mobilenet-v3-small", "block.2.stride=0", "block.2.stride"),
        ("mobilenet-v3-small", "dropout=1", "dropout"),
        ("convnext-tiny", "widths=[0, 1, 1, 1]", "widths"),
        ("convnext-tiny", "stochastic_depth=1", "stochastic_depth"),
        ("vit-small", "patch_px=0", "patch_px"),
        ("vit-small", "heads=5", "heads"),
        ("vit-small", "heads=0", "heads"),
        ("vit-small", "depth=0", "depth"),
    ] {
        let key = format!("network.architecture.{key}");
        let error = Recipe::load(recipe, &[format!("network.architecture.{text}")]).expect_err(text);
        assert!(matches!(&error, RecipeError::BadValue { key: found, .. } if *found == key), "{error}");
    }
    let both = "network.architecture={kind=\"resnet\", block=\"basic\", depths=[1, 1, 1, 1]}";
    let error = Recipe::load("demo", &[both.to_owned()]).unwrap_err().to_string();
    assert!(error.contains("`network.architecture` is with") && error.contains("without layers"), "{error}");
}

#[test]
fn labels_are_smoothed_where_they_are_classes() {
    let load = |loss: &str, smoothing: &str| {
        let set = [format!("training.loss={loss}"), format!("training.label_smoothing={smoothing}")];
        Recipe::load("demo", &set).map_err(|error| error.to_string())
    };
    let error = load("mean_squared_error", "0.1").unwrap_err();
    assert!(
        error.contains("`training.label_smoothing` is 0.1, expected 0 with the loss `mean_squared_error`"),
        "{error}"
    );
    assert!(load("l1", "0").unwrap_err().contains("training.loss"));
    load("cross_entropy", "0.1").unwrap();
    let recipe = load("binary_cross_entropy", "0").unwrap();
    assert_eq!(Recipe::from_toml(&recipe.to_toml(), "again").unwrap(), recipe);
    assert!(!load("cross_entropy", "0").unwrap().to_toml().contains("\nloss"));
}

#[test]
fn schedules_and_warm_ups_have_their_ranges() {
    for (text, key) in [
        ("schedule={kind=\"cosine\", final_factor=1.5}", "schedule.final_factor"),
        ("schedule={kind=\"polynomial\", power=0}", "schedule.power"),
        ("schedule={kind=\"polynomial\", final_factor=-1}", "schedule.final_factor"),
        ("schedule={kind=\"exponential\", gamma=1}", "schedule.gamma"),
        ("schedule={kind=\"one_cycle\", rise=-0.1}", "schedule.rise"),
        ("schedule={kind=\"one_cycle\", start_divisor=0.5}", "schedule.start_divisor"),
        ("schedule={kind=\"one_cycle\", final_divisor=inf}", "schedule.final_divisor"),
        ("warmup={}", "warmup.epochs"),
        ("warmup={steps=5, epochs=1}", "warmup.epochs"),
        ("warmup={epochs=90}", "warmup.epochs"),
        ("warmup={epochs=nan}", "warmup.epochs"),
        ("warmup={steps=5, start_factor=2}", "warmup.start_factor"),
    ] {
        let error = Recipe::load("alexnet", &[text.to_owned()]).expect_err(text);
        assert!(
            matches!(&error, RecipeError::BadValue { key: found, .. } if found == key),
            "{text}: {error}"
        );
    }
    let recipe = Recipe::load("alexnet", &["schedule={kind=\"one_cycle\"}".to_owned()]).unwrap();
    assert_eq!(Recipe::from_toml(&recipe.to_toml(), "again").unwrap(), recipe);
}

#[test]
fn an_optimizer_has_the_keys_of_its_kind_within_their_ranges() {
    for (table, part) in [
        ("{ learning_rate = 0.1, weight_decay = 0 }", "`optimizer.momentum` is missing"),
        ("{ kind = \"adam\", learning_rate = 0.1, weight_decay = 0 }", "unknown variant `adam`"),
        (
            "{ kind = \"adamw\", learning_rate = 0.1, weight_decay = 0, momentum = 0.9 }",
            "`optimizer.momentum`: it is 0.9, and kind `adamw` has no such key",
        ),
        (
            "{ kind = \"lamb\", learning_rate = 0.1, weight_decay = 0, betas = [0.9, 1.0] }",
            "`optimizer.betas` is 1",
        ),
        (
            "{ kind = \"rmsprop\", learning_rate = 0.1, weight_decay = 0, alpha = 1.5 }",
            "`optimizer.alpha` is 1.5",
        ),
        (
            "{ kind = \"lars\", learning_rate = 0.1, weight_decay = 0, trust_coefficient = 0 }",
            "`optimizer.trust_coefficient` is 0",
        ),
        (
            "{ kind = \"adamw\", learning_rate = 0.1, weight_decay = 0, epsilon = 0 }",
            "`optimizer.epsilon` is 0",
        ),
        (
            "{ learning_rate = 0.1, weight_decay = 0, momentum = 0, group = [{ weight_decay = 0 }] }",
            "`optimizer.group.0.match` is missing",
        ),
        (
            "{ learning_rate = 0.1, weight_decay = 0, momentum = 0, group = [{ axes = 1 }] }",
            "`optimizer.group.0.learning_rate_factor` is missing",
        ),
    ] {
        let error = Recipe::load("alexnet", &[format!("optimizer={table}")]).expect_err(table).to_string();
        assert!(error.contains(part), "{table}: {error}");
    }
    let optimizer =
        "optimizer={ kind = \"adamw\", learning_rate = 0.1, weight_decay = 0, betas = [0.5, 0.9] }";
    Recipe::load("alexnet", &[optimizer.to_owned()]).unwrap();
}

#[test]
fn augmentations_are_checked_with_their_parameters() {
    for (text, part) in [
        ("augmentation.train.pca_jitter.stddev=-1", "`augmentation.train.pca_jitter`"),
        ("augmentation.train.horizontal_flip.q=1", "`augmentation.train.horizontal_flip`"),
        ("augmentation.train.random_crop.size=300", "`augmentation.train.size`"),
    ] {
        let error = Recipe::load("alexnet", &[text.to_owned()]).expect_err(text).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_layer_has_one_initializer() {
    let load = |texts: &[&str]| {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        Recipe::load("alexnet-torchvision", &texts).map_err(|error| error.to_string())
    };
    let error = load(&["network.layer.conv1.weight_std=0.01"]).unwrap_err();
    assert!(
        error.contains("`network.layer.conv1.weight_std` is 0.01, expected a number, or `init`"),
        "{error}"
    );
    let error = load(&["network.layer.fc6.bias=0.1"]).unwrap_err();
    assert!(
        error.contains("`network.layer.fc6.bias` is 0.1, expected none where there is `init`"),
        "{error}"
    );
}

#[test]
fn windows_that_end_beyond_their_input_begin_in_it() {
    for text in ["{ kernel = 3, stride = 2, pad = 1 }", "{ kernel = 2, stride = 3 }"] {
        let (_, rest) = text.split_once('{').unwrap();
        let text = format!("network.layer.pool1={{ name = \"pool1\", kind = \"pool\", ceil = true, {rest}");
        let error = Recipe::load("alexnet", &[text]).unwrap_err().to_string();
        assert!(error.contains("`network.layer.pool1.ceil` is true"), "{error}");
    }
}

#[test]
fn steps_must_ascend_from_one() {
    for list in ["[0]", "[2, 1]", "[3, 3]"] {
        let text = format!("schedule={{kind=\"multi_step\", gamma=0.1, milestones={list}}}");
        let error = Recipe::load("alexnet", &[text]).unwrap_err();
        assert!(error.to_string().contains("`schedule.milestones`"), "{error}");
    }
}

#[test]
fn a_network_must_end_with_one_output_for_each_class_and_have_unique_names() {
    for text in [
        "network.layer=[]",
        "network.layer.fc8.out=1000",
        "network.layer.conv2.name=conv1",
        "network.layer.conv2.name=Conv 2",
    ] {
        let error = Recipe::load("alexnet", &[text.to_owned()]).expect_err(text);
        assert!(matches!(error, RecipeError::BadValue { .. }), "{text}: {error}");
    }
}
