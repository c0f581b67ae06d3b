//! Names in scripts that a font lacks.

use deunicode::deunicode_char;

/// `text` with the characters that a font has no glyph for, as `has_glyph` says, transliterated to Latin
/// letters: `猫` becomes `Mao`, and an emoji its name. What cannot be transliterated becomes its code, as in
/// `U+E000`; control characters and marks of writing direction become spaces.
#[must_use]
pub fn legible(text: &str, has_glyph: impl Fn(char) -> bool) -> String {
    let mut legible = transliterated(text, has_glyph, str::to_owned);
    // Syllables end with a space.
    legible.truncate(legible.trim_end().len());
    legible
}

/// Whether a character has no place in a figure: controls, separators of lines, marks of writing direction.
pub(super) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// As [`legible`]; what replaces a character is passed through `escape`.
pub(super) fn transliterated(
    text: &str,
    has_glyph: impl Fn(char) -> bool,
    escape: impl Fn(&str) -> String,
) -> String {
    let of = |character: char| {
        if is_invisible(character) {
            " ".to_owned()
        } else if has_glyph(character) {
            character.to_string()
        } else {
            let latin = deunicode_char(character).map(&escape);
            latin.unwrap_or_else(|| format!("U+{:04X}", u32::from(character)))
        }
    };
    text.chars().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_font_lacks_is_changed() {
        let latin = |text: &str| legible(text, |character| character.is_ascii());
        assert_eq!(latin("tench"), "tench");
        assert_eq!(latin("猫"), "Mao");
        assert_eq!(latin("🐱 a\u{1b}[1m"), "cat  a [1m");
        assert_eq!(latin("\u{e000}"), "U+E000");
        assert_eq!(legible("猫", |_| true), "猫");
        assert_eq!(legible("gpj.\u{202e}cat\u{2069}", |_| true), "gpj. cat");
    }
}
