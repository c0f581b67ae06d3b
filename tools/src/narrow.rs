//! A terminal whose bars leave its last columns free.

use std::io;

use console::{Term, is_dumb};
use indicatif::{ProgressDrawTarget, TermLike};

/// Columns that stay free: a terminal writes `^C` behind a bar, which must not begin another line.
const FREE_COLUMNS: u16 = 3;
/// Times a second that bars are drawn, at most.
const DRAWS_PER_S: u8 = 20;

/// Where bars are drawn: stderr, if it is a terminal.
pub fn target() -> ProgressDrawTarget {
    let term = Term::buffered_stderr();
    if !term.is_term() || is_dumb() {
        return ProgressDrawTarget::hidden();
    }
    ProgressDrawTarget::term_like_with_hz(Box::new(Narrow(term)), DRAWS_PER_S)
}

/// Columns that a bar may fill.
pub fn columns() -> u16 {
    Narrow(Term::stderr()).width()
}

#[derive(Debug)]
struct Narrow(Term);

impl TermLike for Narrow {
    fn width(&self) -> u16 {
        self.0.size().1.saturating_sub(FREE_COLUMNS)
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_left(columns)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}
