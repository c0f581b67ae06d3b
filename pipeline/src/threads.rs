//! What programs with worker threads need.

use std::any::Any;
use std::num::NonZeroUsize;
use std::thread;

/// Cores that this process may use; 1 where the system does not say.
#[must_use]
pub fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Threads that a program may be asked for: more than any machine has cores, and few enough to start.
pub const MOST_THREADS: usize = 1024;

/// The message of a panic, as [`catch_unwind`](std::panic::catch_unwind) or
/// [`join`](thread::JoinHandle::join) return it.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, panic_any};

    use super::*;

    #[test]
    fn the_text_of_a_panic_is_its_message_whether_formatted_or_not() {
        let number = 7;
        assert_eq!(panic_text(&*catch_unwind(|| panic!("no disk")).unwrap_err()), "no disk");
        assert_eq!(panic_text(&*catch_unwind(|| panic!("no disk {number}")).unwrap_err()), "no disk 7");
        assert_eq!(panic_text(&*catch_unwind(|| panic_any(number)).unwrap_err()), "no message");
    }
}
