//! Comparing recipes: how fast, or how far, each of them trains when its learning rate is tuned for it by itself.
//!
//! ```text
//! Plan ─► for each recipe: Tuning ─ which rate trains next ─► Trial ─► Run, in a folder of its own
//! (recipes, rates,           ▲                                  │
//!  seeds, target)            └────────── epoch results ─────────┘
//!                          then the other seeds with the best rate ─► Comparison (table, JSON, CSV, chart)
//! ```
//!
//! Every training is an ordinary run in `OUT/<recipe>/rate-<learning rate>/seed-<seed>`, and what is known of it is read
//! from there. So a comparison has no state of its own: one that was stopped and is asked for again hears the epochs that
//! are done from their folders and trains the others, and a run made by hand in such a folder is as good.

mod chart;
mod error;
mod folders;
mod metric;
mod plan;
mod race;
mod result;
mod table;
mod trial;
mod tuning;

pub use error::ComparisonError;
pub use metric::Metric;
pub use plan::{Contestant, Plan, Rates, default_folder};
pub use race::compare;
pub use result::{Compared, Comparison, Spread, Trained};
pub use trial::{Event, Place, Watcher, Workshop};
pub use tuning::{Border, Dropped, EpochResult, Goal, Tuning};
