//! Errors of image files.

use fovea_pipeline::decode::JpegError;

use super::MAX_PIXELS;

/// A file cannot be decoded. The text is one line, for a list of rejected images.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PhotoError {
    /// Zero bytes.
    #[error("the file is empty")]
    Empty,
    /// No format that is read.
    #[error("not an image that can be read: {content}")]
    Unknown {
        /// What it seems to be.
        content: String,
    },
    /// More pixels than [`MAX_PIXELS`].
    #[error("{width}x{height} pixels, more than {MAX_PIXELS} in all")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A side of no pixels.
    #[error("{width}x{height} pixels: there is no image in it")]
    NoPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The file ends before its image does.
    #[error("truncated {format}: the file ends after {bytes} bytes, before its image does")]
    Truncated {
        /// `JPEG`, `PNG` or another one.
        format: &'static str,
        /// Size of the file.
        bytes: usize,
    },
    /// The decoder gave up.
    #[error("damaged {format}: {reason}")]
    Damaged {
        /// `JPEG`, `PNG` or another one.
        format: &'static str,
        /// The decoder's message.
        reason: String,
    },
    /// A kind of the format that is not read.
    #[error("unsupported {format}: {reason}; convert it to PNG")]
    Unsupported {
        /// `JPEG`, `PNG` or another one.
        format: &'static str,
        /// What is not supported.
        reason: String,
    },
}

impl From<JpegError> for PhotoError {
    fn from(error: JpegError) -> Self {
        let format = "JPEG";
        match error {
            JpegError::Truncated { bytes } => Self::Truncated { format, bytes },
            JpegError::Damaged { reason } => Self::Damaged { format, reason },
            JpegError::Unsupported { reason } => Self::Unsupported { format, reason },
        }
    }
}

/// Magic numbers of formats that are not supported, to name them in the message. Those with a remedy are
/// images.
const OTHER_FORMATS: [(usize, &[u8], &str); 22] = [
    (8, b"WAVE", "a WAV file"),
    (8, b"AVI ", "an AVI video"),
    (4, b"ftypavif", "an AVIF file; convert it to PNG or JPEG"),
    (4, b"ftypavis", "an AVIF file; convert it to PNG or JPEG"),
    (4, b"ftyphei", "a HEIC file; convert it to PNG or JPEG"),
    (4, b"ftypmif1", "a HEIF file; convert it to PNG or JPEG"),
    (4, b"ftyp", "a video"),
    (4, b"JXL ", "a JPEG XL file; convert it to PNG or JPEG"),
    (4, b"jP  ", "a JPEG 2000 file; convert it to PNG or JPEG"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 file; convert it to PNG or JPEG"),
    (0, b"\xff\xd8\xff\xf7", "a JPEG-LS file; convert it to PNG"),
    (0, b"\xff\x0a", "a JPEG XL file; convert it to PNG or JPEG"),
    (0, b"8BPS", "a Photoshop file; convert it to PNG or JPEG"),
    (0, b"\0\0\x01\0", "a Windows icon; convert it to PNG"),
    (0, b"qoif", "a QOI file; convert it to PNG"),
    (0, b"DDS ", "a DDS file; convert it to PNG"),
    (0, b"farbfeld", "a Farbfeld file; convert it to PNG"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR file; convert it to PNG"),
    (0, b"#?RADIANCE", "a Radiance HDR file; convert it to PNG"),
    (0, b"\x0a\x05\x01", "a PCX file; convert it to PNG"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"%PDF", "a PDF file"),
];

impl PhotoError {
    /// Describes bytes that begin like no image.
    pub(super) fn unknown(bytes: &[u8]) -> Self {
        let known = OTHER_FORMATS
            .iter()
            .find(|(from, magic, _)| bytes.get(*from..).is_some_and(|rest| rest.starts_with(magic)));
        let content = match known {
            Some((_, _, name)) => (*name).to_owned(),
            None => beginning(bytes),
        };
        Self::Unknown { content }
    }
}

/// The first bytes as text if they are text (a web page instead of a photo is common), as numbers else.
fn beginning(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(24)];
    if head.iter().all(|&byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        let text: Vec<String> = head
            .split(u8::is_ascii_whitespace)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        format!("text that begins with `{}`", text.join(" ").trim())
    } else {
        format!("it begins with the bytes {:02x?}", &head[..head.len().min(8)])
    }
}
