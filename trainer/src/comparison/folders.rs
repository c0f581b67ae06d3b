//! The folders of the runs: where they are, and what is known from them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{ComparisonError, Plan};
use crate::{
    checkpoint::{self, Store},
    metrics::{self, Epoch},
    recipe::Recipe,
    training::{RunSettings, read_recipe, read_settings},
};

/// The recipe with another learning rate.
pub(super) fn with_rate(recipe: &Recipe, rate: f64) -> Recipe {
    let mut recipe = recipe.clone();
    recipe.optimizer.learning_rate = rate;
    recipe
}

/// The folder of a run within the comparison's: `<recipe>/rate-<learning rate>/seed-<seed>`.
pub(super) fn run_folder(recipe: &Recipe, rate: f64, seed: u64) -> PathBuf {
    Path::new(&recipe.name).join(format!("rate-{rate}")).join(format!("seed-{seed}"))
}

/// The epochs that the run in `folder` has done; those after its last checkpoint are trained again and do not count.
pub(super) fn epochs_done(folder: &Path) -> Result<Vec<Epoch>, ComparisonError> {
    let Ok(latest) = Store::new(folder, 1).latest() else { return Ok(Vec::new()) };
    let expected = checkpoint::read_meta(&latest)?.epoch;
    let mut epochs = metrics::read_epochs(folder)?;
    epochs.retain(|epoch| epoch.epoch <= expected);
    if epochs.len() != expected as usize {
        let path = folder.join(metrics::EPOCHS);
        return Err(ComparisonError::Epochs { path, found: epochs.len(), expected });
    }
    Ok(epochs)
}

/// Checks that all runs that are there already are runs of the plan, before hours go into others.
///
/// # Errors
/// [`ComparisonError::Foreign`] with the first that is not.
pub(super) fn check_all(plan: &Plan, limit_batches: Option<u64>) -> Result<(), ComparisonError> {
    for contestant in &plan.contestants {
        let root = plan.folder_of(&contestant.recipe);
        for (rate, folder) in numbered::<f64>(&root, "rate-")? {
            let recipe = with_rate(&contestant.recipe, rate);
            for (seed, folder) in numbered::<u64>(&folder, "seed-")? {
                let settings =
                    RunSettings { data: contestant.data.clone(), limit_batches, micro_batch: None };
                check(&folder, &recipe, &settings, seed)?;
            }
        }
    }
    Ok(())
}

/// The folders in `root` that are called `prefix` and a number.
fn numbered<N: std::str::FromStr>(root: &Path, prefix: &str) -> Result<Vec<(N, PathBuf)>, ComparisonError> {
    let failed = |reason| ComparisonError::Read { path: root.into(), reason };
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    Ok(found)
}

fn check(folder: &Path, recipe: &Recipe, settings: &RunSettings, seed: u64) -> Result<(), ComparisonError> {
    let Ok(latest) = Store::new(folder, 1).latest() else {
        // Nothing has been trained there, so nothing can be mixed up.
        return Ok(());
    };
    let same = |what, found: String, expected: String| match found == expected {
        true => Ok(()),
        false => Err(ComparisonError::Foreign { path: folder.into(), what, found, expected }),
    };
    let found = read_recipe(folder)?;
    let describe = |recipe: &Recipe| format!("`{}`, hash {}", recipe.name, &recipe.hash()[..12]);
    same("recipe", found.hash(), recipe.hash()).map_err(|_| ComparisonError::Foreign {
        path: folder.into(),
        what: "recipe",
        found: describe(&found),
        expected: describe(recipe),
    })?;
    let before = read_settings(folder)?;
    same("data set", before.data.display().to_string(), settings.data.display().to_string())?;
    let limit =
        |settings: &RunSettings| settings.limit_batches.map_or("none".into(), |limit| limit.to_string());
    same("limit of batches", limit(&before), limit(settings))?;
    same("seed", checkpoint::read_meta(&latest)?.seed.to_string(), seed.to_string())
}
