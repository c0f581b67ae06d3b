//! Photos: from the bytes of an image file to RGB pixels of the size of a data set.
//!
//! [`PhotoFile::parse`] detects the format by the content (never by the name) and reads the header,
//! [`PhotoFile::decode`] gives a [`Photo`], `u8 [H,W,3]` RGB, and [`Shaper`] resizes it. The results are
//! those of common loaders:
//!
//! * greyscale is repeated in the three channels; CMYK and YCCK are read as Adobe writes them, inverted;
//! * 16-bit samples are rounded to 8 bits, palettes are looked up, transparency is dropped (not blended);
//!   where a TIFF file has colours that are multiplied by it, they are divided first;
//! * of a file of several pictures the first is taken (GIF, WebP, TIFF), on a ground of the transparent or
//!   else the first colour where it does not fill a GIF's screen, of black where it does not fill a WebP's;
//! * colour profiles are not applied, nor is the orientation that EXIF data or XMP give, except by
//!   [`Orientation::Apply`].
//!
//! JPEG, PNG, WebP, GIF, BMP, TIFF and PNM are read. A truncated file is an error, never an image with a grey
//! rest; so is a decoder that panics.

mod directory;
mod encode;
mod error;
mod file;
mod gif;
mod mended;
mod metadata;
mod orientation;
mod other;
mod pixels;
mod shape;
mod tiff;

pub use encode::{encode_jpeg, expected_jpeg_bytes};
pub use error::PhotoError;
pub use file::{BEGINNING_BYTES, PhotoFile, is_image};
pub use orientation::Orientation;
pub use pixels::{MAX_PIXELS, Photo, to_planes};
pub use shape::{Filter, Fit, Shaped, Shaper};

#[cfg(test)]
mod tests;
