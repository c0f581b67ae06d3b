//! Files with a byte changed so that the crate `image` reads them as others do.

use std::borrow::Cow;

use image::ImageFormat;

use super::metadata::webp_chunks;

/// The file as it is to be decoded.
pub(super) fn mended(bytes: &[u8], format: ImageFormat) -> Cow<'_, [u8]> {
    let change = match format {
        ImageFormat::WebP => unblended(bytes),
        ImageFormat::Bmp => behind_palette(bytes),
        _ => None,
    };
    let Some((at, new)) = change else { return Cow::Borrowed(bytes) };
    let mut mended = bytes.to_vec();
    mended[at..at + new.len()].copy_from_slice(&new);
    Cow::Owned(mended)
}

/// Of an animation the first frame alone is taken, whose colours must not be blended with what is below it.
fn unblended(webp: &[u8]) -> Option<(usize, Vec<u8>)> {
    const NO_BLENDING: u8 = 2;
    const FLAGS_AT: usize = 15;
    let (_, frame) = webp_chunks(webp).find(|(name, _)| *name == b"ANMF")?;
    let flags = *frame.get(FLAGS_AT)?;
    let at = frame.as_ptr() as usize - webp.as_ptr() as usize + FLAGS_AT;
    (flags & NO_BLENDING == 0).then(|| (at, vec![flags | NO_BLENDING]))
}

/// Pixels that would begin where the palette does begin behind it.
fn behind_palette(bmp: &[u8]) -> Option<(usize, Vec<u8>)> {
    const PIXELS_AT: usize = 10;
    let number = |at: usize| Some(u32::from_le_bytes(*bmp.get(at..)?.first_chunk()?));
    let header_bytes = number(14)?;
    let (bits, colors, bytes_of_color) = match header_bytes {
        12 => (number(24)? as u16, 0, 3),
        _ => (number(28)? as u16, number(46)?, 4),
    };
    if !matches!(bits, 1 | 2 | 4 | 8) || number(PIXELS_AT)? != header_bytes.checked_add(14)? {
        return None;
    }
    let colors = if colors == 0 { 1 << bits } else { colors.min(1 << bits) };
    let pixels_at = number(PIXELS_AT)? + colors * bytes_of_color;
    Some((PIXELS_AT, pixels_at.to_le_bytes().to_vec()))
}
