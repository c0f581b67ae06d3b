//! Whole runs of small networks on made-up images, mostly with the reference backend.
//!
//! | module | what |
//! | --- | --- |
//! | `support` | images, recipe, a backend that spoils losses, an observer that stops runs |
//! | `runs` | learning, records, evaluation, micro-batches, limits |
//! | `resuming` | stopped at any point, a run resumes to the same bits |
//! | `ranks` | several processes train to the bits of one |
//! | `shares` | so they do with shares of the weights and of the optimizer's state, in both backends |
//! | `sizes` | images of another size after some epochs |
//! | `errors` | losses that are not finite, folders and data sets that do not fit |

mod errors;
mod ranks;
mod resuming;
mod runs;
mod shares;
mod sizes;
mod support;
