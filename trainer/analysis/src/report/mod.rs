//! The report of a run: one HTML page with figures.
//!
//! | file | content |
//! | --- | --- |
//! | `record.rs` | reads the folder of the run, whatever is missing |
//! | `curves.rs` | figures of the metrics: loss, error, speed |
//! | `weights.rs` | figures of a checkpoint: kernels, norms |
//! | `predictions.rs`, `confusion.rs` | figures of the network's predictions |
//! | `saliency.rs` | maps of the pixels that a prediction depends on |
//! | `page.rs` | the page |
//! | `reporter.rs` | puts all of it together, and writes the files |
//!
//! Missing data never fails the report; each omission is listed with its reason. To add a figure, write a
//! function that returns a [`Figure`], and add a line where its neighbours are collected.

mod confusion;
mod curves;
mod error;
mod page;
mod predictions;
mod record;
mod reporter;
mod saliency;
mod section;
mod weights;

pub use error::ReportError;
pub use predictions::OpenRuntime;
pub use record::Fingerprint;
pub use reporter::{ReportOptions, Reporter};
pub use section::Figure;
