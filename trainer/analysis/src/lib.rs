//! What is learnt from runs: comparisons of recipes, features of layers, reports, figures.

pub mod comparison;
pub mod features;
pub mod figure;
pub mod report;
