//! What the command-line tools share.

pub mod bench;
pub mod contact_sheet;
