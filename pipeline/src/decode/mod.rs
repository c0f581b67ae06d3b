//! From JPEG bytes to pixels.
//!
//! [`JpegFile`] decodes photos of any size by `zune-jpeg` and, where that is not good enough, by
//! `libjpeg-turbo-rs` or `jpeg-decoder`. [`JpegDecoder`] decodes the images of a shard, likewise or, with the
//! feature `turbojpeg`, by libjpeg-turbo.

mod exact;
mod guard;
mod header;
mod jpeg_error;
mod jpeg_file;
mod mixed;
mod padding;
mod scans;

pub use guard::guarded;
pub use jpeg_error::JpegError;
pub use jpeg_file::JpegFile;

use crate::geometry::Size;

#[cfg(feature = "turbojpeg")]
use turbo as library;
#[cfg(not(feature = "turbojpeg"))]
use zune as library;

/// Name of the library that decodes.
pub const DECODER: &str = library::NAME;

/// Decodes the JPEG files of a shard; owned by one worker.
#[derive(Debug, Default)]
pub struct JpegDecoder {
    library: library::Decoder,
    pixels: Vec<u8>,
}

impl JpegDecoder {
    /// Decodes a JPEG file of this size to `u8 [H,W,3]` RGB.
    ///
    /// # Errors
    /// The reason, when the bytes are no JPEG file or one of another size.
    pub fn decode(&mut self, jpeg: &[u8], size: Size) -> Result<&[u8], String> {
        self.pixels.resize(size.area() * 3, 0);
        self.library.decode(jpeg, size, &mut self.pixels)?;
        Ok(&self.pixels)
    }
}

fn check_size(found: Size, expected: Size) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found} pixels, expected {expected}")) }
}

#[cfg(not(feature = "turbojpeg"))]
mod zune {
    use super::JpegFile;
    use crate::geometry::Size;

    pub const NAME: &str = "zune-jpeg";

    #[derive(Debug, Default)]
    pub struct Decoder;

    impl Decoder {
        pub fn decode(&mut self, jpeg: &[u8], size: Size, pixels: &mut [u8]) -> Result<(), String> {
            let file = JpegFile::parse(jpeg).map_err(|error| error.to_string())?;
            let (width, height) = file.dimensions();
            super::check_size(Size { width, height }, size)?;
            file.decode(pixels).map_err(|error| error.to_string())
        }
    }
}

#[cfg(feature = "turbojpeg")]
mod turbo {
    use turbojpeg::{Decompressor, Image, PixelFormat};

    use crate::geometry::Size;

    pub const NAME: &str = "libjpeg-turbo";

    /// Created at the first use, since that can fail.
    #[derive(Debug, Default)]
    pub struct Decoder(Option<Decompressor>);

    impl Decoder {
        pub fn decode(&mut self, jpeg: &[u8], size: Size, pixels: &mut [u8]) -> Result<(), String> {
            if self.0.is_none() {
                self.0 = Some(Decompressor::new().map_err(|error| error.to_string())?);
            }
            let decompressor = self.0.as_mut().expect("created above");
            let header = decompressor.read_header(jpeg).map_err(|error| error.to_string())?;
            let found = Size { width: header.width as u32, height: header.height as u32 };
            super::check_size(found, size)?;
            let (width, height) = (header.width, header.height);
            let image = Image { pixels, width, pitch: 3 * width, height, format: PixelFormat::RGB };
            decompressor.decompress(jpeg, image).map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoding;
    use crate::test_support::{SIDE, encoded, pixels};

    #[test]
    fn pixels_come_back_nearly_as_they_were_encoded() {
        let mut decoder = JpegDecoder::default();
        let decoded = decoder.decode(&encoded(Encoding::Jpeg, 3), Size::square(SIDE)).unwrap();
        let planar = pixels(3);
        let area = (SIDE * SIDE) as usize;
        let mean_error = (0..3 * area)
            .map(|i| (f64::from(decoded[i]) - f64::from(planar[i % 3 * area + i / 3])).abs())
            .sum::<f64>()
            / (3 * area) as f64;
        assert!(mean_error < 3.0, "mean difference {mean_error}");
    }

    #[test]
    fn data_that_are_no_jpeg_or_truncated_or_of_another_size_are_refused() {
        let jpeg = encoded(Encoding::Jpeg, 3);
        let mut decoder = JpegDecoder::default();
        let error = decoder.decode(&jpeg, Size::square(SIDE + 1)).unwrap_err();
        assert_eq!(error, "20x20 pixels, expected 21x21");
        for damaged in [&b"<html>"[..], &[]] {
            decoder.decode(damaged, Size::square(SIDE)).unwrap_err();
        }
        // libjpeg-turbo has other words for these.
        for kept in [2, jpeg.len() / 2, jpeg.len() - 30, jpeg.len() - 2] {
            let error = decoder.decode(&jpeg[..kept], Size::square(SIDE)).unwrap_err();
            assert!(DECODER != "zune-jpeg" || error.contains(&format!("ends after {kept} bytes")), "{error}");
        }
        decoder.decode(&jpeg, Size::square(SIDE)).unwrap();
    }
}
