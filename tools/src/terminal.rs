//! What binaries print: results on stdout, everything else on stderr.
//!
//! Whoever reads may go away: a reader that has seen enough (`… | head`) is no error, and a stderr that nobody reads, a
//! closed connection for instance, must not end a training run.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::process::ExitCode;

/// Exit code for a wrong command line, a wrong recipe included.
pub const USAGE: u8 = 2;
/// Exit code after Ctrl-C: 128 and the number of the signal.
pub const INTERRUPTED: u8 = 130;

/// Prints a line to stdout, as `println!` formats it; gives the result of [`print()`].
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::terminal::print(&::std::format!("{}\n", ::std::format_args!($($text)*))) };
}

/// Prints a line to stderr, as `eprintln!` formats it.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => { $crate::terminal::tell(::std::format_args!($($text)*)) };
}

/// Prints a result; a reader that has seen enough is no error.
///
/// # Errors
/// When stdout cannot be written to for another reason.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Prints a line to stderr, if anybody can read it.
pub fn tell(line: Arguments<'_>) {
    // Nowhere is left to say that it failed.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Ends a tool: exit code 0, or the error on stderr and exit code 1.
#[must_use]
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, but for those that the message before them tells already.
#[must_use]
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use anyhow::Context;

    use super::*;

    /// An error that tells its cause itself, as those of the libraries do.
    #[derive(Debug)]
    struct Telling(io::Error);

    impl fmt::Display for Telling {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "cannot open: {}", self.0)
        }
    }

    impl std::error::Error for Telling {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn every_cause_is_told_once() {
        let error = Err::<(), _>(Telling(io::Error::other("no disk"))).context("preparing").unwrap_err();
        assert_eq!(one_line(&error), "preparing: cannot open: no disk");
    }
}
