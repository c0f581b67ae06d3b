//! Renders figures to PNG.

use std::sync::{Arc, LazyLock};

use maud::html;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};
use skrifa::charmap::Charmap;
use skrifa::{FontRef, MetadataProvider};

use super::legible::transliterated;
use super::svg::Svg;

/// Pixels of the PNG per pixel of the figure, for screens of high resolution.
const SCALE: f32 = 2.0;

/// A figure cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// The markup is invalid.
    #[error("cannot draw a figure: {0}; make it with the functions of `figure`")]
    Markup(#[from] resvg::usvg::Error),
    /// The figure is too large.
    #[error("cannot draw a figure of {width} × {height} pixels; show less in it")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The PNG cannot be encoded.
    #[error("cannot write a figure as PNG: {0}")]
    Encoding(String),
}

/// The only fonts, so that a figure looks the same on all machines.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// The characters that those fonts have.
static GLYPHS: LazyLock<Charmap<'static>> = LazyLock::new(|| {
    FontRef::new(dejavu::sans::regular()).expect("the embedded font is well-formed").charmap()
});

/// The markup of a figure with names that the fonts can show.
fn markup(figure: &Svg) -> String {
    let has_glyph = |character: char| character.is_ascii() || GLYPHS.map(character).is_some();
    transliterated(&figure.standalone(), has_glyph, |latin| html! { (latin) }.into_string())
}

/// Renders a figure in light colours on white, with two pixels for each of its own.
///
/// # Errors
/// [`FigureError`] for invalid markup or a figure that is too large.
pub fn png(figure: &Svg) -> Result<Vec<u8>, FigureError> {
    let options = Options { fontdb: Arc::clone(&FONTS), ..Options::default() };
    let tree = Tree::from_str(&markup(figure), &options)?;
    let side = |length: f32| (length * SCALE).ceil() as u32;
    let (width, height) = (side(tree.size().width()), side(tree.size().height()));
    let mut pixels = Pixmap::new(width, height).ok_or(FigureError::Size { width, height })?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| FigureError::Encoding(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(width: f64, height: f64, body: &str) -> Svg {
        Svg { width, height, title: String::new(), body: body.into() }
    }

    #[test]
    fn text_is_drawn_with_the_embedded_font() {
        let text = "<text x='2' y='15' font-family='system-ui, sans-serif'>§</text>";
        assert_ne!(png(&figure(40.0, 20.0, text)).unwrap(), png(&figure(40.0, 20.0, "")).unwrap());
    }

    #[test]
    fn names_in_scripts_that_the_font_lacks_are_drawn_in_latin_letters() {
        let text = |name| {
            let text = format!("<text x='2' y='15' font-family='system-ui, sans-serif'>{name}</text>");
            png(&figure(90.0, 20.0, &text)).unwrap()
        };
        assert_eq!(text("猫"), text("Mao"));
        assert_eq!(text("🍎"), text("apple "));
        assert_eq!(text("a＜b＆c"), text("a&lt;b&amp;c"));
        // Those that it has are themselves.
        assert_ne!(text("кот"), text("kot"));
    }

    #[test]
    fn invalid_markup_and_figures_that_are_too_large_are_errors() {
        assert!(matches!(png(&figure(9.0, 9.0, "<g>")).unwrap_err(), FigureError::Markup(_)));
        assert!(matches!(png(&figure(1e9, 1e9, "")).unwrap_err(), FigureError::Size { .. }));
    }
}
