//! The process's only ONNX Runtime environment.

use std::env;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::{Environment, GlobalThreadPoolOptions};

use super::{Build, LibraryPath, Options, Progress, RuntimeError, check_gpu, check_library, library, locate};

/// The loaded ONNX Runtime of the process.
#[derive(Debug)]
pub struct OnnxRuntime {
    /// The environment for sessions. Its idle threads sleep instead of spinning, which would occupy the data
    /// loader's cores.
    pub environment: Environment,
    /// Path of the library.
    pub library: PathBuf,
    /// Minor version, such as 31 for 1.31.1.
    pub minor_version: u32,
    /// The build that was requested when it was loaded.
    pub build: Build,
    /// Compute threads; 0 means one per core.
    pub threads: usize,
}

static LOADED: OnceLock<OnnxRuntime> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The process's ONNX Runtime. The first call locates it, fetches it if necessary, checks and loads it; later
/// calls return the same, with the number of threads of the first call.
///
/// # Errors
/// Those of [`locate`], [`check_library`] and [`check_gpu`], and [`RuntimeError::OtherBuildLoaded`] if CUDA
/// is requested after the CPU build was loaded. After an error another call may succeed.
pub fn environment(
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<&'static OnnxRuntime, RuntimeError> {
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = match LOADED.get() {
        Some(loaded) => loaded,
        None => {
            if options.build == Build::Cuda {
                // Before a gigabyte is fetched for nothing.
                check_gpu(options.dylib.is_none())?;
            }
            let loaded = start(options, locate(options, progress)?)?;
            LOADED.get_or_init(|| loaded)
        }
    };
    if options.build == Build::Cuda && loaded.build == Build::Cpu {
        let library = loaded.library.clone();
        return Err(RuntimeError::OtherBuildLoaded { loaded: loaded.build, library, wanted: options.build });
    }
    Ok(loaded)
}

/// Makes a session by `open`, and the first one of the process before all others begin: it adds the domain of
/// Fovea's operators to ONNX Runtime's list, where two that do so at once collide.
///
/// # Errors
/// That of `open`.
pub fn first_alone<T, E>(open: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    static MADE: Mutex<bool> = Mutex::new(false);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if *made {
        drop(made);
        return open();
    }
    let session = open()?;
    *made = true;
    Ok(session)
}

fn start(options: &Options, located: LibraryPath) -> Result<OnnxRuntime, RuntimeError> {
    // SAFETY: other threads of Rust read the environment under a lock, and no other code in C that reads it
    // has been loaded yet. Without it, ONNX Runtime writes an id of the device to the user's home when it is
    // loaded; `with_telemetry` comes too late for that.
    unsafe { env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    for path in located.preload {
        library::load(&path).map_err(|reason| RuntimeError::CannotLoad { path, reason })?;
    }
    let library = located.library;
    let minor_version = check_library(&library)?;
    let builder = ort::init_from(&library)
        .map_err(|error| RuntimeError::CannotLoad { path: library.clone(), reason: error.to_string() })?;
    let built = pool(options.threads).and_then(|pool| {
        builder.with_name("fovea").with_telemetry(false).with_global_thread_pool(pool).build()
    });
    match built {
        Ok(environment) => Ok(OnnxRuntime {
            environment,
            library,
            minor_version,
            build: options.build,
            threads: options.threads,
        }),
        Err(reason) => Err(RuntimeError::Environment { library, reason }),
    }
}

fn pool(threads: usize) -> ort::Result<GlobalThreadPoolOptions> {
    GlobalThreadPoolOptions::default().with_intra_threads(threads)?.with_spin_control(false)
}

#[cfg(test)]
mod tests {
    use ort::session::Session;

    use super::*;
    use crate::OLDEST_MINOR;

    /// Fetches the wheel if the cache does not have it.
    #[test]
    fn the_pinned_library_is_fetched_and_loaded_and_creates_sessions() {
        let options = Options::from_env(Build::Cpu);
        let loaded = environment(&options, &mut ()).unwrap();
        assert!(loaded.minor_version >= OLDEST_MINOR);
        Session::builder(&loaded.environment).unwrap();
        let again = environment(&options, &mut ()).unwrap();
        assert!(std::ptr::eq(loaded, again));
        let error = environment(&Options::from_env(Build::Cuda), &mut ()).unwrap_err();
        assert!(matches!(error, RuntimeError::OtherBuildLoaded { .. }), "{error}");
    }
}
