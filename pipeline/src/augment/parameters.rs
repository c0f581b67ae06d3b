//! Checks of parameters that several augmentations have.

use serde::Deserialize;

use super::AugmentError;

/// A colour in units of 0..=255: one number for all channels, or R, G and B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Numbers")]
pub struct Color([u8; 3]);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number 0 to 255, or three for red, green and blue")]
enum Numbers {
    One(f64),
    Three([f64; 3]),
}

impl Color {
    /// R, G and B.
    #[must_use]
    pub fn rgb(self) -> [u8; 3] {
        self.0
    }
}

impl TryFrom<Numbers> for Color {
    type Error = String;

    fn try_from(numbers: Numbers) -> Result<Self, String> {
        let values = match numbers {
            Numbers::One(value) => [value; 3],
            Numbers::Three(values) => values,
        };
        match values.into_iter().find(|value| !(0.0..=255.0).contains(value)) {
            Some(value) => Err(format!("{value:?} in a colour, expected numbers 0 to 255")),
            None => Ok(Self(values.map(|value| value.round() as u8))),
        }
    }
}

/// More magnitudes than differ.
const MOST_BINS: u32 = 1000;

/// Checks that a range has two positive numbers in order, none above `most`.
pub(super) fn check_range(
    op: &str,
    name: &str,
    [low, high]: [f64; 2],
    most: f64,
) -> Result<(), AugmentError> {
    if 0.0 < low && low <= high && high <= most {
        return Ok(());
    }
    let most = if most == 1.0 { ", at most 1" } else { "" };
    let reason = format!("{name} = [{low:?}, {high:?}], expected two positive numbers in order{most}");
    Err(AugmentError::Parameters { op: op.into(), reason })
}

/// Checks the number of magnitudes.
pub(super) fn check_bins(op: &str, bins: u32) -> Result<(), AugmentError> {
    if (2..=MOST_BINS).contains(&bins) {
        return Ok(());
    }
    let reason = format!("num_magnitude_bins = {bins}, expected 2 to {MOST_BINS}");
    Err(AugmentError::Parameters { op: op.into(), reason })
}

/// Checks that `p` is in 0..=1.
pub(super) fn check_probability(op: &str, p: f64) -> Result<(), AugmentError> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(AugmentError::Parameters {
        op: op.into(),
        reason: format!("p = {p:?}, expected a probability 0 to 1"),
    })
}

/// Checks that the side of a crop is at least one pixel.
pub(super) fn check_side(op: &str, size: u32) -> Result<(), AugmentError> {
    if size > 0 {
        return Ok(());
    }
    Err(AugmentError::Parameters { op: op.into(), reason: "size = 0, expected at least 1 pixel".into() })
}
