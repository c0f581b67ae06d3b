//! Decoding JPEG files of any size by `zune-jpeg`.
//!
//! The decoder is strict with the image data and lenient with everything around them: ImageNet has corrupt
//! EXIF blocks and stray bytes between segments that every loader overlooks, but data that break off must not
//! become grey pixels.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

/// A JPEG file cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// The file ends before its image does.
    #[error("truncated JPEG: the file ends after {bytes} bytes, before its image does")]
    Truncated {
        /// Size of the file.
        bytes: usize,
    },
    /// The decoder gave up.
    #[error("damaged JPEG: {reason}")]
    Damaged {
        /// The decoder's message.
        reason: String,
    },
}

/// A JPEG file whose header has been read.
pub struct JpegFile<'b> {
    decoder: JpegDecoder<ZCursor<&'b [u8]>>,
    file_bytes: usize,
    width: u32,
    height: u32,
}

impl<'b> JpegFile<'b> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the header is damaged, or the end of the image is missing.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, JpegError> {
        let side = usize::from(u16::MAX);
        let options = DecoderOptions::default()
            .set_max_width(side)
            .set_max_height(side)
            .set_strict_mode(false)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(without_end(bytes)?), options);
        decoder.decode_headers().map_err(|error| describe(error, bytes.len()))?;
        let info = decoder.info().ok_or_else(|| damaged("no frame header".into()))?;
        // Lenient with the header only.
        decoder.set_options(options.set_strict_mode(true));
        Ok(JpegFile {
            decoder,
            file_bytes: bytes.len(),
            width: u32::from(info.width),
            height: u32::from(info.height),
        })
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Decodes the image to `u8 [H,W,3]` RGB. What `rgb` holds after an error is unspecified.
    ///
    /// # Errors
    /// When the image data are damaged or end early.
    ///
    /// # Panics
    /// When `rgb` has not 3·H·W bytes.
    pub fn decode(mut self, rgb: &mut [u8]) -> Result<(), JpegError> {
        let expected = self.width as usize * self.height as usize * 3;
        assert_eq!(rgb.len(), expected, "bytes of an RGB image of {}x{} pixels", self.width, self.height);
        self.decoder.decode_into(rgb).map_err(|error| describe(error, self.file_bytes))?;
        match self.decoder.output_buffer_size() {
            Some(bytes) if bytes == expected => Ok(()),
            _ => Err(damaged("an unusual number of colour components".into())),
        }
    }
}

fn damaged(reason: String) -> JpegError {
    JpegError::Damaged { reason }
}

fn describe(error: DecodeErrors, bytes: usize) -> JpegError {
    match error {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => JpegError::Truncated { bytes },
        DecodeErrors::FormatStatic("Premature end of buffer") => JpegError::Truncated { bytes },
        DecodeErrors::Format(reason) => damaged(one_line(&reason)),
        DecodeErrors::FormatStatic(reason) => damaged(one_line(reason)),
        other => damaged(one_line(&other.to_string())),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const MARKER: u8 = 0xff;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// The file up to its end-of-image marker, which must be present; the whole file if it has several scans.
///
/// At that marker the decoder would fill missing data with zeros. Without it the decoder notices data that
/// are too short, even in a truncated file to which a marker was appended. With several scans it needs the
/// marker to know which is the last.
fn without_end(bytes: &[u8]) -> Result<&[u8], JpegError> {
    let Some(scan) = first_scan(bytes) else {
        // No image data: the decoder says what is wrong with the header.
        return Ok(bytes);
    };
    let end = bytes[scan.start..]
        .windows(2)
        .rposition(|pair| pair == [MARKER, END_OF_IMAGE])
        .ok_or(JpegError::Truncated { bytes: bytes.len() })?;
    Ok(if scan.is_only_one { &bytes[..scan.start + end] } else { bytes })
}

struct Scan {
    /// Where its header begins, after the marker.
    start: usize,
    is_only_one: bool,
}

/// Walks over the segments before the image data (a thumbnail in one of them has markers of its own).
fn first_scan(bytes: &[u8]) -> Option<Scan> {
    let mut position = 2;
    let mut components = None;
    let mut is_sequential = false;
    loop {
        position += bytes.get(position..)?.iter().position(|&byte| byte == MARKER)?;
        position += bytes[position..].iter().position(|&byte| byte != MARKER)?;
        let marker = bytes[position];
        position += 1;
        match marker {
            0x00 | 0x01 | 0xd0..=0xd8 => continue,
            END_OF_IMAGE => return None,
            START_OF_SCAN => {
                let in_scan = bytes.get(position + 2).copied();
                let is_only_one = is_sequential && in_scan.is_some() && in_scan == components;
                return Some(Scan { start: position, is_only_one });
            }
            0xc0..=0xc2 => {
                is_sequential = marker != 0xc2;
                components = bytes.get(position + 7).copied();
            }
            _ => {}
        }
        let length = bytes.get(position..position + 2)?;
        position += usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
}

#[cfg(test)]
mod tests {
    use jpeg_encoder::{ColorType, Encoder};

    use super::*;

    const WIDTH: u16 = 48;
    const HEIGHT: u16 = 40;

    fn encoded(progressive: bool) -> Vec<u8> {
        let pixels = u32::from(WIDTH) * u32::from(HEIGHT);
        let rgb: Vec<u8> = (0..3 * pixels).map(|i| (i.wrapping_mul(i / 97) >> 5) as u8).collect();
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(&mut jpeg, 90);
        encoder.set_progressive(progressive);
        encoder.encode(&rgb, WIDTH, HEIGHT, ColorType::Rgb).expect("the pixels fit the size");
        jpeg
    }

    fn decode(bytes: &[u8]) -> Result<(), JpegError> {
        JpegFile::parse(bytes)?.decode(&mut vec![0; 3 * usize::from(WIDTH) * usize::from(HEIGHT)])
    }

    #[test]
    fn a_truncated_file_is_refused_at_every_length_even_with_an_end_marker_appended() {
        for progressive in [false, true] {
            let bytes = encoded(progressive);
            decode(&bytes).unwrap();
            for kept in (2..bytes.len()).step_by(7) {
                let error = decode(&bytes[..kept]).unwrap_err();
                assert!(
                    error.to_string().contains("JPEG"),
                    "progressive {progressive}, {kept} bytes: {error}"
                );
            }
        }
        let bytes = encoded(false);
        let cut = [&bytes[..bytes.len() * 2 / 3], &[MARKER, END_OF_IMAGE]].concat();
        assert_eq!(decode(&cut), Err(JpegError::Truncated { bytes: cut.len() }));
    }
}
