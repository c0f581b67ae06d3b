//! Sequential JPEG files in which a scan holds some components, but not all, by `jpeg-decoder`.

use jpeg_decoder::{ColorTransform, Decoder, Error};

use super::JpegError;
use super::header::Header;
use super::padding::padded;

/// Such a file, whose header has been read.
pub(super) struct MixedFile {
    /// With padding behind each scan.
    data: Vec<u8>,
    file_bytes: usize,
    dimensions: (u32, u32),
    colors: ColorTransform,
}

impl MixedFile {
    /// `None` if the file is of another kind.
    pub(super) fn parse(bytes: &[u8], header: &Header<'_>) -> Option<Self> {
        if !header.may_have_mixed_scans() {
            return None;
        }
        let colors = if header.is_ycbcr() { ColorTransform::YCbCr } else { ColorTransform::RGB };
        let data = with_padded_scans(bytes, header.scan()?)?;
        Some(Self { data, file_bytes: bytes.len(), dimensions: header.dimensions(), colors })
    }

    pub(super) fn dimensions(&self) -> (u32, u32) {
        self.dimensions
    }

    /// Decodes to `u8 [H,W,3]` RGB.
    pub(super) fn decode(self, rgb: &mut [u8]) -> Result<(), JpegError> {
        let mut decoder = Decoder::new(self.data.as_slice());
        decoder.set_color_transform(self.colors);
        let decoded = decoder.decode().map_err(|error| match error {
            Error::Io(_) => JpegError::Truncated { bytes: self.file_bytes },
            other => JpegError::Damaged { reason: other.to_string() },
        })?;
        if decoded.len() != rgb.len() {
            return Err(JpegError::Damaged { reason: "an unusual number of colour components".into() });
        }
        rgb.copy_from_slice(&decoded);
        Ok(())
    }
}

/// The file with padding behind the data of each scan, of which the first has its header at `scan`. `None` if
/// a part is missing, or if none of the scans holds several components.
fn with_padded_scans(bytes: &[u8], scan: usize) -> Option<Vec<u8>> {
    let mut data = bytes[..scan].to_vec();
    let mut is_mixed = false;
    let mut at = scan;
    loop {
        is_mixed |= *bytes.get(at + 2)? > 1;
        let is_end = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff);
        let header = usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        let end = at + header + bytes.get(at + header..)?.windows(2).position(is_end)?;
        data.extend(padded(&bytes[at..end]));
        at = end;
        loop {
            at += bytes.get(at..)?.iter().position(|&byte| byte != 0xff)? + 1;
            let marker = bytes[at - 1];
            data.extend([0xff, marker]);
            match marker {
                0xd9 => return is_mixed.then_some(data),
                0xda => break,
                _ => {}
            }
            let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
            data.extend(bytes.get(at..at + length)?);
            at += length;
            // Stray bytes between segments are passed over, as by other decoders.
            at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        }
    }
}
