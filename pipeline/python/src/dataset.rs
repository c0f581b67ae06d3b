//! A split of a prepared data set.

use std::path::PathBuf;
use std::sync::Arc;

use fovea_pipeline::decode::JpegDecoder;
use fovea_pipeline::records::StoredRecord;
use fovea_pipeline::view::Scratch;
use fovea_pipeline::{self as pipeline, Records, Split};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::array::Array;
use crate::errors::{DataError, IntoException};

/// A split of a prepared data set, mapped into memory.
#[pyclass(frozen, module = "fovea_loader._native")]
pub struct Dataset {
    dataset: pipeline::Dataset,
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

    fn record(&self, index: usize) -> PyResult<StoredRecord> {
        self.records.record(self.index(index)?).map_err(pipeline::DatasetError::exception)
    }
}

#[pymethods]
impl Dataset {
    #[new]
    fn new(py: Python<'_>, path: PathBuf, split: &str) -> PyResult<Self> {
        let split: Split = split.parse().map_err(IntoException::exception)?;
        let opened = py.detach(|| {
            let dataset = pipeline::Dataset::open(&path)?;
            let records = Arc::new(dataset.records(split)?);
            Ok((dataset, records))
        });
        let (dataset, records) = opened.map_err(pipeline::DatasetError::exception)?;
        Ok(Self { dataset, split, records })
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

    /// The pixels `u8 [3,S,S]` of an image, checked against its checksum at its first use.
    fn image(&self, py: Python<'_>, index: usize) -> PyResult<Array> {
        let index = self.index(index)?;
        let pixels = py.detach(|| {
            let (mut decoder, mut scratch) = (JpegDecoder::default(), Scratch::default());
            let record = self.records.record(index)?;
            let mut view = record.view(&mut decoder, &mut scratch)?;
            let mut planes = vec![0; 3 * view.size().area()];
            view.write_u8(&mut planes);
            Ok(planes)
        });
        let pixels = pixels.map_err(pipeline::DatasetError::exception)?;
        Ok(Array::of_image(pixels, self.records.image_size().into()))
    }

    /// The label of an image.
    fn label(&self, index: usize) -> PyResult<i64> {
        Ok(self.record(index)?.label())
    }

    /// The key of an image: its path in the source.
    fn key(&self, index: usize) -> PyResult<String> {
        Ok(self.record(index)?.key())
    }
}
