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
        let given = if warmup.steps.is_some() { "given beside `steps`" } else { "missing" };
        check.that(once, "epochs", given.to_owned(), "a number, or `steps` in its place")?;
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
mod tests;
