//! What lies in a run's folder, whatever is missing or damaged.

use std::{fs, path::Path, time::SystemTime};

use serde_json::Value;

use super::ReportError;
use crate::{
    checkpoint::{self, Meta, Store},
    metrics::{self, EPOCHS, Epoch, STEPS, Step},
    recipe::Recipe,
    training::{RunSettings, read_recipe, read_settings},
};

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
    /// What cannot be used, and why.
    pub damage: Vec<String>,
}

impl Record {
    /// Reads the folder `run`.
    ///
    /// # Errors
    /// [`ReportError::Run`] without a recipe: then it is no run.
    pub fn read(run: &Path) -> Result<Self, ReportError> {
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
            damage,
        })
    }

    /// Number of classes K, once there is a checkpoint.
    pub fn classes(&self) -> Option<usize> {
        self.meta.as_ref().map(|meta| meta.classes.len())
    }

    /// Updates of an epoch, once one is over.
    pub fn steps_per_epoch(&self) -> Option<f64> {
        let last = self.epochs.last()?;
        Some(last.step as f64 / f64::from(last.epoch)).filter(|steps| *steps > 0.0)
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
    use super::*;

    #[test]
    fn a_run_with_a_recipe_alone_can_be_read_and_a_broken_line_is_named() {
        let run = tempfile::tempdir().unwrap();
        assert!(Record::read(run.path()).is_err());
        fs::write(run.path().join("recipe.toml"), Recipe::load("demo", &[]).unwrap().to_toml()).unwrap();
        let before = Fingerprint::of(run.path());
        let line = r#"{"step":1,"epoch":1,"loss":null,"top1":1.0,"top5":1.0,"lr":0.1,"images_per_s":1.0,"data_wait":0.0}"#;
        fs::write(run.path().join(STEPS), format!("{line}\n{{\"step\":\n{line}\n{}", &line[..9])).unwrap();
        let record = Record::read(run.path()).unwrap();
        assert_eq!((record.steps.len(), record.epochs.len()), (2, 0));
        assert!(record.steps[0].loss.is_nan());
        assert!(record.damage[0].contains("metrics.jsonl, line 2: no record"), "{:?}", record.damage);
        assert_ne!(Fingerprint::of(run.path()), before);
        assert_eq!(Fingerprint::of(run.path()), Fingerprint::of(run.path()));
    }
}
