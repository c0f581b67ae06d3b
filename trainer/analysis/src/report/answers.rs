//! Figures of what the network says of images (figure 4 of the paper).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fovea_pipeline::dataset::DatasetError;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::{Dataset, Records, Split};
use fovea_trainer::training::{Trained, TrainingError, open_dataset};

use super::confusion::{Confusion, some_of};
use super::{Figure, OpenRuntime, Section};
use crate::features::{Extractor, Gallery, Nearest, last_hidden, spread};
use crate::figure::{Bar, Cell, Color, Picture, Pictures, Row};

/// Images whose answers are shown, and how many stand in a row.
const PREDICTIONS: usize = 8;
const PREDICTIONS_PER_ROW: usize = 4;
/// Answers that are shown for each.
const ANSWERS: usize = 5;
/// Images whose neighbours are shown, and how many neighbours.
const QUERIES: usize = 5;
const NEIGHBOURS: usize = 6;
/// Images that are read and looked at at once.
const CHUNK: usize = 256;

/// Why the rest is missing of a report that was interrupted.
const INTERRUPTED: &str = "interrupted";

/// Answers, neighbours, confusion; what cannot be had is left out with the reason, and all that follows once `stop` is set.
pub(super) fn section(
    trained: Trained,
    data: Option<&Path>,
    images: usize,
    runtime: &mut OpenRuntime<'_>,
    stop: &AtomicBool,
) -> Section {
    let mut section = Section { title: "What it says", ..Section::default() };
    if let Err(reason) = fill(&mut section, trained, data, images, runtime, stop) {
        section.left_out.push(format!("answers to images: {reason}"));
    }
    section
}

fn fill(
    section: &mut Section,
    trained: Trained,
    data: Option<&Path>,
    images: usize,
    runtime: &mut OpenRuntime<'_>,
    stop: &AtomicBool,
) -> Result<(), String> {
    let told = |error: &dyn std::error::Error| error.to_string();
    let data = data.ok_or("the run does not tell its data set; name one with --data")?;
    let dataset = open_dataset(data, &trained.recipe).map_err(|error| told(&error))?;
    let wnids: Vec<&str> = dataset.info().classes.iter().map(|class| class.wnid.as_str()).collect();
    trained.meta.check_classes(&wnids).map_err(|error| told(&error))?;
    let layer = last_hidden(&trained.recipe).map(str::to_owned);
    let names: Vec<String> = trained.meta.class_names.iter().map(|name| short(name)).collect();
    let (loaded, options) = runtime().map_err(|error| told(&error))?;
    let extractor =
        Extractor::new(trained, layer.as_deref(), loaded, &options).map_err(|error| told(&error))?;
    let mut viewer = Viewer { extractor, names, stop };

    let (tested, split) = match records(&dataset, Split::Val) {
        Ok(records) => (records, "validation"),
        Err(DatasetError::Empty { .. }) => {
            (records(&dataset, Split::Train).map_err(|error| told(&error))?, "training")
        }
        Err(error) => return Err(told(&error)),
    };
    let mut tested = Gallery::new(tested);
    let asked = spread(images, tested.records().len());
    section.figures.push(viewer.predictions(&mut tested, &asked, split).map_err(|error| told(&error))?);
    match (layer, records(&dataset, Split::Train)) {
        (Some(layer), Ok(train)) => {
            let (mut train, from) = (Gallery::new(train), (&asked[..], split));
            let neighbours = viewer.neighbours(&mut tested, from, &mut train, images, &layer);
            section.figures.push(neighbours.map_err(|error| told(&error))?.ok_or(INTERRUPTED)?);
        }
        (None, _) => {
            section.left_out.push("nearest training images: the recipe names no hidden layer".into())
        }
        (_, Err(error)) => section.left_out.push(format!("nearest training images: {error}")),
    }
    let confusion =
        viewer.confusion(&mut tested, &asked).map_err(|error| told(&error))?.ok_or(INTERRUPTED)?;
    match confusion.figure(&viewer.names, tested.records().len(), split) {
        Ok(figure) => section.figures.push(figure),
        Err(reason) => section.left_out.push(format!("confusion of classes: {reason}")),
    }
    Ok(())
}

fn records(dataset: &Dataset, split: Split) -> Result<Arc<Records>, DatasetError> {
    dataset.records(split).map(Arc::new)
}

/// The first of a class's names.
fn short(name: &str) -> String {
    name.split(',').next().unwrap_or(name).trim().to_owned()
}

/// The network and what its classes are called.
struct Viewer<'a> {
    extractor: Extractor,
    names: Vec<String>,
    stop: &'a AtomicBool,
}

impl Viewer<'_> {
    fn name(&self, label: i64) -> &str {
        usize::try_from(label).ok().and_then(|label| self.names.get(label)).map_or("?", String::as_str)
    }

    /// An image as the network sees it, with the name of its class.
    fn cell(&self, gallery: &mut Gallery, index: usize) -> Result<Cell, TrainingError> {
        let Size { width, height } = self.extractor.crop();
        let planes = gallery.center(index, self.extractor.crop())?;
        let name = self.name(gallery.records().record(index).label).to_owned();
        Ok(Cell {
            lines: vec![(name, Color::Ink)],
            ..Cell::new(Picture::from_planes(width, height, &planes))
        })
    }

    fn predictions(
        &mut self,
        gallery: &mut Gallery,
        asked: &[usize],
        split: &str,
    ) -> Result<Figure, TrainingError> {
        let chosen: Vec<usize> = spread(PREDICTIONS, asked.len()).into_iter().map(|at| asked[at]).collect();
        let seen = self.extractor.look(&gallery.centers(&chosen, self.extractor.crop())?)?;
        let mut cells = Vec::new();
        for (&index, probabilities) in chosen.iter().zip(seen.probabilities.chunks_exact(self.names.len())) {
            let label = gallery.records().record(index).label;
            let bars = best(probabilities).into_iter().map(|class| Bar {
                label: self.names[class].clone(),
                value: f64::from(probabilities[class]),
                notes: vec![percent(probabilities[class])],
                color: if class as i64 == label { Color::Right } else { Color::Series(0) },
            });
            cells.push(Cell { bars: bars.collect(), ..self.cell(gallery, index)? });
        }
        let rows =
            cells.chunks(PREDICTIONS_PER_ROW).map(|cells| Row { cells: cells.to_vec(), ..Row::default() });
        let pictures =
            Pictures { title: "Answers".into(), side_px: 130.0, gap_px: 14.0, rows: rows.collect() };
        let caption = format!(
            "Some {split} images with their class, and the network's best answers to the centre view; the bar of the right one is green. \
             As the paper's figure 4, left."
        );
        Ok(Figure { name: "answers", svg: pictures.svg(), caption })
    }

    fn neighbours(
        &mut self,
        tested: &mut Gallery,
        (asked, split): (&[usize], &str),
        train: &mut Gallery,
        images: usize,
        layer: &str,
    ) -> Result<Option<Figure>, TrainingError> {
        let (crop, width) = (self.extractor.crop(), self.extractor.width());
        let queries: Vec<usize> = spread(QUERIES, asked.len()).into_iter().map(|at| asked[at]).collect();
        let seen = self.extractor.look(&tested.centers(&queries, crop)?)?;
        let mut nearest: Vec<Nearest> =
            seen.features.chunks_exact(width).map(|query| Nearest::new(query.to_vec(), NEIGHBOURS)).collect();
        let candidates = spread(images, train.records().len());
        for (chunk, indices) in candidates.chunks(CHUNK).enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let seen = self.extractor.look(&train.centers(indices, crop)?)?;
            nearest.iter_mut().for_each(|nearest| nearest.offer(chunk * CHUNK, &seen.features));
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
            "Left, in a frame, a {split} image; beside it those of {among} training images that are nearest to it by the Euclidean \
             distance between the activations of {layer} ({width} values), which stands below each. As the paper's figure 4, right."
        );
        Ok(Some(Figure { name: "nearest", svg: pictures.svg(), caption }))
    }

    fn confusion(
        &mut self,
        gallery: &mut Gallery,
        asked: &[usize],
    ) -> Result<Option<Confusion>, TrainingError> {
        let mut confusion = Confusion::default();
        for indices in asked.chunks(CHUNK) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let seen = self.extractor.look(&gallery.centers(indices, self.extractor.crop())?)?;
            for (&index, probabilities) in
                indices.iter().zip(seen.probabilities.chunks_exact(self.names.len()))
            {
                let label = gallery.records().record(index).label;
                if let (Ok(label), Some(&answer)) = (usize::try_from(label), best(probabilities).first()) {
                    confusion.count(label, answer);
                }
            }
        }
        Ok(Some(confusion))
    }
}

/// A probability in the little room beside a bar.
fn percent(probability: f32) -> String {
    let percent = 100.0 * probability;
    if percent < 0.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// The classes with the highest probabilities, the highest first.
fn best(probabilities: &[f32]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..probabilities.len()).collect();
    classes.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    classes.truncate(ANSWERS);
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_answers_come_first_and_are_at_most_five() {
        assert_eq!(best(&[0.1, 0.4, 0.05, 0.2, 0.15, 0.1]), [1, 3, 4, 0, 5]);
        assert_eq!(best(&[0.3, 0.7]), [1, 0]);
    }

    #[test]
    fn of_several_names_the_first_is_shown() {
        assert_eq!(short("tench, Tinca tinca"), "tench");
    }
}
