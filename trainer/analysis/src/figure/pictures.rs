//! Rows of pictures with captions and small bars.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};
use maud::{Markup, html};

use super::svg::{
    Anchor, TITLE_HEIGHT_PX, document, px, shortened, sized_text, text_width, with_hint, wrapped,
};
use super::{Bar, Color};

/// Size of captions and of the texts on bars.
const CAPTION_PX: f64 = 12.0;
const CAPTION_LINE_PX: f64 = 16.0;
/// Side below which captions are smaller, so that more of a name has room.
const SMALL_PX: f64 = 100.0;
const SMALL_CAPTION_PX: f64 = 11.0;
const SMALL_CAPTION_LINE_PX: f64 = 14.0;
const BAR_PX: f64 = 18.0;
const BAR_TEXT_PX: f64 = 11.0;
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
    /// Texts below it; one that is too long goes on in a second line.
    pub lines: Vec<(String, Color)>,
    /// Bars below these, of lengths in 0..=1, with their labels on them and their notes at the right, where no bar reaches.
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
}

/// The texts below the pictures of a row as they are laid out: the same text of all cells takes the same number of lines, so that
/// what follows it stands at one height.
struct Captions {
    size_px: f64,
    line_px: f64,
    /// Lines of the first text, the second and so on.
    lines: Vec<usize>,
}

impl Captions {
    fn of(row: &Row, side: f64) -> Self {
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

    /// Height of the first `count` texts.
    fn height(&self, count: usize) -> f64 {
        self.lines[..count].iter().sum::<usize>() as f64 * self.line_px
    }
}

impl Pictures {
    /// Draws them.
    #[must_use]
    pub fn svg(&self) -> String {
        let (mut rows, mut top) = (Vec::new(), TITLE_HEIGHT_PX);
        for row in &self.rows {
            let caption = if row.caption.is_empty() { 0.0 } else { CAPTION_LINE_PX + 4.0 };
            let captions = Captions::of(row, self.side_px);
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
        document(&self.title, width, top + 4.0, &body)
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
        let beside = notes.iter().map(|note| text_width(note, BAR_TEXT_PX)).fold(0.0, f64::max);
        let longest = (side - beside - 4.0).max(0.0);
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

    fn cell(lines: &[&str], bars: Vec<Bar>) -> Cell {
        let lines = lines.iter().map(|line| ((*line).to_owned(), Color::Ink)).collect();
        Cell { lines, bars, ..Cell::new(Picture::from_rgb(1, 1, vec![0; 3])) }
    }

    /// x and y of the text.
    fn place(svg: &str, text: &str) -> (f64, f64) {
        let before = svg.split(&format!(">{text}</text>")).next().unwrap();
        let element = before.rsplit("<text ").next().unwrap();
        let number = |name: &str| {
            element.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        (number("x"), number("y"))
    }

    #[test]
    fn numbers_stand_to_the_right_of_every_bar() {
        let bar = Bar { label: "crane".into(), value: 1.0, notes: vec!["100 %".into()], color: Color::Right };
        let rows = vec![Row { cells: vec![cell(&[], vec![bar])], ..Row::default() }];
        let svg = Pictures { side_px: 130.0, rows, ..Pictures::default() }.svg();
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
        assert!(2.0 + width < place(&svg, "100 %").0 - text_width("100 %", BAR_TEXT_PX), "{svg}");
    }

    #[test]
    fn a_long_name_takes_two_lines_can_be_read_in_full_and_leaves_the_numbers_at_one_height() {
        let cells = vec![cell(&["crane", "1.5"], Vec::new()), cell(&["long white heron", "2.5"], Vec::new())];
        let svg =
            Pictures { side_px: 74.0, rows: vec![Row { cells, ..Row::default() }], ..Pictures::default() }
                .svg();
        assert!(svg.contains("<title>long white heron</title>") && !svg.contains("<title>crane"), "{svg}");
        assert!(place(&svg, "heron").1 > place(&svg, "crane").1);
        assert_eq!(place(&svg, "1.5").1, place(&svg, "2.5").1);
        assert!(place(&svg, "2.5").1 > place(&svg, "heron").1 + 5.0, "{svg}");
        crate::figure::png(&svg).unwrap();
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
