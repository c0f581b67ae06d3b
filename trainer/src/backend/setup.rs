//! Inputs of a backend: its setup, and the rows of a step.

use std::ops::Range;

use fovea_graph::Parameter;
use fovea_pipeline::memory;

use super::BackendError;
use crate::models::Classifier;
use crate::optimizer;
use crate::recipe::{Loss, Mean, Recipe};

/// Everything that a backend is made from.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Input, optimizer and schedule.
    pub recipe: &'a Recipe,
    /// The recipe's network for the data set's classes.
    pub network: Classifier,
    /// Most rows of a batch, in training and in evaluation.
    pub batch_rows: usize,
    /// Mean that is subtracted from images, in units of 0..=255: `f32 [3,H,W]` for [`Mean::Image`], otherwise
    /// `f32 [3]` (not used for [`Mean::None`]).
    pub mean: &'a [f32],
    /// Seed of the initial weights.
    pub seed: u64,
    /// This process's number among those of the run, and how many there are: it owns that share of the state.
    pub place: (usize, usize),
}

impl<'a> Setup<'a> {
    /// The setup for `recipe` and a data set of `classes` classes.
    ///
    /// # Errors
    /// [`BackendError::Layers`] when the layers do not fit together, or a pattern of the recipe matches no
    /// parameter, [`BackendError::Memory`] when the machine has too little memory, [`BackendError::Graph`]
    /// when the file of the network cannot be read or translated, or takes other images or gives other
    /// outputs, [`BackendError::Size`] when it does not take training images of all sides of the recipe.
    pub fn new(
        recipe: &'a Recipe,
        classes: usize,
        batch_rows: usize,
        mean: &'a [f32],
        seed: u64,
    ) -> Result<Self, BackendError> {
        check_memory(recipe, classes, batch_rows, None, memory::most_bytes())?;
        let network = Classifier::new(recipe, classes)?;
        // An error now, before a runtime is looked for.
        optimizer::groups(recipe, &network.parameters()?)?;
        let setup = Self { recipe, network, batch_rows, mean, seed, place: (0, 1) };
        setup.check_sizes()?;
        setup.check_memory()?;
        Ok(setup)
    }

    /// The setup of process `rank` of `world`.
    #[must_use]
    pub fn of_rank(self, rank: usize, world: usize) -> Self {
        Self { place: (rank, world), ..self }
    }

    /// Checks that images of every side meet the same parameters.
    fn check_sizes(&self) -> Result<(), BackendError> {
        self.recipe.training_sizes().iter().try_for_each(|size| self.check_size(size.crop_px))
    }

    /// Checks that training images of `px` pixels meet the parameters that images in evaluation meet.
    pub(super) fn check_size(&self, px: usize) -> Result<(), BackendError> {
        let crop_px = self.recipe.input.crop_px;
        if px == crop_px {
            return Ok(());
        }
        let refuse = |reason| BackendError::Size { recipe: self.recipe.name.clone(), px, crop_px, reason };
        let (parameters, _) = self.network.at(crop_px).declared()?;
        let (others, _) = self.network.at(px).declared().map_err(|error| refuse(error.to_string()))?;
        match parameters.iter().zip(&others).find(|(here, there)| here.shape != there.shape) {
            None => Ok(()),
            Some((here, there)) => Err(refuse(format!(
                "the shape of `{}` is {:?} for these and {:?} for those",
                here.name, here.shape, there.shape
            ))),
        }
    }

    /// Checks that this machine has the memory for the images and layers of a batch, and for the weights.
    ///
    /// # Errors
    /// [`BackendError::Layers`] when the layers do not fit together, [`BackendError::Memory`].
    pub fn check_memory(&self) -> Result<(), BackendError> {
        let weights = self.network.parameters()?.iter().map(|parameter| parameter.len() as u128).sum();
        let Self { recipe, batch_rows, .. } = *self;
        check_memory(recipe, self.network.classes, batch_rows, Some(weights), memory::most_bytes())
    }

    /// Numbers of values that are trained, and of all.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn trained_values(&self) -> Result<(usize, usize), BackendError> {
        let parameters = self.network.parameters()?;
        let groups = optimizer::groups(self.recipe, &parameters)?;
        let trained = parameters.iter().zip(&groups).filter(|(_, group)| group.is_some());
        let count = |(parameter, _): (&Parameter, _)| parameter.len();
        Ok((trained.map(count).sum(), parameters.iter().map(Parameter::len).sum()))
    }

    /// The mean in the shape that graphs subtract.
    ///
    /// # Errors
    /// [`BackendError::Rows`] if it has another number of values than the recipe needs.
    pub(super) fn mean(&self) -> Result<Vec<f32>, BackendError> {
        if self.recipe.input.mean == Mean::None {
            return Ok(vec![0.0; 3]);
        }
        let expected = self.recipe.input.mean_shape().iter().product::<usize>();
        if self.mean.len() == expected {
            return Ok(self.mean.to_vec());
        }
        let (found, expected) = (self.mean.len().to_string(), expected.to_string());
        Err(BackendError::Rows { what: "values of the mean", found, expected })
    }

    pub(super) fn limits(&self) -> Limits {
        let (rows, loss) = (self.batch_rows, self.recipe.training.loss);
        Limits { rows, px: self.recipe.input.crop_px, classes: self.network.classes, loss }
    }
}

/// Checks that `most_bytes` of memory suffice for what a backend has in any case: the images of a batch, the
/// outputs of one of the recipe's layers, both with images of the largest side, and `weights` (if `None`,
/// those of its layers) with their gradients and slots.
fn check_memory(
    recipe: &Recipe,
    classes: usize,
    rows: usize,
    weights: Option<u128>,
    most_bytes: Option<u64>,
) -> Result<(), BackendError> {
    let largest_px = recipe.largest_px();
    let layers = recipe.shapes_at(largest_px, 3, classes)?;
    let wide = |value: usize| value as u128;
    let weights =
        weights.unwrap_or_else(|| layers.iter().map(|layer| u128::from(layer.parameters)).sum::<u128>());
    let widest = layers.iter().map(|layer| wide(layer.channels) * wide(layer.side_px).pow(2)).max();
    let values =
        wide(rows) * widest.unwrap_or(0) + weights * (2 + wide(optimizer::from_recipe(recipe).slots().len()));
    let needed_bytes = wide(rows) * 3 * wide(largest_px).pow(2) + 4 * values;
    match most_bytes {
        Some(most_bytes) if needed_bytes > u128::from(most_bytes) => {
            Err(BackendError::Memory { recipe: recipe.name.clone(), rows, needed_bytes, most_bytes })
        }
        _ => Ok(()),
    }
}

/// Limits that rows must respect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub rows: usize,
    /// Side of the images in pixels.
    pub px: usize,
    pub classes: usize,
    pub loss: Loss,
}

impl Limits {
    /// Those for images of `px` pixels.
    pub fn at(self, px: usize) -> Self {
        Self { px, ..self }
    }

    fn row_bytes(&self) -> usize {
        3 * self.px * self.px
    }

    /// Checks images and labels.
    pub fn check(&self, rows: &Rows<'_>) -> Result<(), BackendError> {
        let refuse = |what, found: String, expected| Err(BackendError::Rows { what, found, expected });
        let count = rows.targets.len();
        if count == 0 || count > self.rows {
            return refuse("rows of a batch", count.to_string(), format!("1 to {}", self.rows));
        }
        if rows.images.len() < count * self.row_bytes() {
            let expected = format!("{count} images of {} bytes", self.row_bytes());
            return refuse("bytes of images", rows.images.len().to_string(), expected);
        }
        let are_classes = self.loss == Loss::CrossEntropy;
        match rows.targets {
            Targets::Values { values, outputs } if !are_classes => {
                if outputs != self.classes || !values.len().is_multiple_of(outputs) {
                    let found = format!("{} of {outputs} each", values.len());
                    return refuse("values of targets", found, format!("{} of each row", self.classes));
                }
                return match values.iter().position(|value| !value.is_finite()) {
                    Some(at) => refuse("target", values[at].to_string(), "a finite number".to_owned()),
                    None => Ok(()),
                };
            }
            Targets::Classes(_) | Targets::Mixed { .. } if are_classes => {}
            _ => {
                let found = if are_classes { "values" } else { "classes" }.to_owned();
                return refuse("targets", found, format!("those of the loss `{}`", self.loss));
            }
        }
        let (labels, others, shares) = rows.targets.parts();
        if others.len() != shares.len() || ![0, count].contains(&others.len()) {
            let found = format!("{} and {} shares", others.len(), shares.len());
            return refuse("other labels", found, count.to_string());
        }
        for labels in [labels, others] {
            let is_class = |label: i64| usize::try_from(label).is_ok_and(|class| class < self.classes);
            if let Some(row) = labels.iter().position(|&label| !is_class(label)) {
                let found = format!("{} in row {row}", labels[row]);
                return refuse("label", found, format!("0 to {}", self.classes - 1));
            }
        }
        match shares.iter().position(|share| !(0.0..=1.0).contains(share)) {
            Some(row) => refuse("share", format!("{} in row {row}", shares[row]), "0 to 1".to_owned()),
            None => Ok(()),
        }
    }

    /// Checks as [`check`](Self::check) does, and also the colour offsets, which only training has.
    pub fn check_training(&self, rows: &Rows<'_>) -> Result<(), BackendError> {
        self.check(rows)?;
        if rows.color_offsets.len() < rows.targets.len() {
            let (found, expected) = (rows.color_offsets.len().to_string(), rows.targets.len().to_string());
            return Err(BackendError::Rows { what: "colour offsets", found, expected });
        }
        Ok(())
    }

    /// Checks the slice for probabilities.
    pub fn check_probabilities(&self, rows: &Rows<'_>, given: usize) -> Result<(), BackendError> {
        let needed = rows.targets.len() * self.classes;
        if given < needed {
            let (found, expected) = (given.to_string(), format!("{needed} or more"));
            return Err(BackendError::Rows { what: "room for probabilities", found, expected });
        }
        Ok(())
    }
}

/// Rows for a step or an evaluation, at most as many as the backend was made for.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// `u8 [N,3,H,W]` 0..=255; at least as many images as targets.
    pub images: &'a [u8],
    /// Offsets of colour augmentation for R, G and B, `f32 [N,3]` in units of 0..=255; not used in
    /// evaluation.
    pub color_offsets: &'a [[f32; 3]],
    /// What the network should give; their number is the number of rows that count.
    pub targets: Targets<'a>,
}

/// What a network should give for rows.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// Marks of classes, 0..=1, or numbers.
    Values {
        /// `f32 [N,K]`.
        values: &'a [f32],
        /// K.
        outputs: usize,
    },
    /// Index of the class of each row, `[N]`.
    Classes(&'a [i64]),
    /// Two classes of each row, whose image is mixed of two; not in evaluation.
    Mixed {
        /// Index of the class of which there is more, `[N]`: the one that predictions are compared with.
        labels: &'a [i64],
        /// Index of the other class, `[N]`.
        others: &'a [i64],
        /// Share of the former, `[N]` 0..=1.
        shares: &'a [f32],
    },
}

impl<'a> Targets<'a> {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match *self {
            Self::Values { values, outputs } => values.len() / outputs.max(1),
            Self::Classes(labels) | Self::Mixed { labels, .. } => labels.len(),
        }
    }

    /// Those of some of the rows.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn rows(&self, range: Range<usize>) -> Self {
        match *self {
            Self::Classes(labels) => Self::Classes(&labels[range]),
            Self::Mixed { labels, others, shares } => Self::Mixed {
                labels: &labels[range.clone()],
                others: &others[range.clone()],
                shares: &shares[range],
            },
            Self::Values { values, outputs } => {
                Self::Values { values: &values[range.start * outputs..range.end * outputs], outputs }
            }
        }
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes that predictions are compared with, `[N]`; none if labels are no classes.
    #[must_use]
    pub fn labels(&self) -> &'a [i64] {
        self.parts().0
    }

    /// Labels, other labels and shares of the labels; the latter two are empty if nothing is mixed.
    pub(super) fn parts(&self) -> (&'a [i64], &'a [i64], &'a [f32]) {
        match *self {
            Self::Values { .. } => (&[], &[], &[]),
            Self::Classes(labels) => (labels, &[], &[]),
            Self::Mixed { labels, others, shares } => (labels, others, shares),
        }
    }
}

/// Identifies the images of rows: two micro-batches of a run with the same id have the same images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsId {
    /// Epoch, counted from 0.
    pub epoch: u64,
    /// Batch of the epoch, counted from 0.
    pub batch: u64,
    /// Position of the first row in that batch.
    pub first_row: u64,
}

/// The rows that a step computes at once: its batch, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MicroBatch {
    /// Seed of the run. Together with `step` and the rows' positions in the batch it determines the dropout
    /// masks.
    pub seed: u64,
    /// Updates done before this step.
    pub step: u64,
    /// Its rows.
    pub id: RowsId,
    /// Factor of the gradients: 1 / (rows of all micro-batches of the step).
    pub gradient_scale: f32,
}

/// The images of the next micro-batch.
#[derive(Clone, Copy, Debug)]
pub struct NextImages<'a> {
    /// Their id.
    pub id: RowsId,
    /// `u8 [N,3,H,W]` 0..=255; there may be more than the micro-batch has.
    pub images: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_memory_is_refused_with_both_numbers() {
        let needed = |set: &[&str], rows| {
            let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
            let recipe = Recipe::load("alexnet", &set).unwrap();
            match check_memory(&recipe, 1000, rows, None, Some(1_000_000_000)) {
                Err(BackendError::Memory { needed_bytes, .. }) => Some(needed_bytes),
                result => result.map(|()| None).unwrap(),
            }
        };
        assert_eq!(needed(&[], 128), None);
        // Images, the outputs of conv1, and 60,965,224 parameters with momentum and gradients.
        let row = 3 * 224 * 224 + 4 * 96 * 55 * 55;
        assert_eq!(needed(&[], 1000), Some(1000 * row + 12 * 60_965_224));
        assert!(needed(&["network.layer.fc7.out=1000000"], 1).is_some());
        assert_eq!(needed(&[], usize::MAX), Some(u128::from(u64::MAX) * row + 12 * 60_965_224));
    }

    #[test]
    fn the_weights_of_a_family_of_networks_count() {
        let width = "network.architecture.width=60000".to_owned();
        let recipe = Recipe::load("vit-small", &[width]).unwrap();
        match Setup::new(&recipe, 1000, 1, &[0.0; 3], 0) {
            // Twelve blocks of twelve matrices, with gradients and the two slots of AdamW.
            Err(BackendError::Memory { needed_bytes, .. }) => {
                assert!(needed_bytes > 16 * 144 * 60_000 * 60_000, "{needed_bytes}");
            }
            result => panic!("{result:?}"),
        }
    }
}
