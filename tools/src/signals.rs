//! Signals: interrupts, files that grow too large, pages that cannot be read.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Context;
use fovea_pipeline::report_bus_errors;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;

use crate::terminal::INTERRUPTED;

/// What the first interrupt calls.
type First = Box<dyn Fn() + Send>;

/// Set while the first interrupt does not end the process.
static FIRST: Mutex<Option<First>> = Mutex::new(None);

fn first() -> MutexGuard<'static, Option<First>> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over the signals of the process; the first call in `main`.
///
/// An interrupt (Ctrl-C, SIGTERM, SIGHUP) ends the process at once with the code [`INTERRUPTED`], unless
/// there is a [`FinishFirst`]. One that the parent has set to be ignored, as `nohup` does with SIGHUP, stays
/// ignored.
/// A write beyond the limit on the size of files is an error of that write, and a page of a shard that cannot
/// be read ends the process with a line that names the file.
///
/// # Errors
/// When the system refuses a handler, or a thread.
pub fn install() -> anyhow::Result<()> {
    // SAFETY: no handler of this program is replaced, and none runs.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    report_bus_errors().context("cannot install the handler of SIGBUS")?;
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(wanted).context("cannot install the handler of Ctrl-C")?;
    let wait = move || {
        for _ in signals.forever() {
            // The second one finds nothing to call.
            let function = first().take();
            match function {
                Some(function) => function(),
                None => exit(INTERRUPTED.into()),
            }
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .context("cannot start the thread that waits for Ctrl-C; raise the limit (ulimit -u)")?;
    Ok(())
}

/// Whether the parent of this process has set the signal to be ignored.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: an action of zeros is valid, and the call only reads the current one.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut current) == 0
            && current.sa_sigaction == libc::SIG_IGN
    }
}

/// Ends the process without running what waits for its end.
pub fn end_at_once(code: i32) -> ! {
    exit(code)
}

/// Interrupts the process group with this number, as Ctrl-C does.
pub fn send_interrupt(group: u32) {
    // SAFETY: a signal to processes that this one has started; if they are gone, nothing happens.
    unsafe { libc::kill(-(group as libc::pid_t), SIGINT) };
}

/// While this exists, the first interrupt calls a function, and the second one ends the process.
#[must_use]
pub struct FinishFirst(());

impl FinishFirst {
    /// From now on, the first interrupt calls `function`.
    pub fn calling(function: impl Fn() + Send + 'static) -> Self {
        *first() = Some(Box::new(function));
        Self(())
    }
}

impl Drop for FinishFirst {
    fn drop(&mut self) {
        *first() = None;
    }
}

/// Does something that an interrupt ends at once, even while there is a [`FinishFirst`].
pub fn at_once<T>(work: impl FnOnce() -> T) -> T {
    let suspended = first().take();
    let result = work();
    *first() = suspended;
    result
}
