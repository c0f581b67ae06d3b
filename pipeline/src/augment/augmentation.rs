//! What every augmentation is.

use std::fmt::Debug;

use super::AugmentError;
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// One step of an augmentation.
pub trait Augmentation: Send + Sync + Debug {
    /// The size of the view after [`apply`](Self::apply), given its size before.
    ///
    /// # Errors
    /// [`AugmentError::TooSmall`], for instance, when it cannot be applied to a view of size `input`.
    fn output_size(&self, input: Size) -> Result<Size, AugmentError>;

    /// Changes the view with draws from `rng`.
    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng);
}
