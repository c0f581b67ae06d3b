//! Photos as input of the network.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use fovea_datasets::photo::{Filter, Fit, Orientation, Shaper};
use fovea_datasets::prepare::Preparation;
use fovea_pipeline::EvalCrops;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::view::{Scratch, View};
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::crop_size;

/// Turns photos into the network's input, as preparation and evaluation do.
pub struct PhotoInput {
    image_px: u32,
    orientation: Orientation,
    fit: Fit,
    filter: Filter,
    /// Size of a view.
    pub crop: Size,
    /// Views of each photo.
    pub views: EvalCrops,
}

impl PhotoInput {
    /// For the network of a run with this recipe. Photos are turned and made square like those of the run's data
    /// set, as recorded in the run; by default if there is no record.
    pub fn for_run(run: &Path, recipe: &Recipe, views: EvalCrops) -> anyhow::Result<Self> {
        let (orientation, fit, filter) = match Preparation::read(run)? {
            Some(preparation) => (preparation.orientation, preparation.resize, preparation.filter),
            None => Default::default(),
        };
        let image_px = recipe.input.image_px as u32;
        Ok(Self { image_px, orientation, fit, filter, crop: crop_size(recipe), views })
    }

    /// The views of a photo, `u8 [V,3,H,W]`.
    pub fn views_of(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let read = || format!("cannot read {}", path.display());
        let about = fs::metadata(path).with_context(read)?;
        ensure!(about.is_file(), "{} is no file; give an image file", path.display());
        let bytes = fs::read(path).with_context(read)?;
        let planes = Shaper::new(self.image_px, self.fit, self.filter)
            .planes_of(&bytes, self.orientation)
            .with_context(|| format!("cannot decode {}", path.display()))?;

        let mut scratch = Scratch::default();
        let mut rows = vec![0; self.views.count() * 3 * self.crop.area()];
        for (index, row) in rows.chunks_exact_mut(3 * self.crop.area()).enumerate() {
            let mut view = View::planar(&planes, Size::square(self.image_px), &mut scratch);
            self.views.apply(index, self.crop, &mut view);
            view.write_u8(row);
        }
        Ok(rows)
    }
}
