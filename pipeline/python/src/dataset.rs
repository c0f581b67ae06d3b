//! A split of a prepared data set.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use fovea_pipeline::decode::JpegDecoder;
use fovea_pipeline::records::StoredRecord;
use fovea_pipeline::view::Scratch;
use fovea_pipeline::{self as pipeline, Label, Records, Split};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::array::Array;
use crate::elsewhere::{self, Elsewhere};
use crate::errors::{DataError, IntoException};

/// A split of a prepared data set, mapped into memory.
#[pyclass(frozen, module = "fovea_loader._native")]
pub struct Dataset {
    dataset: Arc<pipeline::Dataset>,
    split: Split,
    records: Arc<Records>,
}

impl Dataset {
    /// The records of the split.
    pub fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// What the data set holds.
    pub fn of(&self) -> &pipeline::DatasetInfo {
        self.dataset.info()
    }

    fn index(&self, index: usize) -> PyResult<usize> {
        if index < self.records.len() {
            return Ok(index);
        }
        let images = self.records.len();
        Err(PyIndexError::new_err(format!("image {index}, but there are {images}, counted from 0")))
    }

    /// A record; waits for its shard with the interpreter released, looking for signals.
    fn record(&self, py: Python<'_>, index: usize) -> PyResult<StoredRecord> {
        let index = self.index(index)?;
        let interrupted = Mutex::new(Ok(()));
        let is_wanted = || {
            let looked = Python::attach(|py| py.check_signals());
            let is_wanted = looked.is_ok();
            if !is_wanted {
                *interrupted.lock().unwrap_or_else(PoisonError::into_inner) = looked;
            }
            is_wanted
        };
        let record = py.detach(|| self.records.record_while(index, &is_wanted));
        interrupted.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        record.map_err(pipeline::DatasetError::exception)
    }
}

#[pymethods]
impl Dataset {
    /// The data set in a folder, or at a URL with a cache.
    #[new]
    #[pyo3(signature = (path, split, *, cache=None, cache_limit=None, timeout=120.0))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        split: &str,
        cache: Option<PathBuf>,
        cache_limit: Option<u64>,
        timeout: f64,
    ) -> PyResult<Self> {
        let split: Split = split.parse().map_err(IntoException::exception)?;
        let dataset = elsewhere::open_shared(py, &path, Elsewhere { cache, cache_limit, timeout })?;
        let records = py.detach(|| dataset.records(split)).map_err(pipeline::DatasetError::exception)?;
        Ok(Self { dataset, split, records: Arc::new(records) })
    }

    /// Shards among which images are to be shuffled because the cache does not hold all.
    fn window_that_fits(&self) -> PyResult<Option<NonZeroU32>> {
        self.records.window_that_fits().map_err(pipeline::DatasetError::exception)
    }

    /// Fails if the cache does not hold what a loader needs that shuffles images among `window` shards.
    fn check_window(&self, window: NonZeroU32) -> PyResult<()> {
        self.records.check_window(window).map_err(pipeline::DatasetError::exception)
    }

    fn __len__(&self) -> usize {
        self.records.len()
    }

    /// The content of `dataset.json`, as JSON.
    fn info(&self) -> PyResult<String> {
        serde_json::to_string(self.of()).map_err(|error| DataError::new_err(error.to_string()))
    }

    /// A digest of the split's images and their order.
    fn digest(&self) -> String {
        self.of().digest(self.split)
    }

    /// The pixels `u8 [3,H,W]` of an image, checked against its checksum at its first use.
    fn image(&self, py: Python<'_>, index: usize) -> PyResult<Array> {
        let record = self.record(py, index)?;
        let pixels = py.detach(|| {
            let (mut decoder, mut scratch) = (JpegDecoder::default(), Scratch::default());
            let mut view = record.view(&mut decoder, &mut scratch)?;
            let mut planes = vec![0; 3 * view.size().area()];
            view.write_u8(&mut planes);
            Ok(planes)
        });
        let pixels = pixels.map_err(pipeline::DatasetError::exception)?;
        Ok(Array::of_image(pixels, record.get().size))
    }

    /// The label of an image: a number, or an array `u8 [K]` or `f32 [K]`.
    fn label<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        let record = self.record(py, index)?;
        let array = match record.get().label {
            Label::Class(class) => return Ok(i64::from(class).into_pyobject(py)?.into_any()),
            Label::MultiHot(marks) => Array::of_values(marks.to_vec(), vec![marks.len() as i64]),
            Label::Values(values) => Array::of_values(values.to_vec(), vec![values.len() as i64]),
        };
        Ok(Bound::new(py, array)?.into_any())
    }

    /// The key of an image: its path in the source.
    fn key(&self, py: Python<'_>, index: usize) -> PyResult<String> {
        Ok(self.record(py, index)?.key())
    }
}
