//! Photos as input of the network.

use std::path::Path;

use anyhow::Context;
use fovea_datasets::photo::{Filter, Fit, Orientation, Shaper};
use fovea_datasets::prepare::Preparation;
use fovea_files::read_regular;
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
    /// For the network of a run with this recipe. Photos are turned and resized like those of the run's
    /// [data set](preparation_of).
    pub fn for_run(run: &Path, recipe: &Recipe, views: EvalCrops) -> anyhow::Result<Self> {
        let (orientation, fit, filter) = preparation_of(run)?;
        let image_px = recipe.input.image_px as u32;
        Ok(Self { image_px, orientation, fit, filter, crop: crop_size(recipe), views })
    }

    /// The views of a photo, `u8 [V,3,H,W]`.
    pub fn views_of(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let read = || format!("cannot read {}", path.display());
        let bytes = read_regular(path).with_context(read)?;
        let (planes, size) = Shaper::new(self.image_px, self.fit, self.filter)
            .planes_of(&bytes, self.orientation)
            .with_context(|| format!("cannot decode {}", path.display()))?;

        let mut scratch = Scratch::default();
        let mut rows = vec![0; self.views.count() * 3 * self.crop.area()];
        for (index, row) in rows.chunks_exact_mut(3 * self.crop.area()).enumerate() {
            let mut view = View::planar(&planes, size, &mut scratch);
            self.views.apply(index, self.crop, &mut view);
            view.write_u8(row);
        }
        Ok(rows)
    }
}

/// How the photos of a run's data set were turned and resized, as recorded in the run; by default if there is
/// no record.
pub fn preparation_of(run: &Path) -> anyhow::Result<(Orientation, Fit, Filter)> {
    Ok(match Preparation::read(run)? {
        Some(preparation) => (preparation.orientation, preparation.resize, preparation.filter),
        None => Default::default(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A TIFF file of 2×1 pixels, black and white, which is to be turned by 90 degrees.
    fn turned_file() -> Vec<u8> {
        let mut file = b"II*\0\x0e\0\0\0\0\0\0\xff\xff\xff\x08\0".to_vec();
        for (tag, value) in
            [(256, 2), (257, 1), (258, 8), (262, 2), (273, 8), (274, 6), (277, 3), (279, 6u32)]
        {
            file.extend([u16::to_le_bytes(tag), 3u16.to_le_bytes()].concat());
            file.extend([1, value].map(u32::to_le_bytes).concat());
        }
        file.extend([0; 4]);
        file
    }

    #[test]
    fn photos_are_turned_as_those_of_the_data_set_were() {
        let run = tempfile::tempdir().unwrap();
        let photo = run.path().join("photo.tif");
        fs::write(&photo, turned_file()).unwrap();
        let recipe = Recipe::load("demo", &[]).unwrap();
        let preparation = |orientation: &str| {
            format!(
                r#"{{"format-version":1,"writer":"","source":"","train-images":1,"val-images":0,"listing":"",
                "size":28,"resize":"squash","filter":"bilinear","encoding":"raw","quality":null,"seed":0,
                "shard-size":1,"limit-per-class":null{orientation}}}"#
            )
        };
        for (orientation, is_turned) in
            [("", false), (r#","orientation":"ignore""#, false), (r#","orientation":"apply""#, true)]
        {
            fs::write(run.path().join("preparation.json"), preparation(orientation)).unwrap();
            let input = PhotoInput::for_run(run.path(), &recipe, EvalCrops::Center).unwrap();
            let views = input.views_of(&photo).unwrap();
            let width = input.crop.width as usize;
            let red = &views[..input.crop.area()];
            let corners = (red[0], red[width - 1], red[red.len() - width]);
            // It is turned clockwise: the left side becomes the upper one.
            assert_eq!(corners, if is_turned { (0, 0, 255) } else { (0, 255, 0) }, "{orientation}");
        }
    }
}
