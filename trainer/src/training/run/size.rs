//! Training images of another size after some epochs.

use std::time::Duration;

use super::Run;
use crate::training::TrainingError;

/// How long the processes wait for each other to be ready for images of another size.
const TO_RESIZE: Duration = Duration::from_secs(300);

impl Run<'_> {
    /// Prepares the backend for the training images of this epoch, if they have another size.
    pub fn resize(&mut self) -> Result<(), TrainingError> {
        let px = self.recipe.training_px(self.meta.epoch);
        if px != self.training_px {
            self.backend.set_training_px(px)?;
            self.training_px = px;
            self.ranks.wait_for(TO_RESIZE);
        }
        if !self.recipe.augmentation.sizes.is_empty() {
            self.observer.training_on(self.meta.epoch + 1, px);
        }
        Ok(())
    }
}
