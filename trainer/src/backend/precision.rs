//! The precision of a backend, and the loss scale that half precision needs.

use std::fmt;
use std::str::FromStr;

use fovea_pipeline::UnknownName;
use serde::{Deserialize, Serialize};

/// The number format of forward and backward; weights, optimizer slots, gradients and the update are always
/// f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Single precision, but a GPU may round the factors of products to TF32 (10 bits of mantissa).
    Tf32,
    /// Half precision: activations and products are f16; normalisation, softmax, loss and sums f32, or TF32
    /// on a GPU.
    F16,
}

impl Precision {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::F16];

    /// The name on command lines and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("precision", name, &Self::ALL, Self::name)
    }
}

/// The scale of a new run.
const FIRST: f32 = 65536.0;
/// Updates in a row after which a larger scale is tried.
const PATIENCE: u32 = 2000;
/// Upper bound: the scale of gradients that are all zero would grow without limit.
const LARGEST: f32 = 16_777_216.0;
/// Lower bound: gradients that are not finite with this scale would not be with any.
const SMALLEST: f32 = 1.0 / 1024.0;

/// Factor of the loss during differentiation in half precision: as large as the gradients' range allows
/// (Micikevicius et al. 2018, section 3.2; the dynamic form of section 5 there).
///
/// It is always a power of two, so that dividing by it changes no bit of a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LossScale {
    scale: f32,
    /// Updates since its last change.
    updates: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: FIRST, updates: 0 }
    }
}

impl LossScale {
    /// The factor.
    pub fn factor(&self) -> f32 {
        self.scale
    }

    /// Reports a successful update.
    pub fn held(&mut self) {
        self.updates += 1;
        if self.updates == PATIENCE {
            *self = Self { scale: (self.scale * 2.0).min(LARGEST), updates: 0 };
        }
    }

    /// Reports gradients that are not finite; false if no smaller scale can help.
    #[must_use]
    pub fn overflowed(&mut self) -> bool {
        if self.scale <= SMALLEST {
            return false;
        }
        *self = Self { scale: self.scale / 2.0, updates: 0 };
        true
    }

    /// The values of a checkpoint: factor and updates.
    pub fn to_values(self) -> [f32; 2] {
        // Below 2²⁴, and therefore exact in f32.
        [self.scale, self.updates as f32]
    }

    /// Reads what [`to_values`](Self::to_values) wrote; `None` if the values are invalid.
    pub fn from_values(values: &[f32]) -> Option<Self> {
        let &[scale, updates] = values else { return None };
        let is_power = scale.is_normal() && scale.to_bits().trailing_zeros() >= f32::MANTISSA_DIGITS - 1;
        let sound = is_power
            && (SMALLEST..=LARGEST).contains(&scale)
            && (0.0..PATIENCE as f32).contains(&updates)
            && updates.fract() == 0.0;
        sound.then_some(Self { scale, updates: updates as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_doubles_after_two_thousand_updates_in_a_row_and_halves_at_once() {
        let mut scale = LossScale::default();
        (0..1999).for_each(|_| scale.held());
        assert_eq!(scale.factor(), 65536.0);
        assert!(scale.overflowed());
        assert_eq!(scale.factor(), 32768.0);
        (0..1999).for_each(|_| scale.held());
        assert_eq!(scale.factor(), 32768.0);
        scale.held();
        assert_eq!(scale.factor(), 65536.0);
    }

    #[test]
    fn the_scale_has_bounds() {
        let mut scale = LossScale::default();
        (0..2000 * 20).for_each(|_| scale.held());
        assert_eq!(scale.factor(), LARGEST);
        let halvings = (0..100).take_while(|_| scale.overflowed()).count();
        assert_eq!((halvings, scale.factor()), (34, SMALLEST));
    }

    #[test]
    fn a_scale_is_saved_and_a_damaged_one_is_refused() {
        let mut scale = LossScale::default();
        assert!(scale.overflowed());
        (0..7).for_each(|_| scale.held());
        assert_eq!(LossScale::from_values(&scale.to_values()), Some(scale));
        for bad in [&[1.0][..], &[3.0, 0.0], &[0.0, 0.0], &[f32::NAN, 0.0], &[-2.0, 0.0], &[2.0, 2000.0]] {
            assert_eq!(LossScale::from_values(bad), None, "{bad:?}");
        }
        assert_eq!(LossScale::from_values(&[2.0, 0.5]), None);
    }
}
