//! Data sets at URLs, and their caches.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fovea_datasets::verify;
use fovea_pipeline::{Dataset, sizes};
use fovea_remote::{Cache, RemoteError, Settings, Stop, open as fetch};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::attended::attended;
use crate::errors::{DataError, IntoException};

/// How often a wait looks for signals.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// Where what comes from a URL is kept, and how long its server may fail.
pub struct Elsewhere {
    pub cache: Option<PathBuf>,
    /// In bytes of shards.
    pub cache_limit: Option<u64>,
    /// In seconds.
    pub timeout: f64,
}

impl IntoException for RemoteError {
    fn exception(self) -> PyErr {
        match self {
            Self::Url { .. } | Self::SmallLimit { .. } => PyValueError::new_err(self.to_string()),
            _ => DataError::new_err(self.to_string()),
        }
    }
}

/// Opens the data set in a folder or at a URL, looking for signals meanwhile.
pub fn open(py: Python<'_>, place: &Path, elsewhere: Elsewhere) -> PyResult<Dataset> {
    let Some(url) = place.to_str().filter(|_| fovea_remote::is_url(place)) else {
        return py.detach(|| verify::open(place)).map_err(IntoException::exception);
    };
    let folder = elsewhere.cache.or_else(|| Some(fovea_files::cache_folder()?.join("data")));
    let folder =
        folder.ok_or_else(|| PyValueError::new_err("there is no folder for a cache: give one, cache="))?;
    let patience = Duration::try_from_secs_f64(elsewhere.timeout).ok().filter(|patience| !patience.is_zero());
    let patience = patience.ok_or_else(|| {
        PyValueError::new_err(format!("timeout={}, expected a number of seconds above 0", elsewhere.timeout))
    })?;
    let stop = Stop::default();
    let settings = Settings { stop: stop.clone(), ..Settings::with_patience(patience) };
    let cache = Cache { folder, limit: elsewhere.cache_limit };
    let (opened, looked) = attended(
        py,
        SIGNALS_EVERY.min(patience),
        |py| py.check_signals(),
        || stop.set(),
        || fetch(url, &cache, &settings),
    )?;
    looked?;
    opened.map_err(IntoException::exception)
}

/// Whether the path is a URL.
#[pyfunction]
pub fn is_url(path: PathBuf) -> bool {
    fovea_remote::is_url(&path)
}

/// Reads a number of bytes, as in `100GB`.
#[pyfunction]
pub fn bytes_of(text: &str) -> PyResult<u64> {
    sizes::parse(text).map_err(|reason| PyValueError::new_err(format!("cache_limit={reason}")))
}
