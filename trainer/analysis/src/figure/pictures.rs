//! Rows of pictures with captions and small bar charts.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};
use maud::{Markup, html};

use super::bars::Bar;
use super::colors::Color;
use super::svg::{Anchor, Svg, TITLE_HEIGHT_PX, px, shortened, sized_text, text_width, with_hint, wrapped};

/// Size of captions.
const CAPTION_PX: f64 = 12.0;
const CAPTION_LINE_PX: f64 = 16.0;
/// Side below which captions are smaller, so that longer names fit.
const SMALL_PX: f64 = 100.0;
const SMALL_CAPTION_PX: f64 = 11.0;
const SMALL_CAPTION_LINE_PX: f64 = 14.0;
const BAR_PX: f64 = 18.0;
const BAR_TEXT_PX: f64 = 11.0;
/// Side from which a picture is encoded as JPEG: a PNG of a photo is ten times as large.
const PHOTO_PX: u32 = 65;
const JPEG_QUALITY: u8 = 88;

/// A picture, encoded for embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    uri: String,
    /// Whether its pixels are shown as squares when it is enlarged.
    pixelated: bool,
}

/// Pictures in rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pictures {
    /// Title.
    pub title: String,
    /// Width and height of each picture in the figure.
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

/// A picture with its captions and bars.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The picture.
    pub picture: Picture,
    /// Captions below it; a long one is wrapped to a second line.
    pub lines: Vec<(String, Color)>,
    /// Bars below the captions, with values 0..=1, labels on them, and notes to their right.
    pub bars: Vec<Bar>,
    /// Colour of a frame around it.
    pub frame: Option<Color>,
}

impl Picture {
    /// Encodes pixels `u8 [H,W,3]`.
    ///
    /// # Panics
    /// When there are fewer pixels than `width` × `height`.
    #[must_use]
    pub fn from_rgb(width: u32, height: u32, pixels: Vec<u8>) -> Self {
        let image = RgbImage::from_raw(width, height, pixels).expect("three bytes per pixel");
        let mut bytes = Cursor::new(Vec::new());
        let pixelated = width.max(height) < PHOTO_PX;
        let (kind, encoded) = if pixelated {
            ("png", image.write_to(&mut bytes, ImageFormat::Png))
        } else {
            ("jpeg", image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)))
        };
        encoded.expect("pixels in memory can be encoded");
        let uri = format!("data:image/{kind};base64,{}", STANDARD.encode(bytes.into_inner()));
        Self { uri, pixelated }
    }

    /// Encodes planes `u8 [3,H,W]`.
    ///
    /// # Panics
    /// When there are fewer pixels than `width` × `height`.
    #[must_use]
    pub fn from_planes(width: u32, height: u32, planes: &[u8]) -> Self {
        let area = (width * height) as usize;
        Self::from_rgb(width, height, (0..3 * area).map(|i| planes[i % 3 * area + i / 3]).collect())
    }
}

impl Cell {
    /// A picture without captions and bars.
    #[must_use]
    pub fn new(picture: Picture) -> Self {
        Self { picture, lines: Vec::new(), bars: Vec::new(), frame: None }
    }
}

/// The layout of the captions of a row: a caption takes the same number of lines in all cells, so that the
/// next one is at the same height.
struct Captions {
    size_px: f64,
    line_px: f64,
    /// Number of lines of each caption.
    lines: Vec<usize>,
}

impl Captions {
    fn new(row: &Row, side: f64) -> Self {
        let (size_px, line_px) = if side < SMALL_PX {
            (SMALL_CAPTION_PX, SMALL_CAPTION_LINE_PX)
        } else {
            (CAPTION_PX, CAPTION_LINE_PX)
        };
        let mut lines = Vec::new();
        for cell in &row.cells {
            lines.resize(lines.len().max(cell.lines.len()), 0);
            for (most, (text, _)) in lines.iter_mut().zip(&cell.lines) {
                *most = wrapped(text, side, size_px).len().max(*most);
            }
        }
        Self { size_px, line_px, lines }
    }

    /// Height of the first `count` captions.
    fn height(&self, count: usize) -> f64 {
        self.lines[..count].iter().sum::<usize>() as f64 * self.line_px
    }
}

impl Pictures {
    /// Draws the pictures.
    #[must_use]
    pub fn svg(&self) -> Svg {
        let (mut rows, mut top) = (Vec::new(), TITLE_HEIGHT_PX);
        for row in &self.rows {
            let caption = if row.caption.is_empty() { 0.0 } else { CAPTION_LINE_PX + 4.0 };
            let captions = Captions::new(row, self.side_px);
            let bars = row.cells.iter().map(|cell| cell.bars.len()).max().unwrap_or(0) as f64;
            let bars = if bars > 0.0 { bars * BAR_PX + 4.0 } else { 0.0 };
            let height = self.side_px + captions.height(captions.lines.len()) + bars;
            rows.push((top, top + caption, row, captions));
            top += caption + height + self.gap_px;
        }
        let longest = self.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0) as f64;
        let width = (4.0 + longest * (self.side_px + self.gap_px)).max(280.0);
        let body = html! {
            @for (caption_top, top, row, captions) in &rows {
                @if !row.caption.is_empty() {
                    (sized_text((2.0, caption_top + 12.0), Anchor::Start, Color::Faint, CAPTION_PX, &row.caption))
                }
                @for (index, cell) in row.cells.iter().enumerate() {
                    (self.cell(2.0 + index as f64 * (self.side_px + self.gap_px), *top, cell, captions))
                }
            }
        };
        Svg::new(&self.title, width, top + 4.0, &body)
    }

    fn cell(&self, x: f64, y: f64, cell: &Cell, captions: &Captions) -> Markup {
        let side = self.side_px;
        let lines_top = y + side;
        html! {
            image x=(px(x)) y=(px(y)) width=(px(side)) height=(px(side)) href=(cell.picture.uri)
                style=[cell.picture.pixelated.then_some("image-rendering:pixelated")] {}
            @if let Some(color) = cell.frame {
                rect x=(px(x)) y=(px(y)) width=(px(side)) height=(px(side)) fill="none" stroke=(color) stroke-width="3" {}
            }
            @for (index, (text, color)) in cell.lines.iter().enumerate() {
                @let first = lines_top + captions.height(index);
                @let lines = wrapped(text, side, captions.size_px);
                (with_hint(text, lines.len() == 1, html! {
                    @for (index, line) in lines.iter().enumerate() {
                        @let baseline = first + (index as f64 + 0.85) * captions.line_px;
                        (sized_text((x, baseline), Anchor::Start, *color, captions.size_px, line))
                    }
                }))
            }
            (self.bars(x, lines_top + captions.height(captions.lines.len()) + 4.0, &cell.bars))
        }
    }

    fn bars(&self, x: f64, top: f64, bars: &[Bar]) -> Markup {
        let side = self.side_px;
        let notes: Vec<String> = bars.iter().map(|bar| bar.notes.join(" ")).collect();
        let notes_width = notes.iter().map(|note| text_width(note, BAR_TEXT_PX)).fold(0.0, f64::max);
        let longest = (side - notes_width - 4.0).max(0.0);
        html! {
            @for (index, (bar, note)) in bars.iter().zip(&notes).enumerate() {
                @let top = top + index as f64 * BAR_PX;
                @let label = shortened(&bar.label, longest - 6.0, BAR_TEXT_PX);
                rect x=(px(x)) y=(px(top)) width=(px(longest * bar.value.clamp(0.0, 1.0))) height=(BAR_PX - 3.0) rx="1.5"
                    fill=(bar.color) fill-opacity="0.42" {}
                (with_hint(&bar.label, label == bar.label,
                    sized_text((x + 3.0, top + 11.5), Anchor::Start, Color::Ink, BAR_TEXT_PX, &label)))
                (sized_text((x + side, top + 11.5), Anchor::End, Color::Ink, BAR_TEXT_PX, note))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::png::png;
    use super::*;

    fn decoded(picture: &Picture) -> RgbImage {
        let encoded = picture.uri.split("base64,").nth(1).unwrap();
        image::load_from_memory(&STANDARD.decode(encoded).unwrap()).unwrap().to_rgb8()
    }

    #[test]
    fn planes_are_encoded_as_their_picture() {
        // A red pixel to the left of a blue one.
        let picture = Picture::from_planes(2, 1, &[255, 0, 0, 0, 0, 255]);
        assert_eq!(decoded(&picture).into_raw(), [255, 0, 0, 0, 0, 255]);
        assert_eq!(decoded(&Picture::from_rgb(100, 80, vec![77; 24_000])).dimensions(), (100, 80));
    }

    fn cell(lines: &[&str], bars: Vec<Bar>) -> Cell {
        let lines = lines.iter().map(|line| ((*line).to_owned(), Color::Ink)).collect();
        Cell { lines, bars, ..Cell::new(Picture::from_rgb(1, 1, vec![0; 3])) }
    }

    /// x and y of a text.
    fn position(svg: &str, text: &str) -> (f64, f64) {
        let before = svg.split(&format!(">{text}</text>")).next().unwrap();
        let element = before.rsplit("<text ").next().unwrap();
        let number = |name: &str| {
            element.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        (number("x"), number("y"))
    }

    #[test]
    fn numbers_are_to_the_right_of_every_bar() {
        let bar = Bar { label: "crane".into(), value: 1.0, notes: vec!["100 %".into()], color: Color::Right };
        let rows = vec![Row { cells: vec![cell(&[], vec![bar])], ..Row::default() }];
        let svg = Pictures { side_px: 130.0, rows, ..Pictures::default() }.svg().to_string();
        let width: f64 = svg
            .split("<rect ")
            .nth(1)
            .unwrap()
            .split("width=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(2.0 + width < position(&svg, "100 %").0 - text_width("100 %", BAR_TEXT_PX), "{svg}");
    }

    #[test]
    fn a_long_name_is_wrapped_and_the_captions_below_are_at_one_height() {
        let cells = vec![cell(&["crane", "1.5"], Vec::new()), cell(&["long white heron", "2.5"], Vec::new())];
        let svg =
            Pictures { side_px: 74.0, rows: vec![Row { cells, ..Row::default() }], ..Pictures::default() }
                .svg();
        png(&svg).unwrap();
        let svg = svg.to_string();
        assert!(svg.contains("<title>long white heron</title>") && !svg.contains("<title>crane"), "{svg}");
        assert!(position(&svg, "heron").1 > position(&svg, "crane").1);
        assert_eq!(position(&svg, "1.5").1, position(&svg, "2.5").1);
        assert!(position(&svg, "2.5").1 > position(&svg, "heron").1 + 5.0, "{svg}");
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
        let drawn = |shade| image::load_from_memory(&png(&picture(shade).svg()).unwrap()).unwrap().to_rgb8();
        // In the middle of the picture; the PNG has two pixels for each of the figure.
        assert_eq!(drawn(40).get_pixel(24, 80).0, [40; 3]);
        assert_eq!(drawn(200).get_pixel(24, 80).0, [200; 3]);
    }
}
