//! What lies in a run's folder, whatever is missing or damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use fovea_pipeline::{Dataset, Split};
use fovea_trainer::checkpoint::{self, Meta, Store};
use fovea_trainer::metrics::{self, EPOCHS, Epoch, STEPS, Step};
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::{RunSettings, read_recipe, read_settings};
use serde_json::Value;

use super::ReportError;

/// A run as far as its folder tells.
pub(super) struct Record {
    pub name: String,
    pub recipe: Recipe,
    pub settings: Option<RunSettings>,
    /// `environment.json`.
    pub environment: Option<Value>,
    /// `report.json`, once the run is over.
    pub result: Option<Value>,
    pub steps: Vec<Step>,
    pub epochs: Vec<Epoch>,
    /// Of the latest checkpoint.
    pub meta: Option<Meta>,
    /// What its data set holds, if that can be read.
    pub data: Option<DataFacts>,
    /// What cannot be used, and why.
    pub damage: Vec<String>,
}

/// Numbers of a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct DataFacts {
    pub classes: usize,
    pub train_images: u64,
    pub val_images: u64,
}

/// Where the updates stand along a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Places {
    /// In epochs: an end of an epoch is a whole number.
    Epochs(Vec<f64>),
    /// In updates, as long as no epoch is over.
    Updates(Vec<f64>),
}

impl Places {
    /// The place of each update, in their order.
    pub fn values(&self) -> &[f64] {
        let (Self::Epochs(values) | Self::Updates(values)) = self;
        values
    }
}

impl Record {
    /// Reads the folder `run`; the data set lies in `data` if not where the run says.
    ///
    /// # Errors
    /// [`ReportError::Run`] without a recipe: then it is no run.
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
                count => format!(" (and {count} further lines)"),
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
        let settings = read_settings(run).map_err(|error| damage.push(error.to_string())).ok();
        let data = data.or(settings.as_ref().map(|settings| settings.data.as_path()));
        let data = data.and_then(|data| Dataset::open(data).ok()).map(|dataset| DataFacts {
            classes: dataset.info().classes.len(),
            train_images: dataset.info().images(Split::Train),
            val_images: dataset.info().images(Split::Val),
        });
        let name = std::path::absolute(run)
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Ok(Self {
            name: name.unwrap_or_default(),
            recipe,
            settings,
            environment: read_json(&run.join("environment.json")),
            result: read_json(&run.join("report.json")),
            steps,
            epochs,
            meta: Store::new(run, usize::MAX).latest().and_then(|path| checkpoint::read_meta(&path)).ok(),
            data,
            damage,
        })
    }

    /// Number of classes K, once there is a checkpoint, or the data set's.
    pub fn classes(&self) -> Option<usize> {
        let trained = self.meta.as_ref().map(|meta| meta.classes.len());
        trained.or(self.data.map(|data| data.classes))
    }

    /// Whether the error was measured on images of their own, as far as is known.
    pub fn has_validation(&self) -> bool {
        self.data.is_none_or(|data| data.val_images > 0)
    }

    /// Where each update stands: by its own epoch and its position among the updates of that epoch, of which there may be more or
    /// fewer than of others, as when batches are left out or a run goes on with another --limit-batches.
    pub fn places(&self) -> Places {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        self.steps.iter().for_each(|step| *counts.entry(step.epoch).or_default() += 1);
        let over = self.epochs.iter().map(|epoch| epoch.epoch).max().unwrap_or(0);
        let over = over.max(counts.keys().max().map_or(0, |newest| newest.saturating_sub(1)));
        if over == 0 {
            return Places::Updates(self.steps.iter().map(|step| step.step as f64).collect());
        }
        let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
        let place = |step: &Step| {
            let position = seen.entry(step.epoch).or_default();
            *position += 1;
            let mut count = counts[&step.epoch];
            if step.epoch > over {
                // It is not over: as long as the one before it, as far as is known.
                let before = counts.range(..step.epoch).next_back().map_or(0, |(_, &before)| before);
                count = count.max(before);
            }
            f64::from(step.epoch.saturating_sub(1)) + *position as f64 / count as f64
        };
        Places::Epochs(self.steps.iter().map(place).collect())
    }

    /// The loss of the last update, or of the last epoch's evaluation, that shows that the weights are lost: it is no number, or above
    /// [`loss_limit`](Self::loss_limit).
    pub fn diverged(&self) -> Option<f64> {
        let limit = self.loss_limit()?;
        let losses =
            [self.steps.last().map(|step| step.loss), self.epochs.last().map(|epoch| epoch.val_loss)];
        losses.into_iter().flatten().find(|loss| !loss.is_finite() || *loss > limit)
    }

    /// A loss that no network has that learns: three times that of guessing. Without a number of classes, three times the first one.
    pub fn loss_limit(&self) -> Option<f64> {
        let chance = self.classes().filter(|&classes| classes > 1).map(|classes| (classes as f64).ln());
        let first = || self.steps.iter().map(|step| step.loss).find(|loss| loss.is_finite() && *loss > 0.0);
        chance.or_else(first).map(|loss| 3.0 * loss)
    }
}

/// A file whose content is told as it is; one that is not there or damaged tells nothing.
fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// What changes when a run goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<Option<(u64, SystemTime)>>);

impl Fingerprint {
    /// Of the run in the folder `run`.
    #[must_use]
    pub fn of(run: &Path) -> Self {
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
    fn a_run_with_a_recipe_alone_can_be_read_and_a_broken_line_is_named() {
        let run = tempfile::tempdir().unwrap();
        assert!(Record::read(run.path(), None).is_err());
        fs::write(run.path().join("recipe.toml"), Recipe::load("demo", &[]).unwrap().to_toml()).unwrap();
        let before = Fingerprint::of(run.path());
        let line = r#"{"step":1,"epoch":1,"loss":null,"top1":1.0,"top5":1.0,"lr":0.1,"images_per_s":1.0,"data_wait":0.0}"#;
        fs::write(run.path().join(STEPS), format!("{line}\n{{\"step\":\n{line}\n{}", &line[..9])).unwrap();
        let record = Record::read(run.path(), None).unwrap();
        assert_eq!((record.steps.len(), record.epochs.len()), (2, 0));
        assert!(record.steps[0].loss.is_nan());
        assert!(record.damage[0].contains("metrics.jsonl, line 2: no record"), "{:?}", record.damage);
        assert_ne!(Fingerprint::of(run.path()), before);
        assert_eq!(Fingerprint::of(run.path()), Fingerprint::of(run.path()));
    }

    #[test]
    fn updates_stand_in_their_own_epoch_however_many_it_has() {
        let mut record = record(&[(1, 2.0), (1, 2.0), (1, 2.0), (1, 2.0), (2, 1.0), (2, 1.0), (3, 1.0)]);
        let places = Places::Epochs(vec![0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5]);
        assert_eq!(record.places(), places);
        record.steps.truncate(3);
        assert_eq!(record.places(), Places::Updates(vec![1.0, 2.0, 3.0]));
    }

    #[test]
    fn a_loss_that_is_no_number_or_far_above_guessing_tells_that_the_weights_are_lost() {
        assert_eq!(record(&[(1, 2.0), (1, 5.9)]).diverged(), None);
        assert_eq!(record(&[(1, 2.0), (1, 1e12)]).diverged(), Some(1e12));
        assert!(record(&[(1, 2.0), (1, f64::NAN)]).diverged().unwrap().is_nan());
    }
}

#[cfg(test)]
pub(super) mod examples {
    use super::*;

    /// A run of the demonstration's recipe with updates of these epochs and losses.
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
            steps: (0..).zip(steps).map(step).collect(),
            epochs: Vec::new(),
            meta: None,
            data: None,
            damage: Vec::new(),
        }
    }
}
