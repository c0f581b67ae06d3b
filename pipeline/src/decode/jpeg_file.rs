//! JPEG files of any size and kind.
//!
//! `zune-jpeg` decodes the usual kinds, which are nearly all, and fastest. The others, and what it refuses,
//! go to [`ExactFile`], and to [`MixedFile`] what that one does not read. All are strict with the image data
//! and lenient with everything around them: ImageNet has corrupt EXIF blocks and stray bytes between segments
//! that every loader overlooks, but data that break off must not become grey pixels.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::JpegError;
use super::exact::ExactFile;
use super::guard::guarded;
use super::header::Header;
use super::mixed::MixedFile;
use super::padding::padded;

/// A JPEG file whose header has been read.
pub struct JpegFile<'b> {
    bytes: &'b [u8],
    decoder: Decoder<'b>,
    width: u32,
    height: u32,
    exif: Option<&'b [u8]>,
    xmp: Option<&'b [u8]>,
    is_progressive: bool,
}

enum Decoder<'b> {
    Fast(Box<Fast>),
    Exact(Box<ExactFile<'b>>),
    Mixed(Box<MixedFile>),
}

impl<'b> JpegFile<'b> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the header is damaged, or the end of the image is missing.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, JpegError> {
        let header = Header::read(bytes);
        if let Some(reason) = header.unsupported() {
            return Err(JpegError::Unsupported { reason });
        }
        let end = header.end(bytes).ok_or(JpegError::Truncated { bytes: bytes.len() })?;
        if let Some(number) = header.missing_scan(bytes) {
            let count = header.component_count();
            return Err(damaged(format!("a scan of colour component {number} of {count} is missing")));
        }
        let data = || if header.has_one_scan() { padded(&bytes[..end]) } else { bytes.to_vec() };
        let fast = match header.is_usual() {
            true => guarded(|| fast(data(), bytes.len())).unwrap_or_else(|reason| Err(damaged(reason))).ok(),
            false => None,
        };
        let (decoder, (width, height)) = match (fast, MixedFile::parse(bytes, &header)) {
            (Some((decoder, dimensions)), _) => (Decoder::Fast(Box::new(decoder)), dimensions),
            (None, Some(file)) => {
                let dimensions = file.dimensions();
                (Decoder::Mixed(Box::new(file)), dimensions)
            }
            (None, None) => {
                let exact = exact(bytes)?;
                let dimensions = exact.dimensions();
                (Decoder::Exact(Box::new(exact)), dimensions)
            }
        };
        let is_progressive = header.is_progressive();
        Ok(JpegFile { bytes, decoder, width, height, exif: header.exif, xmp: header.xmp, is_progressive })
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The EXIF data, a TIFF structure that nobody has looked at.
    #[must_use]
    pub fn exif(&self) -> Option<&'b [u8]> {
        self.exif
    }

    /// The XMP data, XML that nobody has looked at.
    #[must_use]
    pub fn xmp(&self) -> Option<&'b [u8]> {
        self.xmp
    }

    /// Decodes the image to `u8 [H,W,3]` RGB. What `rgb` holds after an error is unspecified.
    ///
    /// # Errors
    /// When the image data are damaged or end early.
    ///
    /// # Panics
    /// When `rgb` has not 3·H·W bytes.
    pub fn decode(self, rgb: &mut [u8]) -> Result<(), JpegError> {
        let expected = self.width as usize * self.height as usize * 3;
        assert_eq!(rgb.len(), expected, "bytes of an RGB image of {}x{} pixels", self.width, self.height);
        let (bytes, dimensions) = (self.bytes, self.dimensions());
        let mut decoder = match self.decoder {
            Decoder::Fast(decoder) => decoder,
            Decoder::Exact(file) => return decode_exactly(*file, rgb),
            Decoder::Mixed(file) => {
                return guarded(|| file.decode(rgb)).unwrap_or_else(|reason| Err(damaged(reason)));
            }
        };
        // With several scans the decoder needs their markers, and where a scan ends early it takes zeros for
        // the rest, without a word.
        if self.is_progressive
            && let Ok(file) = exact(bytes)
            && let Err(truncated @ JpegError::Truncated { .. }) = decode_exactly(file, rgb)
        {
            return Err(truncated);
        }
        let decoded = guarded(|| decoder.decode_into(rgb).map_err(|error| describe(error, bytes.len())))
            .unwrap_or_else(|reason| Err(damaged(reason)));
        let Err(refusal) = decoded else { return Ok(()) };
        // Of complete small files it believes at times that data are missing.
        match exact(bytes) {
            Ok(file) if file.dimensions() == dimensions => {
                decode_exactly(file, rgb).map_err(|reason| match reason {
                    JpegError::Truncated { .. } => reason,
                    _ => refusal,
                })
            }
            _ => Err(refusal),
        }
    }
}

type Fast = JpegDecoder<ZCursor<Vec<u8>>>;

fn fast(data: Vec<u8>, file_bytes: usize) -> Result<(Fast, (u32, u32)), JpegError> {
    let side = usize::from(u16::MAX);
    let options = DecoderOptions::default()
        .set_max_width(side)
        .set_max_height(side)
        .set_strict_mode(false)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
    decoder.decode_headers().map_err(|error| describe(error, file_bytes))?;
    let info = decoder.info().ok_or_else(|| damaged("no frame header".into()))?;
    // Lenient with the header only.
    decoder.set_options(options.set_strict_mode(true));
    Ok((decoder, (u32::from(info.width), u32::from(info.height))))
}

fn exact(bytes: &[u8]) -> Result<ExactFile<'_>, JpegError> {
    guarded(|| ExactFile::parse(bytes)).unwrap_or_else(|reason| Err(damaged(reason)))
}

fn decode_exactly(file: ExactFile<'_>, rgb: &mut [u8]) -> Result<(), JpegError> {
    guarded(|| file.decode(rgb)).unwrap_or_else(|reason| Err(damaged(reason)))
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

#[cfg(test)]
mod tests {
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
    use libjpeg_turbo_rs::{Encoder as AnyEncoder, PixelFormat, ScanScript, Subsampling};

    use super::super::scans::{Part, parts};
    use super::*;

    const WIDTH: u16 = 48;
    const HEIGHT: u16 = 40;
    const END: [u8; 2] = [0xff, 0xd9];

    fn encoded(progressive: bool) -> Vec<u8> {
        let pixels = u32::from(WIDTH) * u32::from(HEIGHT);
        let rgb: Vec<u8> = (0..3 * pixels).map(|i| (i.wrapping_mul(i / 97) >> 5) as u8).collect();
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(&mut jpeg, 90);
        encoder.set_progressive(progressive);
        encoder.encode(&rgb, WIDTH, HEIGHT, ColorType::Rgb).expect("the pixels fit the size");
        jpeg
    }

    /// Slopes in three colours, which no decoder may blur much.
    fn slopes(width: usize, height: usize) -> Vec<u8> {
        let pixel =
            |i: usize| [i % width * 180 / width + 40, i / width * 180 / height + 20, 90].map(|v| v as u8);
        (0..width * height).flat_map(pixel).collect()
    }

    fn any_encoder(rgb: &[u8], width: usize, height: usize) -> AnyEncoder<'_> {
        AnyEncoder::new(rgb, width, height, PixelFormat::Rgb).quality(95).subsampling(Subsampling::S420)
    }

    fn pixels(bytes: &[u8]) -> Result<Vec<u8>, JpegError> {
        let file = JpegFile::parse(bytes)?;
        let (width, height) = file.dimensions();
        let mut rgb = vec![0; 3 * width as usize * height as usize];
        file.decode(&mut rgb)?;
        Ok(rgb)
    }

    fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
    }

    /// The segments of this marker taken out, as far as the image data.
    fn without(jpeg: &[u8], marker: u8) -> Vec<u8> {
        let mut kept = jpeg[..2].to_vec();
        let mut position = 2;
        while jpeg[position + 1] != 0xda {
            let length = 2 + usize::from(u16::from_be_bytes([jpeg[position + 2], jpeg[position + 3]]));
            if jpeg[position + 1] != marker {
                kept.extend(&jpeg[position..position + length]);
            }
            position += length;
        }
        kept.extend(&jpeg[position..]);
        kept
    }

    #[test]
    fn a_truncated_file_is_refused_at_every_length_even_with_an_end_marker_appended() {
        for progressive in [false, true] {
            let bytes = encoded(progressive);
            pixels(&bytes).unwrap();
            for kept in (2..bytes.len()).step_by(7) {
                let error = pixels(&bytes[..kept]).unwrap_err();
                assert!(
                    error.to_string().contains("JPEG"),
                    "progressive {progressive}, {kept} bytes: {error}"
                );
            }
        }
        for progressive in [false, true] {
            let bytes = encoded(progressive);
            let cut = [&bytes[..bytes.len() * 2 / 3], &END].concat();
            let truncated = Err(JpegError::Truncated { bytes: cut.len() });
            assert_eq!(pixels(&cut), truncated, "progressive {progressive}");
        }
    }

    #[test]
    fn a_file_that_was_cut_in_its_last_row_and_closed_again_is_refused() {
        // The last scan of the progressive file is shorter.
        for (progressive, most) in [(false, 400), (true, 60)] {
            let bytes = encoded(progressive);
            let data = &bytes[..bytes.len() - 2];
            pixels(&[data, &[0xff], &END].concat()).unwrap();
            for missing in 2..most {
                let kept = &data[..data.len() - missing];
                // Half of an escaped byte would be half of a marker.
                if kept.ends_with(&[0xff]) {
                    continue;
                }
                let cut = [kept, &END].concat();
                let truncated = Err(JpegError::Truncated { bytes: cut.len() });
                assert!(pixels(&cut) == truncated, "progressive {progressive}, {missing} bytes missing");
            }
        }
    }

    #[test]
    fn complete_files_of_every_small_size_are_read() {
        for side in 1..=40 {
            let grey: Vec<u8> = (0..side * side).map(|i| (i * 5 % 200) as u8).collect();
            let mut jpeg = Vec::new();
            let encoder = Encoder::new(&mut jpeg, 75);
            encoder.encode(&grey, side as u16, side as u16, ColorType::Luma).unwrap();
            let decoded = pixels(&jpeg).unwrap_or_else(|error| panic!("{side} px: {error}"));
            let expected: Vec<u8> = grey.iter().flat_map(|&value| [value; 3]).collect();
            assert!(mean_difference(&decoded, &expected) < 10.0, "{side} px");
            assert!(pixels(&jpeg[..jpeg.len() - 2]).is_err(), "{side} px, without its end");
        }
    }

    #[test]
    fn narrow_images_have_their_colours() {
        for (width, height) in [(1, 1), (2, 23), (2, 245), (3, 7), (4, 4), (7, 5), (60, 3)] {
            let rgb = [200, 30, 60].repeat(width * height);
            let decoded = pixels(&any_encoder(&rgb, width, height).encode().unwrap()).unwrap();
            let difference = mean_difference(&decoded, &rgb);
            assert!(difference < 2.0, "{width}x{height}: {difference}");
        }
    }

    /// A picture of 64×64 pixels in one colour, 4:2:0, whose scans hold these components.
    fn flat(scans: &[&[u8]]) -> Vec<u8> {
        let mut jpeg = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
        jpeg.extend([8; 64]);
        jpeg.extend([0xff, 0xc0, 0, 17, 8, 0, 64, 0, 64, 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0]);
        // Codes of four bits for the sizes of differences, and of one bit for the end of a block.
        jpeg.extend([0xff, 0xc4, 0, 31, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        jpeg.extend(0..12);
        jpeg.extend([0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for &scan in scans {
            jpeg.extend([0xff, 0xda, 0, 6 + 2 * scan.len() as u8, scan.len() as u8]);
            jpeg.extend(scan.iter().flat_map(|component| [component + 1, 0]));
            jpeg.extend([0, 63, 0]);
            // The size of the first difference and its bits: 20, -40, 60; then the end of the block.
            let first =
                [format!("0101{:05b}0", 20), format!("0110{:06b}0", 63 - 40), format!("0110{:06b}0", 60)];
            let mut bits = String::new();
            let blocks = |component: u8| match (component, scan.len()) {
                (0, 1) => 64,
                (0, _) => 4,
                (_, 1) => 16,
                _ => 1,
            };
            for unit in 0..if scan.len() == 1 { 1 } else { 16 } {
                for &component in scan {
                    for block in 0..blocks(component) {
                        let is_first = unit == 0 && block == 0;
                        bits += if is_first { &first[usize::from(component)] } else { "00000" };
                    }
                }
            }
            bits += &"1".repeat((8 - bits.len() % 8) % 8);
            for byte in bits.as_bytes().chunks(8) {
                let byte = byte.iter().fold(0, |byte, bit| byte << 1 | (bit & 1));
                jpeg.push(byte);
                jpeg.extend((byte == 0xff).then_some(0));
            }
        }
        jpeg.extend(END);
        jpeg
    }

    #[test]
    fn a_file_of_several_scans_has_the_pixels_of_one_scan() {
        for scans in [&[&[0, 1, 2][..]][..], &[&[0], &[1], &[2]], &[&[0], &[1, 2]], &[&[0, 1], &[2]]] {
            let decoded = pixels(&flat(scans)).unwrap();
            let difference = mean_difference(&decoded, &[232, 119, 77].repeat(64 * 64));
            assert!(difference < 2.0, "{scans:?}: {difference}, {:?}", &decoded[..3]);
        }
        let file = flat(&[&[0], &[1, 2]]);
        let second = file.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
        for kept in [second + 10, second + 12, second + 14, file.len() - 5] {
            let cut = pixels(&[&file[..kept], &END].concat());
            assert!(cut.is_err(), "{kept} of {} bytes", file.len());
        }
    }

    #[test]
    fn a_file_of_which_a_whole_scan_is_missing_is_refused() {
        let scans: [&[u8]; 4] = [&[0], &[0, 1], &[1, 2], &[0, 2]];
        for (scans, number) in scans.into_iter().zip([2, 3, 1, 2]) {
            let alone: Vec<&[u8]> = scans.chunks(1).collect();
            for scans in [&[scans][..], &alone] {
                let expected = format!("damaged JPEG: a scan of colour component {number} of 3 is missing");
                assert_eq!(pixels(&flat(scans)).unwrap_err().to_string(), expected, "{scans:?}");
            }
        }
        // A progressive file: scans of the first coefficient and of the others but for the last bit, then it.
        let steps = [(0, 0, 0, 1), (1, 63, 0, 1), (1, 63, 1, 0), (0, 0, 1, 0)];
        let step = |c: u8, (ss, se, ah, al)| ScanScript { components: vec![c], ss, se, ah, al };
        let script = (0..3).flat_map(|c| steps.map(|scan| step(c, scan))).collect();
        let rgb = slopes(40, 40);
        let whole = any_encoder(&rgb, 40, 40).progressive(true).scan_script(script).encode().unwrap();
        assert!(mean_difference(&pixels(&whole).unwrap(), &rgb) < 4.0);
        let first = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 2;
        let scans = parts(&whole, first).filter_map(|part| match part {
            Part::Scan(scan) => Some(scan),
            _ => None,
        });
        let mut count = 0;
        for scan in scans {
            let at = scan.as_ptr() as usize - whole.as_ptr() as usize;
            let error = pixels(&[&whole[..at - 2], &whole[at + scan.len()..]].concat()).err();
            let expected =
                format!("damaged JPEG: a scan of colour component {} of 3 is missing", count / 4 + 1);
            // Without the last bit of some coefficients a file is complete.
            assert_eq!(
                error.map(|error| error.to_string()),
                (count % 4 < 2).then_some(expected),
                "scan {count}"
            );
            count += 1;
        }
        assert_eq!(count, 12);
    }

    #[test]
    fn a_file_without_huffman_tables_is_read_with_the_standard_ones() {
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(&mut jpeg, 90);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder.encode(&slopes(64, 48), 64, 48, ColorType::Rgb).unwrap();
        let bare = without(&jpeg, 0xc4);
        assert!(bare.len() < jpeg.len() - 100);
        assert!(mean_difference(&pixels(&bare).unwrap(), &pixels(&jpeg).unwrap()) < 2.0);
    }

    #[test]
    fn the_colour_space_is_that_of_jfif_then_of_adobe_then_of_the_identifiers() {
        let mut jpeg = Vec::new();
        let encoder = Encoder::new(&mut jpeg, 95);
        encoder.encode(&slopes(32, 32), 32, 32, ColorType::Ycbcr).unwrap();
        let converted = pixels(&jpeg).unwrap();
        let bare = without(&jpeg, 0xe0);
        let rename = |jpeg: &[u8], ids: &[u8; 3]| {
            let mut jpeg = jpeg.to_vec();
            for (marker, first, step) in [(0xc0, 10, 3), (0xda, 5, 2)] {
                let at = jpeg.windows(2).position(|pair| pair == [0xff, marker]).unwrap();
                ids.iter().enumerate().for_each(|(i, &id)| jpeg[at + first + step * i] = id);
            }
            jpeg
        };
        let adobe = |jpeg: &[u8], transform: u8| {
            let segment = [&[0xff, 0xee, 0, 14][..], b"Adobe\0\x64\0\0\0\0", &[transform]].concat();
            [&jpeg[..2], &segment, &jpeg[2..]].concat()
        };
        let plain = |jpeg: &[u8]| mean_difference(&pixels(jpeg).unwrap(), &slopes(32, 32)) < 3.0;
        let as_ycbcr = |jpeg: &[u8]| mean_difference(&pixels(jpeg).unwrap(), &converted) < 2.0;
        assert!(!plain(&jpeg), "the two differ");
        for ids in [[1, 2, 3], [0, 1, 2], [b'r', b'g', b'b']] {
            assert!(as_ycbcr(&rename(&bare, &ids)), "{ids:?}");
        }
        assert!(plain(&rename(&bare, b"RGB")));
        assert!(plain(&adobe(&bare, 0)));
        assert!(as_ycbcr(&adobe(&bare, 1)));
        assert!(as_ycbcr(&adobe(&rename(&bare, b"RGB"), 1)));
        assert!(as_ycbcr(&rename(&jpeg, b"RGB")), "JFIF");
        assert!(as_ycbcr(&adobe(&jpeg, 0)), "JFIF");
    }

    #[test]
    fn unusual_sampling_and_coding_are_read() {
        let rgb = slopes(70, 50);
        let sampling = [Subsampling::S411, Subsampling::S440, Subsampling::S441, Subsampling::S422];
        let encoders = sampling.map(|kind| any_encoder(&rgb, 70, 50).subsampling(kind));
        let coded = [
            any_encoder(&rgb, 70, 50).arithmetic(true),
            any_encoder(&rgb, 70, 50).arithmetic(true).progressive(true),
            any_encoder(&rgb, 70, 50).progressive(true),
            any_encoder(&rgb, 70, 50).restart_blocks(3),
        ];
        for (number, encoder) in encoders.into_iter().chain(coded).enumerate() {
            let decoded = pixels(&encoder.encode().unwrap()).unwrap();
            let difference = mean_difference(&decoded, &rgb);
            assert!(difference < 4.0, "case {number}: {difference}");
        }
    }

    #[test]
    fn two_components_hierarchical_coding_and_jpeg_ls_are_refused_by_name() {
        let mut jpeg = encoded(false);
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        let mut hierarchical = jpeg.clone();
        hierarchical[frame + 1] = 0xc5;
        let error = pixels(&hierarchical).unwrap_err().to_string();
        assert_eq!(error, "unsupported JPEG: it is coded hierarchically");
        // Behind another segment, as after a SPIFF header.
        let mut jpeg_ls = jpeg.clone();
        jpeg_ls[frame + 1] = 0xf7;
        let error = pixels(&jpeg_ls).unwrap_err().to_string();
        assert_eq!(error, "unsupported JPEG: it is a JPEG-LS file; convert it to PNG");
        jpeg[frame + 3] -= 3;
        jpeg[frame + 9] = 2;
        jpeg.drain(frame + 16..frame + 19);
        let error = pixels(&jpeg).unwrap_err().to_string();
        assert_eq!(error, "unsupported JPEG: it has 2 colour components, expected 1 (grey), 3 or 4 (CMYK)");
    }

    #[test]
    fn halved_colours_beside_black_are_read() {
        let inks = [255u8, 128, 60, 200].repeat(64 * 64);
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(&mut jpeg, 95);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder.encode(&inks, 64, 64, ColorType::CmykAsYcck).unwrap();
        let mut plain = Vec::new();
        let mut encoder = Encoder::new(&mut plain, 95);
        encoder.set_sampling_factor(SamplingFactor::F_1_1);
        encoder.encode(&inks, 64, 64, ColorType::CmykAsYcck).unwrap();
        assert!(mean_difference(&pixels(&jpeg).unwrap(), &pixels(&plain).unwrap()) < 2.0);
    }
}
