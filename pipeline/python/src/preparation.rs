//! Preparing shards from photos, and looking at the result.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fovea_datasets::prepare::{Preparation, PrepareError, PrepareOptions, Preparer, Progress};
use fovea_datasets::{EmbeddedSample, Note, OpenOptions, Reading, Source, SourceError, verify as checks};
use fovea_pipeline::threads::panic_text;
use fovea_pipeline::{cores, report_bus_errors as report};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use serde_json::json;

use crate::errors::{DataError, IntoException};

/// How often a preparation looks for signals and says how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Makes shards of photos; returns a summary as JSON. `progress` is called with the number of images that
/// are done, of those there are, and of those that could not be decoded.
#[pyfunction]
#[pyo3(signature = (*, train, val, devkit, labels, embedded_sample, out, layout, orientation, resize, filter, size,
    seed, encoding, quality, shard_bytes, limit_per_class, workers, update, progress))]
#[expect(clippy::too_many_arguments, reason = "called once, with keywords")]
pub fn prepare(
    py: Python<'_>,
    train: Option<PathBuf>,
    val: Option<PathBuf>,
    devkit: Option<PathBuf>,
    labels: Option<PathBuf>,
    embedded_sample: bool,
    out: PathBuf,
    layout: &str,
    orientation: &str,
    resize: &str,
    filter: &str,
    size: u32,
    seed: u64,
    encoding: &str,
    quality: u8,
    shard_bytes: u64,
    limit_per_class: Option<usize>,
    workers: Option<NonZeroUsize>,
    update: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let (layout, reading) = match layout {
        "auto" => (None, Reading::Detect),
        "classes" => (None, Reading::Classes),
        "splits" => (None, Reading::Splits),
        name => (Some(name.parse().map_err(IntoException::exception)?), Reading::Detect),
    };
    let options = PrepareOptions {
        size,
        orientation: orientation.parse().map_err(IntoException::exception)?,
        fit: resize.parse().map_err(IntoException::exception)?,
        filter: filter.parse().map_err(IntoException::exception)?,
        encoding: encoding.parse().map_err(IntoException::exception)?,
        quality,
        seed,
        shard_bytes,
        limit_per_class,
        workers: workers.unwrap_or_else(cores),
        update,
    };
    options.validate().map_err(IntoException::exception)?;
    let scratch_dir = out.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned);
    let from = OpenOptions { train, val, devkit, layout, reading, labels, scratch_dir };
    let from = (!embedded_sample).then_some(from);
    let done = Done { progress: Progress::default(), total: AtomicU64::new(0) };
    let mut stopped = None;
    let result = py.detach(|| {
        thread::scope(|scope| {
            let work = thread::Builder::new()
                .spawn_scoped(scope, || work(from, options, &out, &done))
                .map_err(|error| PyOSError::new_err(format!("cannot start a thread: {error}")))?;
            while !work.is_finished() {
                thread::sleep(LOOK_EVERY);
                if stopped.is_none() {
                    stopped = Python::attach(|py| look(py, &done, progress.as_ref())).err();
                }
                if stopped.is_some() {
                    done.progress.cancel();
                }
            }
            work.join().unwrap_or_else(|panic| Err(PyRuntimeError::new_err(panic_text(&*panic).to_owned())))
        })
    });
    match stopped {
        // What is finished stays for the next run.
        Some(error) if result.is_err() => Err(error),
        _ => {
            look(py, &done, progress.as_ref())?;
            result
        }
    }
}

/// What a preparation has done.
struct Done {
    progress: Progress,
    /// Images that there are; 0 until they are counted.
    total: AtomicU64,
}

/// Runs what handles signals, and says how far the preparation is.
fn look(py: Python<'_>, done: &Done, progress: Option<&Py<PyAny>>) -> PyResult<()> {
    py.check_signals()?;
    let total = done.total.load(Ordering::Relaxed);
    if let (Some(progress), true) = (progress, total > 0) {
        progress.call1(py, (done.progress.images(), total, done.progress.rejected()))?;
    }
    Ok(())
}

fn work(from: Option<OpenOptions>, options: PrepareOptions, out: &Path, done: &Done) -> PyResult<String> {
    let source: Box<dyn Source> = match from {
        Some(options) => fovea_datasets::open(&options).map_err(SourceError::exception)?,
        None => Box::new(EmbeddedSample::new()),
    };
    let preparer = Preparer::new(&*source, options, out).map_err(PrepareError::exception)?;
    let mut notes: Vec<Note> = source.notes().iter().chain(preparer.taken_in()).cloned().collect();
    done.total.store(preparer.images(), Ordering::Relaxed);
    let summary = preparer.run(&done.progress).map_err(PrepareError::exception)?;
    notes.extend(summary.notes);
    let notes: Vec<_> = notes
        .iter()
        .map(|note| {
            json!({
                "kind": note.kind, "path": note.path, "count": note.count, "message": note.message,
                "names": note.names,
            })
        })
        .collect();
    Ok(json!({
        "directory": out,
        "info": summary.info,
        "rejected": summary.rejected,
        "shards_kept": summary.shards_kept,
        "notes": notes,
    })
    .to_string())
}

/// Reads every byte of a prepared data set again; returns what was found, as JSON.
#[pyfunction]
#[pyo3(signature = (path, *, workers))]
pub fn verify(py: Python<'_>, path: PathBuf, workers: Option<NonZeroUsize>) -> PyResult<String> {
    py.detach(|| {
        let dataset = checks::open(&path).map_err(IntoException::exception)?;
        let report = checks::verify(&dataset, workers.unwrap_or_else(cores), &|_bytes| ());
        let problems: Vec<_> = report
            .problems
            .iter()
            .map(|problem| json!({ "path": problem.path, "problem": problem.what }))
            .collect();
        Ok(json!({ "shards": report.shards, "images": report.images, "problems": problems }).to_string())
    })
}

/// What a prepared data set holds, and how it was prepared, as JSON.
#[pyfunction]
pub fn inspect(path: PathBuf) -> PyResult<String> {
    let dataset = checks::open(&path).map_err(IntoException::exception)?;
    let preparation = Preparation::read(&path).map_err(IntoException::exception)?;
    let all = json!({ "info": dataset.info(), "preparation": preparation });
    Ok(all.to_string())
}

/// From now on, a page of a shard that cannot be read (the file was cut, the disk fails) ends the process
/// with a line that names the file, instead of "Bus error".
#[pyfunction]
pub fn report_bus_errors() -> PyResult<()> {
    report().map_err(|error| DataError::new_err(format!("cannot handle bus errors: {error}")))
}
