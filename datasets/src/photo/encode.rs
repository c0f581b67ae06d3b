//! Writing the JPEG files that go into shards.
//!
//! They are decoded once an epoch, so they are written in the form that decodes fastest: baseline, chroma
//! halved in both directions (4:2:0, averaged), the standard Huffman tables. Measured with 400 photos of
//! 256×256 pixels on one core:
//!
//! | quality 90 | decode | encode | size | PSNR |
//! | --- | --- | --- | --- | --- |
//! | 4:2:0, averaged | 0.35 ms | 0.64 ms | 23.4 kB | 36.9 dB |
//! | 4:2:0, every other | 0.34 ms | 0.53 ms | 23.5 kB | 36.3 dB |
//! | 4:2:2, averaged | 0.38 ms | 0.73 ms | 25.2 kB | 37.7 dB |
//! | 4:4:4 | 0.45 ms | 0.85 ms | 28.3 kB | 38.7 dB |
//!
//! Huffman tables made for each image save 3 % of the size and nothing in decoding, at twice the time to
//! encode. Quality 95 gives 39.6 dB and 32.7 kB, and decodes in 0.44 ms; 85 gives 35.2 dB and 18.8 kB, in
//! 0.30 ms.

use fovea_pipeline::geometry::Size;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

/// Encodes `u8 [H,W,3]` RGB as a JPEG file, which replaces the content of `file`.
///
/// # Panics
/// When `rgb` has not 3·H·W bytes, or a side is 0 or above 65,535.
pub fn encode_jpeg(rgb: &[u8], size: Size, quality: u8, file: &mut Vec<u8>) {
    file.clear();
    let mut encoder = Encoder::new(file, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    let side = |pixels| u16::try_from(pixels).expect("a JPEG file has at most 65,535 pixels a side");
    encoder
        .encode(rgb, side(size.width), side(size.height), ColorType::Rgb)
        .expect("writing to memory does not fail, and the caller gives three bytes for each pixel");
}

/// Bytes of a JPEG per 1000 pixels at some qualities, the average over photos of 256×256 pixels.
const BYTES_PER_1000_PIXELS: [(u8, u64); 7] =
    [(1, 23), (50, 138), (75, 208), (85, 278), (90, 347), (95, 490), (100, 922)];

/// About how many bytes [`encode_jpeg`] makes of a photo of so many pixels.
#[must_use]
pub fn expected_jpeg_bytes(pixels: u64, quality: u8) -> u64 {
    let last = BYTES_PER_1000_PIXELS.len() - 1;
    let above = BYTES_PER_1000_PIXELS.partition_point(|&(q, _)| q < quality).clamp(1, last);
    let (q0, low) = BYTES_PER_1000_PIXELS[above - 1];
    let (q1, high) = BYTES_PER_1000_PIXELS[above];
    let quality = quality.clamp(q0, q1);
    let per_1000 = low + (high - low) * u64::from(quality - q0) / u64::from(q1 - q0);
    HEADER_BYTES + pixels * per_1000 / 1000
}

/// Tables and markers of a JPEG file.
const HEADER_BYTES: u64 = 600;
