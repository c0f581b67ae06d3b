//! Figures of the network's predictions (figure 4 of the paper).

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fovea_pipeline::DatasetError;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::summary::short_percent;
use fovea_pipeline::{Dataset, Records, Split};
use fovea_runtime::OnnxRuntime;
use fovea_trainer::backend::{BackendError, OrtOptions};
use fovea_trainer::recipe::Loss;
use fovea_trainer::training::{TrainedModel, TrainingError, check_images, check_labels};

use super::confusion::{Confusion, some_of};
use super::saliency::Saliency;
use super::section::{Figure, Section};
use crate::features::{Extractor, ImageReader, Nearest, spread};
use crate::figure::{Bar, Cell, Color, Picture, Pictures, Row};

/// Images whose predictions are shown, and images per row.
const IMAGES: usize = 8;
const IMAGES_PER_ROW: usize = 4;
/// Classes that are shown for each image.
const CLASSES: usize = 5;
/// Images whose neighbours are shown, and number of neighbours.
const QUERIES: usize = 5;
const NEIGHBOURS: usize = 6;
/// Images that are in memory at a time.
const CHUNK: usize = 256;

/// Why figures are missing in an interrupted report.
const INTERRUPTED: &str = "interrupted";

/// Loads ONNX Runtime.
pub type OpenRuntime<'a> = dyn FnMut() -> Result<(&'static OnnxRuntime, OrtOptions), BackendError> + 'a;

/// Predictions, neighbours and confusion; omissions are listed with their reasons. Stops early once `stop` is
/// set.
pub(super) fn section(
    trained: TrainedModel,
    dataset: Result<Dataset, String>,
    images: usize,
    runtime: &mut OpenRuntime<'_>,
    stop: &AtomicBool,
) -> Section {
    let mut section = Section { title: "Predictions", ..Section::default() };
    if let Err(reason) = fill(&mut section, trained, dataset, images, runtime, stop) {
        section.omissions.push(format!("predictions of images: {reason}"));
    }
    section
}

fn fill(
    section: &mut Section,
    trained: TrainedModel,
    dataset: Result<Dataset, String>,
    images: usize,
    runtime: &mut OpenRuntime<'_>,
    stop: &AtomicBool,
) -> Result<(), String> {
    if trained.recipe.training.loss != Loss::CrossEntropy {
        return Err("they are shown where each image is of one class".to_owned());
    }
    let text = |error: &dyn Error| error.to_string();
    let dataset = dataset?;
    check_images(&dataset, &trained.recipe)
        .and_then(|()| check_labels(&dataset, &trained.recipe))
        .map_err(|error| text(&error))?;
    let wnids: Vec<&str> = dataset.info().classes.iter().map(|class| class.wnid.as_str()).collect();
    trained.meta.check_classes(&wnids).map_err(|error| text(&error))?;
    let layer = trained.network.network.last_hidden();
    let names: Vec<String> = trained.meta.class_names.iter().map(|name| short(name)).collect();
    let (loaded, options) = runtime().map_err(|error| text(&error))?;
    let saliency = Saliency::new(&trained, loaded, &options);
    let extractor =
        Extractor::new(trained, layer.as_deref(), loaded, &options).map_err(|error| text(&error))?;
    let mut predictor = Predictor { extractor, names, stop };

    let (tested, split) = match records(&dataset, Split::Val) {
        Ok(records) => (records, "validation"),
        Err(DatasetError::Empty { .. }) => {
            (records(&dataset, Split::Train).map_err(|error| text(&error))?, "training")
        }
        Err(error) => return Err(text(&error)),
    };
    let mut tested = ImageReader::new(tested);
    let chosen = spread(images, tested.records().len());
    section.figures.push(predictor.predictions(&mut tested, &chosen, split).map_err(|error| text(&error))?);
    match saliency.and_then(|saliency| predictor.saliency(saliency, &mut tested, &chosen, split)) {
        Ok(figure) => section.figures.push(figure),
        Err(error) => section.omissions.push(format!("saliency maps: {error}")),
    }
    match (layer, records(&dataset, Split::Train)) {
        (Some(layer), Ok(train)) => {
            let (mut train, from) = (ImageReader::new(train), (&chosen[..], split));
            let neighbours = predictor.neighbours(&mut tested, from, &mut train, images, &layer);
            section.figures.push(neighbours.map_err(|error| text(&error))?.ok_or(INTERRUPTED)?);
        }
        (None, _) => {
            section.omissions.push("nearest training images: the network has no hidden layer".into())
        }
        (_, Err(error)) => section.omissions.push(format!("nearest training images: {error}")),
    }
    let confusion =
        predictor.confusion(&mut tested, &chosen).map_err(|error| text(&error))?.ok_or(INTERRUPTED)?;
    match confusion.figure(&predictor.names, tested.records().len(), split) {
        Ok(figure) => section.figures.push(figure),
        Err(reason) => section.omissions.push(format!("confusion of classes: {reason}")),
    }
    Ok(())
}

fn records(dataset: &Dataset, split: Split) -> Result<Arc<Records>, DatasetError> {
    dataset.records(split).map(Arc::new)
}

/// The first name of a class.
fn short(name: &str) -> String {
    name.split(',').next().unwrap_or(name).trim().to_owned()
}

/// A network with the names of its classes.
struct Predictor<'a> {
    extractor: Extractor,
    names: Vec<String>,
    stop: &'a AtomicBool,
}

impl Predictor<'_> {
    fn name(&self, label: i64) -> &str {
        usize::try_from(label).ok().and_then(|label| self.names.get(label)).map_or("?", String::as_str)
    }

    /// The centre crop of an image, with the name of its class.
    fn cell(&self, reader: &mut ImageReader, index: usize) -> Result<Cell, TrainingError> {
        let Size { width, height } = self.extractor.crop();
        let planes = reader.center(index, self.extractor.crop())?;
        let name = self.name(reader.records().record(index)?.label()).to_owned();
        Ok(Cell {
            lines: vec![(name, Color::Ink)],
            ..Cell::new(Picture::from_planes(width, height, &planes))
        })
    }

    fn predictions(
        &mut self,
        reader: &mut ImageReader,
        chosen: &[usize],
        split: &str,
    ) -> Result<Figure, TrainingError> {
        let shown: Vec<usize> = spread(IMAGES, chosen.len()).into_iter().map(|at| chosen[at]).collect();
        let outputs = self.extractor.run(&reader.centers(&shown, self.extractor.crop())?)?;
        let mut cells = Vec::new();
        for (&index, probabilities) in shown.iter().zip(outputs.probabilities.chunks_exact(self.names.len()))
        {
            let label = reader.records().record(index)?.label();
            let bars = most_probable(probabilities).into_iter().map(|class| Bar {
                label: self.names[class].clone(),
                value: f64::from(probabilities[class]),
                notes: vec![short_percent(probabilities[class])],
                color: if class as i64 == label { Color::Right } else { Color::Series(0) },
            });
            cells.push(Cell { bars: bars.collect(), ..self.cell(reader, index)? });
        }
        let rows = cells.chunks(IMAGES_PER_ROW).map(|cells| Row { cells: cells.to_vec(), ..Row::default() });
        let pictures =
            Pictures { title: "Predictions".into(), side_px: 130.0, gap_px: 14.0, rows: rows.collect() };
        let caption = format!(
            "Some {split} images with their class, and the most probable classes for the centre crop; the bar of the correct \
             class is green. As the paper's figure 4, left."
        );
        Ok(Figure { name: "predictions", svg: pictures.svg(), caption })
    }

    /// Some images, and below each its saliency map.
    fn saliency(
        &mut self,
        mut saliency: Saliency,
        reader: &mut ImageReader,
        chosen: &[usize],
        split: &str,
    ) -> Result<Figure, TrainingError> {
        let shown: Vec<usize> = spread(IMAGES, chosen.len()).into_iter().map(|at| chosen[at]).collect();
        let images = reader.centers(&shown, self.extractor.crop())?;
        let (maps, logits) = saliency.maps(&images, self.extractor.crop())?;
        let mut rows = Vec::new();
        let answers: Vec<usize> =
            logits.chunks_exact(self.names.len()).map(|logits| most_probable(logits)[0]).collect();
        for at in (0..shown.len()).step_by(IMAGES_PER_ROW) {
            let row = at..(at + IMAGES_PER_ROW).min(shown.len());
            let images: Result<_, TrainingError> =
                shown[row.clone()].iter().map(|&index| self.cell(reader, index)).collect();
            rows.push(Row { cells: images?, ..Row::default() });
            let maps = row.map(|at| Cell {
                lines: vec![(format!("as {}", self.names[answers[at]]), Color::Faint)],
                ..Cell::new(maps[at].clone())
            });
            rows.push(Row { cells: maps.collect(), ..Row::default() });
        }
        let pictures = Pictures { title: "Saliency maps".into(), side_px: 130.0, gap_px: 14.0, rows };
        let caption = format!(
            "Some {split} images with their class, and below each how much the logit of the most probable class depends on each              pixel: the derivative, the largest of three colours (Simonyan, Vedaldi, Zisserman 2013). The brightest hundredth              is white."
        );
        Ok(Figure { name: "saliency", svg: pictures.svg(), caption })
    }

    fn neighbours(
        &mut self,
        tested: &mut ImageReader,
        (chosen, split): (&[usize], &str),
        train: &mut ImageReader,
        images: usize,
        layer: &str,
    ) -> Result<Option<Figure>, TrainingError> {
        let (crop, width) = (self.extractor.crop(), self.extractor.width());
        let queries: Vec<usize> = spread(QUERIES, chosen.len()).into_iter().map(|at| chosen[at]).collect();
        let outputs = self.extractor.run(&tested.centers(&queries, crop)?)?;
        let mut nearest: Vec<Nearest> = outputs
            .features
            .chunks_exact(width)
            .map(|query| Nearest::new(query.to_vec(), NEIGHBOURS))
            .collect();
        let candidates = spread(images, train.records().len());
        for (chunk, indices) in candidates.chunks(CHUNK).enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let outputs = self.extractor.run(&train.centers(indices, crop)?)?;
            nearest.iter_mut().for_each(|nearest| nearest.offer(chunk * CHUNK, &outputs.features));
        }
        let mut rows = Vec::new();
        for (&query, nearest) in queries.iter().zip(&nearest) {
            let mut cells = vec![Cell { frame: Some(Color::Series(0)), ..self.cell(tested, query)? }];
            for found in nearest.found() {
                let mut cell = self.cell(train, candidates[found.index])?;
                cell.lines.push((format!("{:.1}", found.distance), Color::Faint));
                cells.push(cell);
            }
            rows.push(Row { cells, ..Row::default() });
        }
        let pictures = Pictures { title: "Nearest training images".into(), side_px: 74.0, gap_px: 8.0, rows };
        let among = some_of(candidates.len(), train.records().len());
        let caption = format!(
            "Left, framed: {split} images. To their right: the nearest of {among} training images, with the Euclidean \
             distance between the activations of {layer} ({width} values). As the paper's figure 4, right."
        );
        Ok(Some(Figure { name: "nearest", svg: pictures.svg(), caption }))
    }

    fn confusion(
        &mut self,
        reader: &mut ImageReader,
        chosen: &[usize],
    ) -> Result<Option<Confusion>, TrainingError> {
        let mut confusion = Confusion::default();
        for indices in chosen.chunks(CHUNK) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let outputs = self.extractor.run(&reader.centers(indices, self.extractor.crop())?)?;
            for (&index, probabilities) in
                indices.iter().zip(outputs.probabilities.chunks_exact(self.names.len()))
            {
                let label = reader.records().record(index)?.label();
                if let (Ok(label), Some(&prediction)) =
                    (usize::try_from(label), most_probable(probabilities).first())
                {
                    confusion.count(label, prediction);
                }
            }
        }
        Ok(Some(confusion))
    }
}

/// The classes with the highest probabilities, the highest first.
fn most_probable(probabilities: &[f32]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..probabilities.len()).collect();
    classes.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    classes.truncate(CLASSES);
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_classes_come_first_and_are_at_most_five() {
        assert_eq!(most_probable(&[0.1, 0.4, 0.05, 0.2, 0.15, 0.1]), [1, 3, 4, 0, 5]);
        assert_eq!(most_probable(&[0.3, 0.7]), [1, 0]);
    }

    #[test]
    fn the_first_of_several_names_is_shown() {
        assert_eq!(short("tench, Tinca tinca"), "tench");
    }
}
