//! Shared by all command lines: printing, progress bars, exit codes, signals.

pub mod bars;
pub mod bytes;
pub mod signals;
pub mod terminal;
