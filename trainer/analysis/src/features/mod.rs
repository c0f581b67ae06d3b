//! What a trained network sees in images: activations of a layer, and which images lie near each other there.
//!
//! ```text
//! Trained ─ feature graph ─► Extractor ─ f32 [N,D] ─► write_features    a file for other programs
//! Records ─ center views ──►     │
//!                                └─────────────────► Nearest           Euclidean neighbours, figure 4 of the paper
//! ```

mod extractor;
mod file;
mod gallery;
mod nearest;

pub use extractor::{Extractor, Seen, last_hidden};
pub use file::{FeatureError, Format, Origin, write_features};
pub use gallery::{Gallery, spread};
pub use nearest::{Found, Nearest};
