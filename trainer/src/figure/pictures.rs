//! Rows of pictures with captions and small bars.

use std::io::Cursor;

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{ImageFormat, RgbImage, codecs::jpeg::JpegEncoder};
use maud::{Markup, html};

use super::{
    Bar, Color,
    svg::{Anchor, TITLE_HEIGHT_PX, document, px, shortened, sized_text},
};

/// Size of captions and of the texts on bars.
const CAPTION_PX: f64 = 12.0;
const CAPTION_LINE_PX: f64 = 16.0;
const BAR_PX: f64 = 18.0;
/// Side from which a picture is packed as a JPEG: a PNG of a photo is ten times the size.
const PHOTO_PX: u32 = 65;
const JPEG_QUALITY: u8 = 88;

/// A picture, packed for a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    uri: String,
    /// Whether its pixels are to be seen as squares when it is enlarged.
    pixelated: bool,
}

/// Pictures in rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pictures {
    /// What they show.
    pub title: String,
    /// Width and height of each picture as it is shown.
    pub side_px: f64,
    /// Space between pictures.
    pub gap_px: f64,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A row of pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Text above it; none if empty.
    pub caption: String,
    /// Its pictures.
    pub cells: Vec<Cell>,
}

/// A picture with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The picture.
    pub picture: Picture,
    /// Lines below it.
    pub lines: Vec<(String, Color)>,
    /// Bars below these, as shares of the picture's width, 0..=1, with their labels on them.
    pub bars: Vec<Bar>,
    /// Colour of a frame around it.
    pub frame: Option<Color>,
}

impl Picture {
    /// Packs pixels `u8 [H,W,3]`.
    ///
    /// # Panics
    /// When there are fewer pixels than height and width say.
    #[must_use]
    pub fn from_rgb(width: u32, height: u32, pixels: Vec<u8>) -> Self {
        let image = RgbImage::from_raw(width, height, pixels).expect("three bytes for each pixel");
        let mut bytes = Cursor::new(Vec::new());
        let pixelated = width.max(height) < PHOTO_PX;
        let (kind, packed) = if pixelated {
            ("png", image.write_to(&mut bytes, ImageFormat::Png))
        } else {
            ("jpeg", image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)))
        };
        packed.expect("pixels in memory can be packed");
        let uri = format!("data:image/{kind};base64,{}", STANDARD.encode(bytes.into_inner()));
        Self { uri, pixelated }
    }

    /// Packs planes `u8 [3,H,W]`.
    ///
    /// # Panics
    /// When there are fewer pixels than height and width say.
    #[must_use]
    pub fn from_planes(width: u32, height: u32, planes: &[u8]) -> Self {
        let area = (width * height) as usize;
        Self::from_rgb(width, height, (0..3 * area).map(|i| planes[i % 3 * area + i / 3]).collect())
    }
}

impl Cell {
    /// A picture alone.
    #[must_use]
    pub fn new(picture: Picture) -> Self {
        Self { picture, lines: Vec::new(), bars: Vec::new(), frame: None }
    }

    fn height(&self, side: f64) -> f64 {
        let bars = if self.bars.is_empty() { 0.0 } else { self.bars.len() as f64 * BAR_PX + 4.0 };
        side + self.lines.len() as f64 * CAPTION_LINE_PX + bars
    }
}

impl Pictures {
    /// Draws them.
    #[must_use]
    pub fn svg(&self) -> String {
        let (mut rows, mut top) = (Vec::new(), TITLE_HEIGHT_PX);
        for row in &self.rows {
            let caption = if row.caption.is_empty() { 0.0 } else { CAPTION_LINE_PX + 4.0 };
            rows.push((top, top + caption, row));
            let tallest = row.cells.iter().map(|cell| cell.height(self.side_px)).fold(0.0, f64::max);
            top += caption + tallest + self.gap_px;
        }
        let longest = self.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0) as f64;
        let width = (4.0 + longest * (self.side_px + self.gap_px)).max(280.0);
        let body = html! {
            @for (caption_top, top, row) in &rows {
                @if !row.caption.is_empty() {
                    (sized_text((2.0, caption_top + 12.0), Anchor::Start, Color::Faint, CAPTION_PX, &row.caption))
                }
                @for (index, cell) in row.cells.iter().enumerate() {
                    (self.cell(2.0 + index as f64 * (self.side_px + self.gap_px), *top, cell))
                }
            }
        };
        document(&self.title, width, top + 4.0, &body)
    }

    fn cell(&self, x: f64, y: f64, cell: &Cell) -> Markup {
        let side = self.side_px;
        let lines_top = y + side;
        let bars_top = lines_top + cell.lines.len() as f64 * CAPTION_LINE_PX + 4.0;
        html! {
            image x=(px(x)) y=(px(y)) width=(px(side)) height=(px(side)) href=(cell.picture.uri)
                style=[cell.picture.pixelated.then_some("image-rendering:pixelated")] {}
            @if let Some(color) = cell.frame {
                rect x=(px(x)) y=(px(y)) width=(px(side)) height=(px(side)) fill="none" stroke=(color) stroke-width="3" {}
            }
            @for (index, (line, color)) in cell.lines.iter().enumerate() {
                (sized_text((x, lines_top + (index as f64 + 0.85) * CAPTION_LINE_PX), Anchor::Start, *color, CAPTION_PX,
                    &shortened(line, side, CAPTION_PX)))
            }
            @for (index, bar) in cell.bars.iter().enumerate() {
                @let top = bars_top + index as f64 * BAR_PX;
                rect x=(px(x)) y=(px(top)) width=(px(side * bar.value.clamp(0.0, 1.0))) height=(BAR_PX - 3.0) rx="1.5"
                    fill=(bar.color) fill-opacity="0.42" {}
                (sized_text((x + 3.0, top + 11.5), Anchor::Start, Color::Ink, CAPTION_PX - 1.0,
                    &shortened(&bar.label, side - 34.0, CAPTION_PX - 1.0)))
                (sized_text((x + side - 1.0, top + 11.5), Anchor::End, Color::Faint, CAPTION_PX - 2.0, &bar.note))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(picture: &Picture) -> RgbImage {
        let packed = picture.uri.split("base64,").nth(1).unwrap();
        image::load_from_memory(&STANDARD.decode(packed).unwrap()).unwrap().to_rgb8()
    }

    #[test]
    fn planes_become_the_picture_that_they_are_of() {
        // Two pixels beside each other: red and blue.
        let picture = Picture::from_planes(2, 1, &[255, 0, 0, 0, 0, 255]);
        assert_eq!(unpacked(&picture).into_raw(), [255, 0, 0, 0, 0, 255]);
        assert_eq!(unpacked(&Picture::from_rgb(100, 80, vec![77; 24_000])).dimensions(), (100, 80));
    }

    #[test]
    fn pictures_are_drawn_into_the_png() {
        let picture = |shade| Pictures {
            side_px: 20.0,
            rows: vec![Row {
                cells: vec![Cell::new(Picture::from_rgb(70, 70, vec![shade; 14_700]))],
                ..Row::default()
            }],
            ..Pictures::default()
        };
        let drawn = |shade| {
            image::load_from_memory(&crate::figure::png(&picture(shade).svg()).unwrap()).unwrap().to_rgb8()
        };
        // In the middle of the picture, two pixels for each of the figure's.
        assert_eq!(drawn(40).get_pixel(24, 80).0, [40; 3]);
        assert_eq!(drawn(200).get_pixel(24, 80).0, [200; 3]);
    }
}
