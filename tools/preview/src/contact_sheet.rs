//! A contact sheet of augmentations: each row an original and the views made of it.

use fovea_pipeline::geometry::{Frame, Size};
use fovea_pipeline::random::sample_rng;
use fovea_pipeline::view::{Scratch, View};
use fovea_pipeline::{Chain, EvalCrops, Mixing};
use image::{Rgb, RgbImage};

use super::captions::write;

/// One original image.
#[derive(Clone, Debug)]
pub struct Original {
    /// Its name, for the caption.
    pub name: String,
    /// `u8 [3,H,W]`
    pub planes: Vec<u8>,
    /// Width and height.
    pub size: Size,
}

/// The views of a row.
#[derive(Debug)]
pub enum SheetViews<'a> {
    /// `count` augmented views of the same sample.
    Augmented {
        /// The augmentations.
        chain: &'a Chain,
        /// Number of views.
        count: usize,
        /// Seed of the draws; the view in column c is that of epoch c.
        seed: u64,
        /// The mixing of each two rows.
        mixing: Mixing,
    },
    /// The fixed views of an evaluation.
    Test {
        /// Which views.
        views: EvalCrops,
        /// Their size.
        crop: Size,
    },
}

impl SheetViews<'_> {
    /// Views of a row.
    pub fn count(&self) -> usize {
        match self {
            Self::Augmented { count, .. } => *count,
            Self::Test { views, .. } => views.count(),
        }
    }
}

/// A view as it is drawn.
struct Drawn {
    /// `u8 [3,H,W]`
    planes: Vec<u8>,
    size: Size,
    /// Its share of itself, if it is mixed.
    share: Option<f32>,
    frame: Frame,
    flipped: bool,
    offset: [f32; 3],
}

const BACKGROUND: Rgb<u8> = Rgb([250, 250, 248]);
const INK: Rgb<u8> = Rgb([40, 40, 44]);
const FAINT_INK: Rgb<u8> = Rgb([120, 120, 126]);
/// Space around every picture.
const GAP_PX: u32 = 14;
/// Pictures smaller than this are enlarged by a whole factor.
const LEAST_SIDE_PX: u32 = 168;
/// Thickness of the frames, and of the bar of the same colour above each view.
const LINE_PX: u32 = 3;
const TEXT_LINE_PX: u32 = 18;

/// Draws the sheet.
///
/// # Panics
/// When there is no original, or the views cannot be made of one of its size.
pub fn draw(originals: &[Original], views: &SheetViews<'_>) -> RgbImage {
    let row = |(row, original)| (original, make_views(original, row as u64, views));
    let mut rows: Vec<(&Original, Vec<Drawn>)> = originals.iter().enumerate().map(row).collect();
    if let SheetViews::Augmented { seed, mixing, .. } = *views {
        mix(&mut rows, mixing, seed);
    }
    let (_, drawn) = rows.first().expect("a sheet has at least one row");
    let shown = drawn[0].size;
    let factor = LEAST_SIDE_PX.div_ceil(shown.width.min(shown.height)).max(1);
    let columns = drawn.len() as u32;
    let most =
        |side: fn(Size) -> u32| originals.iter().map(|original| side(original.size)).max().unwrap_or(0);
    let original_cell = (most(|size| size.width) * factor, most(|size| size.height) * factor);
    let view_cell = (shown.width * factor, shown.height * factor);
    let text_height = 2 * TEXT_LINE_PX + 4;
    let row_height = (original_cell.1 + LINE_PX).max(view_cell.1 + LINE_PX) + text_height + GAP_PX;
    let width = GAP_PX + original_cell.0 + columns * (view_cell.0 + GAP_PX) + 2 * GAP_PX;
    let mut sheet = RgbImage::from_pixel(width, GAP_PX + rows.len() as u32 * row_height, BACKGROUND);

    for (row, (original, drawn)) in rows.iter().enumerate() {
        let top = GAP_PX + row as u32 * row_height;
        let mut picture = to_rgb(&original.planes, original.size, [0.0; 3]);
        picture = enlarge(&picture, factor);
        for (index, view) in drawn.iter().enumerate() {
            draw_frame(&mut picture, view.frame, factor as f32, hue(index, drawn.len()));
        }
        paste(&mut sheet, &picture, GAP_PX, top + LINE_PX);
        let text_top = top + LINE_PX + picture.height() + 4;
        write(&mut sheet, GAP_PX, text_top, original_cell.0, &original.name, INK);
        write(&mut sheet, GAP_PX, text_top + TEXT_LINE_PX, original_cell.0, &size_text(original), FAINT_INK);

        for (index, view) in drawn.iter().enumerate() {
            let left = 3 * GAP_PX + original_cell.0 + index as u32 * (view_cell.0 + GAP_PX);
            fill(&mut sheet, left, top, view_cell.0, LINE_PX, hue(index, drawn.len()));
            let image = to_rgb(&view.planes, view.size, view.offset);
            paste(&mut sheet, &enlarge(&image, factor), left, top + LINE_PX);
            let text_top = top + LINE_PX + view_cell.1 + 4;
            let (place, colors) = captions(view);
            write(&mut sheet, left, text_top, view_cell.0, &place, INK);
            write(&mut sheet, left, text_top + TEXT_LINE_PX, view_cell.0, &colors, FAINT_INK);
        }
    }
    sheet
}

fn make_views(original: &Original, row: u64, views: &SheetViews<'_>) -> Vec<Drawn> {
    let mut scratch = Scratch::default();
    let mut draw = |change: &dyn Fn(&mut View<'_>)| {
        let mut view = View::planar(&original.planes, original.size, &mut scratch);
        change(&mut view);
        let mut planes = vec![0; 3 * view.size().area()];
        view.write_u8(&mut planes);
        Drawn {
            planes,
            size: view.size(),
            share: None,
            frame: view.frame(),
            flipped: view.is_flipped(),
            offset: view.color_offset(),
        }
    };
    match *views {
        SheetViews::Augmented { chain, count, seed, .. } => (0..count as u64)
            .map(|column| draw(&|view| chain.apply(view, &mut sample_rng(seed, column, row))))
            .collect(),
        SheetViews::Test { views, crop } => {
            (0..views.count()).map(|index| draw(&|view| views.apply(index, crop, view))).collect()
        }
    }
}

/// Mixes each two rows with each other.
fn mix(rows: &mut [(&Original, Vec<Drawn>)], mixing: Mixing, seed: u64) {
    for (pair, rows) in (0..).zip(rows.as_chunks_mut::<2>().0) {
        let [(_, first), (_, second)] = rows;
        for (column, (first, second)) in (0..).zip(first.iter_mut().zip(second)) {
            let size = first.size;
            let Some(mix) = mixing.draw(seed, column, 2 * pair, size) else { return };
            mix.apply_u8(
                size,
                [&mut first.planes, &mut second.planes],
                [&mut first.offset, &mut second.offset],
            );
            first.share = Some(mix.share(size));
            second.share = first.share;
        }
    }
}

/// Pixels as a picture, with the colour offset that the network would receive, clamped to 0..=255.
fn to_rgb(planes: &[u8], size: Size, offset: [f32; 3]) -> RgbImage {
    RgbImage::from_fn(size.width, size.height, |x, y| {
        let index = y as usize * size.width as usize + x as usize;
        // `as` saturates at 0 and 255.
        Rgb(std::array::from_fn(|c| (f32::from(planes[c * size.area() + index]) + offset[c]).round() as u8))
    })
}

fn captions(view: &Drawn) -> (String, String) {
    let Frame { x, y, width, height } = view.frame;
    let shown = (view.size.width as f32, view.size.height as f32);
    let mut place = format!("x{x:.0} y{y:.0}");
    if shown != (width, height) {
        place += &format!(" {width:.0}x{height:.0}");
    }
    if view.flipped {
        place += " mirrored";
    }
    let [red, green, blue] = view.offset;
    let mut colors = match view.offset {
        [0.0, 0.0, 0.0] => String::new(),
        _ => format!("R{red:+.1} G{green:+.1} B{blue:+.1}"),
    };
    if let Some(share) = view.share {
        colors += &format!(" {:.0}% own", 100.0 * share);
    }
    (place, colors)
}

fn size_text(original: &Original) -> String {
    format!("{} pixels", original.size)
}

/// The colour of frame number `index` of `count`: around the colour circle, equally bright.
fn hue(index: usize, count: usize) -> Rgb<u8> {
    let turn = index as f32 / count as f32 * std::f32::consts::TAU;
    let wave = |shift: f32| (140.0 + 105.0 * (turn + shift).cos()).round() as u8;
    Rgb([wave(0.0), wave(-std::f32::consts::TAU / 3.0), wave(std::f32::consts::TAU / 3.0)])
}

fn enlarge(picture: &RgbImage, factor: u32) -> RgbImage {
    RgbImage::from_fn(picture.width() * factor, picture.height() * factor, |x, y| {
        *picture.get_pixel(x / factor, y / factor)
    })
}

/// Draws the outline of a frame just inside its edges.
fn draw_frame(picture: &mut RgbImage, frame: Frame, factor: f32, color: Rgb<u8>) {
    let (left, top) = ((frame.x * factor).round() as u32, (frame.y * factor).round() as u32);
    let right = (((frame.x + frame.width) * factor).round() as u32).min(picture.width());
    let bottom = (((frame.y + frame.height) * factor).round() as u32).min(picture.height());
    let line = 1.max((factor / 3.0) as u32);
    fill(picture, left, top, right - left, line, color);
    fill(picture, left, bottom.saturating_sub(line), right - left, line, color);
    fill(picture, left, top, line, bottom - top, color);
    fill(picture, right.saturating_sub(line), top, line, bottom - top, color);
}

fn fill(picture: &mut RgbImage, left: u32, top: u32, width: u32, height: u32, color: Rgb<u8>) {
    for y in top..(top + height).min(picture.height()) {
        for x in left..(left + width).min(picture.width()) {
            picture.put_pixel(x, y, color);
        }
    }
}

fn paste(sheet: &mut RgbImage, picture: &RgbImage, left: u32, top: u32) {
    image::imageops::replace(sheet, picture, left.into(), top.into());
}

#[cfg(test)]
mod tests {
    use fovea_pipeline::augment;

    use super::*;

    fn originals(rows: usize, side: u32) -> Vec<Original> {
        let size = Size::square(side);
        (0..rows)
            .map(|row| Original { name: format!("image {row}"), planes: vec![100; 3 * size.area()], size })
            .collect()
    }

    #[test]
    fn a_sheet_shows_every_view_where_its_bar_is() {
        let statistics = fovea_pipeline::ColorStatistics::imagenet();
        let chain = Chain::from_configs(&augment::alexnet(), Size::square(256), Some(&statistics)).unwrap();
        let sheet = draw(
            &originals(2, 256),
            &SheetViews::Augmented { chain: &chain, count: 3, seed: 1, mixing: Mixing::default() },
        );
        assert_eq!(sheet.width(), GAP_PX + 256 + 3 * (224 + GAP_PX) + 2 * GAP_PX);
        for column in 0..3 {
            let left = 3 * GAP_PX + 256 + column * (224 + GAP_PX);
            assert_eq!(*sheet.get_pixel(left + 5, GAP_PX), hue(column as usize, 3));
            assert_ne!(*sheet.get_pixel(left + 5, GAP_PX + LINE_PX + 100), BACKGROUND);
        }
    }

    #[test]
    fn each_two_rows_are_mixed_and_a_last_row_is_as_it_is() {
        let chain = Chain::from_configs(&[], Size::square(200), None).unwrap();
        let mut originals = originals(3, 200);
        originals[1].planes.fill(200);
        let mixing = Mixing { mixup_alpha: 5.0, cutmix_alpha: 0.0 };
        let sheet = draw(&originals, &SheetViews::Augmented { chain: &chain, count: 2, seed: 1, mixing });
        let row_height = (sheet.height() - GAP_PX) / 3;
        let gray = |row: u32, column: u32| {
            let left = 3 * GAP_PX + 200 + column * (200 + GAP_PX);
            u32::from(sheet.get_pixel(left + 5, GAP_PX + row * row_height + LINE_PX + 100).0[0])
        };
        for column in 0..2 {
            assert!((101..200).contains(&gray(0, column)) && gray(0, column) != 150, "{}", gray(0, column));
            assert!(gray(0, column).abs_diff(300 - gray(1, column)) <= 1);
            assert_eq!(gray(2, column), 100);
        }
        assert_ne!(gray(0, 0), gray(0, 1));
    }

    #[test]
    fn small_images_are_enlarged_by_a_whole_factor() {
        let views = SheetViews::Test { views: EvalCrops::TenCrop, crop: Size::square(24) };
        let sheet = draw(&originals(1, 28), &views);
        assert_eq!(sheet.width(), GAP_PX + 7 * 28 + 10 * (7 * 24 + GAP_PX) + 2 * GAP_PX);
    }

    /// The frames of the views of three rows of four.
    fn frames(seed: u64) -> Vec<Vec<Frame>> {
        let chain = Chain::from_configs(&augment::alexnet(), Size::square(256), None);
        assert!(chain.is_err(), "the paper's jitter needs statistics");
        let chain = Chain::from_configs(&augment::alexnet()[..2], Size::square(256), None).unwrap();
        let views = SheetViews::Augmented { chain: &chain, count: 4, seed, mixing: Mixing::default() };
        let originals = originals(3, 256);
        let frames = |row: usize| {
            make_views(&originals[row], row as u64, &views).iter().map(|view| view.frame).collect()
        };
        (0..3).map(frames).collect()
    }

    #[test]
    fn every_view_has_its_own_draws_which_the_seed_determines() {
        let all: Vec<Frame> = frames(1).into_iter().chain(frames(2)).flatten().collect();
        // Of 33 × 33 positions some may come up twice, but not many.
        let repeated = (0..all.len()).filter(|&index| all[..index].contains(&all[index])).count();
        assert!(repeated <= 2, "{repeated} of {} frames repeat another", all.len());
        assert_eq!(frames(1), frames(1));
    }

    #[test]
    fn captions_show_place_size_mirroring_and_colours() {
        let view = Drawn {
            planes: Vec::new(),
            size: Size::square(224),
            share: Some(0.628),
            frame: Frame { x: 3.0, y: 20.0, width: 224.0, height: 224.0 },
            flipped: true,
            offset: [1.25, -2.0, 0.0],
        };
        assert_eq!(captions(&view), ("x3 y20 mirrored".into(), "R+1.2 G-2.0 B+0.0 63% own".into()));
        let rescaled = Drawn {
            frame: Frame { x: 3.0, y: 20.0, width: 100.0, height: 60.0 },
            flipped: false,
            offset: [0.0; 3],
            share: None,
            ..view
        };
        assert_eq!(captions(&rescaled), ("x3 y20 100x60".into(), String::new()));
    }

    #[test]
    fn frames_are_drawn_around_what_the_views_show() {
        let views = SheetViews::Test { views: EvalCrops::Center, crop: Size::square(224) };
        let sheet = draw(&originals(1, 256), &views);
        let original = |x: u32, y: u32| *sheet.get_pixel(GAP_PX + x, GAP_PX + LINE_PX + y);
        let (frame, picture) = (hue(0, 1), Rgb([100; 3]));
        for (x, y) in [(16, 16), (239, 16), (16, 239), (239, 239), (128, 16), (16, 128)] {
            assert_eq!(original(x, y), frame, "{x}, {y}");
        }
        for (x, y) in [(15, 15), (240, 240), (128, 128), (17, 17)] {
            assert_eq!(original(x, y), picture, "{x}, {y}");
        }
    }

    #[test]
    fn a_colour_offset_is_seen_in_the_view() {
        let picture = to_rgb(&[100; 12], Size::square(2), [20.4, -200.0, 200.0]);
        assert_eq!(*picture.get_pixel(1, 1), Rgb([120, 0, 255]));
    }
}
