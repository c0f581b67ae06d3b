//! Data sets that the command line names.

use std::path::Path;

use fovea_pipeline::{Dataset, DatasetError};
use fovea_tools::data::CacheArgs;
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::{TrainingError, check_images};

/// Opens the data set in a folder or at a URL.
pub fn open(cache: &CacheArgs, place: &Path) -> anyhow::Result<Dataset> {
    // As an error of training it has an exit code.
    cache.open(place).map_err(|error| match error.downcast::<DatasetError>() {
        Ok(error) => TrainingError::from(error).into(),
        Err(error) => error,
    })
}

/// Opens the data set in a folder or at a URL, whatever its labels, for a network that was trained with
/// `recipe`.
pub fn open_for(cache: &CacheArgs, place: &Path, recipe: &Recipe) -> anyhow::Result<Dataset> {
    let dataset = open(cache, place)?;
    check_images(&dataset, recipe)?;
    Ok(dataset)
}
