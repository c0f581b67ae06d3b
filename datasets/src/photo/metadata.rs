//! Where files of each format keep their EXIF data and XMP.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;
use image::ImageFormat;

use super::directory::Directory;

/// More than a packed text of a PNG file unpacks to; EXIF data fit into 64 KiB.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Keywords of texts in PNG files.
const RAW_PROFILE: &[u8] = b"Raw profile type exif";
const XMP: &[u8] = b"XML:com.adobe.xmp";

/// XMP in TIFF files.
const TAG_XMP: u16 = 700;

/// What an image file says about itself, at which nobody has looked.
#[derive(Default)]
pub(super) struct Metadata<'b> {
    /// A TIFF structure.
    pub(super) exif: Option<Cow<'b, [u8]>>,
    /// XML.
    pub(super) xmp: Option<Cow<'b, [u8]>>,
}

impl<'b> Metadata<'b> {
    /// The metadata of a file of a format that is not JPEG.
    pub(super) fn of(bytes: &'b [u8], format: ImageFormat) -> Self {
        match format {
            ImageFormat::Png => Self::of_png(bytes),
            ImageFormat::WebP => Self::of_webp(bytes),
            ImageFormat::Tiff => {
                let xmp = Directory::read(bytes)
                    .and_then(|directory| directory.content(directory.find(TAG_XMP)?))
                    .map(Cow::Borrowed);
                Self { exif: Some(Cow::Borrowed(bytes)), xmp }
            }
            _ => Self::default(),
        }
    }

    fn of_png(bytes: &'b [u8]) -> Self {
        let mut found = Self::default();
        let mut profile = None;
        for (name, content) in png_chunks(bytes) {
            match name {
                b"eXIf" => found.exif = found.exif.or(Some(Cow::Borrowed(content))),
                b"tEXt" | b"zTXt" | b"iTXt" => match png_text(name, content) {
                    Some((RAW_PROFILE, text)) => profile = profile.or_else(|| raw_profile(&text)),
                    Some((XMP, text)) => found.xmp = found.xmp.or(Some(text)),
                    _ => {}
                },
                _ => {}
            }
        }
        found.exif = found.exif.or(profile.map(Cow::Owned));
        found
    }

    fn of_webp(bytes: &'b [u8]) -> Self {
        let mut found = Self::default();
        let mut flags = 0;
        for (name, content) in webp_chunks(bytes) {
            match name {
                b"VP8X" => flags = content.first().copied().unwrap_or(0),
                b"EXIF" if flags & 0x08 != 0 => found.exif = found.exif.or(Some(Cow::Borrowed(content))),
                b"XMP " if flags & 0x04 != 0 => found.xmp = found.xmp.or(Some(Cow::Borrowed(content))),
                _ => {}
            }
        }
        found
    }
}

/// Names and contents of the chunks of a PNG file, as far as they are whole. Some follow the pixels, where
/// the decoder has not been yet.
fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, named) = rest.split_first_chunk()?;
        let (name, content) = named.split_first_chunk()?;
        let (content, checksum_and_rest) = content.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = checksum_and_rest.get(4..).unwrap_or_default();
        Some((name, content))
    })
}

/// Names and contents of the chunks of a WebP file, as far as they are whole.
pub(super) fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (name, sized) = rest.split_first_chunk()?;
        let (length, content) = sized.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (content, _) = content.split_at_checked(length)?;
        rest = sized.get(4 + length.next_multiple_of(2)..).unwrap_or_default();
        Some((name, content))
    })
}

/// The keyword and the text of a chunk that may hold metadata.
fn png_text<'b>(name: &[u8; 4], content: &'b [u8]) -> Option<(&'b [u8], Cow<'b, [u8]>)> {
    let (keyword, rest) = split_at_zero(content)?;
    if keyword != RAW_PROFILE && keyword != XMP {
        return None;
    }
    let (is_packed, text) = match name {
        b"zTXt" => (true, rest.get(1..)?),
        b"iTXt" => {
            let (_language, rest_of) = split_at_zero(rest.get(2..)?)?;
            (rest[0] != 0, split_at_zero(rest_of)?.1)
        }
        _ => (false, rest),
    };
    if !is_packed {
        return Some((keyword, Cow::Borrowed(text)));
    }
    let mut unpacked = Vec::new();
    ZlibDecoder::new(text).take(MAX_TEXT_BYTES).read_to_end(&mut unpacked).ok()?;
    Some((keyword, Cow::Owned(unpacked)))
}

fn split_at_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The bytes that a text of hexadecimal digits stands for, after three lines with a name and their number.
fn raw_profile(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|&byte| byte == b'\n').skip(3);
    let digits = lines.flatten().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Option<Vec<u8>> =
        digits.map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8)).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
