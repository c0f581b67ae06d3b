//! Shared by all command lines: arguments, printing, progress bars, exit codes, signals.

pub mod args;
pub mod bars;
pub mod bytes;
pub mod signals;
pub mod terminal;
