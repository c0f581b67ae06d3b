//! Interrupts: Ctrl-C, SIGTERM and SIGHUP.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::terminal::INTERRUPTED;

/// Calls `first` at the first interrupt; the second one ends the process with the code [`INTERRUPTED`].
///
/// # Errors
/// When the process already has a handler, or the system refuses one.
pub fn on_interrupt(first: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    static REQUESTED: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            process::exit(INTERRUPTED.into());
        }
        first();
    })
    .context("cannot install the handler of Ctrl-C")
}
