//! What all command lines share: printing, bars, exit codes, signals.

pub mod bars;
pub mod bytes;
pub mod signals;
pub mod terminal;
