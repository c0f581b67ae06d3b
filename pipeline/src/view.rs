//! An image on its way through the augmentations.
//!
//! A [`View`] is a description: cropping, rescaling, flipping and colour offsets change only that. The pixels
//! are read once, when the view is written into its slot of the batch. Augmentations that need the pixels
//! themselves get a copy in the worker's [`Scratch`].

use std::ops::Range;

use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use crate::geometry::{Frame, Rect, Size};
use crate::kernels::resample::{self, Resampler, Source};
use crate::kernels::{self, Plane};
use crate::resize::{resize_plane, resize_rgb};

/// Memory that one worker's views share, reused from sample to sample.
#[derive(Debug, Default)]
pub struct Scratch {
    pixels: Vec<u8>,
    spare: Vec<u8>,
    values: Vec<f32>,
    resampler: Resampler,
    resizer: Resizer,
}

/// Rows of a view that are rescaled at a time, before they are written in another form: 5 KB of a view of 224
/// pixels, in the first-level cache.
const ROWS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `u8 [3,H,W]`
    Planar,
    /// `u8 [H,W,3]`
    Interleaved,
}

/// A stored image, decoded: what views are made of.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    pixels: &'a [u8],
    layout: Layout,
    size: Size,
}

impl<'a> Pixels<'a> {
    /// An image `u8 [3,H,W]`.
    ///
    /// # Panics
    /// When `pixels` has not 3·H·W bytes.
    #[must_use]
    pub fn planar(pixels: &'a [u8], size: Size) -> Self {
        Self::new(pixels, Layout::Planar, size)
    }

    /// An image `u8 [H,W,3]`.
    ///
    /// # Panics
    /// When `pixels` has not 3·H·W bytes.
    #[must_use]
    pub fn interleaved(pixels: &'a [u8], size: Size) -> Self {
        Self::new(pixels, Layout::Interleaved, size)
    }

    fn new(pixels: &'a [u8], layout: Layout, size: Size) -> Self {
        assert_eq!(pixels.len(), 3 * size.area(), "bytes of an RGB image of {size} pixels");
        Self { pixels, layout, size }
    }

    /// The view of the whole image.
    pub fn view<'s>(self, scratch: &'s mut Scratch) -> View<'s>
    where
        'a: 's,
    {
        let size = self.size;
        let (width, height) = (size.width as f32, size.height as f32);
        View {
            source: Some(self.pixels),
            scratch,
            layout: self.layout,
            stored: size,
            crop: Rect { x: 0, y: 0, size },
            rescaled: None,
            flipped: false,
            color_offset: [0.0; 3],
            frame: Frame { x: 0.0, y: 0.0, width, height },
        }
    }
}

/// An image, the part of it that is used, and how.
#[derive(Debug)]
pub struct View<'a> {
    /// The stored pixels, unless they have moved to the scratch memory.
    source: Option<&'a [u8]>,
    scratch: &'a mut Scratch,
    layout: Layout,
    stored: Size,
    crop: Rect,
    /// The size that the crop will have when it is written, if another.
    rescaled: Option<Size>,
    flipped: bool,
    color_offset: [f32; 3],
    frame: Frame,
}

impl<'a> View<'a> {
    /// The whole of an image `u8 [3,H,W]`.
    ///
    /// # Panics
    /// When `pixels` is not of that length.
    pub fn planar(pixels: &'a [u8], size: Size, scratch: &'a mut Scratch) -> Self {
        Pixels::planar(pixels, size).view(scratch)
    }

    /// The whole of an image `u8 [H,W,3]`.
    ///
    /// # Panics
    /// When `pixels` is not of that length.
    pub fn interleaved(pixels: &'a [u8], size: Size, scratch: &'a mut Scratch) -> Self {
        Pixels::interleaved(pixels, size).view(scratch)
    }

    /// The size of what the view shows.
    #[must_use]
    pub fn size(&self) -> Size {
        self.rescaled.unwrap_or(self.crop.size)
    }

    /// The part of the original image that the view shows.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// Whether the view is mirrored left to right.
    #[must_use]
    pub fn is_flipped(&self) -> bool {
        self.flipped
    }

    /// Added to R, G and B of every pixel, in units of 0..=255.
    #[must_use]
    pub fn color_offset(&self) -> [f32; 3] {
        self.color_offset
    }

    /// Narrows the view to a part of what it shows.
    ///
    /// # Panics
    /// When the part is not inside.
    pub fn crop(&mut self, part: Rect) {
        self.rescale();
        let Size { width, height } = self.crop.size;
        assert!(
            part.x + part.size.width <= width && part.y + part.size.height <= height,
            "crop {part:?} of a view of {} pixels",
            self.crop.size
        );
        // Columns count from the left of what is shown; a mirrored view shows the right edge first.
        let x = if self.flipped { width - part.size.width - part.x } else { part.x };
        let (scale_x, scale_y) = (self.frame.width / width as f32, self.frame.height / height as f32);
        self.frame.x += x as f32 * scale_x;
        self.frame.y += part.y as f32 * scale_y;
        self.frame.width = part.size.width as f32 * scale_x;
        self.frame.height = part.size.height as f32 * scale_y;
        self.crop = Rect { x: self.crop.x + x, y: self.crop.y + part.y, size: part.size };
    }

    /// Mirrors the view left to right.
    pub fn flip_horizontal(&mut self) {
        self.flipped = !self.flipped;
    }

    /// Adds to R, G and B of every pixel, in units of 0..=255, when the view is written.
    pub fn add_color_offset(&mut self, offset: [f32; 3]) {
        for (sum, offset) in self.color_offset.iter_mut().zip(offset) {
            *sum += offset;
        }
    }

    /// Rescales what the view shows to `size`, bilinearly and antialiased. The filter reads pixels outside
    /// the crop.
    pub fn resize(&mut self, size: Size) {
        self.rescale();
        if size == self.crop.size {
            return;
        }
        if resample::is_possible(self.crop.size, size) {
            self.rescaled = Some(size);
            return;
        }
        let Rect { x, y, size: part } = self.crop;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
            x.into(),
            y.into(),
            part.width.into(),
            part.height.into(),
        );
        let Scratch { pixels, spare, resizer, .. } = &mut *self.scratch;
        spare.resize(3 * size.area(), 0);
        let stored: &[u8] = self.source.unwrap_or(pixels);
        match self.layout {
            Layout::Planar => {
                let planes = stored.chunks_exact(self.stored.area()).zip(spare.chunks_exact_mut(size.area()));
                for (from, to) in planes {
                    resize_plane(resizer, (from, self.stored), (to, size), &options);
                }
            }
            Layout::Interleaved => resize_rgb(resizer, (stored, self.stored), (spare, size), &options),
        }
        self.take_spare(self.layout, size);
    }

    /// The pixels that the view shows, to change them in place: R, G and B, each `u8 [H,W]`, in the order
    /// before mirroring.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        self.rescale();
        let size = self.crop.size;
        if self.source.is_some() || self.layout != Layout::Planar || size != self.stored {
            let mut copy = std::mem::take(&mut self.scratch.spare);
            copy.resize(3 * size.area(), 0);
            self.copy(&mut copy, false);
            self.scratch.spare = copy;
            self.take_spare(Layout::Planar, size);
        }
        planes_of(&mut self.scratch.pixels, size.area())
    }

    /// Replaces the pixels that the view shows: `map` makes each plane out of the present one, both
    /// `u8 [H,W]`, in the order before mirroring. It is given the number of the channel, the present plane,
    /// the new one, and memory.
    pub fn map_planes(&mut self, mut map: impl FnMut(usize, &[u8], &mut [u8], &mut Vec<f32>)) {
        self.planes_mut();
        let size = self.crop.size;
        let Scratch { pixels, spare, values, .. } = &mut *self.scratch;
        spare.resize(3 * size.area(), 0);
        let planes = pixels.chunks_exact(size.area()).zip(spare.chunks_exact_mut(size.area()));
        for (channel, (from, to)) in planes.enumerate() {
            map(channel, from, to, values);
        }
        self.take_spare(Layout::Planar, size);
    }

    /// Writes what the view shows to `u8 [3,H,W]`, without the colour offset.
    ///
    /// # Panics
    /// When `planes` is not of that length.
    pub fn write_u8(&mut self, planes: &mut [u8]) {
        let size = self.size();
        assert_eq!(planes.len(), 3 * size.area(), "bytes of an RGB image of {size} pixels");
        if self.rescaled.is_none() {
            return self.copy(planes, self.flipped);
        }
        self.prepare(self.flipped);
        let (resampler, source) = self.resampling();
        resampler.write(source, 0..size.height as usize, planes_of(planes, size.area()));
    }

    /// Writes what the view shows to `u8 [H,W,3]`, without the colour offset.
    ///
    /// # Panics
    /// When `pixels` is not of that length.
    pub fn write_interleaved_u8(&mut self, pixels: &mut [u8]) {
        let size = self.size();
        assert_eq!(pixels.len(), 3 * size.area(), "bytes of an RGB image of {size} pixels");
        if self.rescaled.is_none() && self.layout == Layout::Interleaved {
            return kernels::copy_interleaved(self.interleaved_plane(self.flipped), pixels);
        }
        let row = 3 * size.width as usize;
        self.for_rows(|rows, planes| {
            kernels::interleave(planes, &mut pixels[rows.start * row..rows.end * row]);
        });
    }

    /// Calls `write` with all rows that the view shows, some at a time: their numbers, and the planes R, G
    /// and B of them, without the colour offset.
    pub fn for_rows(&mut self, mut write: impl FnMut(Range<usize>, [Plane<'_>; 3])) {
        let Size { width, height } = self.size();
        let (width, height) = (width as usize, height as usize);
        if self.rescaled.is_none() {
            if self.layout == Layout::Interleaved {
                self.planes_mut();
            }
            return write(0..height, [0, 1, 2].map(|channel| self.plane(channel, self.flipped)));
        }
        self.prepare(self.flipped);
        let mut pixels = std::mem::take(&mut self.scratch.spare);
        pixels.resize(3 * ROWS * width, 0);
        for start in (0..height).step_by(ROWS) {
            let rows = start..(start + ROWS).min(height);
            let area = rows.len() * width;
            let (resampler, source) = self.resampling();
            resampler.write(source, rows.clone(), planes_of(&mut pixels[..3 * area], area));
            let size = Size { width: width as u32, height: rows.len() as u32 };
            let plane = |channel: usize| Plane {
                pixels: &pixels[channel * area..],
                stride: width,
                size,
                flipped: false,
            };
            write(rows, [0, 1, 2].map(plane));
        }
        self.scratch.spare = pixels;
    }

    /// Makes the pixels of the size that they are to have, if another.
    fn rescale(&mut self) {
        let Some(size) = self.rescaled else { return };
        // Mirrored when it is written.
        self.prepare(false);
        let mut copy = std::mem::take(&mut self.scratch.spare);
        copy.resize(3 * size.area(), 0);
        let (resampler, source) = self.resampling();
        resampler.write(source, 0..size.height as usize, planes_of(&mut copy, size.area()));
        self.scratch.spare = copy;
        self.take_spare(Layout::Planar, size);
    }

    /// Prepares the resampler for what the view shows.
    fn prepare(&mut self, flipped: bool) {
        let size = self.size();
        self.scratch.resampler.prepare(self.stored, self.crop, size, flipped);
    }

    fn resampling(&mut self) -> (&mut Resampler, Source<'_>) {
        let Scratch { pixels, resampler, .. } = &mut *self.scratch;
        let stored = self.source.unwrap_or(pixels);
        match self.layout {
            Layout::Planar => (resampler, Source::Planar(stored)),
            Layout::Interleaved => (resampler, Source::Interleaved(stored)),
        }
    }

    /// Copies what the view shows, which is not to be rescaled, to `u8 [3,H,W]`.
    fn copy(&self, planes: &mut [u8], flipped: bool) {
        let area = self.crop.size.area();
        match self.layout {
            Layout::Planar => {
                for (channel, target) in planes.chunks_exact_mut(area).enumerate() {
                    kernels::copy(self.plane(channel, flipped), target);
                }
            }
            Layout::Interleaved => kernels::deinterleave(self.interleaved_plane(flipped), planes),
        }
    }

    /// All channels of what the view shows; the layout must be interleaved.
    fn interleaved_plane(&self, flipped: bool) -> Plane<'_> {
        let start = 3 * (self.crop.y as usize * self.stored.width as usize + self.crop.x as usize);
        let stride = 3 * self.stored.width as usize;
        Plane { pixels: &self.stored_pixels()[start..], stride, size: self.crop.size, flipped }
    }

    /// One channel of what the view shows; the layout must be planar.
    fn plane(&self, channel: usize, flipped: bool) -> Plane<'_> {
        let stride = self.stored.width as usize;
        let start = channel * self.stored.area() + self.crop.y as usize * stride + self.crop.x as usize;
        Plane { pixels: &self.stored_pixels()[start..], stride, size: self.crop.size, flipped }
    }

    fn stored_pixels(&self) -> &[u8] {
        self.source.unwrap_or(&self.scratch.pixels)
    }

    /// Replaces the stored pixels by the spare scratch memory, which holds exactly what the view shows.
    fn take_spare(&mut self, layout: Layout, size: Size) {
        std::mem::swap(&mut self.scratch.pixels, &mut self.scratch.spare);
        self.source = None;
        self.layout = layout;
        self.stored = size;
        self.crop = Rect { x: 0, y: 0, size };
        self.rescaled = None;
    }
}

/// R, G and B of planes one after the other.
fn planes_of(pixels: &mut [u8], area: usize) -> [&mut [u8]; 3] {
    let (red, rest) = pixels.split_at_mut(area);
    let (green, blue) = rest.split_at_mut(area);
    [red, green, blue]
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Size = Size { width: 9, height: 6 };

    /// An image whose pixels are 100·c + 10·y + x for channel c, row y, column x.
    fn value(channel: u32, y: u32, x: u32) -> u8 {
        (100 * channel + 10 * y + x) as u8
    }

    fn planar() -> Vec<u8> {
        let pixels = (0..STORED.height).flat_map(|y| (0..STORED.width).map(move |x| (y, x)));
        (0..3).flat_map(|c| pixels.clone().map(move |(y, x)| value(c, y, x))).collect()
    }

    fn interleaved() -> Vec<u8> {
        let pixels = (0..STORED.height).flat_map(|y| (0..STORED.width).map(move |x| (y, x)));
        pixels.flat_map(|(y, x)| (0..3).map(move |c| value(c, y, x))).collect()
    }

    /// Calls `check` with a view of the whole image, in both layouts.
    fn in_both_layouts(check: impl Fn(View<'_>)) {
        check(View::planar(&planar(), STORED, &mut Scratch::default()));
        check(View::interleaved(&interleaved(), STORED, &mut Scratch::default()));
    }

    fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, size: Size { width, height } }
    }

    fn written(view: &mut View<'_>) -> Vec<u8> {
        let mut planes = vec![0; 3 * view.size().area()];
        view.write_u8(&mut planes);
        planes
    }

    /// The image's pixels at the given rows and columns.
    fn pixels(rows: &[u32], columns: &[u32]) -> Vec<u8> {
        let places = rows.iter().flat_map(|&y| columns.iter().map(move |&x| (y, x)));
        (0..3).flat_map(|c| places.clone().map(move |(y, x)| value(c, y, x))).collect()
    }

    #[test]
    fn crops_count_from_the_upper_left_of_what_is_shown() {
        in_both_layouts(|mut view| {
            view.crop(rect(1, 2, 7, 4));
            assert_eq!(written(&mut view), pixels(&[2, 3, 4, 5], &[1, 2, 3, 4, 5, 6, 7]));
            view.flip_horizontal();
            view.crop(rect(1, 1, 3, 2));
            assert_eq!(written(&mut view), pixels(&[3, 4], &[6, 5, 4]));
            assert_eq!(view.frame(), Frame { x: 4.0, y: 3.0, width: 3.0, height: 2.0 });
            view.flip_horizontal();
            view.crop(rect(1, 0, 2, 2));
            assert_eq!(written(&mut view), pixels(&[3, 4], &[5, 6]));
            assert_eq!(view.frame(), Frame { x: 5.0, y: 3.0, width: 2.0, height: 2.0 });
        });
    }

    #[test]
    #[should_panic(expected = "of a view of 9x6 pixels")]
    fn a_crop_that_is_too_wide_panics() {
        View::planar(&planar(), STORED, &mut Scratch::default()).crop(rect(1, 0, 9, 6));
    }

    #[test]
    #[should_panic(expected = "of a view of 9x6 pixels")]
    fn a_crop_that_is_too_high_panics() {
        View::planar(&planar(), STORED, &mut Scratch::default()).crop(rect(0, 1, 9, 6));
    }

    #[test]
    fn colour_offsets_add_up() {
        in_both_layouts(|mut view| {
            view.add_color_offset([1.0, 2.0, 3.0]);
            view.add_color_offset([0.5, 0.0, -3.0]);
            assert_eq!(view.color_offset(), [1.5, 2.0, 0.0]);
        });
    }

    #[test]
    fn resizing_shows_the_whole_of_the_part_and_nothing_else() {
        // A slope stays a slope: the value in the middle of each new pixel is that of the place it covers.
        let slope = |y: f32, x: f32| 20.0 * x + 8.0 * y;
        let pixels =
            (0..STORED.height).flat_map(|y| (0..STORED.width).map(move |x| slope(y as f32, x as f32)));
        let plane: Vec<u8> = pixels.map(|value| value as u8).collect();
        let planar = plane.repeat(3);
        let interleaved: Vec<u8> = plane.iter().flat_map(|&pixel| [pixel; 3]).collect();
        for is_planar in [true, false] {
            let mut scratch = Scratch::default();
            let mut view = match is_planar {
                true => View::planar(&planar, STORED, &mut scratch),
                false => View::interleaved(&interleaved, STORED, &mut scratch),
            };
            view.crop(rect(2, 1, 4, 3));
            view.resize(Size { width: 2, height: 6 });
            for (index, &found) in written(&mut view).iter().enumerate() {
                let (y, x) = ((index / 2 % 6) as f32, (index % 2) as f32);
                let expected = slope(1.0 + (y + 0.5) * 3.0 / 6.0 - 0.5, 2.0 + (x + 0.5) * 4.0 / 2.0 - 0.5);
                assert!((f32::from(found) - expected).abs() <= 1.0, "{index}: {found}, expected {expected}");
            }
            let shown = written(&mut view);
            assert_eq!(view.planes_mut().concat(), shown, "planar: {is_planar}");
            view.crop(rect(1, 1, 1, 5));
            assert_eq!(view.frame(), Frame { x: 4.0, y: 1.5, width: 2.0, height: 2.5 });
        }
    }

    #[test]
    fn mapped_planes_are_those_that_are_shown() {
        in_both_layouts(|mut view| {
            view.crop(rect(1, 2, 4, 3));
            view.flip_horizontal();
            view.map_planes(|channel, from, to, _| {
                assert_eq!(from[5], value(channel as u32, 3, 2));
                to.copy_from_slice(from);
                to[5] = 255;
            });
            let expected: Vec<u8> = pixels(&[2, 3, 4], &[4, 3, 2, 1])
                .into_iter()
                .enumerate()
                .map(|(i, value)| if i % 12 == 6 { 255 } else { value })
                .collect();
            assert_eq!(written(&mut view), expected);
        });
    }

    #[test]
    fn a_rescaled_view_is_the_same_written_in_every_way() {
        let size = Size { width: 40, height: 21 };
        let all = |change: &dyn Fn(&mut View<'_>)| {
            let mut found = Vec::new();
            let (planar, interleaved) = (planar(), interleaved());
            for layout in 0..2 {
                let mut scratch = Scratch::default();
                let mut view = match layout {
                    0 => View::planar(&planar, STORED, &mut scratch),
                    _ => View::interleaved(&interleaved, STORED, &mut scratch),
                };
                view.crop(rect(1, 1, 7, 4));
                view.resize(size);
                view.flip_horizontal();
                change(&mut view);
                found.push(written(&mut view));
                let mut pixels = vec![0; 3 * view.size().area()];
                view.write_interleaved_u8(&mut pixels);
                let area = view.size().area();
                found.push((0..3 * area).map(|i| pixels[3 * (i % area) + i / area]).collect());
            }
            found
        };
        let lazy = all(&|_| {});
        let settled = all(&|view| {
            view.planes_mut();
        });
        assert!(lazy.iter().chain(&settled).all(|planes| *planes == lazy[0]));
        let part = all(&|view| view.crop(rect(3, 2, 30, 15)));
        let row = |y: usize| &lazy[0][40 * y..][..40];
        assert!((0..15).all(|y| part[0][30 * y..][..30] == row(y + 2)[3..33]));
        assert!(part.iter().all(|planes| *planes == part[0]));
        let again = all(&|view| view.resize(Size::square(9)));
        assert!(again[0].len() == 243 && again.iter().all(|planes| *planes == again[0]));
    }

    #[test]
    fn changed_planes_are_those_that_are_shown() {
        in_both_layouts(|mut view| {
            view.flip_horizontal();
            view.crop(rect(0, 1, 4, 3));
            // Twice: at first the pixels come from the stored image, then from the scratch memory.
            for (rows, columns) in [(&[1, 2, 3][..], &[5, 6, 7, 8][..]), (&[2, 3], &[6, 7, 8])] {
                let expected = pixels(rows, columns);
                for (plane, expected) in
                    view.planes_mut().into_iter().zip(expected.chunks(rows.len() * columns.len()))
                {
                    assert_eq!(plane, expected);
                }
                view.crop(rect(0, 1, 3, rows.len() as u32 - 1));
            }
            view.planes_mut()[1].copy_from_slice(&[1, 2, 3]);
            assert_eq!(written(&mut view)[3..6], [3, 2, 1]);
        });
    }
}
