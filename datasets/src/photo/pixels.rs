//! Decoded pixels.

/// Pixels above which an image is refused: 16,384 × 16,384, some 800 MB once decoded.
pub const MAX_PIXELS: u64 = 1 << 28;

/// A decoded image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Photo {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `u8 [H,W,3]` RGB 0..=255.
    pub rgb: Vec<u8>,
}

/// Rearranges `u8 [H,W,3]` into `u8 [3,H,W]`.
///
/// # Panics
/// When the lengths differ.
pub fn to_planes(rgb: &[u8], planes: &mut [u8]) {
    assert_eq!(rgb.len(), planes.len(), "both hold the same pixels");
    let (red, rest) = planes.split_at_mut(rgb.len() / 3);
    let (green, blue) = rest.split_at_mut(rgb.len() / 3);
    for (((pixel, r), g), b) in rgb.chunks_exact(3).zip(red).zip(green).zip(blue) {
        (*r, *g, *b) = (pixel[0], pixel[1], pixel[2]);
    }
}
