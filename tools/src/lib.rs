//! What the command-line tools share.

pub mod bench;
pub mod bytes;
pub mod contact_sheet;
pub mod terminal;
