//! Printing of the binaries: results on stdout, everything else on stderr.
//!
//! A closed stdout (`… | head`) is no error, and a closed stderr, of a lost connection for instance, must not
//! end a training run. What is printed may hold names of files and classes, so characters that command a
//! terminal are escaped here, whatever the caller does. What is printed to stderr appears above the bars that
//! are shown.

use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::LazyLock;

use fovea_pipeline::text::{printable, printable_json, printable_lines};
use indicatif::{MultiProgress, ProgressBar};
use serde::Serialize;

use super::narrow;

/// All bars that are shown, from the threads of signals too.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| MultiProgress::with_draw_target(narrow::target()));

/// Exit code for a wrong command line, a wrong recipe included.
pub const USAGE: u8 = 2;
/// Exit code after Ctrl-C: 128 and the number of the signal.
pub const INTERRUPTED: u8 = 130;

/// Prints a line to stdout, as `println!` formats it; gives the result of [`print()`].
#[macro_export]
macro_rules! outln {
    ($($text:tt)*) => { $crate::terminal::print(&::std::format!("{}\n", ::std::format_args!($($text)*))) };
}

/// Prints a line to stderr, as `eprintln!` formats it.
#[macro_export]
macro_rules! errln {
    ($($text:tt)*) => { $crate::terminal::eprint_line(::std::format_args!($($text)*)) };
}

/// Prints a result; a closed stdout is no error.
///
/// # Errors
/// When stdout cannot be written to for another reason.
pub fn print(text: &str) -> io::Result<()> {
    print_escaped(&printable_lines(text))
}

/// Prints a result as one line of JSON.
///
/// # Errors
/// When it cannot be JSON, and those of [`print()`].
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(value)?;
    print_escaped(&format!("{}\n", printable_json(&text)))
}

fn print_escaped(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Prints a line to stderr; errors are ignored.
pub fn eprint_line(line: Arguments<'_>) {
    // A terminal may have written `^C` where the line begins.
    let start = if io::stderr().is_terminal() { "\r" } else { "" };
    // There is no stream left to report the failure on.
    let line = line.to_string();
    let line = printable_lines(&line);
    let _ = Stderr.write_all(format!("{start}{line}\n").as_bytes());
}

/// Standard error, above the bars that are shown.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// Shows a bar on stderr, below all others; hidden where stderr is no terminal.
#[must_use]
pub fn show(bar: ProgressBar) -> ProgressBar {
    BARS.add(bar)
}

/// Columns that a bar may fill.
#[must_use]
pub fn columns() -> usize {
    narrow::columns().into()
}

/// Exit code of a tool: 0, or 1 with the error printed to stderr.
#[must_use]
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line, without the causes that the message before already contains.
#[must_use]
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    printable(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use anyhow::Context;

    use super::*;

    /// An error that prints its cause itself, as those of the libraries do.
    #[derive(Debug)]
    struct Wrapping(io::Error);

    impl fmt::Display for Wrapping {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "cannot open: {}", self.0)
        }
    }

    impl std::error::Error for Wrapping {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn every_cause_is_printed_once() {
        let error = Err::<(), _>(Wrapping(io::Error::other("no disk"))).context("preparing").unwrap_err();
        assert_eq!(one_line(&error), "preparing: cannot open: no disk");
    }

    #[test]
    fn an_error_stays_on_one_line_whatever_the_file_is_called() {
        let error = anyhow::anyhow!("a\nb\u{1b}[2J.jpg: cannot open");
        assert_eq!(one_line(&error), "a\\nb\\u{1b}[2J.jpg: cannot open");
    }
}
