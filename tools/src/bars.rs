//! Progress bars on stderr.

use std::path::Path;

use fovea_runtime::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::errln;

/// A bar over `total` items, `unit` in the plural; hidden where stderr is no terminal.
#[must_use]
pub fn item_bar(total: u64, unit: &str) -> ProgressBar {
    let template = format!("{{bar:32}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left {{msg}}");
    styled(total, &template)
}

/// A bar over `total` bytes; hidden where stderr is no terminal.
#[must_use]
pub fn byte_bar(total: u64) -> ProgressBar {
    styled(total, "{bar:32} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left")
}

fn styled(total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(total).with_style(style)
}

/// A bar on stderr for downloads; one line a file where stderr is no terminal.
#[derive(Debug, Default)]
pub struct FetchBar(Option<ProgressBar>);

impl Progress for FetchBar {
    fn started(&mut self, file: &str, have_bytes: u64, total_bytes: u64) {
        let bar = ProgressBar::new(total_bytes).with_position(have_bytes).with_message(file.to_owned());
        if bar.is_hidden() {
            let megabytes = total_bytes as f64 / 1e6;
            errln!("fetching {file} ({megabytes:.1} MB)");
        }
        let style = ProgressStyle::with_template(
            "{msg}\n  {wide_bar:.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} ({eta})",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        self.0 = Some(bar);
    }

    fn reached(&mut self, have_bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(have_bytes);
        }
    }

    fn finished(&mut self, _file: &str) {
        if let Some(bar) = self.0.take() {
            bar.finish();
        }
    }

    fn waiting(&mut self, lock: &Path) {
        errln!("waiting for another process that is fetching the same file ({})", lock.display());
    }
}
