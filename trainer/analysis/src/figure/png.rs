//! Figures as PNG.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use super::standalone;

/// Pixels of the picture for each of the figure's, for screens with small ones.
const ENLARGED: f32 = 2.0;

/// A figure cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// The markup is none that can be drawn.
    #[error("cannot draw a figure: {0}; make it with the functions of `figure`")]
    Markup(#[from] resvg::usvg::Error),
    /// The picture would be too large.
    #[error("cannot draw a figure of {width} × {height} pixels; show less in it")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The picture cannot be packed.
    #[error("cannot write a figure as PNG: {0}")]
    Encoding(String),
}

/// The only fonts, so that a figure looks the same on every machine.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// Draws a figure with light colours on white, two pixels for each of its own.
///
/// # Errors
/// [`FigureError`] for markup that no figure here has made, or a figure too large.
pub fn png(svg: &str) -> Result<Vec<u8>, FigureError> {
    let options = Options { fontdb: Arc::clone(&FONTS), ..Options::default() };
    let tree = Tree::from_str(&standalone(svg), &options)?;
    let side = |length: f32| (length * ENLARGED).ceil() as u32;
    let (width, height) = (side(tree.size().width()), side(tree.size().height()));
    let mut pixels = Pixmap::new(width, height).ok_or(FigureError::Size { width, height })?;
    resvg::render(&tree, Transform::from_scale(ENLARGED, ENLARGED), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| FigureError::Encoding(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_drawn_with_the_font_inside() {
        let of = |text: &str| {
            format!(
                "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20'><title></title>{text}</svg>"
            )
        };
        let text = "<text x='2' y='15' font-family='system-ui, sans-serif'>§</text>";
        assert_ne!(png(&of(text)).unwrap(), png(&of("")).unwrap());
    }

    #[test]
    fn what_is_no_figure_is_refused() {
        assert!(matches!(png("<html>").unwrap_err(), FigureError::Markup(_)));
        let large = "<svg xmlns='http://www.w3.org/2000/svg' width='1e9' height='1e9'/>";
        assert!(matches!(png(large).unwrap_err(), FigureError::Size { .. }));
    }
}
