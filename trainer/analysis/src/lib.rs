//! Analysis of training runs: comparisons of recipes, features of layers, reports and figures.
//!
//! Training ([`fovea_trainer`]) leaves a folder for each run: recipe, metrics, checkpoints. This crate turns
//! such folders into what people and other programs read. It has four modules; each one uses those below it
//! at most:
//!
//! | module | input | output |
//! | --- | --- | --- |
//! | [`comparison`] | recipes, data sets, seeds | runs with tuned learning rates; table, JSON, CSV, chart |
//! | [`report`] | a run, finished or not | an HTML page: curves, kernels, predictions, neighbours … |
//! | [`features`] | a checkpoint and images | activations of a layer, as a file or to find nearest images |
//! | [`figure`] | plain data | charts and pictures as SVG and PNG |
//!
//! ```text
//! recipes ─► comparison ─► runs ─► report ─────────► page.html, figures/
//!                │                   │   │
//!                │                   │ features ───► .safetensors, .npy, nearest images
//!                ▼                   ▼
//!              figure ◄──────────────┘
//! ```
//!
//! The modules print nothing: progress goes to an observer or a callback, and every long computation ends
//! early when its `stop` flag is set. Files are written atomically.
//!
//! # Drawing a figure
//!
//! [`figure`] depends on no other module and no other crate of Fovea. A chart is a struct of plain data:
//!
//! ```
//! use fovea_analysis::figure::{Axis, LineChart, Series, png};
//!
//! let error = vec![(1.0, 0.62), (2.0, 0.41), (3.0, 0.33)];
//! let chart = LineChart {
//!     title: "Validation error".into(),
//!     series: vec![Series::new("alexnet", error)],
//!     ..LineChart::new(Axis::whole("epoch"), Axis::percent("share of images").from_zero())
//! };
//! let figure = chart.svg();
//! let file: String = figure.standalone();
//! assert!(file.starts_with("<svg") && png(&figure)?.starts_with(b"\x89PNG"));
//! # Ok::<(), fovea_analysis::figure::FigureError>(())
//! ```
//!
//! # Finding similar images
//!
//! [`features::Nearest`] takes features batch by batch, as [`features::Extractor::run_all`] gives them:
//!
//! ```
//! use fovea_analysis::features::Nearest;
//!
//! let mut nearest = Nearest::new(vec![0.0, 0.0], 1);
//! nearest.offer(0, &[3.0, 4.0, 0.0, 1.0]); // two images of two features each
//! assert_eq!((nearest.found()[0].index, nearest.found()[0].distance), (1, 1.0));
//! ```

pub mod comparison;
pub mod features;
pub mod figure;
pub mod report;
