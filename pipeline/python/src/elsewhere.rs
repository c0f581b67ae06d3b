//! Data sets at URLs, and their caches.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use fovea_datasets::verify;
use fovea_pipeline::{Dataset, sizes};
use fovea_remote::{Cache, RemoteError, Settings, Stop, open as fetch};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::attended::abandoned_at_a_signal;
use crate::errors::{DataError, IntoException};

/// How often a wait looks for signals.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// Where what comes from a URL is kept, and how long its server may fail.
#[derive(Clone, PartialEq)]
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
    let url = url.to_owned();
    let opened = abandoned_at_a_signal(
        py,
        SIGNALS_EVERY.min(patience),
        |py| py.check_signals(),
        || stop.set(),
        move || fetch(&url, &cache, &settings),
    )?;
    opened.map_err(IntoException::exception)
}

/// A data set at a URL that is open, with what it was opened by.
type Opened = (PathBuf, Elsewhere, Weak<Dataset>);

/// Opens the data set as [`open`] does; one at a URL is that which is open already, if it is the same, so
/// that its splits share the room of the cache. Else the shards that one loader has ahead would be to the
/// other like those of another process, for which it waits.
pub fn open_shared(py: Python<'_>, place: &Path, elsewhere: Elsewhere) -> PyResult<Arc<Dataset>> {
    static ALL: Mutex<Vec<Opened>> = Mutex::new(Vec::new());
    let dataset = Arc::new(open(py, place, elsewhere.clone())?);
    if !fovea_remote::is_url(place) {
        return Ok(dataset);
    }
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(.., opened)| opened.strong_count() > 0);
    let same = all.iter().filter(|(url, by, _)| url == place && *by == elsewhere);
    let mut same = same.filter_map(|(.., opened)| opened.upgrade());
    if let Some(opened) = same.find(|opened| opened.info() == dataset.info()) {
        return Ok(opened);
    }
    drop(same);
    all.push((place.to_owned(), elsewhere, Arc::downgrade(&dataset)));
    Ok(dataset)
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
