//! Whole runs of a small network on made-up images, with the reference backend.
//!
//! | module | what |
//! | --- | --- |
//! | `support` | images, recipe, a backend that spoils losses, an observer that stops runs |
//! | `runs` | learning, records, evaluation, micro-batches, limits |
//! | `resuming` | stopped at any point, a run resumes to the same bits |
//! | `ranks` | several processes train to the bits of one |
//! | `errors` | losses that are not finite, folders and data sets that do not fit |

mod errors;
mod ranks;
mod resuming;
mod runs;
mod support;
