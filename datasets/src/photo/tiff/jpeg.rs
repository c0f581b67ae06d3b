//! TIFF files whose strips or tiles are JPEG files, perhaps without tables.

use fovea_pipeline::decode::{JpegError, JpegFile};

use super::colors::{Colors, Kind};
use super::layout::{Compression, Layout};
use super::{FORMAT, damaged, unsupported};
use crate::photo::directory::Directory;
use crate::photo::{MAX_PIXELS, PhotoError};

const TAG_TABLES: u16 = 347;
const START: [u8; 2] = [0xff, 0xd8];
const END: [u8; 2] = [0xff, 0xd9];

/// What Adobe's marker says of the colours of JPEG data: they are as they are, or YCbCr, or there are none.
#[derive(Clone, Copy)]
pub(super) enum Transform {
    Grey,
    None,
    YCbCr,
}

/// `None` if there are no JPEG data in the file, or data of a kind that is left to the crate `tiff`.
pub(super) fn transform_of(layout: &Layout, colors: &Colors) -> Option<Transform> {
    match colors.kind {
        _ if layout.compression != Compression::Jpeg || layout.is_planar => None,
        Kind::Grey { white_is_zero: false } => Some(Transform::Grey),
        Kind::Rgb => Some(Transform::None),
        Kind::YCbCr => Some(Transform::YCbCr),
        _ => None,
    }
}

/// Decodes to `u8 [H,W,3]` RGB.
pub(super) fn decode(
    file: &[u8],
    layout: &Layout,
    transform: Transform,
    rgb: &mut [u8],
) -> Result<(), PhotoError> {
    let tables = Directory::read(file).and_then(|directory| directory.content(directory.find(TAG_TABLES)?));
    let tables = tables.unwrap_or(&START);
    let mut pixels = Vec::new();
    for (chunk, range) in layout.chunks().zip(layout.ranges(file.len())) {
        let Some(data) = file[range].strip_prefix(&START).map(without_jfif) else {
            return Err(damaged(format!("strip or tile {} is no JPEG data", chunk.index)));
        };
        let mut jpeg = tables.strip_suffix(&END).unwrap_or(tables).to_vec();
        let adobe = |transform: u8| [&b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"[..], &[transform]].concat();
        match transform {
            Transform::Grey => {}
            Transform::None => jpeg.extend(adobe(0)),
            Transform::YCbCr => jpeg.extend(adobe(1)),
        }
        jpeg.extend(data);
        let describe = |error| describe(error, file.len());
        let part = JpegFile::parse(&jpeg).map_err(describe)?;
        let (width, height) = part.dimensions();
        let area = u64::from(width) * u64::from(height);
        if width < chunk.width || height < chunk.height || area > MAX_PIXELS {
            let (w, h) = (chunk.width, chunk.height);
            return Err(damaged(format!("a part of {width}x{height} pixels, expected {w}x{h}")));
        }
        pixels.resize(3 * area as usize, 0);
        part.decode(&mut pixels).map_err(describe)?;
        for (y, row) in (0..chunk.height).zip(pixels.chunks_exact(3 * width as usize)) {
            layout.row_of(&chunk, y, rgb).copy_from_slice(&row[..3 * chunk.width as usize]);
        }
    }
    Ok(())
}

/// JFIF would claim that the colours are YCbCr.
fn without_jfif(data: &[u8]) -> &[u8] {
    match data {
        [0xff, 0xe0, high, low, ..] => {
            data.get(2 + usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default()
        }
        _ => data,
    }
}

fn describe(error: JpegError, bytes: usize) -> PhotoError {
    match error {
        JpegError::Truncated { .. } => PhotoError::Truncated { format: FORMAT, bytes },
        JpegError::Damaged { reason } => damaged(format!("the JPEG data in it: {reason}")),
        JpegError::Unsupported { reason } => unsupported(format!("the JPEG data in it: {reason}")),
    }
}
