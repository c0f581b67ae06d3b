//! Progress bars on stderr, each one line however narrow the terminal is.

use std::fmt::Write;
use std::path::Path;

use fovea_runtime::Progress;
use indicatif::{ProgressBar, ProgressFinish, ProgressState, ProgressStyle};

use crate::errln;
use crate::terminal::{columns, show};

/// Columns of the longest bar.
const LONGEST: usize = 32;
/// Columns of the shortest bar that is drawn.
const SHORTEST: usize = 8;
/// Columns for numbers, rate and time left next to a bar.
const TEXT: usize = 58;

/// A bar over `total` items, `unit` in the plural; hidden where stderr is no terminal.
#[must_use]
pub fn item_bar(total: u64, unit: &'static str) -> ProgressBar {
    titled_bar("", total, unit)
}

/// A bar over `total` items with a title; hidden where stderr is no terminal.
#[must_use]
pub fn titled_bar(title: &str, total: u64, unit: &'static str) -> ProgressBar {
    let prefix = if title.is_empty() { String::new() } else { format!("{title} ") };
    let rate = move |state: &ProgressState, text: &mut dyn Write| {
        // A bar has no place to report a failure on.
        let _ = write!(text, "{:.0} {unit}/s", state.per_sec());
    };
    let style = style(&format!("{{pos}}/{{len}} {unit}"), prefix.len()).with_key("rate", rate);
    shown(total, style).with_prefix(prefix)
}

/// A bar over `total` bytes; hidden where stderr is no terminal.
#[must_use]
pub fn byte_bar(total: u64) -> ProgressBar {
    let rate = |state: &ProgressState, text: &mut dyn Write| {
        let _ = write!(text, "{:.1} MB/s", state.per_sec() / 1e6);
    };
    shown(total, style("{decimal_bytes}/{decimal_total_bytes}", 0).with_key("rate", rate))
}

/// A bar that is shown until it is dropped.
#[must_use]
pub fn shown(total: u64, style: ProgressStyle) -> ProgressBar {
    show(ProgressBar::new(total).with_style(style).with_finish(ProgressFinish::AndClear))
}

/// What fits in the terminal of a title of `title` columns, a bar, `numbers`, rate and time left.
fn style(numbers: &str, title: usize) -> ProgressStyle {
    ProgressStyle::with_template(&template(numbers, columns().saturating_sub(title)))
        .expect("the template is well-formed")
}

fn template(numbers: &str, columns: usize) -> String {
    let bar = columns.saturating_sub(TEXT).min(LONGEST);
    let bar = if bar < SHORTEST { String::new() } else { format!("{{bar:{bar}}} ") };
    let pace = if columns < TEXT { "" } else { ", {rate}, {eta} left" };
    format!("{{prefix}}{bar}{numbers}{pace} {{msg}}")
}

/// A bar on stderr for downloads, below a line that names the file.
#[derive(Debug, Default)]
pub struct FetchBar(Option<ProgressBar>);

impl Progress for FetchBar {
    fn started(&mut self, file: &str, have_bytes: u64, total_bytes: u64) {
        errln!("fetching {file} ({:.1} MB)", total_bytes as f64 / 1e6);
        self.0 = Some(byte_bar(total_bytes).with_position(have_bytes));
    }

    fn reached(&mut self, have_bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(have_bytes);
        }
    }

    fn finished(&mut self, _file: &str) {
        self.0 = None;
    }

    fn waiting(&mut self, lock: &Path) {
        errln!("waiting for another process that is fetching the same file ({})", lock.display());
    }
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};

    use super::*;

    #[test]
    fn a_bar_is_one_line_on_any_terminal() {
        for columns in [30, 40, 57, 58, 65, 66, 80, 120, 200] {
            let term = InMemoryTerm::new(20, columns);
            let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
            let style =
                ProgressStyle::with_template(&template("{pos}/{len} images", columns.into())).unwrap();
            let rate = |_: &ProgressState, text: &mut dyn Write| text.write_str("123456 images/s").unwrap();
            let bar = ProgressBar::with_draw_target(Some(1_281_167), target);
            bar.set_style(style.with_key("rate", rate));
            bar.set_position(1_000_000);
            bar.force_draw();
            let screen = term.contents();
            assert_eq!(screen.lines().count(), 1, "{columns} columns:\n{screen}");
            assert!(screen.contains("1000000/1281167 images"), "{columns} columns:\n{screen}");
            assert_eq!(screen.contains("images/s"), columns >= 58, "{columns} columns:\n{screen}");
            term.flush().unwrap();
        }
    }
}
