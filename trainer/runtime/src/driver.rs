//! NVIDIA's driver: whether there is a GPU that the pinned CUDA build can use.

use std::ffi::{c_int, c_uint};
use std::path::Path;

use libloading::{Library, Symbol};

use super::{RuntimeError, library};

/// The driver's library.
pub(super) const DRIVER: &str = "libcuda.so.1";
/// The CUDA version that the pinned libraries need, 13.0, in the driver's numbering.
const OLDEST_CUDA: c_int = 13_000;

type Init = unsafe extern "C" fn(c_uint) -> c_int;
type Query = unsafe extern "C" fn(*mut c_int) -> c_int;

/// Checks that NVIDIA's driver is installed, finds a GPU and, if `pinned`, is new enough for the pinned CUDA
/// libraries.
///
/// # Errors
/// [`RuntimeError::NoDriver`] and [`RuntimeError::NoGpu`].
pub fn check_gpu(pinned: bool) -> Result<(), RuntimeError> {
    check(DRIVER, pinned).map(drop)
}

/// The number of GPUs that a process may use, at least 1.
///
/// # Errors
/// As [`check_gpu`].
pub fn gpus(pinned: bool) -> Result<u32, RuntimeError> {
    check(DRIVER, pinned)
}

fn check(driver: &str, pinned: bool) -> Result<u32, RuntimeError> {
    library::load(Path::new(driver)).map_err(|reason| RuntimeError::NoDriver { reason })?;
    let (version, gpus) = query(driver).map_err(|reason| RuntimeError::NoGpu {
        reason: format!("{reason}; repair the driver's installation"),
    })?;
    let reason = if pinned && version < OLDEST_CUDA {
        let name = |version: c_int| format!("{}.{}", version / 1000, version % 1000 / 10);
        format!(
            "the NVIDIA driver supports CUDA {}, but {} is needed; update it",
            name(version),
            name(OLDEST_CUDA)
        )
    } else if gpus < 1 {
        "the NVIDIA driver finds no GPU; check CUDA_VISIBLE_DEVICES and nvidia-smi".to_owned()
    } else {
        return Ok(gpus.cast_unsigned());
    };
    Err(RuntimeError::NoGpu { reason })
}

/// The driver's CUDA version, and the number of GPUs; 0 if the driver does not initialise.
fn query(driver: &str) -> Result<(c_int, c_int), String> {
    let text = |error: libloading::Error| library::innermost(&error);
    // SAFETY: NVIDIA's driver may be loaded by any program, and is already loaded.
    let library = unsafe { Library::new(driver) }.map_err(text)?;
    // SAFETY: this is the function's type in NVIDIA's documentation of the driver API.
    let init: Symbol<'_, Init> = unsafe { library.get(b"cuInit\0") }.map_err(text)?;
    // SAFETY: likewise.
    let version_of: Symbol<'_, Query> = unsafe { library.get(b"cuDriverGetVersion\0") }.map_err(text)?;
    // SAFETY: likewise.
    let count: Symbol<'_, Query> = unsafe { library.get(b"cuDeviceGetCount\0") }.map_err(text)?;
    let (mut version, mut gpus) = (0, 0);
    // SAFETY: the functions write one `int` each, and may be called from any thread.
    let (queried, started) = unsafe { (version_of(&raw mut version), init(0)) };
    if queried != 0 {
        return Err(format!("the NVIDIA driver does not report its version (error {queried})"));
    }
    if started == 0 {
        // SAFETY: as above, and the driver is initialised.
        let counted = unsafe { count(&raw mut gpus) };
        if counted != 0 {
            return Err(format!("the NVIDIA driver does not report its number of GPUs (error {counted})"));
        }
    }
    Ok((version, gpus))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::testing::compiled;

    /// Checks a driver of this version with this number of GPUs, whose `cuInit` returns `started`.
    fn checked(version: i32, gpus: i32, started: i32, pinned: bool) -> Result<u32, String> {
        let folder = tempfile::tempdir().unwrap();
        let source = format!(
            r#"
            #[unsafe(no_mangle)] pub extern "C" fn cuInit(_: u32) -> i32 {{ {started} }}
            #[unsafe(no_mangle)] pub unsafe extern "C" fn cuDriverGetVersion(v: *mut i32) -> i32 {{ unsafe {{ *v = {version} }}; 0 }}
            #[unsafe(no_mangle)] pub unsafe extern "C" fn cuDeviceGetCount(n: *mut i32) -> i32 {{ unsafe {{ *n = {gpus} }}; 0 }}
            "#
        );
        let driver = compiled(folder.path(), &source);
        check(driver.to_str().unwrap(), pinned).map_err(|error| error.to_string())
    }

    #[test]
    fn a_missing_driver_is_an_error_with_a_remedy() {
        let error = check("libcuda-that-is-nowhere.so.1", true).unwrap_err().to_string();
        assert!(error.contains("libcuda-that-is-nowhere.so.1") && error.contains("--device cpu"), "{error}");
    }

    #[test]
    fn a_driver_with_a_gpu_is_accepted_if_it_is_new_enough_for_the_libraries() {
        assert_eq!(checked(13_000, 2, 0, true), Ok(2));
        assert_eq!(checked(12_040, 1, 0, false), Ok(1));
        let error = checked(12_040, 1, 0, true).unwrap_err();
        assert!(error.contains("CUDA 12.4, but 13.0 is needed; update it"), "{error}");
    }

    #[test]
    fn a_driver_without_a_gpu_is_an_error() {
        for (gpus, started) in [(0, 0), (1, 100)] {
            let error = checked(13_010, gpus, started, true).unwrap_err();
            assert!(error.contains("finds no GPU") && error.ends_with("or use --device cpu"), "{error}");
        }
    }

    #[test]
    fn a_library_that_is_not_a_driver_is_an_error_that_names_the_function() {
        let folder = tempfile::tempdir().unwrap();
        let other = compiled(folder.path(), "pub fn nothing() {}");
        let error = check(other.to_str().unwrap(), true).unwrap_err().to_string();
        assert!(error.contains("cuInit") && error.contains("installation"), "{error}");
    }
}
