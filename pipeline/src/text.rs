//! Names and messages as they may be printed: files and classes can be called anything.

use std::borrow::Cow;

/// The text on one line, without characters that command a terminal or turn the direction of writing: they
/// are written like `\u{1b}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, is_unprintable)
}

/// Like [`printable`], but for text of several lines, which may have tabs.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_unprintable(c) && c != '\n' && c != '\t')
}

/// JSON text that says the same without these characters, which can only stand in its strings.
#[must_use]
pub fn printable_json(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if is_unprintable(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn escaped(text: &str, must_be: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&must_be) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !must_be(c) => out.push(c),
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            c => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

/// Controls (C0, DEL, C1), separators of lines and paragraphs, and marks, embeddings, overrides and isolates
/// of the bidirectional algorithm.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_a_terminal_or_turns_the_text_is_escaped() {
        for (raw, printed) in [
            ("\u{1b}[2Jred", "\\u{1b}[2Jred"),
            ("a\rb\nc\td", "a\\rb\\nc\\td"),
            ("\u{7}\u{7f}\u{9b}2J", "\\u{7}\\u{7f}\\u{9b}2J"),
            ("gpj.\u{202e}cat\u{2066}", "gpj.\\u{202e}cat\\u{2066}"),
            ("one\u{2028}line\u{200f}", "one\\u{2028}line\\u{200f}"),
        ] {
            assert_eq!(printable(raw), printed);
        }
    }

    #[test]
    fn json_stays_json() {
        assert_eq!(printable_json("[\"a\u{202e}b\u{9b}\u{7f}\"]"), "[\"a\\u202eb\\u009b\\u007f\"]");
        assert!(matches!(printable_json("[\"猫\\n\"]"), Cow::Borrowed(_)));
    }

    #[test]
    fn other_text_is_as_it_was() {
        for text in ["", "plain name (1).jpg", "Straße, Ελλάδα, 猫, مرحبا, 👩‍🚀", "back\\slash"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn text_of_several_lines_keeps_them() {
        assert_eq!(printable_lines("a\tb\nc\u{1b}[0m\r\n"), "a\tb\nc\\u{1b}[0m\\r\n");
    }
}
