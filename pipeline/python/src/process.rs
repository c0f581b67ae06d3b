//! Which process something belongs to: after `fork` a child has the objects of its parent, but not its
//! threads.

use pyo3::PyResult;
use pyo3::exceptions::PyRuntimeError;

/// The process in which something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// This one.
    pub fn current() -> Self {
        Self(std::process::id())
    }

    /// Whether it is this one still, and not a child that was forked since.
    pub fn is_current(self) -> bool {
        self == Self::current()
    }

    /// Refuses to go on in a forked child.
    pub fn check(self) -> PyResult<()> {
        if self.is_current() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!(
            "this loader belongs to process {} and has no threads in its forked child {}: make the loader in the \
             process that uses it, or start processes by \"spawn\"",
            self.0,
            Self::current().0
        )))
    }
}
