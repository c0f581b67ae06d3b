//! The first picture of a GIF file, by the crate `gif`.

use gif::{ColorOutput, DecodeOptions, Decoder, DecodingError};

use super::PhotoError;

const FORMAT: &str = "GIF";

/// A GIF file whose header has been read, up to the first picture.
pub(super) struct GifFile<'b> {
    decoder: Decoder<&'b [u8]>,
    file_bytes: usize,
    frame: Frame,
    /// That of the screen, or of what the picture takes of it if that is more.
    width: usize,
    height: usize,
}

/// Where the picture is on the screen, and which of its colours is no colour.
struct Frame {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    transparent: Option<u8>,
}

impl<'b> GifFile<'b> {
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, PhotoError> {
        let describe = |error| describe(error, bytes.len());
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::Indexed);
        let mut decoder = options.read_info(bytes).map_err(describe)?;
        let Some(frame) = decoder.next_frame_info().map_err(describe)? else {
            return Err(PhotoError::Damaged { format: FORMAT, reason: "there is no picture in it".into() });
        };
        let frame = Frame {
            left: frame.left.into(),
            top: frame.top.into(),
            width: frame.width.into(),
            height: frame.height.into(),
            transparent: frame.transparent,
        };
        let width = usize::from(decoder.width()).max(frame.left + frame.width);
        let height = usize::from(decoder.height()).max(frame.top + frame.height);
        Ok(GifFile { decoder, file_bytes: bytes.len(), frame, width, height })
    }

    pub(super) fn dimensions(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }

    /// Decodes to `u8 [H,W,3]` RGB. What the picture leaves of the screen has the transparent colour, or the
    /// first.
    pub(super) fn decode(mut self, rgb: &mut Vec<u8>) -> Result<(), PhotoError> {
        let describe = |error| describe(error, self.file_bytes);
        let Frame { left, top, width, height, transparent } = self.frame;
        let mut indices = vec![0; width * height];
        self.decoder.read_into_buffer(&mut indices).map_err(describe)?;
        let palette = self.decoder.palette().map_err(describe)?;
        let color = |index: u8| {
            let at = 3 * usize::from(index);
            palette.get(at..at + 3).map_or([0; 3], |color| [color[0], color[1], color[2]])
        };
        *rgb = color(transparent.unwrap_or(0)).repeat(self.width * self.height);
        if indices.is_empty() {
            return Ok(());
        }
        let rows = rgb.chunks_exact_mut(3 * self.width).skip(top);
        for (row, indices) in rows.zip(indices.chunks_exact(width)) {
            let pixels = row[3 * left..].chunks_exact_mut(3);
            pixels.zip(indices).for_each(|(pixel, &index)| pixel.copy_from_slice(&color(index)));
        }
        Ok(())
    }
}

fn describe(error: DecodingError, bytes: usize) -> PhotoError {
    match error {
        DecodingError::UnexpectedEof => PhotoError::Truncated { format: FORMAT, bytes },
        other => PhotoError::Damaged { format: FORMAT, reason: other.to_string() },
    }
}
