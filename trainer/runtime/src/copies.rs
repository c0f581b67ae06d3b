//! Copies to and from a GPU while it computes, through NVIDIA's driver.
//!
//! ONNX Runtime's copies wait for the work of its sessions; a separate stream of the driver does not. Other
//! libraries may put work of theirs on such a stream.

use std::ffi::{c_int, c_uint, c_void};
use std::{fmt, ptr};

use libloading::Library;

use super::driver::DRIVER;
use super::library;

/// A stream that does not wait for the default one.
const NON_BLOCKING: c_uint = 1;

/// What `cuStreamQuery` returns while there is work.
const NOT_READY: c_int = 600;

/// An address in a GPU's memory.
pub type DevicePointer = u64;

/// The driver's functions, with the types in NVIDIA's documentation of the driver API and the names that the
/// library exports.
#[allow(non_snake_case)]
struct Functions {
    cuInit: unsafe extern "C" fn(c_uint) -> c_int,
    cuDeviceGet: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    cuDevicePrimaryCtxRetain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int,
    cuDevicePrimaryCtxRelease_v2: unsafe extern "C" fn(c_int) -> c_int,
    cuCtxSetCurrent: unsafe extern "C" fn(*mut c_void) -> c_int,
    cuStreamCreate: unsafe extern "C" fn(*mut *mut c_void, c_uint) -> c_int,
    cuStreamDestroy_v2: unsafe extern "C" fn(*mut c_void) -> c_int,
    cuStreamSynchronize: unsafe extern "C" fn(*mut c_void) -> c_int,
    cuStreamQuery: unsafe extern "C" fn(*mut c_void) -> c_int,
    cuMemAlloc_v2: unsafe extern "C" fn(*mut DevicePointer, usize) -> c_int,
    cuMemFree_v2: unsafe extern "C" fn(DevicePointer) -> c_int,
    cuMemcpyHtoDAsync_v2: unsafe extern "C" fn(DevicePointer, *const c_void, usize, *mut c_void) -> c_int,
    cuMemcpyDtoHAsync_v2: unsafe extern "C" fn(*mut c_void, DevicePointer, usize, *mut c_void) -> c_int,
    cuMemcpyDtoDAsync_v2: unsafe extern "C" fn(DevicePointer, DevicePointer, usize, *mut c_void) -> c_int,
}

/// Looks up each function by its name in a library.
macro_rules! functions {
    ($library:expr, $($name:ident),+ $(,)?) => {
        Functions {
            // SAFETY: the type is that of the function in NVIDIA's documentation.
            $($name: *unsafe { $library.get(concat!(stringify!($name), "\0").as_bytes()) }
                .map_err(|error| library::innermost(&error))?,)+
        }
    };
}

/// Calls a function of the driver; an error names it.
macro_rules! call {
    ($functions:expr, $name:ident($($argument:expr),*)) => {
        // SAFETY: stated where the macro is used.
        result(stringify!($name), unsafe { ($functions.$name)($($argument),*) })
    };
}

/// The result of the driver's function of this name.
fn result(function: &str, code: c_int) -> Result<(), String> {
    match code {
        0 => Ok(()),
        code => Err(format!("{function} of the NVIDIA driver returned error {code}")),
    }
}

/// A stream for copies to one GPU, in the primary context, which CUDA's runtime and thereby ONNX Runtime use.
pub struct CopyStream {
    functions: Functions,
    /// Keeps the functions loaded.
    _library: Library,
    device: c_int,
    context: *mut c_void,
    stream: *mut c_void,
}

impl CopyStream {
    /// A stream to the GPU with this index.
    ///
    /// # Errors
    /// The driver cannot be loaded, or the name and error code of its function that failed.
    pub fn open(device: u32) -> Result<Self, String> {
        Self::open_with(DRIVER, device)
    }

    pub(crate) fn open_with(driver: &str, device: u32) -> Result<Self, String> {
        // SAFETY: NVIDIA's driver may be loaded by any program.
        let library = unsafe { Library::new(driver) }.map_err(|error| library::innermost(&error))?;
        let functions = functions!(
            library,
            cuInit,
            cuDeviceGet,
            cuDevicePrimaryCtxRetain,
            cuDevicePrimaryCtxRelease_v2,
            cuCtxSetCurrent,
            cuStreamCreate,
            cuStreamDestroy_v2,
            cuStreamSynchronize,
            cuStreamQuery,
            cuMemAlloc_v2,
            cuMemFree_v2,
            cuMemcpyHtoDAsync_v2,
            cuMemcpyDtoHAsync_v2,
            cuMemcpyDtoDAsync_v2,
        );
        let (mut handle, mut context) = (0, ptr::null_mut());
        // The functions may be called from any thread, and write one value each.
        call!(functions, cuInit(0))?;
        call!(functions, cuDeviceGet(&raw mut handle, device as c_int))?;
        call!(functions, cuDevicePrimaryCtxRetain(&raw mut context, handle))?;
        // From here on, dropping `made` releases the context.
        let stream = ptr::null_mut();
        let mut made = Self { functions, _library: library, device: handle, context, stream };
        made.enter()?;
        call!(made.functions, cuStreamCreate(&raw mut made.stream, NON_BLOCKING))?;
        Ok(made)
    }

    /// Copies `source` to `target` while `work` runs. Both have ended when this returns, with the result of
    /// the work and that of the copy. A copy from page-locked memory runs concurrently; one from other memory
    /// ends before the work.
    ///
    /// # Safety
    /// At `target` the GPU has as many bytes as `source`, and nothing else uses them until this returns.
    pub unsafe fn copy_during<R>(
        &self,
        source: &[u8],
        target: DevicePointer,
        work: impl FnOnce() -> R,
    ) -> (R, Result<(), String>) {
        // Waits before the borrow of the source ends, even if the work panics.
        let wait = WaitAtEnd(self);
        // The memory on both sides is valid until the wait has ended: the source is borrowed, and the caller
        // guarantees the target.
        let started = self.enter().and_then(|()| {
            call!(
                self.functions,
                cuMemcpyHtoDAsync_v2(target, source.as_ptr().cast(), source.len(), self.stream)
            )
        });
        let result = work();
        let waited = wait.end();
        (result, started.and(waited))
    }

    /// Copies within the GPU, and waits for the copy.
    ///
    /// # Errors
    /// The name and error code of the driver's function that failed.
    ///
    /// # Safety
    /// At both addresses the GPU has `bytes` bytes, and nothing else uses them until this returns.
    pub unsafe fn copy_within(
        &self,
        source: DevicePointer,
        target: DevicePointer,
        bytes: usize,
    ) -> Result<(), String> {
        self.enter()?;
        let wait = WaitAtEnd(self);
        // The caller guarantees the memory at both addresses.
        call!(self.functions, cuMemcpyDtoDAsync_v2(target, source, bytes, self.stream))?;
        wait.end()
    }

    /// Copies `source` to the GPU, and waits for the copy.
    ///
    /// # Errors
    /// The name and error code of the driver's function that failed.
    ///
    /// # Safety
    /// As for [`copy_during`](Self::copy_during).
    pub unsafe fn upload(&self, source: &[u8], target: DevicePointer) -> Result<(), String> {
        // SAFETY: the caller guarantees the target.
        unsafe { self.copy_during(source, target, || ()) }.1
    }

    /// Copies from the GPU to `target`, and waits for the copy.
    ///
    /// # Errors
    /// The name and error code of the driver's function that failed.
    ///
    /// # Safety
    /// At `source` the GPU has as many bytes as `target`, and nothing writes them until this returns.
    pub unsafe fn download(&self, source: DevicePointer, target: &mut [u8]) -> Result<(), String> {
        self.enter()?;
        let wait = WaitAtEnd(self);
        // The target is borrowed until the wait has ended, and the caller guarantees the source.
        call!(
            self.functions,
            cuMemcpyDtoHAsync_v2(target.as_mut_ptr().cast(), source, target.len(), self.stream)
        )?;
        wait.end()
    }

    /// Memory of the GPU, to be given to [`free`](Self::free).
    ///
    /// # Errors
    /// The name and error code of the driver's function that failed: 2 if there is not as much memory.
    pub fn allocate(&self, bytes: usize) -> Result<DevicePointer, String> {
        self.enter()?;
        let mut address = 0;
        // The function writes one value.
        call!(self.functions, cuMemAlloc_v2(&raw mut address, bytes))?;
        Ok(address)
    }

    /// Frees memory of the GPU.
    ///
    /// # Errors
    /// The name and error code of the driver's function that failed.
    ///
    /// # Safety
    /// It comes from [`allocate`](Self::allocate), and nothing uses it any more.
    pub unsafe fn free(&self, memory: DevicePointer) -> Result<(), String> {
        self.enter()?;
        // The caller guarantees the address.
        call!(self.functions, cuMemFree_v2(memory))
    }

    /// Whether all work on the stream is done.
    ///
    /// # Errors
    /// The name and error code of the driver's function that failed, or the error of the work.
    pub fn is_done(&self) -> Result<bool, String> {
        self.enter()?;
        // SAFETY: the stream is valid until `drop`.
        match unsafe { (self.functions.cuStreamQuery)(self.stream) } {
            NOT_READY => Ok(false),
            code => result("cuStreamQuery", code).map(|()| true),
        }
    }

    /// The stream as CUDA's libraries know it, a `cudaStream_t`. Its GPU becomes that of the calling thread.
    ///
    /// # Errors
    /// The name and error code of the driver's function that failed.
    pub fn handle(&self) -> Result<*mut c_void, String> {
        self.enter()?;
        Ok(self.stream)
    }

    /// Makes the context current in the calling thread.
    fn enter(&self) -> Result<(), String> {
        // The context is valid until it is released in `drop`.
        call!(self.functions, cuCtxSetCurrent(self.context))
    }

    fn wait(&self) -> Result<(), String> {
        // The stream is valid until `drop`.
        call!(self.functions, cuStreamSynchronize(self.stream))
    }
}

/// Waits for the stream's copies when it is dropped, or by [`end`](Self::end), which returns the error.
struct WaitAtEnd<'a>(&'a CopyStream);

impl WaitAtEnd<'_> {
    fn end(self) -> Result<(), String> {
        let waited = self.0.wait();
        std::mem::forget(self);
        waited
    }
}

impl Drop for WaitAtEnd<'_> {
    fn drop(&mut self) {
        // Another error or a panic is already being reported.
        let _ = self.0.wait();
    }
}

impl Drop for CopyStream {
    fn drop(&mut self) {
        // Nothing else uses the stream or this reference to the context, and `drop` cannot return an error.
        if !self.stream.is_null() {
            let _ = self.enter().and_then(|()| call!(self.functions, cuStreamDestroy_v2(self.stream)));
        }
        let _ = call!(self.functions, cuDevicePrimaryCtxRelease_v2(self.device));
    }
}

impl fmt::Debug for CopyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyStream").field("device", &self.device).finish_non_exhaustive()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::testing::{FakeDriver, compiled};

    fn address(values: &mut [u8]) -> DevicePointer {
        values.as_mut_ptr().addr() as DevicePointer
    }

    #[test]
    fn copies_run_during_the_work_and_have_ended_after_it() {
        let driver = FakeDriver::new();
        let stream = driver.stream().unwrap();
        let (mut spare, mut used) = (vec![0; 5], vec![0; 5]);
        let in_work = Cell::new(-1);
        let work = || {
            in_work.set(driver.copies());
            "result"
        };
        // SAFETY: the fake's GPU is the host's memory, and both vectors have five bytes.
        let result = unsafe { stream.copy_during(&[1, 2, 3, 4, 5], address(&mut spare), work) };
        assert_eq!((result, in_work.get(), driver.copies()), (("result", Ok(())), 0, 1));
        assert_eq!(spare, [1, 2, 3, 4, 5]);
        // SAFETY: likewise.
        unsafe { stream.copy_within(address(&mut spare), address(&mut used), 4) }.unwrap();
        assert_eq!(used, [1, 2, 3, 4, 0]);
    }

    #[test]
    fn memory_is_filled_and_read_back() {
        let driver = FakeDriver::new();
        let stream = driver.stream().unwrap();
        let memory = stream.allocate(5).unwrap();
        let mut back = [0; 3];
        // SAFETY: there are five bytes, which nothing else uses.
        unsafe {
            stream.upload(&[1, 2, 3, 4, 5], memory).unwrap();
            assert_eq!(stream.is_done(), Ok(true));
            stream.download(memory + 2, &mut back).unwrap();
        }
        assert_eq!(back, [3, 4, 5]);
        assert_eq!(driver.outstanding(), 3);
        // SAFETY: nothing uses it any more.
        unsafe { stream.free(memory) }.unwrap();
        drop(stream);
        assert_eq!(driver.outstanding(), 0);
        let stream = driver.stream().unwrap();
        for name in ["cuMemAlloc_v2", "cuStreamQuery"] {
            driver.fail(name);
            let errors = [stream.allocate(5).err(), stream.is_done().err()];
            let expected = format!("{name} of the NVIDIA driver returned error 999");
            assert!(errors.contains(&Some(expected)), "{errors:?}");
        }
    }

    #[test]
    fn a_stream_that_gets_work_after_it_was_asked_was_done() {
        let driver = FakeDriver::new();
        let stream = driver.stream().unwrap();
        driver.occupy_after_queries(1);
        assert_eq!([stream.is_done(), stream.is_done()], [Ok(true), Ok(false)]);
    }

    #[test]
    fn contexts_and_streams_are_released() {
        let driver = FakeDriver::new();
        let streams = [driver.stream().unwrap(), driver.stream().unwrap()];
        assert_eq!(driver.outstanding(), 4);
        drop(streams);
        assert_eq!(driver.outstanding(), 0);
    }

    #[test]
    fn a_panic_of_the_work_waits_for_the_copy() {
        let driver = FakeDriver::new();
        let stream = driver.stream().unwrap();
        let mut target = vec![0; 2];
        let to = address(&mut target);
        // SAFETY: the fake's GPU is the host's memory, and the target has two bytes.
        let panicking = || unsafe { stream.copy_during(&[8, 9], to, || panic!("no")) };
        assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
        assert_eq!((target, driver.copies()), (vec![8, 9], 1));
    }

    #[test]
    fn a_function_that_fails_is_named_and_nothing_is_left_behind() {
        let opening =
            ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuStreamCreate"];
        let driver = FakeDriver::new();
        for name in opening {
            driver.fail(name);
            let error = driver.stream().unwrap_err();
            assert_eq!(error, format!("{name} of the NVIDIA driver returned error 999"));
            assert_eq!(driver.outstanding(), 0, "{name}");
        }
        driver.fail("");
        let stream = driver.stream().unwrap();
        let mut target = vec![0; 2];
        let to = address(&mut target);
        // The work runs nevertheless.
        for name in ["cuCtxSetCurrent", "cuMemcpyHtoDAsync_v2", "cuStreamSynchronize"] {
            driver.fail(name);
            // SAFETY: the fake's GPU is the host's memory, and the target has two bytes.
            let (result, copied) = unsafe { stream.copy_during(&[8, 9], to, || "result") };
            assert!(copied.as_ref().is_err_and(|error| error.starts_with(name)), "{copied:?}");
            assert_eq!(result, "result", "{name}");
        }
        driver.fail("cuMemcpyDtoDAsync_v2");
        // SAFETY: likewise.
        assert!(unsafe { stream.copy_within(to, to, 2) }.is_err());
    }

    #[test]
    fn a_missing_driver_and_a_library_that_is_not_a_driver_are_errors() {
        let error = CopyStream::open_with("libcuda-that-is-nowhere.so.1", 0).unwrap_err();
        assert!(error.contains("libcuda-that-is-nowhere.so.1"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let other = compiled(folder.path(), "pub fn nothing() {}");
        let error = CopyStream::open_with(other.to_str().unwrap(), 0).unwrap_err();
        assert!(error.contains("cuInit"), "{error}");
    }
}
