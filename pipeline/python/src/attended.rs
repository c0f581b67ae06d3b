//! Work that takes long, while Python's signals are looked at.

use std::thread;
use std::time::Duration;

use fovea_pipeline::threads::panic_text;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

/// Runs `work` on a thread, and calls `look` now and then meanwhile; its first error calls `cancel`, and ends
/// the calls. Returns what `work` returned, and that error.
pub fn attended<T: Send>(
    py: Python<'_>,
    every: Duration,
    mut look: impl FnMut(Python<'_>) -> PyResult<()> + Send,
    cancel: impl Fn() + Sync,
    work: impl FnOnce() -> T + Send,
) -> PyResult<(T, PyResult<()>)> {
    py.detach(|| {
        thread::scope(|scope| {
            let work = thread::Builder::new()
                .spawn_scoped(scope, work)
                .map_err(|error| PyOSError::new_err(format!("cannot start a thread: {error}")))?;
            let mut looked = Ok(());
            while !work.is_finished() {
                thread::sleep(every);
                if looked.is_ok() {
                    looked = Python::attach(&mut look);
                    if looked.is_err() {
                        cancel();
                    }
                }
            }
            let result =
                work.join().map_err(|panic| PyRuntimeError::new_err(panic_text(&*panic).to_owned()))?;
            Ok((result, looked))
        })
    })
}
