//! Figures: charts and pictures as SVG and PNG.
//!
//! A chart is plain data with a pure function `svg`:
//!
//! ```
//! use fovea_analysis::figure::{Axis, LineChart, Series, png};
//!
//! let chart = LineChart {
//!     title: "Loss".into(),
//!     series: vec![Series::new("training", vec![(1.0, 2.3), (2.0, 1.1), (3.0, 0.7)])],
//!     ..LineChart::new(Axis::linear("epoch"), Axis::linear("loss"))
//! };
//! let svg = chart.svg();
//! assert!(png(&svg)?.starts_with(b"\x89PNG"));
//! # Ok::<(), fovea_analysis::figure::FigureError>(())
//! ```
//!
//! The text that `svg` gives belongs in a page: its colours are custom properties of CSS, which [`style`] defines for light and for
//! dark pages, and which are those of a light page where nobody defines them. [`standalone`] makes a file of it, with fixed light
//! colours on white; [`png`] draws that.
//!
//! A figure of a new kind is a file here: a struct of plain data, and a method `svg` that lays it out and gives its elements to
//! `svg::document`. Markup is written with [`maud`], which escapes all text. Colours are [`Color`]s; lengths are pixels of
//! a figure that is [`WIDTH_PX`] wide unless its content says otherwise. A figure of the report is a function in
//! `report/` that fills one of these structs.

mod axis;
mod bars;
mod colors;
mod heat;
mod lines;
mod pictures;
mod png;
mod svg;
mod ticks;

pub use axis::{Axis, Scale};
pub use bars::{Bar, BarChart};
pub use colors::{Color, style};
pub use heat::HeatMap;
pub use lines::{Level, LineChart, Mark, Series};
pub use pictures::{Cell, Picture, Pictures, Row};
pub use png::{FigureError, png};
pub use svg::standalone;
pub use ticks::{compact, grouped, significant};

/// Width of a chart: two stand side by side on a screen, and one is legible on a phone.
pub const WIDTH_PX: f64 = 560.0;
