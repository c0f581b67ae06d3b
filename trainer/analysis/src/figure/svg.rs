//! What all figures share: the document, texts, lengths.

use maud::{Markup, html};

use super::colors::{Color, fixed};

/// Size of text in pixels.
pub(super) const TEXT_PX: f64 = 13.0;
/// Size of titles in pixels.
pub(super) const TITLE_PX: f64 = 15.0;
/// Height that a title takes.
pub(super) const TITLE_HEIGHT_PX: f64 = 30.0;
/// Fonts of the reader's system; where it has none of them, and in PNG, DejaVu Sans.
const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";

/// Which point of a text its position is.
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

/// A whole figure; its title stands at the top.
pub(super) fn document(title: &str, width: f64, height: f64, body: &Markup) -> String {
    // Bold text takes about a tenth more room than it is measured to take.
    let shown = shortened(title, 0.9 * width, TITLE_PX);
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {} {}", px(width), px(height)))
            width=(px(width)) height=(px(height)) role="img" font-family=(FONTS) font-size=(TEXT_PX) {
            title { (title) }
            text x="2" y="17" font-size=(TITLE_PX) font-weight="600" fill=(Color::Ink) { (shown) }
            (body)
        }
    };
    // XML has no way to write control characters, and a file's name may hold one.
    markup.into_string().replace(char::is_control, " ")
}

/// The figure as a file of its own: fixed light colours on white.
#[must_use]
pub fn standalone(svg: &str) -> String {
    let paper = html! { rect width="100%" height="100%" fill=(Color::Paper) {} }.into_string();
    fixed(&svg.replacen("</title>", &format!("</title>{paper}"), 1))
}

/// A line of text whose baseline is at `y`.
pub(super) fn text(x: f64, y: f64, anchor: Anchor, color: Color, content: &str) -> Markup {
    sized_text((x, y), anchor, color, TEXT_PX, content)
}

/// A line of text of another size than the usual.
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

/// Markup that tells `whole` when pointed at, where it shows less than that.
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

/// A length to a tenth of a pixel.
pub(super) fn px(length: f64) -> String {
    let rounded = (length * 10.0).round() / 10.0;
    // No `-0`.
    format!("{}", rounded + 0.0)
}

/// About the width of a text; fonts differ.
pub(super) fn text_width(content: &str, size_px: f64) -> f64 {
    content.chars().count() as f64 * size_px * 0.62
}

/// The text, cut to about this width.
pub(super) fn shortened(content: &str, width_px: f64, size_px: f64) -> String {
    if text_width(content, size_px) <= width_px {
        return content.to_owned();
    }
    let fits = (width_px / text_width("x", size_px)) as usize;
    let kept: String = content.chars().take(fits.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The text in one line or two of about this width; the second is cut where it must be.
pub(super) fn wrapped(content: &str, width_px: f64, size_px: f64) -> Vec<String> {
    if text_width(content, size_px) <= width_px {
        return vec![content.to_owned()];
    }
    let fits = ((width_px / text_width("x", size_px)) as usize).max(1);
    let characters: Vec<char> = content.chars().collect();
    // A space falls away, other marks stay at the end of the line.
    let breaks = (1..characters.len().min(fits + 1))
        .rev()
        .find(|&at| characters[at] == ' ' || matches!(characters[at - 1], '-' | '/'));
    let (first, second) = characters.split_at(breaks.unwrap_or(fits.min(characters.len())));
    let line = |part: &[char]| part.iter().collect::<String>().trim().to_owned();
    vec![line(first), shortened(&line(second), width_px, size_px)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_too_long_is_cut_in_the_picture_and_whole_in_the_hint() {
        let title = "a network of a long name, ".repeat(9);
        let svg = document(&title, 500.0, 100.0, &html! {});
        assert!(svg.contains(&format!("<title>{title}</title>")), "{svg}");
        assert_eq!(svg.matches(&title).count(), 1, "{svg}");
        let short = document("short", 500.0, 100.0, &html! {});
        assert_eq!(short.matches(">short</").count(), 2, "{short}");
    }

    #[test]
    fn text_of_any_kind_is_escaped() {
        let title = "<script>\"a\" & 'b'</script>\u{0}\n";
        let svg = document(title, 500.0, 10.0, &text(1.0, 2.0, Anchor::Start, Color::Ink, title));
        assert_eq!(svg.matches("&lt;script&gt;").count(), 3, "{svg}");
        assert!(!svg.contains("<script") && !svg.contains(char::is_control), "{svg}");
        assert!(svg.contains("&amp;"), "{svg}");
        crate::figure::png(&svg).unwrap();
    }

    #[test]
    fn a_file_of_its_own_has_a_background_and_no_properties() {
        let svg = standalone(&document("a", 10.0, 10.0, &html! {}));
        assert!(svg.contains("</title><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\">"), "{svg}");
        assert!(!svg.contains("var("), "{svg}");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(shortened("crane", 100.0, 13.0), "crane");
        let cut = shortened("größte übergroße Größe", 60.0, 13.0);
        assert!(cut.starts_with("größt") && cut.ends_with('…') && text_width(&cut, 13.0) <= 60.0, "{cut}");
    }

    #[test]
    fn a_text_goes_on_in_a_second_line_after_a_whole_word_if_it_can() {
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
