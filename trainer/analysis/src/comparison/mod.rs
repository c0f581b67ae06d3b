//! Compares recipes: how fast, or how far, each trains when its learning rate is tuned separately.
//!
//! A comparison is a sweep: for each recipe (a candidate) it runs trials, which are trainings with one
//! learning rate and one seed.
//!
//! ```text
//! Plan ─► for each candidate: Tuning ─ rate to train next ─► Trial ─► training session in its own folder
//! (recipes, rates,              ▲                              │
//!  seeds, target)               └─────── epoch results ────────┘
//!                             then the other seeds with the best rate ─► Comparison (table, CSV, chart …)
//! ```
//!
//! Each trial is an ordinary run in `OUT/<recipe>/rate-<learning rate>/seed-<seed>`, and its results are read
//! from there. So a comparison has no state of its own: when an interrupted one is started again, it reads
//! the finished epochs from the folders and trains the others. A run made by hand in such a folder counts as
//! well.

mod chart;
mod error;
mod files;
mod folders;
mod metric;
mod plan;
mod result;
mod sweep;
mod table;
mod trial;
mod tuning;

pub use error::ComparisonError;
pub use metric::Metric;
pub use plan::{Candidate, Plan, Rates, default_folder};
pub use result::{Comparison, RecipeResult, Spread, TrialResult};
pub use sweep::compare;
pub use trial::{Event, MakeBackend, SweepContext, SweepObserver, TrialId};
pub use tuning::{EpochResult, Goal, Pruned, RangeEnd, Tuning};
