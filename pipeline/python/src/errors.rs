//! Errors as Python sees them: `ValueError` for what the caller wrote, `DataError` for what is on disk.

use fovea_datasets::SourceError;
use fovea_datasets::prepare::PrepareError;
use fovea_datasets::verify::VerifyError;
use fovea_pipeline::augment::AugmentError;
use fovea_pipeline::{DatasetError, LoaderError, UnknownName};
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::{PyErr, create_exception};

create_exception!(
    fovea_loader,
    DataError,
    PyRuntimeError,
    "Shards, photos or archives that cannot be used: missing, damaged, or not what is expected."
);

/// An error that becomes an exception.
pub trait IntoException {
    /// The exception.
    fn exception(self) -> PyErr;
}

impl IntoException for DatasetError {
    fn exception(self) -> PyErr {
        DataError::new_err(self.to_string())
    }
}

impl IntoException for VerifyError {
    fn exception(self) -> PyErr {
        DataError::new_err(self.to_string())
    }
}

impl IntoException for SourceError {
    fn exception(self) -> PyErr {
        DataError::new_err(self.to_string())
    }
}

impl IntoException for PrepareError {
    fn exception(self) -> PyErr {
        match self {
            Self::Option { .. } => PyValueError::new_err(self.to_string()),
            _ => DataError::new_err(self.to_string()),
        }
    }
}

impl IntoException for AugmentError {
    fn exception(self) -> PyErr {
        PyValueError::new_err(self.to_string())
    }
}

impl IntoException for UnknownName {
    fn exception(self) -> PyErr {
        PyValueError::new_err(self.to_string())
    }
}

impl IntoException for LoaderError {
    fn exception(self) -> PyErr {
        match self {
            Self::Config { .. } | Self::Augment(_) => PyValueError::new_err(self.to_string()),
            Self::Memory { .. } => PyMemoryError::new_err(self.to_string()),
            Self::Shard(_) | Self::Dataset(_) => DataError::new_err(self.to_string()),
            _ => PyRuntimeError::new_err(self.to_string()),
        }
    }
}
