//! Placeholder.

pub mod checkpoint;
pub mod files;
pub mod metrics;
pub mod recipe;
pub mod runtime;
pub mod schedule;

/// The bytes in hexadecimal, lower case.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
