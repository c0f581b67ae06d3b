//! The first picture of a TIFF file, by the crate `tiff`.
//!
//! The crate knows few kinds of colours, but gives shades of grey unchanged. So it gets a copy of the file
//! whose tags say that all samples are grey, and [`Colors`] makes RGB of them. Common kinds of JPEG data in a
//! TIFF file are decoded as JPEG files are.

mod colors;
mod jpeg;
mod layout;

use std::io::{Cursor, ErrorKind};

use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use self::colors::Colors;
use self::layout::Layout;
use super::PhotoError;
use super::directory::Directory;
use super::other::OVERHEAD_BYTES;

const FORMAT: &str = "TIFF";
const TAG_PHOTOMETRIC: u16 = 262;
const BLACK_IS_ZERO: u16 = 1;
const TAG_PREDICTOR: u16 = 317;
const NO_PREDICTOR: u16 = 1;

/// A TIFF file whose header has been read.
pub(super) struct TiffFile<'b> {
    bytes: &'b [u8],
    /// The position of the number that says what kind of colours there are.
    photometric_at: usize,
    layout: Layout,
    colors: Colors,
}

impl<'b> TiffFile<'b> {
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, PhotoError> {
        let describe = |error| describe(error, bytes.len());
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(describe)?;
        let layout = Layout::of(&mut decoder).map_err(describe)?;
        let photometric = Directory::read(bytes)
            .and_then(|directory| Some((directory.find(TAG_PHOTOMETRIC)?, directory)))
            .filter(|(entry, _)| entry.kind == 3)
            .and_then(|(entry, directory)| Some((entry.value_at, directory.whole_number(entry)?)));
        let Some((photometric_at, photometric)) = photometric else {
            return Err(unsupported("what its colours are is not said".into()));
        };
        let colors = Colors::of(&mut decoder, photometric, &layout).map_err(describe)?;
        Ok(TiffFile { bytes, photometric_at, layout, colors: colors.map_err(unsupported)? })
    }

    pub(super) fn dimensions(&self) -> (u32, u32) {
        (self.layout.width, self.layout.height)
    }

    /// Decodes to `u8 [H,W,3]` RGB.
    pub(super) fn decode(self, rgb: &mut Vec<u8>) -> Result<(), PhotoError> {
        let Self { layout, colors, bytes, .. } = &self;
        rgb.clear();
        rgb.resize(3 * layout.width as usize * layout.height as usize, 0);
        if let Some(transform) = jpeg::transform_of(layout, colors) {
            return jpeg::decode(bytes, layout, transform, rgb);
        }
        let describe = |error| describe(error, bytes.len());
        let mut decoder = Decoder::new(Cursor::new(self.as_grey())).map_err(describe)?;
        decoder = decoder.with_limits(self.limits());
        let mut samples = Vec::new();
        for chunk in layout.chunks() {
            let planes = (0..layout.planes_of(colors.samples()))
                .map(|plane| decoder.read_chunk(chunk.index + plane * layout.chunks_per_plane()))
                .collect::<Result<Vec<DecodingResult>, TiffError>>()
                .map_err(describe)?;
            for y in 0..chunk.height {
                layout.samples_of_row(&planes, chunk.width, y, &mut samples);
                let row = layout.row_of(&chunk, y, rgb);
                colors.convert(&samples, layout.samples_per_pixel(planes.len()), row);
            }
        }
        Ok(())
    }

    /// The file with other colours, without a predictor where none is used, and with the bits of its data in
    /// their usual order.
    fn as_grey(&self) -> Vec<u8> {
        let mut data = self.bytes.to_vec();
        let directory = Directory::read(self.bytes).expect("it has been read before");
        data[self.photometric_at..][..2].copy_from_slice(&directory.short(BLACK_IS_ZERO));
        if let Some(predictor) = directory.find(TAG_PREDICTOR)
            && !self.layout.compression.has_predictor()
        {
            data[predictor.value_at..][..2].copy_from_slice(&directory.short(NO_PREDICTOR));
        }
        if self.layout.is_bit_reversed {
            for range in self.layout.ranges(self.bytes.len()) {
                data[range].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
            }
        }
        data
    }

    /// The picture, and once more for what it is unpacked from.
    fn limits(&self) -> Limits {
        let bytes = usize::try_from(2 * self.layout.bytes() + OVERHEAD_BYTES).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        limits.decoding_buffer_size = bytes;
        limits.intermediate_buffer_size = bytes;
        limits.ifd_value_size = OVERHEAD_BYTES as usize;
        limits
    }
}

fn unsupported(reason: String) -> PhotoError {
    PhotoError::Unsupported { format: FORMAT, reason }
}

fn damaged(reason: String) -> PhotoError {
    PhotoError::Damaged { format: FORMAT, reason }
}

fn describe(error: TiffError, bytes: usize) -> PhotoError {
    match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            PhotoError::Truncated { format: FORMAT, bytes }
        }
        TiffError::UnsupportedError(error) => unsupported(error.to_string()),
        TiffError::FormatError(error) => damaged(error.to_string()),
        TiffError::LimitsExceeded => damaged("it takes more memory than its pixels do".into()),
        other => damaged(other.to_string()),
    }
}
