//! The SVG of a figure, and what all figures share: texts and lengths.

use std::fmt;

use maud::{Markup, PreEscaped, html};

use super::colors::{Color, fixed};
use super::legible::is_invisible;

/// Width of a chart in pixels: two fit side by side on a screen, and one is legible on a phone.
pub const WIDTH_PX: f64 = 560.0;
/// Size of text in pixels.
pub(super) const TEXT_PX: f64 = 13.0;
/// Size of titles in pixels.
pub(super) const TITLE_PX: f64 = 15.0;
/// Height of a title including the space below.
pub(super) const TITLE_HEIGHT_PX: f64 = 30.0;
/// Fonts of the reader's system; in a PNG, DejaVu Sans.
const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";

/// The point of a text that is at its position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// A figure as SVG. Its `Display` is an `svg` element for a page, with the custom properties of
/// [`style`](super::style) as colours.
#[derive(Clone, Debug, PartialEq)]
pub struct Svg {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// Title, shown as its tooltip.
    pub title: String,
    /// Markup of the elements inside the `svg` element.
    pub body: String,
}

impl Svg {
    /// A figure with its title at the top.
    pub(super) fn new(title: &str, width: f64, height: f64, body: &Markup) -> Self {
        // Bold text takes about a tenth more room than `text_width` says.
        let shown = shortened(title, 0.9 * width, TITLE_PX);
        let body = html! {
            text x="2" y="17" font-size=(TITLE_PX) font-weight="600" fill=(Color::Ink) { (shown) }
            (body)
        };
        // XML cannot express control characters, which names of files can hold.
        let [title, body] =
            [title.to_owned(), body.into_string()].map(|text| text.replace(is_invisible, " "));
        Self { width, height, title, body }
    }

    /// The content of an SVG file: fixed light colours on white.
    #[must_use]
    pub fn standalone(&self) -> String {
        let paper = html! { rect width="100%" height="100%" fill=(Color::Paper) {} };
        fixed(&self.element(&html! { (paper) (PreEscaped(&self.body)) }).into_string())
    }

    fn element(&self, content: &Markup) -> Markup {
        let (width, height) = (px(self.width), px(self.height));
        html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}"))
                width=(width) height=(height) role="img" font-family=(FONTS) font-size=(TEXT_PX) {
                title { (self.title) }
                (content)
            }
        }
    }
}

impl fmt::Display for Svg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.element(&PreEscaped(self.body.clone())).into_string())
    }
}

/// A line of text whose baseline is at `y`.
pub(super) fn text(x: f64, y: f64, anchor: Anchor, color: Color, content: &str) -> Markup {
    sized_text((x, y), anchor, color, TEXT_PX, content)
}

/// A line of text of another size.
pub(super) fn sized_text(
    (x, y): (f64, f64),
    anchor: Anchor,
    color: Color,
    size_px: f64,
    content: &str,
) -> Markup {
    html! {
        text x=(px(x)) y=(px(y)) text-anchor=(anchor.name()) font-size=(size_px) fill=(color) { (content) }
    }
}

/// Markup with the tooltip `whole`, unless it shows the whole text already.
pub(super) fn with_hint(whole: &str, is_whole: bool, shown: Markup) -> Markup {
    if is_whole {
        return shown;
    }
    html! { g { title { (whole) } (shown) } }
}

/// A straight line.
pub(super) fn line(from: (f64, f64), to: (f64, f64), color: Color, dashed: bool) -> Markup {
    html! {
        line x1=(px(from.0)) y1=(px(from.1)) x2=(px(to.0)) y2=(px(to.1)) stroke=(color)
            stroke-dasharray=[dashed.then_some("4 3")] {}
    }
}

/// A length rounded to a tenth of a pixel.
pub(super) fn px(length: f64) -> String {
    let rounded = (length * 10.0).round() / 10.0;
    // No `-0`.
    format!("{}", rounded + 0.0)
}

/// The approximate width of a text; fonts differ.
pub(super) fn text_width(content: &str, size_px: f64) -> f64 {
    content.chars().count() as f64 * size_px * 0.62
}

/// The text, cut to approximately this width.
pub(super) fn shortened(content: &str, width_px: f64, size_px: f64) -> String {
    if text_width(content, size_px) <= width_px {
        return content.to_owned();
    }
    let fits = (width_px / text_width("x", size_px)) as usize;
    let kept: String = content.chars().take(fits.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The text wrapped to at most two lines of approximately this width; the second is cut if it is too long.
pub(super) fn wrapped(content: &str, width_px: f64, size_px: f64) -> Vec<String> {
    if text_width(content, size_px) <= width_px {
        return vec![content.to_owned()];
    }
    let fits = ((width_px / text_width("x", size_px)) as usize).max(1);
    let characters: Vec<char> = content.chars().collect();
    // A space is dropped, other separators stay at the end of the line.
    let breaks = (1..characters.len().min(fits + 1))
        .rev()
        .find(|&at| characters[at] == ' ' || matches!(characters[at - 1], '-' | '/'));
    let (first, second) = characters.split_at(breaks.unwrap_or(fits.min(characters.len())));
    let line = |part: &[char]| part.iter().collect::<String>().trim().to_owned();
    vec![line(first), shortened(&line(second), width_px, size_px)]
}

#[cfg(test)]
mod tests {
    use super::super::png::png;
    use super::*;

    fn document(title: &str, body: &Markup) -> String {
        Svg::new(title, 500.0, 100.0, body).to_string()
    }

    #[test]
    fn a_long_title_is_cut_and_whole_in_the_tooltip() {
        let title = "a network of a long name, ".repeat(9);
        let svg = document(&title, &html! {});
        assert!(svg.contains(&format!("<title>{title}</title>")), "{svg}");
        assert_eq!(svg.matches(&title).count(), 1, "{svg}");
        let short = document("short", &html! {});
        assert_eq!(short.matches(">short</").count(), 2, "{short}");
    }

    #[test]
    fn text_of_any_kind_is_escaped() {
        let title = "<script>\"a\" & 'b'</script>\u{0}\n\u{202e}";
        let svg = Svg::new(title, 500.0, 10.0, &text(1.0, 2.0, Anchor::Start, Color::Ink, title));
        png(&svg).unwrap();
        let svg = svg.to_string();
        assert_eq!(svg.matches("&lt;script&gt;").count(), 3, "{svg}");
        assert!(!svg.contains("<script") && !svg.contains(char::is_control), "{svg}");
        assert_eq!(svg.matches("&lt;/script&gt;   <").count(), 3, "{svg}");
        assert!(svg.contains("&amp;"), "{svg}");
    }

    #[test]
    fn a_file_has_a_background_below_the_figure_and_no_custom_properties() {
        let figure = Svg::new("a", 10.0, 20.0, &html! {});
        let file = figure.standalone();
        assert!(file.contains("</title><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\">"), "{file}");
        assert!(!file.contains("var("), "{file}");
        for svg in [file, figure.to_string()] {
            assert!(svg.contains("viewBox=\"0 0 10 20\" width=\"10\" height=\"20\""), "{svg}");
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(shortened("crane", 100.0, 13.0), "crane");
        let cut = shortened("größte übergroße Größe", 60.0, 13.0);
        assert!(cut.starts_with("größt") && cut.ends_with('…') && text_width(&cut, 13.0) <= 60.0, "{cut}");
    }

    #[test]
    fn a_text_is_wrapped_after_a_whole_word_if_possible() {
        let lines = |content| wrapped(content, 74.0, 11.0);
        assert_eq!(lines("crane"), ["crane"]);
        assert_eq!(lines("ankle boot, high"), ["ankle", "boot, high"]);
        assert_eq!(lines("T-shirt/top"), ["T-shirt/", "top"]);
        assert_eq!(lines("hippopotamus"), ["hippopotam", "us"]);
        let cut = lines("German short-haired pointer");
        assert_eq!(cut[0], "German");
        assert!(cut[1].starts_with("short-") && cut[1].ends_with('…'), "{cut:?}");
    }
}
