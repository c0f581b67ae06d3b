//! Checks of parameters that several augmentations have.

use super::AugmentError;

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
