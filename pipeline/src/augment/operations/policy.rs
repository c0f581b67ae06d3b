//! The operations of RandAugment and TrivialAugment, and how strong each can be.

use crate::geometry::Size;
use crate::view::View;

use super::affine::{Affine, Interpolation};
use super::blend::{Blend, mix};
use super::sharpness::sharpen;
use super::tone::{equalize, posterize, solarize, stretch_contrast};

/// An operation without its magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

/// The magnitudes that operations have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Those of RandAugment.
    Rand,
    /// Those of TrivialAugment, "wide".
    Wide,
}

impl Operation {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// Whether its magnitude is negative as often as positive.
    pub fn is_signed(self) -> bool {
        !matches!(
            self,
            Self::Identity | Self::Posterize | Self::Solarize | Self::AutoContrast | Self::Equalize
        )
    }

    /// The magnitude number `bin` of `bins` for an image of size `size`: a slope, pixels, degrees, a part of
    /// the change to twice or none, bits, or a threshold of 0..=255.
    pub fn magnitude(self, space: Space, bin: u32, bins: u32, size: Size) -> f32 {
        let part = bin as f32 / (bins - 1) as f32;
        let of = |rand: f32, wide: f32| part * if space == Space::Rand { rand } else { wide };
        match self {
            Self::Identity | Self::AutoContrast | Self::Equalize => 0.0,
            Self::ShearX | Self::ShearY => of(0.3, 0.99),
            Self::TranslateX => of(150.0 / 331.0 * size.width as f32, 32.0),
            Self::TranslateY => of(150.0 / 331.0 * size.height as f32, 32.0),
            Self::Rotate => of(30.0, 135.0),
            Self::Brightness | Self::Color | Self::Contrast | Self::Sharpness => of(0.9, 0.99),
            Self::Posterize => 8.0 - of(4.0, 6.0).round_ties_even(),
            Self::Solarize => 255.0 * (1.0 - part),
        }
    }

    /// Changes the view; the magnitude may be negative if [`is_signed`](Self::is_signed). What comes from
    /// outside the view is `fill`.
    pub fn apply(self, magnitude: f32, interpolation: Interpolation, fill: [u8; 3], view: &mut View<'_>) {
        let size = view.size();
        let factor = 1.0 + magnitude;
        let affine = match self {
            Self::ShearX => Affine::shear_x(magnitude),
            Self::ShearY => Affine::shear_y(magnitude),
            Self::TranslateX => Affine::translate(magnitude as i32, 0),
            Self::TranslateY => Affine::translate(0, magnitude as i32),
            Self::Rotate => Affine::rotate(magnitude, size),
            Self::Identity => return,
            Self::Brightness => return mix(Blend::Brightness, factor, view.planes_mut()),
            Self::Color => return mix(Blend::Saturation, factor, view.planes_mut()),
            Self::Contrast => return mix(Blend::Contrast, factor, view.planes_mut()),
            Self::Sharpness => {
                let width = size.width as usize;
                return view.map_planes(|_, from, to, _| sharpen(factor, width, from, to));
            }
            Self::Posterize => return posterize(magnitude as u32, view.planes_mut()),
            Self::Solarize => return solarize(magnitude, view.planes_mut()),
            Self::AutoContrast => return stretch_contrast(view.planes_mut()),
            Self::Equalize => return equalize(view.planes_mut()),
        };
        view.map_planes(|channel, from, to, _| affine.apply(interpolation, fill[channel], size, from, to));
    }
}
