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
    /// Neither JPEG nor PNG.
    #[error("not a JPEG or PNG file: {content}")]
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
    /// The file ends before its image does.
    #[error("truncated {format}: the file ends after {bytes} bytes, before its image does")]
    Truncated {
        /// `JPEG` or `PNG`.
        format: &'static str,
        /// Size of the file.
        bytes: usize,
    },
    /// The decoder gave up.
    #[error("damaged {format}: {reason}")]
    Damaged {
        /// `JPEG` or `PNG`.
        format: &'static str,
        /// The decoder's message.
        reason: String,
    },
}

impl From<JpegError> for PhotoError {
    fn from(error: JpegError) -> Self {
        let format = "JPEG";
        match error {
            JpegError::Truncated { bytes } => Self::Truncated { format, bytes },
            JpegError::Damaged { reason } => Self::Damaged { format, reason },
        }
    }
}

/// Magic numbers of formats that are not supported, to name them in the message.
const OTHER_FORMATS: [(&[u8], &str); 7] = [
    (b"GIF8", "a GIF file"),
    (b"BM", "a BMP file"),
    (b"RIFF", "a RIFF file, perhaps WebP"),
    (b"II*\0", "a TIFF file"),
    (b"MM\0*", "a TIFF file"),
    (b"\x1f\x8b", "gzip data"),
    (b"%PDF", "a PDF file"),
];

impl PhotoError {
    /// Describes bytes that begin like no image.
    pub(super) fn unknown(bytes: &[u8]) -> Self {
        let known = OTHER_FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic));
        let content = match known {
            Some((_, name)) => (*name).to_owned(),
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
