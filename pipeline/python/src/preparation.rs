//! Preparing shards from photos, and looking at the result.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fovea_datasets::prepare::{Preparation, PrepareError, PrepareOptions, Preparer, Progress};
use fovea_datasets::{EmbeddedSample, Note, OpenOptions, Reading, Source, SourceError, verify as checks};
use fovea_pipeline::room::Room;
use fovea_pipeline::{cores, report_bus_errors as report};
use fovea_remote::{Settings, Stop};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::attended::attended;
use crate::elsewhere::{self, Elsewhere};
use crate::errors::{DataError, IntoException};

/// How often a preparation looks for signals and says how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Makes shards of photos, in a folder or, by way of `work`, at a URL; returns a summary as JSON.
///
/// `progress` is called with the number of images that are done, of those there are, and of those that could
/// not be decoded.
#[pyfunction]
#[pyo3(signature = (*, train, val, devkit, labels, embedded_sample, out, work, layout, orientation, resize, filter,
    size, seed, encoding, quality, shard_bytes, limit_per_class, workers, update, progress))]
#[expect(clippy::too_many_arguments, reason = "called once, with keywords")]
pub fn prepare(
    py: Python<'_>,
    train: Option<PathBuf>,
    val: Option<PathBuf>,
    devkit: Option<PathBuf>,
    labels: Option<PathBuf>,
    embedded_sample: bool,
    out: PathBuf,
    work: Option<PathBuf>,
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
    let (out, url) = destination(out, work)?;
    let scratch_dir = out.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned);
    let from = OpenOptions { train, val, devkit, layout, reading, labels, scratch_dir };
    let from = (!embedded_sample).then_some(from);
    let done = Done { progress: Progress::default(), total: AtomicU64::new(0), stop: Stop::default() };
    let (result, looked) = attended(
        py,
        LOOK_EVERY,
        |py| look(py, &done, progress.as_ref()),
        || {
            done.progress.cancel();
            done.stop.set();
        },
        || run(from, options, &out, url.as_deref(), &done),
    )?;
    if result.is_err() {
        // What is finished stays for the next run.
        looked?;
    } else {
        look(py, &done, progress.as_ref())?;
    }
    result
}

/// The folder to prepare in, and the URL to upload to.
fn destination(out: PathBuf, work: Option<PathBuf>) -> PyResult<(PathBuf, Option<String>)> {
    match out.to_str().filter(|_| fovea_remote::is_url(&out)) {
        None if work.is_some() => Err(PyValueError::new_err(
            "work is the folder to prepare in before an upload, but out is no URL: leave it out",
        )),
        None => Ok((out, None)),
        Some(url) => {
            let of_url =
                || Some(fovea_files::cache_folder()?.join("prepare").join(fovea_remote::folder_name(url)));
            let folder = work.or_else(of_url);
            let folder = folder
                .ok_or_else(|| PyValueError::new_err("there is no folder to prepare in: give one, work="))?;
            Ok((folder, Some(url.to_owned())))
        }
    }
}

/// What a preparation has done.
struct Done {
    progress: Progress,
    /// Images that there are; 0 until they are counted.
    total: AtomicU64,
    /// Ends an upload.
    stop: Stop,
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

fn run(
    from: Option<OpenOptions>,
    options: PrepareOptions,
    out: &Path,
    url: Option<&str>,
    done: &Done,
) -> PyResult<String> {
    let settings = Settings { stop: done.stop.clone(), ..Settings::default() };
    if let Some(url) = url {
        // What cannot be uploaded to is an error now, and not after hours.
        fovea_remote::check_destination(url, &settings).map_err(IntoException::exception)?;
    }
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
    let uploaded = match url {
        None => Value::Null,
        Some(url) => {
            let sent =
                fovea_remote::upload(out, url, &settings, &|_| ()).map_err(IntoException::exception)?;
            json!({ "url": url, "files": sent.files, "bytes": sent.bytes, "skipped": sent.skipped })
        }
    };
    Ok(json!({
        "directory": out,
        "uploaded": uploaded,
        "info": summary.info,
        "rejected": summary.rejected,
        "shards_kept": summary.shards_kept,
        "notes": notes,
    })
    .to_string())
}

/// Reads every byte of a prepared data set again; returns what was found, as JSON.
#[pyfunction]
#[pyo3(signature = (path, *, workers, cache, cache_limit, timeout))]
pub fn verify(
    py: Python<'_>,
    path: PathBuf,
    workers: Option<NonZeroUsize>,
    cache: Option<PathBuf>,
    cache_limit: Option<u64>,
    timeout: f64,
) -> PyResult<String> {
    let dataset = elsewhere::open(py, &path, Elsewhere { cache, cache_limit, timeout })?;
    py.detach(|| {
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
#[pyo3(signature = (path, *, cache, cache_limit, timeout))]
pub fn inspect(
    py: Python<'_>,
    path: PathBuf,
    cache: Option<PathBuf>,
    cache_limit: Option<u64>,
    timeout: f64,
) -> PyResult<String> {
    let dataset = elsewhere::open(py, &path, Elsewhere { cache, cache_limit, timeout })?;
    let preparation = Preparation::read(dataset.directory()).map_err(IntoException::exception)?;
    let all = json!({
        "info": dataset.info(),
        "preparation": preparation,
        "smallest_cache_bytes": Room::of(dataset.info()).training_bytes,
    });
    Ok(all.to_string())
}

/// From now on, a page of a shard that cannot be read (the file was cut, the disk fails) ends the process
/// with a line that names the file, instead of "Bus error".
#[pyfunction]
pub fn report_bus_errors() -> PyResult<()> {
    report().map_err(|error| DataError::new_err(format!("cannot handle bus errors: {error}")))
}
