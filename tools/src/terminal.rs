//! Bars on stderr.

use indicatif::{ProgressBar, ProgressStyle};

pub use fovea_trainer::terminal::{exit_code, one_line, print};

/// A bar over `total` items, `unit` in the plural; nothing is drawn where stderr is no terminal.
pub fn item_bar(total: u64, unit: &str) -> ProgressBar {
    let template = format!("{{bar:32}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left {{msg}}");
    styled(total, &template)
}

/// A bar over `total` bytes; nothing is drawn where stderr is no terminal.
pub fn byte_bar(total: u64) -> ProgressBar {
    styled(total, "{bar:32} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left")
}

fn styled(total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(total).with_style(style)
}
