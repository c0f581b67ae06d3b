//! Resizing of images of bytes.
//!
//! `fast_image_resize` is generic over the type of pixels, and its call that decides at run time compiles all
//! types that it knows, which takes longer than the rest of this crate. Here are the two types that there
//! are, compiled once.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{PixelTrait, ResizeOptions, Resizer};

use crate::geometry::Size;

/// Resizes one plane, `u8 [H,W]`, to another size.
///
/// # Panics
/// When a slice has not as many bytes as its size needs, or the options cut outside the image.
pub fn resize_plane(
    resizer: &mut Resizer,
    from: (&[u8], Size),
    to: (&mut [u8], Size),
    options: &ResizeOptions,
) {
    resize::<U8>(resizer, from, to, options);
}

/// Resizes an image of interleaved colours, `u8 [H,W,3]`, to another size.
///
/// # Panics
/// When a slice has not as many bytes as its size needs, or the options cut outside the image.
pub fn resize_rgb(
    resizer: &mut Resizer,
    from: (&[u8], Size),
    to: (&mut [u8], Size),
    options: &ResizeOptions,
) {
    resize::<U8x3>(resizer, from, to, options);
}

fn resize<P: PixelTrait>(
    resizer: &mut Resizer,
    (source, from): (&[u8], Size),
    (target, to): (&mut [u8], Size),
    options: &ResizeOptions,
) {
    let source = TypedImageRef::<P>::from_buffer(from.width, from.height, source)
        .expect("the source has as many bytes as its size needs");
    let mut target = TypedImage::<P>::from_buffer(to.width, to.height, target)
        .expect("the target has as many bytes as its size needs");
    resizer.resize_typed(&source, &mut target, options).expect("the part lies within the source");
}
