//! Captions in the bitmap font of the sheet.

use fovea_analysis::figure::legible;
use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Regular;
const FONT: RasterHeight = RasterHeight::Size16;

/// Writes a line of text, cut off at `width` pixels; what the font lacks is transliterated.
pub fn write(sheet: &mut RgbImage, left: u32, top: u32, width: u32, text: &str, color: Rgb<u8>) {
    let advance = get_raster_width(WEIGHT, FONT);
    let fits = width as usize / advance;
    for (index, character) in caption(text).chars().take(fits).enumerate() {
        let Some(glyph) = get_raster(character, WEIGHT, FONT) else { continue };
        for (y, row) in glyph.rows().enumerate() {
            for (x, &coverage) in row.iter().enumerate() {
                let pixel = sheet.get_pixel_mut(left + (index * advance + x) as u32, top + y as u32);
                for channel in 0..3 {
                    let (ink, paper) = (u32::from(color[channel]), u32::from(pixel[channel]));
                    let coverage = u32::from(coverage);
                    pixel[channel] = ((ink * coverage + paper * (255 - coverage)) / 255) as u8;
                }
            }
        }
    }
}

fn caption(text: &str) -> String {
    legible(text, |character| get_raster(character, WEIGHT, FONT).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_script_are_readable() {
        assert_eq!(caption("tench (n01440764)"), "tench (n01440764)");
        assert_eq!(caption("Äpfel"), "Äpfel");
        for name in ["花の名前", "قطة", "кошка", "고양이", "แมว", "बिल्ली", "🐱", "👩🏽‍🚀", "a\tb\u{7}c"]
        {
            let caption = caption(name);
            let has_all = caption.chars().all(|c| get_raster(c, WEIGHT, FONT).is_some());
            assert!(has_all && caption.contains(char::is_alphanumeric), "{name}: {caption:?}");
        }
    }
}
