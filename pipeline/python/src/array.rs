//! An array that Python takes without a copy.

use std::any::Any;
use std::sync::Arc;

use fovea_pipeline::geometry::Size;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

use crate::dlpack::{CPU, DataType, Exported, capsule};

/// An array in memory of the loader; `numpy.from_dlpack` and `torch.from_dlpack` take it without a copy.
///
/// The memory lives until the last array or tensor that was made of it is gone.
#[pyclass(frozen, module = "fovea_loader._native")]
pub struct Array {
    data: Data,
    dtype: DataType,
    shape: Vec<i64>,
    strides: Vec<i64>,
    owner: Arc<dyn Any + Send + Sync>,
}

/// Points into the memory that an array's owner keeps.
#[derive(Clone, Copy)]
struct Data(*mut u8);

// SAFETY: only an address; what is there is read and written by those who take the array, as with any array
// of Python.
unsafe impl Send for Data {}
// SAFETY: as above.
unsafe impl Sync for Data {}

impl Array {
    /// The array of these shape and strides, in elements, that begins at `data`.
    ///
    /// # Safety
    /// As long as `owner` lives, the memory at `data` holds such an array, stays where it is, and is used by
    /// nothing else.
    pub unsafe fn new(
        data: *mut u8,
        dtype: DataType,
        shape: Vec<i64>,
        strides: Vec<i64>,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self { data: Data(data), dtype, shape, strides, owner }
    }

    /// The array of the shape `shape` of these values.
    ///
    /// # Panics
    /// When they are more or fewer.
    pub fn of_values<T: Element>(mut values: Vec<T>, shape: Vec<i64>) -> Self {
        assert_eq!(shape.iter().product::<i64>(), values.len() as i64);
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        let data = values.as_mut_ptr().cast();
        // SAFETY: the values are on the heap, where they stay, and nothing else has them.
        unsafe { Self::new(data, T::TYPE, shape, strides, Arc::new(values)) }
    }

    /// The array `u8 [3,H,W]` of these pixels.
    ///
    /// # Panics
    /// When they are more or fewer.
    pub fn of_image(pixels: Vec<u8>, size: Size) -> Self {
        Self::of_values(pixels, vec![3, size.height.into(), size.width.into()])
    }
}

/// Types of elements.
pub trait Element: Send + Sync + 'static {
    /// As DLPack has it.
    const TYPE: DataType;
}

impl Element for i64 {
    const TYPE: DataType = DataType::I64;
}

impl Element for u8 {
    const TYPE: DataType = DataType::U8;
}

impl Element for f32 {
    const TYPE: DataType = DataType::F32;
}

#[pymethods]
impl Array {
    /// Elements along each axis.
    #[getter]
    fn shape(&self) -> Vec<i64> {
        self.shape.clone()
    }

    /// The device type and number of DLPack: the CPU.
    fn __dlpack_device__(&self) -> (i32, i32) {
        CPU
    }

    /// A capsule of DLPack: versioned if the consumer knows version 1.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if stream.is_some() {
            return Err(PyBufferError::new_err("the array is in memory of the CPU, which has no streams"));
        }
        if let Some(device) = dl_device.filter(|device| *device != CPU) {
            return Err(PyBufferError::new_err(format!(
                "the array is on DLPack's device {CPU:?}, the CPU, not on {device:?}: take it, then copy it there"
            )));
        }
        if copy == Some(true) {
            return Err(PyBufferError::new_err(
                "the array is given away without a copy: take it, then copy it",
            ));
        }
        let array = Exported {
            data: self.data.0,
            dtype: self.dtype,
            shape: &self.shape,
            strides: &self.strides,
            owner: Arc::clone(&self.owner),
        };
        capsule(py, array, max_version.is_some_and(|(major, _)| major >= 1))
    }
}
