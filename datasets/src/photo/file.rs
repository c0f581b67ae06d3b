//! An image file: its format, header and pixels.

use fovea_pipeline::decode::JpegFile;

use super::png::PngFile;
use super::{MAX_PIXELS, Photo, PhotoError};

/// An image file whose header has been read.
pub struct PhotoFile<'b>(Format<'b>);

enum Format<'b> {
    Jpeg(Box<JpegFile<'b>>),
    Png(Box<PngFile<'b>>),
}

impl<'b> PhotoFile<'b> {
    /// Detects the format and reads the header.
    ///
    /// # Errors
    /// When the bytes are not a JPEG or PNG file, the header is damaged, or the image has more than
    /// [`MAX_PIXELS`].
    pub fn parse(bytes: &'b [u8]) -> Result<Self, PhotoError> {
        let format = match bytes {
            [] => return Err(PhotoError::Empty),
            [0xff, 0xd8, ..] => Format::Jpeg(Box::new(JpegFile::parse(bytes)?)),
            [0x89, b'P', b'N', b'G', ..] => Format::Png(Box::new(PngFile::parse(bytes)?)),
            _ => return Err(PhotoError::unknown(bytes)),
        };
        let file = PhotoFile(format);
        let (width, height) = file.dimensions();
        if file.pixels() > MAX_PIXELS {
            return Err(PhotoError::TooLarge { width, height });
        }
        Ok(file)
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn dimensions(&self) -> (u32, u32) {
        match &self.0 {
            Format::Jpeg(file) => file.dimensions(),
            Format::Png(file) => file.dimensions(),
        }
    }

    /// Width times height.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        let (width, height) = self.dimensions();
        u64::from(width) * u64::from(height)
    }

    /// Decodes the image into `photo`, reusing its memory.
    ///
    /// # Errors
    /// When the file is damaged or truncated; the content of `photo` is then unspecified.
    pub fn decode(self, photo: &mut Photo) -> Result<(), PhotoError> {
        (photo.width, photo.height) = self.dimensions();
        match self.0 {
            Format::Jpeg(file) => {
                photo.rgb.resize(3 * photo.width as usize * photo.height as usize, 0);
                Ok(file.decode(&mut photo.rgb)?)
            }
            Format::Png(file) => file.decode(&mut photo.rgb),
        }
    }
}
