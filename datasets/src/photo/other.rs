//! PNG, WebP, BMP and PNM files, by the crate `image`, and which other formats there are.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::PhotoError;
use super::mended::mended;

/// Formats that are read, and their names.
const FORMATS: [(ImageFormat, &str); 6] = [
    (ImageFormat::Png, "PNG"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::WebP, "WebP"),
    (ImageFormat::Bmp, "BMP"),
    (ImageFormat::Tiff, "TIFF"),
    (ImageFormat::Pnm, "PNM"),
];

/// Memory beside the pixels: rows, tables, and whatever metadata unpack to.
pub(super) const OVERHEAD_BYTES: u64 = 64 << 20;

/// The format of a file that begins with these bytes, if it is one that is read, and its name.
pub(super) fn format_of(beginning: &[u8]) -> Option<(ImageFormat, &'static str)> {
    let is_big_tiff = beginning.starts_with(b"II+\0") || beginning.starts_with(b"MM\0+");
    let format = if is_big_tiff { ImageFormat::Tiff } else { image::guess_format(beginning).ok()? };
    FORMATS.into_iter().find(|(known, _)| *known == format)
}

/// An image file whose header has been read.
pub(super) struct OtherFile<'b> {
    decoder: Box<dyn ImageDecoder + 'b>,
    format: &'static str,
    file_bytes: usize,
}

impl<'b> OtherFile<'b> {
    pub(super) fn parse(
        bytes: &'b [u8],
        (format, name): (ImageFormat, &'static str),
    ) -> Result<Self, PhotoError> {
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(OVERHEAD_BYTES);
        let mut reader = ImageReader::with_format(Cursor::new(mended(bytes, format)), format);
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(|error| describe(error, name, bytes.len()))?;
        Ok(OtherFile { decoder: Box::new(decoder), format: name, file_bytes: bytes.len() })
    }

    pub(super) fn dimensions(&self) -> (u32, u32) {
        self.decoder.dimensions()
    }

    /// Decodes to `u8 [H,W,3]` RGB.
    pub(super) fn decode(mut self, rgb: &mut Vec<u8>) -> Result<(), PhotoError> {
        let describe = |error| describe(error, self.format, self.file_bytes);
        let mut limits = Limits::no_limits();
        // The image, and once more for decoders that put it together from parts.
        limits.max_alloc = Some(self.decoder.total_bytes().saturating_mul(2).saturating_add(OVERHEAD_BYTES));
        self.decoder.set_limits(limits).map_err(describe)?;
        let image = DynamicImage::from_decoder(self.decoder).map_err(describe)?;
        *rgb = image.into_rgb8().into_raw();
        Ok(())
    }
}

fn describe(error: ImageError, format: &'static str, bytes: usize) -> PhotoError {
    let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match error {
        ImageError::IoError(_) => PhotoError::Truncated { format, bytes },
        ImageError::Unsupported(error) => {
            PhotoError::Unsupported { format, reason: one_line(error.to_string()) }
        }
        other => PhotoError::Damaged { format, reason: one_line(other.to_string()) },
    }
}
