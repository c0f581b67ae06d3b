//! JPEG bytes to pixels.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

/// Decodes the JPEG files of a shard; owned by one worker.
#[derive(Debug, Default)]
pub struct JpegDecoder {
    pixels: Vec<u8>,
}

impl JpegDecoder {
    /// Decodes a JPEG file of `size`×`size` pixels to u8 [S,S,3] RGB.
    ///
    /// # Errors
    /// The reason, when the bytes are no JPEG file or one of another size.
    pub fn decode(&mut self, jpeg: &[u8], size: u32) -> Result<&[u8], String> {
        let options =
            DecoderOptions::new_fast().jpeg_set_out_colorspace(ColorSpace::RGB).set_strict_mode(true);
        let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
        decoder.decode_headers().map_err(|error| error.to_string())?;
        let found = decoder.dimensions().unwrap_or_default();
        let expected = size as usize;
        if found != (expected, expected) {
            return Err(format!("{}x{} pixels, expected {expected}x{expected}", found.0, found.1));
        }
        self.pixels.resize(expected * expected * 3, 0);
        decoder.decode_into(&mut self.pixels).map_err(|error| error.to_string())?;
        Ok(&self.pixels)
    }
}
