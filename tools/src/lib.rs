//! Shared by all command lines: arguments, printing, progress bars, exit codes, signals.
//!
//! ```
//! use std::process::ExitCode;
//!
//! use fovea_tools::{bytes, errln, outln, terminal};
//!
//! fn run() -> anyhow::Result<()> {
//!     errln!("measuring"); // progress and notes go to stderr
//!     outln!("{}", bytes::describe(3 << 20))?; // results to stdout, which may be closed
//!     Ok(())
//! }
//!
//! fn main() -> ExitCode {
//!     terminal::exit_code(run()) // 0, or 1 with one line about the error
//! }
//! ```

pub mod args;
pub mod bars;
pub mod data;
mod narrow;
pub mod signals;
pub mod terminal;

pub use fovea_pipeline::sizes as bytes;
