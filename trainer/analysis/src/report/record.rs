//! Reads the folder of a run, whatever is missing or damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use fovea_graph::{Builder, GraphError, Lowering, Mode, Target, TensorType};
use fovea_pipeline::{Dataset, Split};
use fovea_trainer::checkpoint::{self, Meta, Store};
use fovea_trainer::metrics::{self, EPOCHS, Epoch, STEPS, Step};
use fovea_trainer::models::Classifier;
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::{
    Environment, Report, RunSettings, TrainingError, read_environment, read_recipe, read_report,
    read_settings,
};

use super::error::ReportError;

/// The content of a run's folder.
pub(super) struct Record {
    pub name: String,
    pub recipe: Recipe,
    pub settings: Option<RunSettings>,
    pub environment: Option<Environment>,
    /// Once the run is finished.
    pub result: Option<Report>,
    /// Whether training draws dropout masks; `false` until the network was read.
    pub has_dropout: bool,
    pub steps: Vec<Step>,
    pub epochs: Vec<Epoch>,
    /// The split that errors after epochs are of, if the records tell.
    pub split: Option<Split>,
    /// The state of the latest checkpoint.
    pub meta: Option<Meta>,
    /// Sizes of its data set, if it can be read.
    pub data: Option<DataFacts>,
    /// What cannot be read, and why.
    pub damage: Vec<String>,
}

/// Sizes of a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct DataFacts {
    pub classes: usize,
    pub train_images: u64,
    pub val_images: u64,
}

impl DataFacts {
    /// Those of this data set.
    pub fn of(dataset: &Dataset) -> Self {
        let info = dataset.info();
        Self {
            classes: info.classes.len(),
            train_images: info.images(Split::Train),
            val_images: info.images(Split::Val),
        }
    }
}

/// Positions of the updates of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Positions {
    /// In epochs; an epoch ends at a whole number.
    Epochs(Vec<f64>),
    /// In updates, until an epoch is finished.
    Updates(Vec<f64>),
}

impl Positions {
    /// The position of each update, in their order.
    pub fn values(&self) -> &[f64] {
        let (Self::Epochs(values) | Self::Updates(values)) = self;
        values
    }
}

impl Record {
    /// Reads the folder `run`; `data` is the folder of the data set, by default that of the run.
    ///
    /// # Errors
    /// [`ReportError::Run`] without a recipe, as the folder is not that of a run then.
    pub fn read(run: &Path, data: Option<&Path>) -> Result<Self, ReportError> {
        let recipe = read_recipe(run)?;
        let mut damage = Vec::new();
        let (steps, broken) = metrics::read_steps(run).unwrap_or_else(|error| {
            damage.push(error.to_string());
            (Vec::new(), Vec::new())
        });
        if let Some(first) = broken.first() {
            let further = match broken.len() - 1 {
                0 => String::new(),
                count => format!(" (and {count} more lines)"),
            };
            damage.push(format!(
                "{}, line {first}{further}: no record of an update",
                run.join(STEPS).display()
            ));
        }
        let epochs = metrics::read_epochs(run).unwrap_or_else(|error| {
            damage.push(error.to_string());
            Vec::new()
        });
        let split = metrics::read_split(run).ok().flatten();
        let settings = read_settings(run).map_err(|error| damage.push(error.to_string())).ok();
        let mut damaged = |error: TrainingError| damage.push(error.to_string());
        let result = read_report(run).map_err(&mut damaged).ok().flatten();
        let environment = read_environment(run).map_err(&mut damaged).ok().flatten();
        if let Some(environment) = &environment {
            let missing =
                [("processor", environment.processor.is_none()), ("threads", environment.threads.is_none())];
            damage.extend(missing.into_iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| {
                format!("{name} of the machine: the run was started with an older version of Fovea")
            }));
        }
        let data = data.or(settings.as_ref().map(|settings| settings.data.as_path()));
        let data = data.and_then(|data| Dataset::open(data).ok()).map(|dataset| DataFacts::of(&dataset));
        let name = std::path::absolute(run)
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Ok(Self {
            name: name.unwrap_or_default(),
            recipe,
            settings,
            environment,
            result,
            has_dropout: false,
            steps,
            epochs,
            split,
            meta: Store::new(run, usize::MAX).latest().and_then(|path| checkpoint::read_meta(&path)).ok(),
            data,
            damage,
        })
    }

    /// Number of classes K of the checkpoint, or else of the data set.
    pub fn classes(&self) -> Option<usize> {
        let trained = self.meta.as_ref().map(|meta| meta.classes.len());
        trained.or(self.data.map(|data| data.classes))
    }

    /// Whether the errors after epochs are of validation images. Records of earlier versions do not tell, and
    /// the data set does; `true` if it cannot be read.
    pub fn has_validation(&self) -> bool {
        match self.split {
            Some(split) => split == Split::Val,
            None => self.data.is_none_or(|data| data.val_images > 0),
        }
    }

    /// The position of each update: its epoch, and its share of the updates of that epoch. Epochs can differ
    /// in their number of updates, when batches are left out or a run resumes with another --limit-batches.
    pub fn positions(&self) -> Positions {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        self.steps.iter().for_each(|step| *counts.entry(step.epoch).or_default() += 1);
        let finished = self.epochs.iter().map(|epoch| epoch.epoch).max().unwrap_or(0);
        let finished = finished.max(counts.keys().max().map_or(0, |newest| newest.saturating_sub(1)));
        if finished == 0 {
            return Positions::Updates(self.steps.iter().map(|step| step.step as f64).collect());
        }
        let mut done: BTreeMap<u32, usize> = BTreeMap::new();
        let position = |step: &Step| {
            let number = done.entry(step.epoch).or_default();
            *number += 1;
            let mut count = counts[&step.epoch];
            if step.epoch > finished {
                // The unfinished epoch is assumed to have as many updates as the one before.
                let before = counts.range(..step.epoch).next_back().map_or(0, |(_, &before)| before);
                count = count.max(before);
            }
            f64::from(step.epoch.saturating_sub(1)) + *number as f64 / count as f64
        };
        Positions::Epochs(self.steps.iter().map(position).collect())
    }

    /// The loss that shows that the training has diverged: that of the last update or of the last evaluation,
    /// if it is not finite or above [`loss_limit`](Self::loss_limit).
    pub fn diverged(&self) -> Option<f64> {
        let limit = self.loss_limit()?;
        let losses =
            [self.steps.last().map(|step| step.loss), self.epochs.last().map(|epoch| epoch.val_loss)];
        losses.into_iter().flatten().find(|loss| !loss.is_finite() || *loss > limit)
    }

    /// A loss above which a training has diverged: three times that of guessing, or three times the first
    /// loss if the number of classes is not known.
    pub fn loss_limit(&self) -> Option<f64> {
        let chance = self.classes().filter(|&classes| classes > 1).map(|classes| (classes as f64).ln());
        let first = || self.steps.iter().map(|step| step.loss).find(|loss| loss.is_finite() && *loss > 0.0);
        chance.or_else(first).map(|loss| 3.0 * loss)
    }
}

/// Whether the network of `recipe` draws dropout masks in training; `false` if it cannot be read.
pub(super) fn has_dropout(recipe: &Recipe) -> bool {
    let masks = || -> Result<usize, GraphError> {
        // The number of classes makes no difference.
        let network = Classifier::new(recipe, 1)?;
        let mut g = Builder::new(network.name(), Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 3, network.input_px, network.input_px]))?;
        Ok(network.network.forward(&mut g, x, Mode::Train)?.drawn.masks.len())
    };
    masks().is_ok_and(|masks| masks > 0)
}

/// What changes while a run is in progress: sizes and times of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<Option<(u64, SystemTime)>>);

impl Fingerprint {
    /// The fingerprint of the run in the folder `run`.
    #[must_use]
    pub fn new(run: &Path) -> Self {
        let of_file = |name: &str| {
            let metadata = fs::metadata(run.join(name)).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        };
        Self([STEPS, EPOCHS, "checkpoints", "report.json"].map(of_file).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::examples::record;
    use super::*;

    #[test]
    fn a_run_with_only_a_recipe_can_be_read_and_a_broken_line_is_named() {
        let run = tempfile::tempdir().unwrap();
        assert!(Record::read(run.path(), None).is_err());
        fs::write(run.path().join("recipe.toml"), Recipe::load("demo", &[]).unwrap().to_toml()).unwrap();
        let before = Fingerprint::new(run.path());
        let line = r#"{"step":1,"epoch":1,"loss":null,"top1":1.0,"top5":1.0,"lr":0.1,"images_per_s":1.0,"data_wait":0.0}"#;
        fs::write(run.path().join(STEPS), format!("{line}\n{{\"step\":\n{line}\n{}", &line[..9])).unwrap();
        let record = Record::read(run.path(), None).unwrap();
        assert_eq!((record.steps.len(), record.epochs.len()), (2, 0));
        assert!(record.steps[0].loss.is_nan());
        assert!(record.damage[0].contains("metrics.jsonl, line 2: no record"), "{:?}", record.damage);
        assert_ne!(Fingerprint::new(run.path()), before);
        assert_eq!(Fingerprint::new(run.path()), Fingerprint::new(run.path()));
    }

    #[test]
    fn files_of_other_versions_do_not_fail_the_report() {
        let run = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(run.path().join(name), text).unwrap();
        write("recipe.toml", &Recipe::load("demo", &[]).unwrap().to_toml());
        let read = || Record::read(run.path(), None).unwrap();
        assert!(!read().damage.iter().any(|damage| damage.contains("environment.json")));

        // As before processor and threads were recorded, and with a field of a later version.
        write(
            "environment.json",
            r#"{"program":"fovea 0.1.0","backend":"ort","device":"cpu","library":"ONNX Runtime 1.20","system":"linux",
            "cores":4,"arguments":["trainer"],"weather":"sunny"}"#,
        );
        write(
            "report.json",
            r#"{"epochs":2,"step":18,"discarded":0,"best_top1":null,"views":"ten-crop",
            "score":{"images":15,"loss":null,"top1":0.25,"top5":0.0}}"#,
        );
        let record = read();
        let environment = record.environment.unwrap();
        assert_eq!((environment.program.as_str(), environment.threads), ("fovea 0.1.0", None));
        let omissions = record.damage.iter().filter(|damage| damage.contains("older version"));
        assert_eq!(omissions.count(), 2, "{:?}", record.damage);
        assert_eq!(record.result.unwrap().score.top1, 0.25);

        write("environment.json", "{}");
        write("report.json", r#"{"epochs":2}"#);
        let record = read();
        assert!(record.environment.is_none() && record.result.is_none());
        for part in ["environment.json: missing field `program`", "report.json: missing field `step`"] {
            assert!(record.damage.iter().any(|damage| damage.contains(part)), "{part}: {:?}", record.damage);
        }
    }

    #[test]
    fn dropout_is_found_in_layers() {
        assert!(has_dropout(&Recipe::load("alexnet", &[]).unwrap()));
        assert!(!has_dropout(&Recipe::load("alexnet-no-dropout", &[]).unwrap()));
    }

    #[test]
    fn updates_are_positioned_in_their_epoch_however_many_it_has() {
        let mut record = record(&[(1, 2.0), (1, 2.0), (1, 2.0), (1, 2.0), (2, 1.0), (2, 1.0), (3, 1.0)]);
        let positions = Positions::Epochs(vec![0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5]);
        assert_eq!(record.positions(), positions);
        record.steps.truncate(3);
        assert_eq!(record.positions(), Positions::Updates(vec![1.0, 2.0, 3.0]));
    }

    #[test]
    fn a_loss_that_is_not_finite_or_far_above_guessing_means_divergence() {
        assert_eq!(record(&[(1, 2.0), (1, 5.9)]).diverged(), None);
        assert_eq!(record(&[(1, 2.0), (1, 1e12)]).diverged(), Some(1e12));
        assert!(record(&[(1, 2.0), (1, f64::NAN)]).diverged().unwrap().is_nan());
    }
}

#[cfg(test)]
pub(super) mod examples {
    use super::*;

    /// A run of the recipe `demo` with updates of these epochs and losses.
    pub fn record(steps: &[(u32, f64)]) -> Record {
        let step = |(index, &(epoch, loss)): (u64, &(u32, f64))| Step {
            step: index + 1,
            epoch,
            loss,
            top1: 0.5,
            top5: 0.1,
            lr: 0.01,
            images_per_s: 100.0,
            data_wait: 0.0,
        };
        Record {
            name: "run".into(),
            recipe: Recipe::load("demo", &[]).unwrap(),
            settings: None,
            environment: None,
            result: None,
            has_dropout: true,
            steps: (0..).zip(steps).map(step).collect(),
            epochs: Vec::new(),
            split: None,
            meta: None,
            data: None,
            damage: Vec::new(),
        }
    }
}
