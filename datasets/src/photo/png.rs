//! Decoding PNG files.

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, Limits};

use super::{MAX_PIXELS, PhotoError};

const FORMAT: &str = "PNG";

/// Bytes of a pixel in the deepest kind of PNG: four samples of 16 bits.
const MAX_PIXEL_BYTES: u64 = 8;

/// A PNG file whose header has been read.
pub(super) struct PngFile<'b> {
    decoder: PngDecoder<Cursor<&'b [u8]>>,
    file_bytes: usize,
}

impl<'b> PngFile<'b> {
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, PhotoError> {
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_PIXELS * MAX_PIXEL_BYTES);
        let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits)
            .map_err(|error| describe(error, bytes.len()))?;
        Ok(PngFile { decoder, file_bytes: bytes.len() })
    }

    pub(super) fn dimensions(&self) -> (u32, u32) {
        self.decoder.dimensions()
    }

    pub(super) fn decode(self, rgb: &mut Vec<u8>) -> Result<(), PhotoError> {
        let image =
            DynamicImage::from_decoder(self.decoder).map_err(|error| describe(error, self.file_bytes))?;
        *rgb = image.into_rgb8().into_raw();
        Ok(())
    }
}

fn describe(error: ImageError, bytes: usize) -> PhotoError {
    match error {
        ImageError::IoError(_) => PhotoError::Truncated { format: FORMAT, bytes },
        other => {
            let reason = other.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            PhotoError::Damaged { format: FORMAT, reason }
        }
    }
}
