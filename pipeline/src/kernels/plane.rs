//! What the inner loops work on: a plane of pixels, and how it becomes numbers.

use crate::geometry::Size;

/// One channel of a part of an image; or, for [`deinterleave`](super::deinterleave), all three.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// The stored pixels from the first of the part on.
    pub pixels: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// The size of the part.
    pub size: Size,
    /// Whether the part is mirrored left to right.
    pub flipped: bool,
}

impl Plane<'_> {
    #[inline(always)]
    pub(super) fn width(&self) -> usize {
        self.size.width as usize
    }
}

/// What is subtracted from the pixels of one channel.
#[derive(Clone, Copy, Debug)]
pub enum Mean<'a> {
    /// The same value everywhere.
    Constant(f32),
    /// A value for each pixel of the result, `f32 [H,W]`. It is not mirrored with the image.
    PerPixel(&'a [f32]),
}

/// How the pixels of one channel become numbers: (pixel − (mean − offset)) · scale.
#[derive(Clone, Copy, Debug)]
pub struct Normalize<'a> {
    /// Subtracted from the pixel, 0..=255.
    pub mean: Mean<'a>,
    /// The colour offset, in units of 0..=255.
    pub offset: f32,
    /// Factor.
    pub scale: f32,
}
