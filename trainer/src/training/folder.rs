//! The folder of a run.
//!
//! | file | what |
//! | --- | --- |
//! | `recipe.toml` | the complete recipe, overrides included |
//! | `network.onnx`, or `network/` | the file of the recipe's network, if there is one, and its values |
//! | `weights.safetensors` | the file of initial weights that the recipe names, if there is one |
//! | `run.json` | the other settings of the run ([`RunSettings`]), used to resume it |
//! | `environment.json` | program, device, library, machine |
//! | `metrics.jsonl`, `epochs.csv`, `events.out.tfevents.*` | see [`crate::metrics`] |
//! | `checkpoints/` | see [`crate::checkpoint`] |
//! | `report.json` | the result, once the run is over |

use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use fovea_files::{
    SealError, open_regular, read_regular_text, remove_temporary_files, seal, unseal, write_atomically,
};
use fovea_graph::Imported;
use fovea_pipeline::loader::OnBadRecord;
use fovea_pipeline::order::Order;
use fovea_pipeline::{DatasetInfo, cores};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{OnNan, Report, TrainingError};
use crate::backend::{Description, Precision};
use crate::checkpoint::{LOCK, RunLock, Store};
use crate::recipe::Recipe;

const NETWORK: &str = "network.onnx";
const NETWORK_FOLDER: &str = "network";
const WEIGHTS: &str = "weights.safetensors";
const RECIPE: &str = "recipe.toml";
const SETTINGS: &str = "run.json";
const ENVIRONMENT: &str = "environment.json";
const REPORT: &str = "report.json";

/// Settings of a run other than its recipe and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Folder of the data set, an absolute path, or its URL.
    pub data: PathBuf,
    /// Folder that keeps what is fetched from a URL, an absolute path; `None` is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Most bytes of shards in that folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_limit: Option<u64>,
    /// Batches after which an epoch ends early.
    pub limit_batches: Option<u64>,
    /// Rows that the backend takes at once; the recipe's batch if `None`.
    pub micro_batch: Option<usize>,
    /// Equal parts of a batch whose gradients are computed one by one and added in a tree, in any number of
    /// processes; 1 in runs of earlier versions.
    #[serde(default = "whole")]
    pub parts: usize,
    /// Shards among which images are shuffled; all if `None`, as in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<NonZeroU32>,
    /// Precision of the backend.
    pub precision: Precision,
    /// Seed of a run without a checkpoint.
    pub seed: u64,
    /// The reaction to a loss that is not finite.
    #[serde(default)]
    pub on_nan: OnNan,
    /// The reaction to damaged records.
    #[serde(default)]
    pub on_bad_record: OnBadRecord,
}

impl RunSettings {
    /// The order of the training images.
    #[must_use]
    pub fn order(&self) -> Order {
        self.window.map_or(Order::Shuffled, Order::Windowed)
    }

    /// Rows that the backend takes at once: a part of a batch of `batch` images, or a micro-batch of it.
    #[must_use]
    pub fn rows_at_once(&self, batch: usize) -> usize {
        let part = batch / self.parts.max(1);
        self.micro_batch.map_or(part, |rows| rows.min(part))
    }
}

/// The parts of a batch that is computed whole.
fn whole() -> usize {
    1
}

/// Program, device, library and machine of a run, as in `environment.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Name and version of this program.
    pub program: String,
    /// `ort`, `reference` or `null`.
    pub backend: String,
    /// `cpu` or `cuda:0`, for example.
    pub device: String,
    /// Library and version.
    pub library: String,
    /// Operating system.
    pub system: String,
    /// Model or architecture of the processor; runs of older versions have none.
    pub processor: Option<String>,
    /// Cores of the machine.
    pub cores: usize,
    /// Threads that compute; runs of older versions have none.
    pub threads: Option<usize>,
    /// The command line.
    pub arguments: Vec<String>,
}

impl Environment {
    /// The environment of this process with this backend.
    fn new(backend: &Description) -> Self {
        let cores = cores().get();
        Self {
            program: concat!("fovea ", env!("CARGO_PKG_VERSION")).to_owned(),
            backend: backend.backend.to_owned(),
            device: backend.device.clone(),
            library: backend.library.clone(),
            system: std::env::consts::OS.to_owned(),
            processor: Some(processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
            cores,
            threads: Some(if backend.threads == 0 { cores } else { backend.threads }),
            arguments: std::env::args().collect(),
        }
    }
}

/// A run's folder, locked for one trainer.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    store: Store,
    lock: RunLock,
}

impl Drop for RunFolder {
    /// A run that could not begin leaves no folder.
    fn drop(&mut self) {
        let only_lock = fs::read_dir(&self.path)
            .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK)));
        if only_lock {
            // If they cannot be removed, they do no harm.
            let _ = fs::remove_file(self.path.join(LOCK)).and_then(|()| fs::remove_dir(&self.path));
        }
    }
}

impl RunFolder {
    /// Creates the folder of a new run, which keeps its last `keep` checkpoints.
    ///
    /// # Errors
    /// [`TrainingError::RunExists`] when it holds checkpoints, [`TrainingError::Checkpoint`] when another
    /// trainer uses it or it cannot be made.
    pub fn create(path: &Path, keep: usize) -> Result<Self, TrainingError> {
        let folder = Self::open(path, keep)?;
        if folder.store.latest().is_ok() {
            return Err(TrainingError::RunExists { path: path.into() });
        }
        Ok(folder)
    }

    /// Opens the folder of a run that is to be resumed.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when another trainer uses it or it cannot be written to.
    pub fn open(path: &Path, keep: usize) -> Result<Self, TrainingError> {
        let lock = RunLock::acquire(path)?;
        remove_temporary_files(path).map_err(|reason| TrainingError::Write { path: path.into(), reason })?;
        Ok(Self { path: path.into(), store: Store::new(path, keep), lock })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks, after a checkpoint was saved, that the folder is still the one of the run.
    ///
    /// # Errors
    /// [`TrainingError::RunGone`].
    pub(super) fn check(&self, checkpoint: &Path) -> Result<(), TrainingError> {
        match self.lock.is_of(&self.path) {
            true => Ok(()),
            false => Err(TrainingError::RunGone { path: self.path.clone(), checkpoint: checkpoint.into() }),
        }
    }

    /// Its checkpoints.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Records recipe, settings and environment, and the record of its preparation that the data set in the
    /// folder `data` has, if it has one.
    ///
    /// # Errors
    /// [`TrainingError::Write`], and [`TrainingError::Read`] when a file that is to be copied cannot be read.
    pub fn describe(
        &self,
        recipe: &Recipe,
        data: &Path,
        settings: &RunSettings,
        backend: &Description,
    ) -> Result<(), TrainingError> {
        let mut recipe = recipe.clone();
        if let Some(file) = &mut recipe.network.onnx {
            *file = self.keep_network(file)?;
        }
        if let Some(file) = &mut recipe.network.weights {
            self.keep(file, Path::new(WEIGHTS))?;
            *file = WEIGHTS.into();
        }
        self.keep_preparation(data)?;
        self.write(RECIPE, recipe.to_toml().as_bytes())?;
        self.write_json(SETTINGS, settings)?;
        self.write_json(ENVIRONMENT, &Environment::new(backend))
    }

    /// Records the result of the run.
    ///
    /// # Errors
    /// [`TrainingError::Write`].
    pub fn report(&self, report: &Report) -> Result<(), TrainingError> {
        self.write_json(REPORT, report)
    }

    /// Copies the data set's record of its preparation; if there is none, removes an older copy.
    fn keep_preparation(&self, data: &Path) -> Result<(), TrainingError> {
        let (original, kept) = (
            data.join(DatasetInfo::PREPARATION_FILE_NAME),
            self.path.join(DatasetInfo::PREPARATION_FILE_NAME),
        );
        match original.try_exists() {
            Ok(true) => self.keep(&original, Path::new(DatasetInfo::PREPARATION_FILE_NAME)),
            Ok(false) => match fs::remove_file(&kept) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                    Err(TrainingError::Write { path: kept, reason })
                }
                _ => Ok(()),
            },
            Err(reason) => Err(TrainingError::Read { path: original, reason: reason.to_string() }),
        }
    }

    /// Copies a network's file, and the files with its values; returns its path in the folder.
    fn keep_network(&self, file: &Path) -> Result<PathBuf, TrainingError> {
        let values = Imported::read(file)?.external_files().to_vec();
        if values.is_empty() {
            self.keep(file, Path::new(NETWORK))?;
            return Ok(NETWORK.into());
        }
        // In a folder of their own, since they may have any name.
        let folder = Path::new(NETWORK_FOLDER);
        let from = file.parent().unwrap_or(Path::new(""));
        for name in values {
            self.keep(&from.join(&name), &folder.join(name))?;
        }
        self.keep(file, &folder.join(NETWORK))?;
        Ok(folder.join(NETWORK))
    }

    /// Copies a file that the run needs for its lifetime.
    fn keep(&self, file: &Path, name: &Path) -> Result<(), TrainingError> {
        let kept = self.path.join(name);
        let read = |reason: io::Error| TrainingError::Read { path: file.into(), reason: reason.to_string() };
        if kept.exists() && fs::canonicalize(file).map_err(read)? == fs::canonicalize(&kept).map_err(read)? {
            return Ok(());
        }
        let mut source = open_regular(file).map_err(read)?;
        if let Some(folder) = kept.parent() {
            fs::create_dir_all(folder)
                .map_err(|reason| TrainingError::Write { path: folder.to_owned(), reason })?;
        }
        write_atomically(&kept, |out| io::copy(&mut source, out).map(|_| ()))
            .map_err(|reason| TrainingError::Write { path: kept, reason })
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), TrainingError> {
        let sealed = seal(value).and_then(|sealed| serde_json::to_vec_pretty(&sealed));
        let mut text = sealed.expect("plain data can be written as JSON");
        text.push(b'\n');
        self.write(name, &text)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainingError> {
        let path = self.path.join(name);
        write_atomically(&path, |out| io::Write::write_all(out, bytes))
            .map_err(|reason| TrainingError::Write { path, reason })
    }
}

/// The processor's model (Linux on x86-64).
fn processor() -> Option<String> {
    let about = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = about.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The recipe of the run in `folder`.
///
/// # Errors
/// [`TrainingError::Read`] when there is none, [`TrainingError::Recipe`] when it is damaged.
pub fn read_recipe(folder: &Path) -> Result<Recipe, TrainingError> {
    let path = folder.join(RECIPE);
    let text = read(&path)?;
    let mut recipe = Recipe::from_toml(&text, &path.display().to_string())?;
    let network = &mut recipe.network;
    for file in [&mut network.onnx, &mut network.weights].into_iter().flatten() {
        *file = folder.join(&*file);
    }
    Ok(recipe)
}

/// The settings of the run in `folder`.
///
/// # Errors
/// [`TrainingError::Read`] when there are none or they are damaged.
pub fn read_settings(folder: &Path) -> Result<RunSettings, TrainingError> {
    read_json(&folder.join(SETTINGS))
}

/// The environment of the run in `folder`; `None` if the run has not started.
///
/// # Errors
/// [`TrainingError::Read`] when it is damaged.
pub fn read_environment(folder: &Path) -> Result<Option<Environment>, TrainingError> {
    read_json_if_there(&folder.join(ENVIRONMENT))
}

/// The result of the run in `folder`; `None` if the run is not finished.
///
/// # Errors
/// [`TrainingError::Read`] when it is damaged.
pub fn read_report(folder: &Path) -> Result<Option<Report>, TrainingError> {
    read_json_if_there(&folder.join(REPORT))
}

fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, TrainingError> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, TrainingError> {
    unseal(read(path)?.as_bytes()).map_err(|error| match error {
        SealError::Json(error) => TrainingError::Read { path: path.into(), reason: error.to_string() },
        changed => TrainingError::Changed { path: path.into(), reason: changed.to_string() },
    })
}

fn read(path: &Path) -> Result<String, TrainingError> {
    read_regular_text(path)
        .map_err(|reason| TrainingError::Read { path: path.into(), reason: reason.to_string() })
}
