//! What the command line tools share: sizes for people, progress on a terminal.

pub mod bytes;
pub mod terminal;
