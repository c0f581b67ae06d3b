//! Decoding JPEG files of every kind to the pixels of libjpeg-turbo, by `libjpeg-turbo-rs`.
//!
//! Slower than `zune-jpeg`; it has the last word on what that one refuses.

use libjpeg_turbo_rs::decode::pipeline::Decoder;
use libjpeg_turbo_rs::{DecodeLimits, JpegError as Error, PixelFormat};

use super::JpegError;

/// Bytes of working memory for each pixel: coefficients, samples and the result of four components.
const BYTES_PER_PIXEL: u64 = 24;
const LEAST_BYTES: u64 = 64 << 20;

/// Scans of a progressive file; encoders write about ten.
const MAX_SCANS: usize = 1000;

/// A file whose header has been read.
pub(super) struct ExactFile<'b> {
    decoder: Decoder<'b>,
    file_bytes: usize,
    is_cmyk: bool,
}

impl<'b> ExactFile<'b> {
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, JpegError> {
        let describe = |error| describe(error, bytes.len());
        let limits = DecodeLimits { max_scans: MAX_SCANS, ..DecodeLimits::default() };
        let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(describe)?;
        let header = decoder.header();
        let pixels = u64::from(header.width) * u64::from(header.height);
        let is_cmyk = header.components.len() == 4;
        decoder
            .set_limits(DecodeLimits { max_memory: Some(pixels * BYTES_PER_PIXEL + LEAST_BYTES), ..limits });
        decoder.set_output_format(if is_cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb });
        Ok(ExactFile { decoder, file_bytes: bytes.len(), is_cmyk })
    }

    pub(super) fn dimensions(&self) -> (u32, u32) {
        let header = self.decoder.header();
        (u32::from(header.width), u32::from(header.height))
    }

    /// Decodes to `u8 [H,W,3]` RGB.
    pub(super) fn decode(self, rgb: &mut [u8]) -> Result<(), JpegError> {
        let describe = |error| describe(error, self.file_bytes);
        if !self.is_cmyk {
            let decoded = self.decoder.decode_image_into(rgb).map_err(describe)?;
            return match decoded.bytes_written == rgb.len() {
                true => Ok(()),
                false => Err(damage("an unusual number of colour components".into())),
            };
        }
        let decoded = self.decoder.decode_image().map_err(describe)?;
        // As Adobe writes them, inverted: 255 is no ink.
        for (pixel, inks) in rgb.chunks_exact_mut(3).zip(decoded.data.chunks_exact(4)) {
            for (value, &ink) in pixel.iter_mut().zip(inks) {
                *value = (u16::from(ink) * u16::from(inks[3]) / 255) as u8;
            }
        }
        Ok(())
    }
}

fn describe(error: Error, bytes: usize) -> JpegError {
    match error {
        Error::UnexpectedEof => JpegError::Truncated { bytes },
        Error::Unsupported(reason) => JpegError::Unsupported { reason },
        Error::CorruptData(reason) => damage(reason),
        other => damage(other.to_string()),
    }
}

fn damage(reason: String) -> JpegError {
    JpegError::Damaged { reason }
}
