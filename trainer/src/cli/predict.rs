//! `predict`: what is on photos.

use std::{fs, path::Path, process::ExitCode};

use anyhow::Context;
use fovea_datasets::photo::{Filter, Fit, Photo, PhotoFile, Shaper, to_planes};
use fovea_pipeline::{
    TestViews,
    view::{Scratch, Size, View},
};
use fovea_trainer::{
    backend::{Precision, Setup, TrainingBackend},
    training::{Trained, average, crop_size, probabilities},
};
use serde_json::json;

use super::{args::PredictArgs, device, percent};

/// Answers that are printed.
const ANSWERS: usize = 5;

pub fn predict(args: &PredictArgs) -> anyhow::Result<ExitCode> {
    let trained = Trained::load(&args.trained.run, args.trained.checkpoint.into())?;
    let Trained { recipe, mean, state, meta, .. } = trained;
    let views = args.views.views();
    let mut eye = Eye { image_px: recipe.input.image_px as u32, crop: crop_size(&recipe), views };
    // All are read before anything is computed: a mistyped name is told at once.
    let images = args.images.iter().map(|path| eye.look_at(path)).collect::<anyhow::Result<Vec<_>>>()?;

    let classes = meta.classes.len();
    let setup = Setup { recipe: &recipe, classes, batch_rows: views.count(), mean: &mean, seed: 0 };
    let mut backend = device::backend(&args.device, &setup, Precision::F32)?;
    backend.import(state)?;
    let mut printed = Vec::new();
    for (path, rows) in args.images.iter().zip(images) {
        let answers = eye.answers(&mut *backend, &rows, classes)?;
        let best = answers
            .iter()
            .take(ANSWERS)
            .map(|&(class, probability)| (&meta.classes[class], &meta.class_names[class], probability));
        if args.json {
            let best: Vec<_> = best
                .map(|(id, name, probability)| json!({ "class": id, "name": name, "probability": probability }))
                .collect();
            printed.push(json!({ "image": path, "answers": best }));
            continue;
        }
        println!("{}", path.display());
        for (id, name, probability) in best {
            println!("  {:>7}  {name}  ({id})", percent(probability));
        }
    }
    if args.json {
        println!("{}", serde_json::Value::from(printed));
    }
    Ok(ExitCode::SUCCESS)
}

/// Turns photos into what the network sees, as preparation and evaluation do.
struct Eye {
    image_px: u32,
    crop: Size,
    views: TestViews,
}

impl Eye {
    /// The views of a photo, `u8 [V,3,H,W]`.
    fn look_at(&mut self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut photo = Photo::default();
        PhotoFile::parse(&bytes)
            .and_then(|file| file.decode(&mut photo))
            .with_context(|| format!("cannot decode {}", path.display()))?;
        let mut shaper = Shaper::new(self.image_px, Fit::ShortSide, Filter::Lanczos3);
        let square = shaper.shape(photo.width, photo.height, &photo.rgb);
        let mut planes = vec![0; square.len()];
        to_planes(square, &mut planes);

        let mut scratch = Scratch::default();
        let mut rows = vec![0; self.views.count() * 3 * self.crop.area()];
        for (index, row) in rows.chunks_exact_mut(3 * self.crop.area()).enumerate() {
            let mut view = View::planar(&planes, Size::square(self.image_px), &mut scratch);
            self.views.apply(index, self.crop, &mut view);
            view.write_u8(row);
        }
        Ok(rows)
    }

    /// Classes and their probabilities, the best first.
    fn answers(
        &self,
        backend: &mut dyn TrainingBackend,
        rows: &[u8],
        classes: usize,
    ) -> anyhow::Result<Vec<(usize, f64)>> {
        // The labels only matter for the sums, which nobody looks at.
        let labels = vec![0; self.views.count()];
        let (all, _) = probabilities(backend, rows, &labels, self.crop, classes)?;
        let mut answers: Vec<_> = average(&all, classes).into_iter().enumerate().collect();
        answers.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(answers)
    }
}
