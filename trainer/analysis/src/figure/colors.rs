//! The colours of figures, for light and dark pages.

use std::fmt;

/// A colour by its role. Its `Display` is a custom property of CSS with the light colour as the fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Background.
    Paper,
    /// Text and axes.
    Ink,
    /// Secondary text.
    Faint,
    /// Lines of the grid.
    Grid,
    /// Correct predictions.
    Right,
    /// Wrong predictions.
    Wrong,
    /// One of the colours of series, counted from 0; they repeat.
    Series(usize),
}

/// Name, colour on light pages, colour on dark pages.
type Entry = (&'static str, &'static str, &'static str);

const ROLES: [Entry; 6] = [
    ("paper", "#ffffff", "#16191d"),
    ("ink", "#1f2328", "#e6e9ec"),
    ("faint", "#656d76", "#9aa4ae"),
    ("grid", "#e1e4e8", "#30363d"),
    ("right", "#2d8a4e", "#56c27b"),
    ("wrong", "#cf4a2f", "#f08163"),
];

const SERIES: [Entry; 8] = [
    ("series-1", "#2369bd", "#6cb0f5"),
    ("series-2", "#d9730d", "#f5a05a"),
    ("series-3", "#2d8a4e", "#56c27b"),
    ("series-4", "#8a4fb8", "#c29af0"),
    ("series-5", "#b8324f", "#f07b94"),
    ("series-6", "#0e8a8f", "#4fc9ce"),
    ("series-7", "#8a6d1f", "#d6b656"),
    ("series-8", "#656d76", "#9aa4ae"),
];

impl Color {
    fn entry(self) -> Entry {
        match self {
            Self::Paper => ROLES[0],
            Self::Ink => ROLES[1],
            Self::Faint => ROLES[2],
            Self::Grid => ROLES[3],
            Self::Right => ROLES[4],
            Self::Wrong => ROLES[5],
            Self::Series(index) => SERIES[index % SERIES.len()],
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, light, _) = self.entry();
        write!(f, "var(--{name},{light})")
    }
}

fn entries() -> impl Iterator<Item = Entry> {
    ROLES.into_iter().chain(SERIES)
}

/// The custom properties, for the style sheet of a page that follows the reader's preference for light or
/// dark.
#[must_use]
pub fn style() -> String {
    let light: String = entries().map(|(name, light, _)| format!("--{name}:{light};")).collect();
    let dark: String = entries().map(|(name, _, dark)| format!("--{name}:{dark};")).collect();
    format!(":root{{color-scheme:light dark;{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}")
}

/// Replaces every [`Color`] in `markup` by the colour of light pages.
pub(super) fn fixed(markup: &str) -> String {
    entries().fold(markup.to_owned(), |markup, (name, light, _)| {
        markup.replace(&format!("var(--{name},{light})"), light)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_is_defined_for_light_and_dark_pages_and_can_be_fixed() {
        let style = style();
        let roles = [Color::Paper, Color::Ink, Color::Faint, Color::Grid, Color::Right, Color::Wrong];
        for color in roles.into_iter().chain((0..9).map(Color::Series)) {
            let (name, light, dark) = color.entry();
            assert!(style.contains(&format!("--{name}:{light};")), "{style}");
            assert!(style.contains(&format!("--{name}:{dark};")), "{style}");
            assert_eq!(fixed(&format!("fill=\"{color}\"")), format!("fill=\"{light}\""));
        }
    }
}
