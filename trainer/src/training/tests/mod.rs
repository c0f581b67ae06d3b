//! Whole runs of a small network on made-up images, with the reference backend.
//!
//! | module | what |
//! | --- | --- |
//! | `support` | images, recipe, a backend that spoils losses, an observer that stops runs |
//! | `going` | learning, records, evaluation, parts of batches, limits |
//! | `resuming` | stopped anywhere, a run goes on to the same bits |
//! | `failing` | losses that are not finite, folders and data sets that do not fit |

mod failing;
mod going;
mod resuming;
mod support;
