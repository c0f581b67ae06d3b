//! The folders of trials: their paths, their finished epochs, and whether they belong to the plan.

use std::path::{Path, PathBuf};
use std::{fs, io};

use fovea_trainer::checkpoint::{self, Store};
use fovea_trainer::metrics::{self, Epoch};
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::{read_recipe, read_settings};
use serde_json::Value;

use super::error::ComparisonError;
use super::plan::{Candidate, Plan};

/// The recipe with another learning rate.
pub(super) fn with_rate(recipe: &Recipe, rate: f64) -> Recipe {
    let mut recipe = recipe.clone();
    recipe.optimizer.learning_rate = rate;
    recipe
}

/// The folder of a trial within that of the comparison: `<recipe>/rate-<learning rate>/seed-<seed>`.
pub(super) fn run_folder(recipe: &Recipe, rate: f64, seed: u64) -> PathBuf {
    Path::new(&recipe.name).join(format!("rate-{rate}")).join(format!("seed-{seed}"))
}

/// The finished epochs of the run in `folder`: those up to its last checkpoint, as later ones are trained
/// again.
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

/// Checks that all existing runs belong to the plan, before hours are spent on others.
///
/// # Errors
/// [`ComparisonError::Foreign`] with the first that does not.
pub(super) fn check_all(plan: &Plan, limit_batches: Option<u64>) -> Result<(), ComparisonError> {
    for candidate in &plan.candidates {
        let root = plan.folder_of(&candidate.recipe);
        for (rate, folder) in numbered::<f64>(&root, "rate-")? {
            for (seed, folder) in numbered::<u64>(&folder, "seed-")? {
                check(&folder, candidate, rate, seed, limit_batches)?;
            }
        }
    }
    Ok(())
}

/// The folders in `root` whose name is `prefix` and a number.
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

fn check(
    folder: &Path,
    candidate: &Candidate,
    rate: f64,
    seed: u64,
    limit_batches: Option<u64>,
) -> Result<(), ComparisonError> {
    let Ok(latest) = Store::new(folder, 1).latest() else {
        // Nothing has been trained there yet.
        return Ok(());
    };
    let same = |what: &str, found: String, expected: String| match found == expected {
        true => Ok(()),
        false => {
            Err(ComparisonError::Foreign { path: folder.into(), what: what.to_owned(), found, expected })
        }
    };
    let (found, expected) = (read_recipe(folder)?, with_rate(&candidate.recipe, rate));
    if found.hash() != expected.hash() {
        let [found, expected] = [&found, &expected].map(content);
        let (key, found, expected) = difference(&found, &expected, "").unwrap_or_default();
        same(&key, found, expected)?;
    }
    let before = read_settings(folder)?;
    same("data set", before.data.display().to_string(), candidate.data.display().to_string())?;
    let limit = |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
    same("--limit-batches", limit(before.limit_batches), limit(limit_batches))?;
    same("seed", checkpoint::read_meta(&latest)?.seed.to_string(), seed.to_string())
}

/// The part of a recipe that determines its training and is hashed.
fn content(recipe: &Recipe) -> Value {
    let mut recipe = recipe.clone();
    (recipe.name, recipe.description, recipe.training.epochs) = (String::new(), String::new(), 1);
    serde_json::to_value(recipe).expect("a validated recipe holds finite numbers only")
}

/// The first key at which two values differ, in the syntax of `--set`, with both values.
fn difference(found: &Value, expected: &Value, key: &str) -> Option<(String, String, String)> {
    let below = |part: &str| if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") };
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            let or_null = |value: Option<&Value>| value.cloned().unwrap_or_default();
            let mut parts = expected.keys().chain(found.keys());
            parts.find_map(|part| {
                difference(&or_null(found.get(part)), &or_null(expected.get(part)), &below(part))
            })
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            let mut pairs = found.iter().zip(expected).enumerate();
            pairs.find_map(|(index, (found, expected))| {
                difference(found, expected, &below(&index.to_string()))
            })
        }
        _ => (found != expected).then(|| (key.to_owned(), found.to_string(), expected.to_string())),
    }
}
