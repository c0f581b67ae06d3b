//! The pixel types of a batch: u8 as stored, or f32 and f16, normalised; and the order of its axes.

use std::ops::Range;

use half::f16;
use ndarray::{Array3, ArrayView3, s};

use crate::batch::ValueKind;
use crate::geometry::Size;
use crate::kernels::{self, Mean, Normalize};
use crate::view::View;

/// Type and normalisation of the pixels of a batch, `[N,3,H,W]` or, with [`Axes::Hwc`], `[N,H,W,3]`.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputForm {
    /// `u8` as stored; the device adds the colour offsets, which the batch has separately.
    U8,
    /// `f32`, normalised, colour offsets added.
    F32(Normalization),
    /// `f16`, normalised, colour offsets added; computed in f32.
    F16(Normalization),
}

impl OutputForm {
    pub(crate) fn kind(&self) -> ValueKind {
        match self {
            Self::U8 => ValueKind::U8,
            Self::F32(_) => ValueKind::F32,
            Self::F16(_) => ValueKind::F16,
        }
    }

    /// Name on command lines: `u8`, `f32` or `f16`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::F32(_) => "f32",
            Self::F16(_) => "f16",
        }
    }

    /// Checks that a mean image has the size of the views.
    pub(crate) fn check(&self, views: Size) -> Result<(), String> {
        let (Self::F32(normalization) | Self::F16(normalization)) = self else { return Ok(()) };
        match &normalization.mean {
            MeanValue::Image(mean) if mean.shape() != [3, views.height as usize, views.width as usize] => {
                Err(format!(
                    "the mean image has shape {:?}, expected [3, {}, {}] as the views have",
                    mean.shape(),
                    views.height,
                    views.width
                ))
            }
            _ => Ok(()),
        }
    }

    /// Writes a view into its slot.
    pub(crate) fn write(&self, axes: Axes, view: &mut View<'_>, slot: Slot<'_>) {
        let (size, offset) = (view.size(), view.color_offset());
        let (width, area) = (size.width as usize, size.area());
        match (self, slot, axes) {
            (Self::U8, Slot::U8(values), Axes::Chw) => view.write_u8(values),
            (Self::U8, Slot::U8(values), Axes::Hwc) => view.write_interleaved_u8(values),
            (Self::F32(normalization), Slot::F32(values), Axes::Chw) => view.for_rows(|rows, planes| {
                let pixels = rows.start * width..rows.end * width;
                let normalize = normalization.channels(offset, pixels.clone());
                for (channel, (plane, normalize)) in planes.into_iter().zip(normalize).enumerate() {
                    let target = &mut values[channel * area..][pixels.clone()];
                    kernels::normalize_f32(plane, normalize, target);
                }
            }),
            (Self::F16(normalization), Slot::F16(values), Axes::Chw) => view.for_rows(|rows, planes| {
                let pixels = rows.start * width..rows.end * width;
                let normalize = normalization.channels(offset, pixels.clone());
                for (channel, (plane, normalize)) in planes.into_iter().zip(normalize).enumerate() {
                    let target = &mut values[channel * area..][pixels.clone()];
                    kernels::normalize_f16(plane, normalize, target);
                }
            }),
            (Self::F32(normalization), Slot::F32(values), Axes::Hwc) => view.for_rows(|rows, planes| {
                let pixels = rows.start * width..rows.end * width;
                let target = &mut values[3 * pixels.start..3 * pixels.end];
                kernels::normalize_interleaved_f32(planes, normalization.channels(offset, pixels), target);
            }),
            (Self::F16(normalization), Slot::F16(values), Axes::Hwc) => view.for_rows(|rows, planes| {
                let pixels = rows.start * width..rows.end * width;
                let target = &mut values[3 * pixels.start..3 * pixels.end];
                kernels::normalize_interleaved_f16(planes, normalization.channels(offset, pixels), target);
            }),
            _ => unreachable!("slots are made for the form of their batch"),
        }
    }
}

/// The order in which the values of a view lie in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Axes {
    /// `[3,H,W]`: one channel after the other.
    #[default]
    Chw,
    /// `[H,W,3]`: the channels of a pixel side by side.
    Hwc,
}

/// The memory of one view in a batch: `[3,H,W]` or `[H,W,3]`.
#[derive(Debug)]
pub(crate) enum Slot<'a> {
    U8(&'a mut [u8]),
    F32(&'a mut [f32]),
    F16(&'a mut [f16]),
}

/// How pixels become numbers: (pixel − mean + offset) · scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// Subtracted from the pixel, 0..=255.
    pub mean: MeanValue,
    /// Factor for R, G and B.
    pub scale: [f32; 3],
}

/// A mean to subtract, in units of 0..=255.
#[derive(Clone, Debug, PartialEq)]
pub enum MeanValue {
    /// A value for each channel.
    Channels([f32; 3]),
    /// A value for each pixel of the view, `f32 [3,H,W]`; see [`center_of`].
    Image(Array3<f32>),
}

impl Normalization {
    /// For R, G and B, and these pixels of a view.
    fn channels(&self, offset: [f32; 3], pixels: Range<usize>) -> [Normalize<'_>; 3] {
        [0, 1, 2].map(|channel| {
            let mean = match &self.mean {
                MeanValue::Channels(means) => Mean::Constant(means[channel]),
                MeanValue::Image(image) => {
                    let area = image.len() / 3;
                    let values = image.as_slice().expect("a mean image is made in standard layout");
                    Mean::PerPixel(&values[channel * area..][pixels.clone()])
                }
            };
            Normalize { mean, offset: offset[channel], scale: self.scale[channel] }
        })
    }
}

/// The centre of a mean image `f32 [3,S,S]`, in the size of the views.
///
/// Wherever an image is cropped, the centre of the mean is subtracted, as in the code of Krizhevsky et al.
///
/// # Panics
/// When the views are larger than the mean image.
#[must_use]
pub fn center_of(mean: ArrayView3<'_, f32>, views: Size) -> Array3<f32> {
    let (height, width) = (views.height as usize, views.width as usize);
    let (_, rows, columns) = mean.dim();
    assert!(height <= rows && width <= columns, "views of {views} pixels, mean image of {columns}x{rows}");
    let (top, left) = ((rows - height) / 2, (columns - width) / 2);
    mean.slice(s![.., top..top + height, left..left + width]).as_standard_layout().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Rect;
    use crate::view::Scratch;

    #[test]
    fn a_view_becomes_pixel_minus_mean_plus_offset_times_scale() {
        let stored = Size { width: 4, height: 3 };
        let planar: Vec<u8> = (0..36).map(|i| i * 7).collect();
        let interleaved: Vec<u8> =
            (0..12).flat_map(|pixel| (0..3).map(move |channel| (channel * 12 + pixel) * 7)).collect();
        let mean = Array3::from_shape_fn((3, 2, 2), |(c, y, x)| (c * 4 + y * 2 + x) as f32);
        let normalization = Normalization { mean: MeanValue::Image(mean.clone()), scale: [1.0, 0.5, 0.25] };
        let form = OutputForm::F32(normalization.clone());
        for is_planar in [true, false] {
            let mut scratch = Scratch::default();
            let mut view = match is_planar {
                true => View::planar(&planar, stored, &mut scratch),
                false => View::interleaved(&interleaved, stored, &mut scratch),
            };
            view.crop(Rect { x: 1, y: 1, size: Size::square(2) });
            view.flip_horizontal();
            view.add_color_offset([10.0, 20.0, 30.0]);
            let mut written = [0.0; 12];
            form.write(Axes::Chw, &mut view, Slot::F32(&mut written));
            let expected = Array3::from_shape_fn((3, 2, 2), |(c, y, x)| {
                let pixel = f32::from(planar[c * 12 + (y + 1) * 4 + (2 - x)]);
                (pixel - mean[[c, y, x]] + 10.0 * (c + 1) as f32) * normalization.scale[c]
            });
            assert_eq!(written, expected.as_slice().unwrap(), "planar: {is_planar}");

            let mut rounded = [f16::ZERO; 12];
            OutputForm::F16(normalization.clone()).write(Axes::Chw, &mut view, Slot::F16(&mut rounded));
            assert_eq!(rounded, written.map(f16::from_f32), "planar: {is_planar}");

            let constant =
                Normalization { mean: MeanValue::Channels([5.0, 6.0, 7.0]), ..normalization.clone() };
            OutputForm::F32(constant).write(Axes::Chw, &mut view, Slot::F32(&mut written));
            let expected = Array3::from_shape_fn((3, 2, 2), |(c, y, x)| {
                let pixel = f32::from(planar[c * 12 + (y + 1) * 4 + (2 - x)]);
                (pixel - (5 + c) as f32 + 10.0 * (c + 1) as f32) * normalization.scale[c]
            });
            assert_eq!(written, expected.as_slice().unwrap(), "planar: {is_planar}");
        }
    }

    #[test]
    fn channels_are_last_in_every_form_and_are_the_same_values() {
        let stored = Size { width: 7, height: 5 };
        let pixels: Vec<u8> = (0..105).map(|i| i * 2).collect();
        let mean = Array3::from_shape_fn((3, 4, 5), |(c, y, x)| (c * 40 + y * 10 + x) as f32);
        let normalization = Normalization { mean: MeanValue::Image(mean), scale: [1.0, 0.5, 0.25] };
        let last = |first: usize| first % 20 * 3 + first / 20;
        for (is_planar, flipped) in [(true, false), (true, true), (false, false), (false, true)] {
            let mut scratch = Scratch::default();
            let mut view = match is_planar {
                true => View::planar(&pixels, stored, &mut scratch),
                false => View::interleaved(&pixels, stored, &mut scratch),
            };
            view.crop(Rect { x: 2, y: 1, size: Size { width: 5, height: 4 } });
            if flipped {
                view.flip_horizontal();
            }
            view.add_color_offset([10.0, 20.0, 30.0]);
            let (mut chw, mut hwc) = ([0; 60], [1; 60]);
            OutputForm::U8.write(Axes::Chw, &mut view, Slot::U8(&mut chw));
            OutputForm::U8.write(Axes::Hwc, &mut view, Slot::U8(&mut hwc));
            assert!((0..60).all(|i| chw[i] == hwc[last(i)]), "{chw:?}, {hwc:?}");

            let (form, mut chw, mut hwc) = (OutputForm::F32(normalization.clone()), [0.0; 60], [1.0; 60]);
            form.write(Axes::Chw, &mut view, Slot::F32(&mut chw));
            form.write(Axes::Hwc, &mut view, Slot::F32(&mut hwc));
            assert!((0..60).all(|i| chw[i] == hwc[last(i)]), "{chw:?}, {hwc:?}");

            let form = OutputForm::F16(normalization.clone());
            let (mut chw, mut hwc) = ([f16::ZERO; 60], [f16::ONE; 60]);
            form.write(Axes::Chw, &mut view, Slot::F16(&mut chw));
            form.write(Axes::Hwc, &mut view, Slot::F16(&mut hwc));
            assert!((0..60).all(|i| chw[i] == hwc[last(i)]), "{chw:?}, {hwc:?}");
        }
    }

    #[test]
    fn the_centre_of_the_mean_is_taken() {
        let mean = Array3::from_shape_fn((3, 6, 6), |(c, y, x)| (c * 100 + y * 10 + x) as f32);
        let center = center_of(mean.view(), Size { width: 2, height: 4 });
        assert_eq!(center.dim(), (3, 4, 2));
        assert_eq!((center[[0, 0, 0]], center[[2, 3, 1]]), (12.0, 243.0));
        // Where the centre is not a whole number of pixels away, the smaller one counts.
        let center = center_of(mean.view(), Size { width: 3, height: 5 });
        assert_eq!((center[[0, 0, 0]], center[[2, 4, 2]]), (1.0, 243.0));
    }
}
