//! Work that takes long, while Python's signals are looked at.

use std::sync::mpsc::{self, RecvTimeoutError};
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

/// Runs `work` on a thread, and calls `look` now and then meanwhile; its first error calls `cancel` and is
/// returned at once, while the thread comes to its end by itself.
pub fn abandoned_at_a_signal<T: Send + 'static>(
    py: Python<'_>,
    every: Duration,
    mut look: impl FnMut(Python<'_>) -> PyResult<()> + Send,
    cancel: impl Fn() + Sync,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    py.detach(|| {
        let (give, take) = mpsc::channel();
        let work = thread::Builder::new()
            // Nobody takes the result of one that was abandoned.
            .spawn(move || drop(give.send(work())))
            .map_err(|error| PyOSError::new_err(format!("cannot start a thread: {error}")))?;
        loop {
            match take.recv_timeout(every) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => Python::attach(&mut look).inspect_err(|_| cancel())?,
                Err(RecvTimeoutError::Disconnected) => {
                    let panic = work.join().err();
                    let text =
                        panic.as_ref().map_or("it ended without a result", |panic| panic_text(&**panic));
                    return Err(PyRuntimeError::new_err(text.to_owned()));
                }
            }
        }
    })
}
