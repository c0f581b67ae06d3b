//! Validation of values that have the right type.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use fovea_pipeline::Chain;
use fovea_pipeline::augment::AugmentError;
use fovea_pipeline::geometry::Size;

use super::ranges::{plain, range, said, short};
use super::resolve::unknown;
use super::{
    Architecture, Head, LayerKind, Loss, LrnRegion, Mean, OptimizerKind, Recipe, RecipeError, Weights,
};
use crate::optimizer::{Rule, Warmup};

/// The recipe's name and the section, so that each check is one line.
struct Check<'a> {
    recipe: &'a str,
    section: String,
}

impl Check<'_> {
    fn that(&self, holds: bool, key: &str, given: impl Display, expected: &str) -> Result<(), RecipeError> {
        if holds {
            return Ok(());
        }
        Err(RecipeError::BadValue {
            recipe: self.recipe.to_owned(),
            key: format!("{}.{key}", self.section),
            given: given.to_string(),
            expected: expected.to_owned(),
        })
    }

    fn positive(&self, key: &str, value: f64) -> Result<(), RecipeError> {
        let is_positive = value as f32 > 0.0 && fits_f32(value);
        self.that(is_positive, key, short(value), "a number above 0 that f32 holds")
    }

    fn not_negative(&self, key: &str, value: f64) -> Result<(), RecipeError> {
        self.that(value >= 0.0 && fits_f32(value), key, short(value), "a number, 0 or above, that f32 holds")
    }

    fn finite(&self, key: &str, value: f64) -> Result<(), RecipeError> {
        self.that(fits_f32(value), key, short(value), "a number that f32 holds")
    }

    fn share(&self, key: &str, value: f64) -> Result<(), RecipeError> {
        self.that((0.0..=1.0).contains(&value), key, short(value), "a number from 0 to 1")
    }

    /// Checks a whole number, whose range its key has.
    fn whole(&self, key: &str, value: usize) -> Result<(), RecipeError> {
        let range = range(key).expect("every key that is checked has a range");
        self.that(range.contains(&(value as u64)), key, value, &said(range))
    }

    fn weights(&self, weights: &Weights) -> Result<(), RecipeError> {
        let given = weights.weight_std.map_or("missing".to_owned(), short);
        let one_initializer = weights.weight_std.is_some() != weights.init.is_some();
        self.that(one_initializer, "weight_std", given, "a number, or `init` in its place")?;
        self.not_negative("weight_std", weights.weight_std.unwrap_or_default())?;
        self.finite("bias", weights.bias)?;
        let set_once = weights.init.is_none() || weights.bias == 0.0;
        self.that(
            set_once,
            "bias",
            short(weights.bias),
            "none where there is `init`, which sets the biases too",
        )?;
        weights.weight_decay.map_or(Ok(()), |decay| self.not_negative("weight_decay", decay))
    }

    fn window(&self, kernel: usize, stride: usize, pad: usize) -> Result<(), RecipeError> {
        self.whole("kernel", kernel)?;
        self.whole("stride", stride)?;
        self.whole("pad", pad)?;
        self.that(pad < kernel, "pad", pad, "less than `kernel`")
    }
}

/// Standard deviations that divide pixels in 0..=255: half of that range is the largest there is, and some
/// divide by the whole range.
const USUAL_STD: RangeInclusive<f64> = 0.01..=256.0;

/// Numbers of R, G and B as they are written in recipes.
fn three(values: [f64; 3]) -> String {
    format!("[{}]", values.map(short).join(", "))
}

/// Whether the number can be represented in f32, in which networks compute.
fn fits_f32(value: f64) -> bool {
    (value as f32).is_finite()
}

impl Recipe {
    /// Checks every value by itself. Whether the layers fit together is checked by [`Recipe::shapes`], which
    /// needs the data set's channels and classes.
    pub(super) fn validate(&self) -> Result<(), RecipeError> {
        let check = |section: &str| Check { recipe: &self.name, section: section.to_owned() };

        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        if !self.name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !self.name.chars().all(plain) {
            return Err(RecipeError::BadValue {
                recipe: self.name.clone(),
                key: "name".to_owned(),
                given: format!("`{}`", self.name),
                expected:
                    "letters, digits, `-`, `_`, `.` and `+`, a letter or digit first: folders are called so"
                        .to_owned(),
            });
        }
        let input = check("input");
        input.whole("image_px", self.input.image_px)?;
        input.whole("crop_px", self.input.crop_px)?;
        let fits = self.input.crop_px <= self.input.image_px;
        input.that(fits, "crop_px", self.input.crop_px, "at most `input.image_px`")?;
        if let Mean::Values(values) = self.input.mean {
            values.into_iter().try_for_each(|value| input.finite("mean", value))?;
        }
        self.input.std.into_iter().flatten().try_for_each(|std| input.positive("std", std))?;
        input.positive("scale", self.input.scale)?;

        self.validate_optimizer(&check("optimizer"))?;

        let training = check("training");
        training.whole("batch_size", self.training.batch_size)?;
        training.whole("epochs", self.training.epochs as usize)?;
        let smoothing = self.training.label_smoothing.unwrap_or_default();
        training.that(
            (0.0..1.0).contains(&smoothing),
            "label_smoothing",
            short(smoothing),
            "0 or above and below 1",
        )?;
        let smooths = smoothing == 0.0 || self.training.loss == Loss::CrossEntropy;
        let expected = format!("0 with the loss `{}`", self.training.loss);
        training.that(smooths, "label_smoothing", short(smoothing), &expected)?;
        self.training.clip_norm.map_or(Ok(()), |limit| training.positive("clip_norm", limit))?;
        let ema = self.training.ema.unwrap_or_default();
        training.that((0.0..1.0).contains(&ema), "ema", short(ema), "0 or above and below 1")?;

        self.validate_schedule(&check("schedule"))?;
        self.warmup.as_ref().map_or(Ok(()), |warmup| self.validate_warmup(&check("warmup"), warmup))?;
        self.validate_augmentation(&check("augmentation"))?;
        self.validate_layers()
    }

    /// Checks that means and standard deviations are in the units of pixels, and can be those of pixels.
    pub(super) fn check_units(&self) -> Result<(), RecipeError> {
        let input = Check { recipe: &self.name, section: "input".to_owned() };
        let expected = "numbers in units of 0..=255; multiply those for pixels in 0..=1 by 255";
        if let Mean::Values(mean) = self.input.mean {
            let is_zero = mean == [0.0; 3];
            let holds = is_zero || mean.into_iter().any(|value| !(0.0..=1.0).contains(&value));
            input.that(holds, "mean", three(mean), expected)?;
            let holds = mean.into_iter().all(|value| (0.0..=255.0).contains(&value));
            input.that(holds, "mean", three(mean), "three numbers from 0 to 255, as pixels are")?;
        }
        self.input.std.map_or(Ok(()), |std| {
            input.that(std.into_iter().any(|value| value >= 1.0), "std", three(std), expected)?;
            let holds = std.into_iter().all(|value| USUAL_STD.contains(&value));
            let (least, most) = (USUAL_STD.start(), USUAL_STD.end());
            let expected = format!("three numbers from {least} to {most}; pixels are from 0 to 255");
            input.that(holds, "std", three(std), &expected)
        })
    }

    fn validate_optimizer(&self, check: &Check) -> Result<(), RecipeError> {
        use OptimizerKind::{AdamW, Lamb, Lars, RmsProp, Sgd};

        let config = &self.optimizer;
        check.positive("learning_rate", config.learning_rate)?;
        check.not_negative("weight_decay", config.weight_decay)?;
        check.not_negative("bias_lr_mult", config.bias_lr_mult)?;

        // A key that the kind does not have would be passed over.
        let show = |value: Option<f64>| value.map(short);
        let given: [(_, &[OptimizerKind], _); 6] = [
            ("momentum", &[Sgd, RmsProp, Lars], show(config.momentum)),
            ("nesterov", &[Sgd], config.nesterov.map(|nesterov| nesterov.to_string())),
            ("betas", &[AdamW, Lamb], config.betas.map(|betas| format!("{betas:?}"))),
            ("alpha", &[RmsProp], show(config.alpha)),
            ("trust_coefficient", &[Lars], show(config.trust_coefficient)),
            ("epsilon", &[AdamW, RmsProp, Lars, Lamb], show(config.epsilon)),
        ];
        for (key, kinds, given) in given {
            let Some(given) = given.filter(|_| !kinds.contains(&config.kind)) else { continue };
            return Err(RecipeError::WrongType {
                recipe: self.name.clone(),
                key: format!("optimizer.{key}"),
                reason: format!(
                    "it is {given}, and kind `{}` has no such key; give the whole table instead: \
                     --set 'optimizer={{kind=\"{}\", learning_rate=0.001, weight_decay=0.01}}'",
                    config.kind, config.kind
                ),
            });
        }
        let momentum = config.momentum.map_or("missing".to_owned(), short);
        let in_range = |value: f64| (0.0..1.0).contains(&value);
        let fits = config.momentum.map_or(config.kind != Sgd, in_range);
        check.that(fits, "momentum", momentum, "0 or above and below 1")?;
        for beta in config.betas.into_iter().flatten() {
            check.that(in_range(beta), "betas", short(beta), "two numbers, 0 or above and below 1")?;
        }
        config.alpha.map_or(Ok(()), |alpha| {
            check.that(in_range(alpha), "alpha", short(alpha), "0 or above and below 1")
        })?;
        config.trust_coefficient.map_or(Ok(()), |trust| check.positive("trust_coefficient", trust))?;
        config.epsilon.map_or(Ok(()), |epsilon| check.positive("epsilon", epsilon))?;
        for (at, group) in config.group.iter().enumerate() {
            let check = Check { recipe: check.recipe, section: format!("optimizer.group.{at}") };
            let chooses = group.names.is_some() || group.axes.is_some() || group.part.is_some();
            check.that(
                chooses,
                "match",
                "missing",
                "patterns of names, or `axes` or `part` in their place",
            )?;
            let changes = group.learning_rate_factor.is_some() || group.weight_decay.is_some();
            check.that(
                changes,
                "learning_rate_factor",
                "missing",
                "a number, or `weight_decay` in its place",
            )?;
            let given = group.learning_rate_factor.unwrap_or_default();
            check.not_negative("learning_rate_factor", given)?;
            check.not_negative("weight_decay", group.weight_decay.unwrap_or_default())?;
            group.axes.map_or(Ok(()), |axes| check.whole("axes", axes))?;
        }
        Ok(())
    }

    fn validate_schedule(&self, check: &Check) -> Result<(), RecipeError> {
        let falls = |gamma: f64| {
            check.that(gamma > 0.0 && gamma < 1.0, "gamma", short(gamma), "a number above 0 and below 1")
        };
        match &self.schedule {
            Rule::ReduceOnPlateau { gamma, times, patience, threshold } => {
                falls(*gamma)?;
                check.whole("times", *times as usize)?;
                check.whole("patience", *patience as usize)?;
                check.not_negative("threshold", *threshold)
            }
            Rule::MultiStep { gamma, milestones } => {
                falls(*gamma)?;
                milestones.iter().try_for_each(|at| check.whole("milestones", *at as usize))?;
                let ascending = milestones.is_sorted_by(|a, b| a < b);
                let given = format!("{milestones:?}");
                check.that(ascending, "milestones", given, "numbers in ascending order")
            }
            Rule::Cosine { final_factor } => check.share("final_factor", *final_factor),
            Rule::Polynomial { power, final_factor } => {
                check.positive("power", *power)?;
                check.share("final_factor", *final_factor)
            }
            Rule::Exponential { gamma } => falls(*gamma),
            Rule::OneCycle { rise, start_divisor, final_divisor } => {
                check.share("rise", *rise)?;
                let at_least_one = |divisor: f64| divisor >= 1.0 && fits_f32(divisor);
                let expected = "a number, 1 or above, that f32 holds";
                check.that(at_least_one(*start_divisor), "start_divisor", short(*start_divisor), expected)?;
                check.that(at_least_one(*final_divisor), "final_divisor", short(*final_divisor), expected)
            }
        }
    }

    fn validate_warmup(&self, check: &Check, warmup: &Warmup) -> Result<(), RecipeError> {
        let once = warmup.steps.is_some() != warmup.epochs.is_some();
        check.that(once, "epochs", format!("{:?}", warmup.epochs), "a number, or `steps` in its place")?;
        check.share("start_factor", warmup.start_factor)?;
        let (epochs, of) = (warmup.epochs.unwrap_or_default(), f64::from(self.training.epochs));
        check.that(
            (0.0..of).contains(&epochs),
            "epochs",
            short(epochs),
            "0 or above and below `training.epochs`",
        )
    }

    fn validate_augmentation(&self, check: &Check) -> Result<(), RecipeError> {
        if let Some((key, alpha)) = self.mixing().out_of_range() {
            check.that(false, key, short(alpha), "0 for none, or up to 1000")?;
        }
        check.whole("views", self.views())?;
        let (batch, views) = (self.training.batch_size, self.views());
        let divides = batch.is_multiple_of(views);
        check.that(
            divides,
            "views",
            views,
            &format!("a divisor of the {batch} images of `training.batch_size`"),
        )?;
        self.validate_sizes(check)?;
        self.training_sizes().iter().try_for_each(|size| self.validate_chain(check, size.after))
    }

    fn validate_sizes(&self, check: &Check) -> Result<(), RecipeError> {
        let sizes = &self.augmentation.sizes;
        if sizes.is_empty() {
            return Ok(());
        }
        sizes.iter().try_for_each(|size| check.whole("sizes.crop_px", size.crop_px))?;
        let after: Vec<u32> = sizes.iter().map(|size| size.after).collect();
        let ascends = after.is_sorted_by(|a, b| a < b);
        check.that(ascends, "sizes", format!("{after:?}"), "`after` in ascending order")?;
        let has_crop = self.has_crop_without_size();
        check.that(has_crop, "sizes", "given", "a crop without `size` in `augmentation.train`")?;
        let input = Check { recipe: check.recipe, section: "input".to_owned() };
        let has_one_size = self.input.mean == Mean::Image;
        input.that(!has_one_size, "mean", "image", "`channel`, or numbers, with `augmentation.sizes`")
    }

    /// Checks the augmentations after `epochs` epochs.
    fn validate_chain(&self, check: &Check, epochs: u32) -> Result<(), RecipeError> {
        let mut steps = Vec::new();
        for config in self.train_augmentations(epochs) {
            match config.build(None) {
                Ok(step) => steps.push(step),
                // Statistics come with the data set, and the augmentations that need them change no size.
                Err(AugmentError::NoStatistics { .. }) => {}
                Err(AugmentError::Unknown { op, known }) => {
                    return Err(unknown(&self.name, "augmentation.train.", &op, &known));
                }
                Err(error) => return Err(self.bad_augmentation(&config.op, &error)),
            }
        }
        let image_px = u32::try_from(self.input.image_px).unwrap_or(u32::MAX);
        let size = Chain::new(steps, Size::square(image_px))
            .map_err(|error| self.bad_augmentation("size", &error))?
            .output_size();
        let crop_px = self.training_px(epochs) as u64;
        let fits = u64::from(size.width) == crop_px && u64::from(size.height) == crop_px;
        check.that(
            fits,
            "train",
            format!("a chain that leaves {size} pixels"),
            "one that leaves `input.crop_px`",
        )
    }

    fn bad_augmentation(&self, key: &str, error: &AugmentError) -> RecipeError {
        RecipeError::WrongType {
            recipe: self.name.clone(),
            key: format!("augmentation.train.{key}"),
            reason: match error {
                AugmentError::Parameters { op, reason } => {
                    format!("augmentation `{op}`: {}", plain(reason, "of this augmentation"))
                }
                error => error.to_string(),
            },
        }
    }

    fn validate_layers(&self) -> Result<(), RecipeError> {
        let list = Check { recipe: &self.name, section: "network".to_owned() };
        if let Some(path) = &self.network.onnx {
            let alone = self.network.layer.is_empty() && self.network.architecture.is_none();
            return list.that(alone, "onnx", path.display(), "a file or layers, not both");
        }
        let head = self.network.classes;
        list.that(
            head == Head::File,
            "classes",
            head.name(),
            "left out: layers have one output for each class",
        )?;
        if let Some(architecture) = &self.network.architecture {
            let layers = self.network.layer.len();
            list.that(layers == 0, "architecture", format!("with {layers} layers"), "one without layers")?;
            let check = Check { recipe: &self.name, section: "network.architecture".to_owned() };
            return validate_architecture(&check, architecture);
        }
        let last = self.network.layer.last();
        let ends_well =
            last.is_some_and(|layer| matches!(&layer.kind, LayerKind::Linear(fc) if fc.out.is_none()));
        let given = last.map_or("missing", |layer| layer.name.as_str());
        list.that(
            ends_well,
            "layer.last",
            given,
            "a layer of kind `linear` without `out`: it has one for each class",
        )?;

        let mut seen = HashSet::new();
        for (index, layer) in self.network.layer.iter().enumerate() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let good =
                layer.name.starts_with(|c: char| c.is_ascii_lowercase()) && layer.name.chars().all(plain);
            let key = format!("layer.{index}.name");
            list.that(good, &key, &layer.name, "lower-case letters, digits and `_`, with a letter first")?;
            list.that(seen.insert(&layer.name), &key, &layer.name, "a name that no other layer has")?;

            let check = Check { recipe: &self.name, section: format!("network.layer.{}", layer.name) };
            let is_last = index + 1 == self.network.layer.len();
            validate_layer(&check, &layer.kind, is_last)?;
        }
        Ok(())
    }
}

fn validate_architecture(check: &Check, architecture: &Architecture) -> Result<(), RecipeError> {
    let all = |key: &str, sizes: &[usize]| sizes.iter().try_for_each(|&size| check.whole(key, size));
    let dropped =
        |key: &str, p: f64| check.that((0.0..1.0).contains(&p), key, short(p), "0 or above and below 1");
    match architecture {
        Architecture::Resnet { block: _, depths } => all("depths", depths),
        Architecture::MobilenetV3 { stem, block, hidden, dropout } => {
            check.whole("stem", *stem)?;
            check.whole("hidden", *hidden)?;
            check.that(!block.is_empty(), "block", "[]", "a table or more")?;
            for (at, block) in block.iter().enumerate() {
                check.whole(&format!("block.{at}.expanded"), block.expanded)?;
                check.whole(&format!("block.{at}.out"), block.out)?;
                check.whole(&format!("block.{at}.stride"), block.stride)?;
                let key = format!("block.{at}.kernel");
                check.whole(&key, block.kernel)?;
                check.that(block.kernel % 2 == 1, &key, block.kernel, "an odd number")?;
            }
            dropped("dropout", *dropout)
        }
        Architecture::Convnext { depths, widths, stochastic_depth } => {
            all("depths", depths)?;
            all("widths", widths)?;
            dropped("stochastic_depth", *stochastic_depth)
        }
        Architecture::Vit { patch_px, width, depth, heads, stochastic_depth } => {
            check.whole("patch_px", *patch_px)?;
            check.whole("depth", *depth)?;
            check.whole("width", *width)?;
            check.whole("heads", *heads)?;
            let divides = width % heads == 0;
            check.that(divides, "heads", heads, "a divisor of `width`")?;
            dropped("stochastic_depth", *stochastic_depth)
        }
    }
}

fn validate_layer(check: &Check, kind: &LayerKind, is_last: bool) -> Result<(), RecipeError> {
    if let Some(weights) = kind.weights() {
        check.weights(&weights)?;
    }
    match kind {
        LayerKind::Conv(conv) => {
            check.whole("out", conv.out)?;
            check.window(conv.kernel, conv.stride, conv.pad)?;
            check.whole("groups", conv.groups)?;
            let splits = conv.out.is_multiple_of(conv.groups);
            check.that(splits, "groups", conv.groups, "a divisor of `out`")
        }
        LayerKind::Local(local) => {
            check.whole("out", local.out)?;
            check.window(local.kernel, local.stride, local.pad)
        }
        LayerKind::Linear(linear) => match linear.out {
            Some(out) => check.whole("out", out),
            None => check.that(is_last, "out", "missing", "the number of outputs, except in the last layer"),
        },
        LayerKind::Activation(_) => Ok(()),
        LayerKind::Lrn(lrn) => {
            check.whole("size", lrn.size)?;
            check.that(lrn.size % 2 == 1, "size", lrn.size, "an odd number")?;
            check.positive("k", lrn.k)?;
            match lrn.region {
                // ONNX's operator takes no other.
                LrnRegion::Channels => check.positive("alpha", lrn.printed_alpha())?,
                LrnRegion::Pixels => check.not_negative("alpha", lrn.alpha)?,
            }
            check.positive("beta", lrn.beta)
        }
        LayerKind::Pool(pool) => {
            check.window(pool.kernel, pool.stride, pool.pad)?;
            let begins_inside = !pool.ceil || (pool.pad == 0 && pool.stride <= pool.kernel);
            check.that(
                begins_inside,
                "ceil",
                pool.ceil,
                "false where there is `pad`, or `stride` exceeds `kernel`",
            )
        }
        LayerKind::Dropout(dropout) => {
            check.that((0.0..1.0).contains(&dropout.p), "p", short(dropout.p), "0 or above and below 1")
        }
    }
}

#[cfg(test)]
mod tests {
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
                list.iter()
                    .enumerate()
                    .for_each(|(at, value)| numbers(value, &below(&at.to_string()), found));
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
            (
                ["conv5.out=1000000", "fc6.out=1000000", "drop6.p=0"],
                "layer `fc6`: 36000000 x 1000000 parameters",
            ),
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
        assert!(
            error.contains("`network.architecture` is with") && error.contains("without layers"),
            "{error}"
        );
    }

    #[test]
    fn labels_are_smoothed_where_they_are_classes() {
        let load = |loss: &str, smoothing: &str| {
            let set = [format!("training.loss={loss}"), format!("training.label_smoothing={smoothing}")];
            Recipe::load("demo", &set).map_err(|error| error.to_string())
        };
        let error = load("mean_squared_error", "0.1").unwrap_err();
        assert!(
            error
                .contains("`training.label_smoothing` is 0.1, expected 0 with the loss `mean_squared_error`"),
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
            let error =
                Recipe::load("alexnet", &[format!("optimizer={table}")]).expect_err(table).to_string();
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
            let text =
                format!("network.layer.pool1={{ name = \"pool1\", kind = \"pool\", ceil = true, {rest}");
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
}
