//! Signals: interrupts, files that grow too large, pages that cannot be read.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, io, thread};

use anyhow::Context;
use fovea_pipeline::report_bus_errors;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;

use crate::terminal::INTERRUPTED;

/// What an interrupt calls.
type Function = Box<dyn Fn() + Send>;

/// What the next interrupts call, the last one first; where there is none, they end the process.
static NEXT: Mutex<Vec<Function>> = Mutex::new(Vec::new());

fn next() -> MutexGuard<'static, Vec<Function>> {
    NEXT.lock().unwrap_or_else(PoisonError::into_inner)
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
            let function = next().pop();
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

/// Lets the process of `command` get SIGTERM when the thread that starts it has ended, however.
pub fn end_with_parent(command: &mut Command) {
    let ask = || {
        // SAFETY: the call takes a number, and changes this process alone.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, SIGTERM) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec there is one system call.
    unsafe { command.pre_exec(ask) };
}

/// Interrupts the process group with this number, as Ctrl-C does.
pub fn send_interrupt(group: u32) {
    send(-(group as libc::pid_t), SIGINT);
}

/// Interrupts the processes that the process with this number has started; returns whether there are any.
#[must_use]
pub fn send_interrupt_to_children(process: u32) -> bool {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children: Vec<libc::pid_t> = list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    children.iter().for_each(|&child| send(child, SIGINT));
    !children.is_empty()
}

/// Kills the process group with this number.
pub fn kill(group: u32) {
    send(-(group as libc::pid_t), libc::SIGKILL);
}

fn send(to: libc::pid_t, signal: i32) {
    // SAFETY: a signal to processes that this one has started; if they are gone, nothing happens.
    unsafe { libc::kill(to, signal) };
}

/// While this exists, the first interrupt calls a function, and the second one ends the process, or calls
/// another function.
#[must_use]
pub struct FinishFirst(());

impl FinishFirst {
    /// From now on, the first interrupt calls `function`.
    pub fn calling(function: impl Fn() + Send + 'static) -> Self {
        *next() = vec![Box::new(function)];
        Self(())
    }

    /// From now on, the first interrupt calls `function` and the second one `again`.
    pub fn calling_twice(function: impl Fn() + Send + 'static, again: impl Fn() + Send + 'static) -> Self {
        *next() = vec![Box::new(again), Box::new(function)];
        Self(())
    }
}

impl Drop for FinishFirst {
    fn drop(&mut self) {
        next().clear();
    }
}

/// Does something that an interrupt ends at once, even while there is a [`FinishFirst`].
pub fn at_once<T>(work: impl FnOnce() -> T) -> T {
    let suspended = std::mem::take(&mut *next());
    let result = work();
    *next() = suspended;
    result
}
