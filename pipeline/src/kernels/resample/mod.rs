//! Rescaling of a part of an image, bilinear and antialiased, into planes of bytes.
//!
//! The result is that of `fast_image_resize`, bit by bit, which does it on other processors and where an
//! image shrinks much. Rescaling here is faster since both passes go row by row through memory in the
//! first-level cache, colours side by side are taken apart in between, mirroring costs nothing, and no
//! temporary image is made.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod taps;

use std::ops::Range;

use taps::Taps;

use crate::geometry::{Rect, Size};

/// Stored pixels that a pixel is made of along an axis, at most.
const MOST_TAPS: usize = 8;

/// Bytes behind a row that may be read.
const PADDING: usize = 32;

/// An image to rescale.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// `u8 [3,H,W]`
    Planar(&'a [u8]),
    /// `u8 [H,W,3]`
    Interleaved(&'a [u8]),
}

/// Rescales images one after the other; owned by one worker.
#[derive(Debug, Default)]
pub struct Resampler {
    stored: Size,
    size: Size,
    /// Those of the stored image that are used.
    columns: Range<usize>,
    rows: Taps,
    across: Taps,
    #[cfg(target_arch = "x86_64")]
    vectors: avx2::Vectors,
    /// A row between the two passes.
    row: Vec<u8>,
    /// The same, its colours apart.
    planes: Vec<u8>,
}

fn is_available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx2::is_available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether a [`Resampler`] can rescale a part of this size to `size` on this processor.
#[must_use]
pub fn is_possible(part: Size, size: Size) -> bool {
    is_available()
        && taps::count(part.width, size.width) <= MOST_TAPS
        && taps::count(part.height, size.height) <= MOST_TAPS
}

impl Resampler {
    /// Prepares for an image of size `stored`, of which the part becomes `size`; mirrored left to right, if
    /// so.
    ///
    /// # Panics
    /// Unless this [`is_possible`] and the part is inside.
    pub fn prepare(&mut self, stored: Size, part: Rect, size: Size, flipped: bool) {
        assert!(is_possible(part.size, size), "{part:?} to {size}");
        let (right, bottom) = (part.x + part.size.width, part.y + part.size.height);
        assert!(right <= stored.width && bottom <= stored.height, "{part:?} of an image of {stored}");
        self.rows.fill(stored.height, part.y..bottom, size.height, false);
        self.across.fill(stored.width, part.x..right, size.width, flipped);
        self.columns = self.across.range(stored.width);
        (self.stored, self.size) = (stored, size);
        #[cfg(target_arch = "x86_64")]
        self.vectors.arrange(&self.across, self.columns.start);
        self.row.resize(3 * self.columns.len() + PADDING, 0);
        self.planes.resize(3 * self.columns.len() + PADDING, 0);
    }

    /// Writes these rows of the result, R, G and B, each `u8 [rows,W]`.
    ///
    /// # Panics
    /// When the image or a target has another size than it was prepared for, or there are no such rows.
    pub fn write(&mut self, source: Source<'_>, rows: Range<usize>, targets: [&mut [u8]; 3]) {
        let (Source::Planar(pixels) | Source::Interleaved(pixels)) = source;
        assert_eq!(pixels.len(), 3 * self.stored.area(), "bytes of an RGB image of {} pixels", self.stored);
        let area = rows.len() * self.size.width as usize;
        assert!(targets.iter().all(|target| target.len() == area), "rows {rows:?} of {}", self.size);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `prepare` has found that the processor has what the function is compiled for.
        unsafe {
            avx2::write(self, source, rows, targets);
        }
    }
}

#[cfg(test)]
mod tests {
    use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

    use super::*;
    use crate::resize::resize_plane;

    /// A plane of noise, in which every wrong weight shows, and of its darkest and brightest values.
    fn noise(area: usize) -> Vec<u8> {
        let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        let extreme = |value: u8| if value < 60 { 0 } else { value.saturating_add(60) };
        (0..area as u32).map(|i| if i % 4096 < 2048 { value(i) } else { extreme(value(i)) }).collect()
    }

    /// The rows of the part as `fast_image_resize` makes them, all planes one after the other.
    fn slow(planar: &[u8], stored: Size, part: Rect, size: Size, flipped: bool) -> Vec<u8> {
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
            part.x.into(),
            part.y.into(),
            part.size.width.into(),
            part.size.height.into(),
        );
        let mut result = vec![0; 3 * size.area()];
        let mut resizer = Resizer::new();
        for (from, to) in planar.chunks_exact(stored.area()).zip(result.chunks_exact_mut(size.area())) {
            resize_plane(&mut resizer, (from, stored), (to, size), &options);
        }
        if flipped {
            result.chunks_exact_mut(size.width as usize).for_each(<[u8]>::reverse);
        }
        result
    }

    fn check(stored: Size, part: Rect, size: Size) {
        let planar = noise(3 * stored.area());
        let area = stored.area();
        let interleaved: Vec<u8> =
            (0..area).flat_map(|i| [planar[i], planar[area + i], planar[2 * area + i]]).collect();
        let mut resampler = Resampler::default();
        for flipped in [false, true] {
            let expected = slow(&planar, stored, part, size, flipped);
            resampler.prepare(stored, part, size, flipped);
            for source in [Source::Planar(&planar), Source::Interleaved(&interleaved)] {
                // In two parts, of which the second begins at any row.
                let (width, cut) = (size.width as usize, size.height as usize / 3);
                let mut planes = vec![vec![7; size.area()]; 3];
                for rows in [0..cut, cut..size.height as usize] {
                    let bytes = rows.start * width..rows.end * width;
                    let [red, green, blue] = &mut planes[..] else { unreachable!() };
                    let targets = [red, green, blue].map(|plane| &mut plane[bytes.clone()]);
                    resampler.write(source, rows, targets);
                }
                let written = planes.concat();
                let wrong = written.iter().zip(&expected).position(|(found, expected)| found != expected);
                if let Some(index) = wrong {
                    panic!(
                        "{part:?} of {stored} to {size}, flipped {flipped}: byte {index} is {}, expected {}",
                        written[index], expected[index]
                    );
                }
            }
        }
    }

    #[test]
    fn every_part_is_rescaled_as_fast_image_resize_does() {
        if !is_possible(Size::square(9), Size::square(9)) {
            return;
        }
        let mut state = 1_u64;
        let mut random = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (((state >> 33) * u64::from(below)) >> 31) as u32
        };
        let mut tried = 0;
        while tried < 600 {
            let most = [3, 40, 70, 260, 400][random(5) as usize];
            let stored = Size { width: 1 + random(most), height: 1 + random(most) };
            let part = Size { width: 1 + random(stored.width), height: 1 + random(stored.height) };
            let (x, y) = (random(stored.width - part.width + 1), random(stored.height - part.height + 1));
            let size = match random(3) {
                0 => Size::square([24, 32, 64, 176, 224][random(5) as usize]),
                _ => Size { width: 1 + random(100), height: 1 + random(100) },
            };
            if is_possible(part, size) {
                check(stored, Rect { x, y, size: part }, size);
                tried += 1;
            }
        }
    }

    #[test]
    fn whole_images_and_whole_factors_are_rescaled_as_fast_image_resize_does() {
        if !is_possible(Size::square(9), Size::square(9)) {
            return;
        }
        for (from, to) in [(256, 224), (224, 224), (112, 224), (448, 224), (896, 224), (1, 32), (56, 224)] {
            let stored = Size::square(from);
            check(stored, Rect { x: 0, y: 0, size: stored }, Size::square(to));
            check(stored, Rect { x: 0, y: 0, size: stored }, Size { width: to, height: from });
        }
    }

    #[test]
    fn images_that_shrink_more_than_weights_are_kept_for_are_left_to_others() {
        assert!(!is_possible(Size { width: 401, height: 10 }, Size::square(100)));
        assert!(!is_possible(Size { width: 10, height: 401 }, Size::square(100)));
    }
}
