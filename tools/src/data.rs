//! Data sets that command lines name: a folder, or a URL with a cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use fovea_pipeline::Dataset;
use fovea_remote::{Cache, Settings};

pub use fovea_remote::{RemoteError, Upload, folder_name, is_url};

use crate::args::seconds;
use crate::bytes;

/// Options for data sets that are named by a URL.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// Folder that keeps what is fetched from a URL [default: `data` in FOVEA_CACHE or ~/.cache/fovea]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Most bytes of shards in the cache, as in 100GB; those that are not needed go first [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = bytes::parse)]
    pub cache_limit: Option<u64>,
    /// Seconds that the server of a URL may fail before the program does
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub data_timeout: Duration,
}

impl CacheArgs {
    /// Opens the data set in a folder, or at a URL.
    ///
    /// # Errors
    /// [`DatasetError`](fovea_pipeline::DatasetError) or [`RemoteError`] when it cannot be used, or there is
    /// no folder for a cache.
    pub fn open(&self, place: &Path) -> Result<Dataset> {
        match place.to_str().filter(|_| is_url(place)) {
            None => Ok(Dataset::open(place)?),
            Some(url) => Ok(fovea_remote::open(url, &self.cache()?, &self.settings())?),
        }
    }

    /// These options; where there is none, those of before.
    #[must_use]
    pub fn or_of(&self, cache: Option<PathBuf>, cache_limit: Option<u64>) -> Self {
        let (cache, cache_limit) = (self.cache.clone().or(cache), self.cache_limit.or(cache_limit));
        Self { cache, cache_limit, ..*self }
    }

    /// The cache.
    ///
    /// # Errors
    /// When none is named and there is no home folder for one.
    pub fn cache(&self) -> Result<Cache> {
        let folder = self.cache.clone().or_else(|| Some(fovea_files::cache_folder()?.join("data")));
        let folder = folder.context("there is no folder for a cache: give one with --cache")?;
        Ok(Cache { folder, limit: self.cache_limit })
    }

    /// How files are fetched.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings::with_patience(self.data_timeout)
    }
}

/// Uploads the prepared data set in `folder` to `url`; `uploaded` receives the bytes of each file.
///
/// # Errors
/// Those of [`fovea_remote::upload`].
pub fn upload(folder: &Path, url: &str, uploaded: &(dyn Fn(u64) + Sync)) -> Result<Upload> {
    Ok(fovea_remote::upload(folder, url, &Settings::default(), uploaded)?)
}

/// Checks that a data set can be uploaded to `url`, as far as that is known without doing it.
///
/// # Errors
/// Those of [`fovea_remote::check_destination`].
pub fn check_destination(url: &str) -> Result<()> {
    Ok(fovea_remote::check_destination(url, &Settings::default())?)
}
