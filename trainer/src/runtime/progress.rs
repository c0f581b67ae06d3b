//! How a download tells of itself.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use crate::tell;

/// Hears how fetching goes; every method does nothing unless written.
pub trait Progress {
    /// A download of `total_bytes` begins, of which `have_bytes` lie here from an earlier attempt.
    fn started(&mut self, file: &str, have_bytes: u64, total_bytes: u64) {
        let _ = (file, have_bytes, total_bytes);
    }

    /// The download in progress now has `have_bytes`; fewer than before when it had to start again.
    fn reached(&mut self, have_bytes: u64) {
        let _ = have_bytes;
    }

    /// The download in progress is complete.
    fn finished(&mut self, file: &str) {
        let _ = file;
    }

    /// Another process is fetching the same file and holds this lock.
    fn waiting(&mut self, lock: &Path) {
        let _ = lock;
    }
}

/// Hears nothing.
impl Progress for () {}

/// Shows a bar on the terminal's standard error, or one line a file where there is no terminal.
#[derive(Debug, Default)]
pub struct Bar(Option<ProgressBar>);

impl Progress for Bar {
    fn started(&mut self, file: &str, have_bytes: u64, total_bytes: u64) {
        let bar = ProgressBar::new(total_bytes).with_position(have_bytes).with_message(file.to_owned());
        if bar.is_hidden() {
            let megabytes = total_bytes as f64 / 1e6;
            tell!("fetching {file} ({megabytes:.1} MB)");
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
        tell!("waiting for another process that is fetching the same file ({})", lock.display());
    }
}
