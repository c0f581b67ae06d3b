//! Sequential JPEG files in which a scan holds some components, but not all, by `jpeg-decoder`.

use jpeg_decoder::{ColorTransform, Decoder, Error};

use super::JpegError;
use super::header::Header;
use super::padding::padded;
use super::scans::{Part, parts};

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
    let mut data = bytes[..scan - 2].to_vec();
    let mut is_mixed = false;
    for part in parts(bytes, scan) {
        match part {
            Part::Scan(scan) => {
                is_mixed |= *scan.get(2)? > 1;
                data.extend([0xff, 0xda]);
                data.extend(padded(scan));
            }
            Part::Segment(marker, segment) => {
                data.extend([0xff, marker]);
                data.extend(segment);
            }
            Part::End => {
                data.extend([0xff, 0xd9]);
                return is_mixed.then_some(data);
            }
        }
    }
    None
}
