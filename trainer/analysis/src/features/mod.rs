//! What a trained network computes from images: activations of a layer, and images that are near each other
//! there.
//!
//! ```text
//! TrainedModel ─ feature graph ─► Extractor ─ f32 [N,D] ─► write_features   a file for other programs
//! Records ─ centre crops ──────────►  │
//!                                     └─────────────────► Nearest   neighbours, as in figure 4 of the paper
//! ```

mod extractor;
mod file;
mod nearest;
mod reader;

pub use extractor::{Activations, Extractor};
pub use file::{FeatureError, Format, Origin, write_features};
pub use nearest::{Nearest, Neighbour};
pub use reader::{ImageReader, spread};
