//! Figures with their captions, and sections of them.

use crate::figure::Svg;

/// A figure of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name of its files.
    pub name: &'static str,
    /// The figure.
    pub svg: Svg,
    /// Explanation below the figure.
    pub caption: String,
}

/// A section of the page, and the figures that are missing in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    pub title: &'static str,
    pub figures: Vec<Figure>,
    /// Each omission with its reason.
    pub omissions: Vec<String>,
}
