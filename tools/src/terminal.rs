//! Results on stdout, progress on stderr.

use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a result; a reader that has seen enough (`… | head`) is no error.
///
/// # Errors
/// When stdout cannot be written to for another reason.
pub fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

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

/// Ends a tool: exit code 0, or the error on stderr and exit code 1.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
