//! Data sets at URLs, and their caches.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fovea_pipeline::sizes;
use fovea_pipeline::threads::panic_text;
use fovea_remote::{Cache, RemoteError, Settings, Stop, open as fetch};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::errors::{DataError, IntoException};

/// How often a wait looks for signals.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

impl IntoException for RemoteError {
    fn exception(self) -> PyErr {
        match self {
            Self::Url { .. } | Self::SmallLimit { .. } => PyValueError::new_err(self.to_string()),
            _ => DataError::new_err(self.to_string()),
        }
    }
}

/// Opens the data set in a folder or at a URL, looking for signals meanwhile.
pub fn open(
    py: Python<'_>,
    place: &Path,
    cache: Option<PathBuf>,
    cache_limit: Option<u64>,
    timeout: f64,
) -> PyResult<fovea_pipeline::Dataset> {
    let Some(url) = place.to_str().filter(|_| fovea_remote::is_url(place)) else {
        return py.detach(|| fovea_pipeline::Dataset::open(place)).map_err(IntoException::exception);
    };
    let folder = cache.or_else(|| Some(fovea_files::cache_folder()?.join("data")));
    let folder =
        folder.ok_or_else(|| PyValueError::new_err("there is no folder for a cache: give one, cache="))?;
    let patience = Duration::try_from_secs_f64(timeout).ok().filter(|patience| !patience.is_zero());
    let patience = patience.ok_or_else(|| {
        PyValueError::new_err(format!("timeout={timeout}, expected a number of seconds above 0"))
    })?;
    let stop = Stop::default();
    let settings = Settings { stop: stop.clone(), ..Settings::with_patience(patience) };
    let cache = Cache { folder, limit: cache_limit };
    let mut interrupted = Ok(());
    let opened = py.detach(|| {
        thread::scope(|scope| {
            let work = thread::Builder::new().spawn_scoped(scope, || fetch(url, &cache, &settings));
            let work =
                work.map_err(|error| PyRuntimeError::new_err(format!("cannot start a thread: {error}")))?;
            while !work.is_finished() {
                thread::sleep(SIGNALS_EVERY.min(patience));
                if interrupted.is_ok() {
                    interrupted = Python::attach(|py| py.check_signals());
                    if interrupted.is_err() {
                        stop.set();
                    }
                }
            }
            let opened = work.join();
            opened.map_err(|panic| PyRuntimeError::new_err(panic_text(&*panic).to_owned()))
        })
    });
    interrupted?;
    opened?.map_err(IntoException::exception)
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
