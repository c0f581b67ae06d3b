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
//! assert_eq!(svg.width, fovea_analysis::figure::WIDTH_PX);
//! assert!(svg.to_string().starts_with("<svg"));
//! assert!(png(&svg)?.starts_with(b"\x89PNG"));
//! # Ok::<(), fovea_analysis::figure::FigureError>(())
//! ```
//!
//! An [`Svg`] has three uses. Its `Display` is an element for a page: its colours are custom properties of
//! CSS, which [`style`] defines for light and dark pages, with light colours as the fallback.
//! [`Svg::standalone`] is the content of a file, with fixed light colours on white. [`png`] renders that.
//!
//! To add a kind of figure, add a file here: a struct of plain data with a method `svg` that lays it out and
//! passes the markup to `Svg::new`. Markup is written with [`maud`], which escapes all text. Colours are
//! [`Color`]s; lengths are in pixels of a figure that is [`WIDTH_PX`] wide unless its content needs another
//! width.

mod axis;
mod bars;
mod colors;
mod heat;
mod legible;
mod lines;
mod pictures;
mod png;
mod svg;
mod ticks;

pub use axis::{Axis, Level, Scale};
pub use bars::{Bar, BarChart};
pub use colors::{Color, style};
pub use heat::HeatMap;
pub use legible::legible;
pub use lines::{LineChart, Mark, Series};
pub use pictures::{Cell, Picture, Pictures, Row};
pub use png::{FigureError, png};
pub use svg::{Svg, WIDTH_PX};
pub use ticks::{compact, grouped, significant};
