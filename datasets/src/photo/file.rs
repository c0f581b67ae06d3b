//! An image file: its format, header and pixels.

use std::borrow::Cow;

use fovea_pipeline::decode::{JpegFile, guarded};
use image::ImageFormat;
use image::metadata::Orientation as Turn;

use super::gif::GifFile;
use super::metadata::Metadata;
use super::orientation::turn_in;
use super::other::{OtherFile, format_of};
use super::tiff::TiffFile;
use super::{MAX_PIXELS, Orientation, Photo, PhotoError};

/// Bytes from which [`is_image`] knows an image.
pub const BEGINNING_BYTES: usize = 256;

/// Whether a file that begins with these bytes, [`BEGINNING_BYTES`] if it has so many, is an image of a
/// format that is read, whatever its name. Where two letters are all that marks a format, which texts may
/// begin with too, more of the header is looked at.
#[must_use]
pub fn is_image(beginning: &[u8]) -> bool {
    match format_of(beginning) {
        Some((ImageFormat::Bmp, _)) => begins_like_bmp(beginning),
        Some((ImageFormat::Pnm, _)) => begins_like_pnm(beginning),
        Some(_) => true,
        None => beginning.starts_with(&[0xff, 0xd8, 0xff]),
    }
}

/// The size of the second header is that of a version of the format.
fn begins_like_bmp(beginning: &[u8]) -> bool {
    let size = beginning.get(14..18).map(|size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    matches!(size, Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

/// A number of the format, then the width and height as text, perhaps with comments between.
fn begins_like_pnm(beginning: &[u8]) -> bool {
    let Some((magic, rest)) = beginning.split_at_checked(2) else { return false };
    if magic == b"P7" {
        return rest.starts_with(b"\n");
    }
    if !rest.first().is_some_and(|&byte| byte.is_ascii_whitespace() || byte == b'#') {
        return false;
    }
    let text = String::from_utf8_lossy(rest);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut numbers = lines.flat_map(str::split_ascii_whitespace);
    let mut is_number = || numbers.next().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    is_number() && is_number()
}

/// An image file whose header has been read.
pub struct PhotoFile<'b> {
    format: Format<'b>,
    name: &'static str,
    turn: Turn,
}

enum Format<'b> {
    Jpeg(Box<JpegFile<'b>>),
    Gif(Box<GifFile<'b>>),
    Tiff(TiffFile<'b>),
    Other(OtherFile<'b>),
}

impl<'b> PhotoFile<'b> {
    /// Detects the format and reads the header.
    ///
    /// # Errors
    /// When the bytes are no image file of a format that is read, the header is damaged, or the image has no
    /// or more than [`MAX_PIXELS`] pixels.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, PhotoError> {
        let (format, name, metadata) = match (bytes, format_of(bytes)) {
            ([], _) => return Err(PhotoError::Empty),
            ([0xff, 0xd8, 0xff, 0xf7, ..], _) => return Err(PhotoError::unknown(bytes)),
            ([0xff, 0xd8, ..], _) => {
                let file = JpegFile::parse(bytes)?;
                let (exif, xmp) = (file.exif().map(Cow::Borrowed), file.xmp().map(Cow::Borrowed));
                (Format::Jpeg(Box::new(file)), "JPEG", Metadata { exif, xmp })
            }
            (_, Some((format, name))) => {
                let parse = || match format {
                    ImageFormat::Gif => GifFile::parse(bytes).map(|file| Format::Gif(Box::new(file))),
                    ImageFormat::Tiff => TiffFile::parse(bytes).map(Format::Tiff),
                    _ => OtherFile::parse(bytes, (format, name)).map(Format::Other),
                };
                (safely(name, parse)?, name, Metadata::of(bytes, format))
            }
            _ => return Err(PhotoError::unknown(bytes)),
        };
        let turn = turn_in(&metadata);
        let file = PhotoFile { format, name, turn };
        let (width, height) = file.dimensions();
        if file.pixels() == 0 {
            return Err(PhotoError::NoPixels { width, height });
        }
        if file.pixels() > MAX_PIXELS {
            return Err(PhotoError::TooLarge { width, height });
        }
        Ok(file)
    }

    /// Width and height in pixels, as they are stored.
    #[must_use]
    pub fn dimensions(&self) -> (u32, u32) {
        match &self.format {
            Format::Jpeg(file) => file.dimensions(),
            Format::Gif(file) => file.dimensions(),
            Format::Tiff(file) => file.dimensions(),
            Format::Other(file) => file.dimensions(),
        }
    }

    /// Width times height.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        let (width, height) = self.dimensions();
        u64::from(width) * u64::from(height)
    }

    /// Whether EXIF data or XMP say that the image is not stored upright.
    #[must_use]
    pub fn is_turned(&self) -> bool {
        self.turn != Turn::NoTransforms
    }

    /// Decodes the image into `photo`, reusing its memory.
    ///
    /// # Errors
    /// When the file is damaged or truncated; the content of `photo` is then unspecified.
    pub fn decode(self, orientation: Orientation, photo: &mut Photo) -> Result<(), PhotoError> {
        (photo.width, photo.height) = self.dimensions();
        match self.format {
            Format::Jpeg(file) => {
                photo.rgb.resize(3 * photo.width as usize * photo.height as usize, 0);
                file.decode(&mut photo.rgb)?;
            }
            Format::Gif(file) => safely(self.name, || file.decode(&mut photo.rgb))?,
            Format::Tiff(file) => safely(self.name, || file.decode(&mut photo.rgb))?,
            Format::Other(file) => safely(self.name, || file.decode(&mut photo.rgb))?,
        }
        if orientation == Orientation::Apply {
            photo.apply(self.turn);
        }
        Ok(())
    }
}

/// Runs a decoder of others; a panic in it is damage of the file.
fn safely<T>(format: &'static str, decode: impl FnOnce() -> Result<T, PhotoError>) -> Result<T, PhotoError> {
    guarded(decode).unwrap_or_else(|reason| Err(PhotoError::Damaged { format, reason }))
}
