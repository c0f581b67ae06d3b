//! How the samples of a TIFF file lie in it.

use std::io::{Read, Seek};
use std::ops::Range;

use tiff::TiffResult;
use tiff::decoder::{Decoder, DecodingResult};
use tiff::tags::Tag;

/// How the data of a strip or tile are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// As JPEG, of the modern kind.
    Jpeg,
    /// In a way that the crate `tiff` knows, or none.
    Other(u16),
}

impl Compression {
    /// Whether differences of neighbours may have been packed. Elsewhere their tag has no meaning.
    pub(super) fn has_predictor(self) -> bool {
        matches!(self, Self::Other(5 | 8 | 32946))
    }
}

/// Others are an error of the crate `tiff`, by number.
const UNREAD_COMPRESSIONS: [(u16, &str); 8] = [
    (2, "CCITT modified Huffman"),
    (3, "CCITT group 3 fax"),
    (6, "old-style JPEG"),
    (34712, "JPEG 2000"),
    (34925, "LZMA"),
    (50000, "Zstandard"),
    (50001, "WebP"),
    (50002, "JPEG XL"),
];

/// The picture's size, samples and parts.
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) compression: Compression,
    /// The same for all samples.
    pub(super) bits: u16,
    /// 1 whole numbers, 2 those with a sign, 3 floating point.
    pub(super) sample_format: u16,
    /// Of one pixel.
    pub(super) samples: u16,
    /// What the samples are that are no colours: 1 is an alpha that the colours are multiplied by.
    pub(super) extra_samples: Vec<u16>,
    pub(super) is_planar: bool,
    pub(super) is_bit_reversed: bool,
    /// Width and height of a strip or tile.
    pub(super) chunk: (u32, u32),
    offsets: Vec<u64>,
    byte_counts: Vec<u64>,
}

/// A strip or tile without what is beyond the picture.
pub(super) struct Chunk {
    /// In the first plane.
    pub(super) index: u32,
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Layout {
    pub(super) fn of<R: Read + Seek>(decoder: &mut Decoder<R>) -> TiffResult<Self> {
        let (width, height) = decoder.dimensions()?;
        let mut number = |tag, default| decoder.find_tag_unsigned::<u16>(tag).map(|n| n.unwrap_or(default));
        let compression = match number(Tag::Compression, 1)? {
            7 => Compression::Jpeg,
            other => Compression::Other(other),
        };
        let samples = number(Tag::SamplesPerPixel, 1)?;
        let is_planar = samples > 1 && number(Tag::PlanarConfiguration, 1)? == 2;
        let is_bit_reversed = number(Tag::FillOrder, 1)? == 2 && compression != Compression::Jpeg;
        let mut numbers = |tag| decoder.find_tag_unsigned_vec::<u64>(tag).map(Option::unwrap_or_default);
        let first = |numbers: Vec<u64>| numbers.first().map(|&number| number as u16);
        let bits = first(numbers(Tag::BitsPerSample)?).unwrap_or(1);
        let sample_format = first(numbers(Tag::SampleFormat)?).unwrap_or(1);
        let extra_samples = numbers(Tag::ExtraSamples)?.into_iter().map(|kind| kind as u16).collect();
        let (mut offsets, mut byte_counts) = (numbers(Tag::StripOffsets)?, numbers(Tag::StripByteCounts)?);
        if offsets.is_empty() {
            (offsets, byte_counts) = (numbers(Tag::TileOffsets)?, numbers(Tag::TileByteCounts)?);
        }
        let chunk = decoder.chunk_dimensions();
        Ok(Self {
            width,
            height,
            compression,
            bits,
            sample_format,
            samples,
            extra_samples,
            is_planar,
            is_bit_reversed,
            chunk,
            offsets,
            byte_counts,
        })
    }

    /// Why it cannot be read, if it cannot.
    pub(super) fn unsupported(&self) -> Option<String> {
        if let Compression::Other(number) = self.compression
            && let Some((_, name)) = UNREAD_COMPRESSIONS.iter().find(|(unread, _)| *unread == number)
        {
            return Some(format!("{name} compression"));
        }
        match (self.sample_format, self.bits) {
            (1, 1 | 2 | 4 | 8 | 16) | (3, 32) => None,
            (1, bits) => Some(format!("samples of {bits} bits")),
            (2, bits) => Some(format!("samples of {bits} bits with a sign")),
            (3, bits) => Some(format!("floating-point samples of {bits} bits")),
            (other, _) => Some(format!("samples of the format {other}")),
        }
    }

    /// Bytes of all samples.
    pub(super) fn bytes(&self) -> u64 {
        let row = u64::from(self.width) * u64::from(self.samples) * u64::from(self.bits);
        u64::from(self.height).saturating_mul(row.div_ceil(8))
    }

    fn chunks_across(&self) -> u32 {
        self.width.div_ceil(self.chunk.0)
    }

    pub(super) fn chunks_per_plane(&self) -> u32 {
        self.chunks_across() * self.height.div_ceil(self.chunk.1)
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = Chunk> {
        (0..self.chunks_per_plane()).map(|index| {
            let left = index % self.chunks_across() * self.chunk.0;
            let top = index / self.chunks_across() * self.chunk.1;
            let (width, height) = (self.chunk.0.min(self.width - left), self.chunk.1.min(self.height - top));
            Chunk { index, left, top, width, height }
        })
    }

    /// Where the data of each strip or tile are in a file of so many bytes.
    pub(super) fn ranges(&self, file_bytes: usize) -> impl Iterator<Item = Range<usize>> {
        self.offsets.iter().zip(&self.byte_counts).map(move |(&offset, &count)| {
            let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(file_bytes);
            within(offset)..within(offset.saturating_add(count))
        })
    }

    /// How many planes hold so many samples of each pixel.
    pub(super) fn planes_of(&self, samples: u16) -> u32 {
        if self.is_planar { u32::from(samples) } else { 1 }
    }

    /// How many samples of a pixel follow one another in what is read from so many planes.
    pub(super) fn samples_per_pixel(&self, planes: usize) -> usize {
        if self.is_planar { planes } else { usize::from(self.samples) }
    }

    /// The samples of one row of a strip or tile, one pixel after the other. Floating-point numbers come as
    /// 0..=255.
    pub(super) fn samples_of_row(
        &self,
        planes: &[DecodingResult],
        width: u32,
        y: u32,
        samples: &mut Vec<u16>,
    ) {
        let per_pixel = self.samples_per_pixel(planes.len());
        let per_plane = per_pixel / planes.len();
        let count = width as usize * per_plane;
        samples.resize(count * planes.len(), 0);
        for (number, plane) in planes.iter().enumerate() {
            let first = y as usize * count;
            let mut put = |values: &mut dyn Iterator<Item = u16>| {
                let places =
                    samples.chunks_exact_mut(per_pixel).flat_map(|pixel| &mut pixel[number..][..per_plane]);
                places.zip(values).for_each(|(place, value)| *place = value);
            };
            match plane {
                DecodingResult::U8(bytes) if self.bits < 8 => {
                    let row = &bytes[y as usize * (count * usize::from(self.bits)).div_ceil(8)..];
                    put(&mut (0..count).map(|index| {
                        let bit = index * usize::from(self.bits);
                        u16::from(row[bit / 8] << (bit % 8) >> (8 - self.bits))
                    }));
                }
                DecodingResult::U8(bytes) => put(&mut bytes[first..].iter().map(|&byte| u16::from(byte))),
                DecodingResult::U16(numbers) => put(&mut numbers[first..].iter().copied()),
                DecodingResult::F32(numbers) => put(&mut numbers[first..].iter().map(|&number| {
                    // What is no number is white, as for browsers.
                    if number < 1.0 { (number.max(0.0) * 255.0).round() as u16 } else { 255 }
                })),
                other => unreachable!("samples of another type: {:?}", std::mem::discriminant(other)),
            }
        }
    }

    /// The part of the picture's row that row `y` of a strip or tile is, `u8 [W,3]`.
    pub(super) fn row_of<'p>(&self, chunk: &Chunk, y: u32, rgb: &'p mut [u8]) -> &'p mut [u8] {
        let first = (chunk.top + y) as usize * self.width as usize + chunk.left as usize;
        &mut rgb[3 * first..][..3 * chunk.width as usize]
    }
}
