//! The structures of DLPack 1.0, and capsules that hold them.
//!
//! Source: <https://dmlc.github.io/dlpack/latest/>, `dlpack.h`.

use std::any::Any;
use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;

/// `kDLCPU`, and the number of the device.
pub const CPU: (i32, i32) = (1, 0);

/// The type of an element.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

impl DataType {
    /// `kDLUInt`, 8 bits.
    pub const U8: Self = Self { code: 1, bits: 8, lanes: 1 };
    /// `kDLInt`, 64 bits.
    pub const I64: Self = Self { code: 0, bits: 64, lanes: 1 };
    /// `kDLFloat`, 16 bits.
    pub const F16: Self = Self { code: 2, bits: 16, lanes: 1 };
    /// `kDLFloat`, 32 bits.
    pub const F32: Self = Self { code: 2, bits: 32, lanes: 1 };

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        usize::from(self.bits / 8)
    }
}

/// `DLTensor`
#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    dtype: DataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensorVersioned`
#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    manager_ctx: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
    flags: u64,
    tensor: Tensor,
}

/// `DLManagedTensor`, of DLPack before 1.0.
#[repr(C)]
struct Unversioned {
    tensor: Tensor,
    manager_ctx: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

/// What a consumer gets a pointer to, with what that points to.
#[repr(C)]
struct Export<T> {
    /// First, so that its address is that of the whole.
    managed: T,
    shape: Vec<i64>,
    strides: Vec<i64>,
    /// Keeps the memory.
    owner: Arc<dyn Any + Send + Sync>,
}

/// An array in memory: what is exported.
pub struct Exported<'a> {
    /// Its first element, in memory that `owner` keeps.
    pub data: *mut u8,
    /// The type of its elements.
    pub dtype: DataType,
    /// Elements along each axis.
    pub shape: &'a [i64],
    /// Elements from one place along an axis to the next.
    pub strides: &'a [i64],
    /// Keeps the memory until the consumer has called the deleter.
    pub owner: Arc<dyn Any + Send + Sync>,
}

/// A capsule with a `DLManagedTensorVersioned`, or with a `DLManagedTensor` for consumers that know no other.
pub fn capsule<'py>(py: Python<'py>, array: Exported<'_>, is_versioned: bool) -> PyResult<Bound<'py, PyAny>> {
    if is_versioned {
        let managed = |tensor| Versioned {
            major: 1,
            minor: 0,
            manager_ctx: ptr::null_mut(),
            deleter: Some(delete::<Versioned>),
            flags: 0,
            tensor,
        };
        capsule_of(py, array, managed, |managed| &mut managed.tensor)
    } else {
        let managed = |tensor| Unversioned {
            tensor,
            manager_ctx: ptr::null_mut(),
            deleter: Some(delete::<Unversioned>),
        };
        capsule_of(py, array, managed, |managed| &mut managed.tensor)
    }
}

/// The two kinds of capsules.
trait Managed {
    /// Name of a capsule that nobody has taken.
    const NAME: &CStr;
}

impl Managed for Versioned {
    const NAME: &CStr = c"dltensor_versioned";
}

impl Managed for Unversioned {
    const NAME: &CStr = c"dltensor";
}

fn capsule_of<'py, T: Managed>(
    py: Python<'py>,
    array: Exported<'_>,
    managed: impl FnOnce(Tensor) -> T,
    tensor: impl FnOnce(&mut T) -> &mut Tensor,
) -> PyResult<Bound<'py, PyAny>> {
    let (device_type, device_id) = CPU;
    let mut export = Box::new(Export {
        managed: managed(Tensor {
            data: array.data.cast(),
            device_type,
            device_id,
            ndim: array.shape.len() as i32,
            dtype: array.dtype,
            shape: ptr::null_mut(),
            strides: ptr::null_mut(),
            byte_offset: 0,
        }),
        shape: array.shape.to_vec(),
        strides: array.strides.to_vec(),
        owner: array.owner,
    });
    let (shape, strides) = (export.shape.as_mut_ptr(), export.strides.as_mut_ptr());
    let place = tensor(&mut export.managed);
    (place.shape, place.strides) = (shape, strides);
    let export = Box::into_raw(export);
    // SAFETY: the name lives for ever; the destructor frees the export if nobody has taken it.
    let capsule = unsafe { ffi::PyCapsule_New(export.cast(), T::NAME.as_ptr(), Some(capsule_is_gone::<T>)) };
    // SAFETY: a new reference, or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }.inspect_err(|_| {
        // SAFETY: no capsule has it.
        drop(unsafe { Box::from_raw(export) });
    })
}

/// The deleter: called by the consumer, once, from any thread.
unsafe extern "C" fn delete<T>(managed: *mut T) {
    // SAFETY: it is the first field of an `Export<T>` that `capsule_of` has leaked.
    drop(unsafe { Box::from_raw(managed.cast::<Export<T>>()) });
}

/// The destructor of a capsule. A consumer that has taken it has changed its name.
unsafe extern "C" fn capsule_is_gone<T: Managed>(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls it with the capsule, whose pointer is as above while the name is.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, T::NAME.as_ptr()) == 1 {
            delete::<T>(ffi::PyCapsule_GetPointer(capsule, T::NAME.as_ptr()).cast());
        }
    }
}
