//! Changes of pixels that augmentations draw: what each does to three planes `u8 [H,W]`.
//!
//! Operations that torchvision has too give its result, up to rounding.

mod affine;
mod blend;
mod blur;
mod bytes;
mod policy;
mod sharpness;
mod tone;

pub(super) use affine::Interpolation;
pub(super) use blend::{Blend, mix, to_gray, turn_hue};
pub(super) use blur::{gaussian, smooth};
pub(super) use policy::{Operation, Space};

#[cfg(test)]
mod tests;
