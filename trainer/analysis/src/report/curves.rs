//! Figures of the metrics.

use fovea_pipeline::augment::{ColorJitter, HorizontalFlip, PcaJitter, RandomCrop, RandomResizedCrop};
use fovea_trainer::metrics::{Epoch, Step};
use fovea_trainer::recipe::{Loss, Measure, Recipe};

use super::record::{Positions, Record};
use super::section::{Figure, Section};
use crate::figure::{Axis, Color, Level, LineChart, Mark, Series, significant};

/// Parts over which the updates of a run are averaged, for the resolution of a chart.
const BINS: usize = 120;
/// Number of classes from which the top-5 error is meaningful.
const CLASSES_FOR_TOP5: usize = 6;
/// Smallest end of the axis of waiting, so that little waiting looks like little.
const WAITING_SHOWN: f64 = 0.1;

/// Loss and error.
pub(super) fn learning(record: &Record) -> Section {
    let mut section = Section { title: "Learning", ..Section::default() };
    if record.steps.is_empty() && record.epochs.is_empty() {
        section.omissions.push("loss, error and speed: the run has recorded no update yet".into());
        return section;
    }
    let timeline = Timeline::new(record);
    section.figures.push(loss(&timeline));
    section.figures.push(error(&timeline));
    section
}

/// Images per second and waiting for data.
pub(super) fn speed(record: &Record) -> Section {
    let mut section = Section { title: "Speed", ..Section::default() };
    if !record.steps.is_empty() {
        let timeline = Timeline::new(record);
        section.figures.push(images_per_s(&timeline));
        section.figures.push(data_wait(&timeline));
    }
    section
}

/// A run with the horizontal axis of all curves.
struct Timeline<'a> {
    record: &'a Record,
    x: Axis,
    positions: Positions,
}

impl<'a> Timeline<'a> {
    fn new(record: &'a Record) -> Self {
        let positions = record.positions();
        let title = match positions {
            Positions::Epochs(_) => "epochs",
            Positions::Updates(_) => "updates",
        };
        let epochs = record.epochs.iter().map(|epoch| f64::from(epoch.epoch));
        let end = positions.values().iter().copied().chain(epochs).fold(0.0, f64::max);
        Self { record, x: Axis::whole(title).from_zero().reaching(end), positions }
    }

    fn per_step(&self, value: impl Fn(&Step) -> f64) -> Vec<(f64, f64)> {
        self.positions.values().iter().zip(&self.record.steps).map(|(&at, step)| (at, value(step))).collect()
    }

    fn per_epoch(&self, value: impl Fn(&Epoch) -> f64) -> Vec<(f64, f64)> {
        self.record.epochs.iter().map(|epoch| (f64::from(epoch.epoch), value(epoch))).collect()
    }

    /// Marks where the learning rate changes.
    fn rate_marks(&self) -> Vec<Mark> {
        let rates = self.per_step(|step| step.lr);
        let rates = if rates.is_empty() { self.per_epoch(|epoch| epoch.lr) } else { rates };
        let changes = rates.windows(2).filter(|pair| pair[0].1 != pair[1].1);
        // The rate of an update applies from the end of the one before.
        changes
            .map(|pair| Mark { at: pair[0].0, label: format!("rate {}", significant(pair[1].1, 4)) })
            .collect()
    }

    fn chart(&self, title: &str, series: Vec<Series>, y: Axis) -> LineChart {
        LineChart { title: title.into(), series, ..LineChart::new(self.x.clone(), y) }
    }

    /// The name of the evaluation after an epoch.
    fn evaluation(&self) -> &'static str {
        if self.record.has_validation() { "validation" } else { "training images, after the epoch" }
    }
}

fn loss(timeline: &Timeline<'_>) -> Figure {
    let record = timeline.record;
    let losses = record.steps.iter().map(|step| step.loss);
    let losses: Vec<f64> = losses.chain(record.epochs.iter().map(|epoch| epoch.val_loss)).collect();
    let cut_at = record
        .loss_limit()
        .filter(|&limit| losses.iter().any(|&loss| loss > limit) && losses.iter().any(|&loss| loss <= limit));
    // `f64::min` would turn NaN into the limit.
    let cut = |loss: f64| cut_at.filter(|&limit| loss > limit).unwrap_or(loss);
    let mut series =
        vec![Series::binned("training batches", &timeline.per_step(|step| cut(step.loss)), BINS)];
    if !record.epochs.is_empty() {
        series.push(Series::new(timeline.evaluation(), timeline.per_epoch(|epoch| cut(epoch.val_loss))));
    }
    let chance = record.classes().map(|classes| (classes as f64).ln());
    // A level far above the curves would flatten them.
    let highest = series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max);
    let levels = chance.filter(|chance| *chance < 1.4 * highest);
    let label = |at| format!("chance: {}", significant(at, 4));
    let levels = levels.map(|at| Level { at, label: label(at) }).into_iter().collect();

    let mut caption = vec![changes_in_training(record)];
    if !series[0].band.is_empty() {
        caption.push("The band spans the least to the greatest batch loss.".into());
    }
    caption.extend(cut_at.map(|limit| format!("Losses above {} are cut off there.", significant(limit, 3))));
    caption.retain(|sentence| !sentence.is_empty());
    let chart = LineChart {
        marks: timeline.rate_marks(),
        levels,
        ..timeline.chart("Loss", series, Axis::linear("cross-entropy, nats").from_zero())
    };
    Figure { name: "loss", svg: chart.svg(), caption: caption.join(" ") }
}

/// Sentences about random changes in training only, and why the validation loss can be lower.
fn changes_in_training(record: &Record) -> String {
    let training = match (augmentations(&record.recipe), record.has_dropout) {
        (Some(changes), true) => format!("are randomly {changes}, and dropout is active"),
        (Some(changes), false) => format!("are randomly {changes}"),
        (None, true) => "are seen with dropout".into(),
        (None, false) => String::new(),
    };
    let evaluated = !record.epochs.is_empty();
    let mut caption = match (training.is_empty(), evaluated && record.has_validation()) {
        (true, _) => String::new(),
        (false, true) => {
            format!("In training, images {training}; validation has none of this, so its loss can be lower.")
        }
        (false, false) => format!("In training, images {training}."),
    };
    if evaluated && !record.has_validation() {
        caption.push_str(" The data set has no validation images: the evaluation uses the training images");
        caption.push_str(if training.is_empty() { "." } else { " without these changes." });
    }
    caption.trim().to_owned()
}

/// The random augmentations of the recipe, in words.
fn augmentations(recipe: &Recipe) -> Option<String> {
    let has = |ops: &[&str]| recipe.augmentation.train.iter().any(|step| ops.contains(&step.op.as_str()));
    let words: Vec<&str> = [
        (has(&[RandomCrop::OP, RandomResizedCrop::OP]), "cropped"),
        (has(&[HorizontalFlip::OP]), "flipped"),
        (has(&[PcaJitter::OP, ColorJitter::OP]), "coloured"),
    ]
    .into_iter()
    .filter_map(|(is_done, word)| is_done.then_some(word))
    .collect();
    let (last, before) = words.split_last()?;
    Some(if before.is_empty() { (*last).to_owned() } else { format!("{} and {last}", before.join(", ")) })
}

fn error(timeline: &Timeline<'_>) -> Figure {
    let record = timeline.record;
    let training = |name: &str, value: fn(&Step) -> f64, color| {
        let mut series = Series::binned(name, &timeline.per_step(value), BINS / 2);
        series.band.clear();
        Series { dashed: true, color: Some(color), ..series }
    };
    let evaluation = |name: &str, value: fn(&Epoch) -> f64, color| Series {
        color: Some(color),
        ..Series::new(format!("{name}, {}", timeline.evaluation()), timeline.per_epoch(value))
    };
    let (one, five) = (Color::Series(0), Color::Series(1));
    let loss = record.recipe.training.loss;
    let [first, second] = loss.measures();
    let short = |measure: Measure| measure.name.trim_end_matches(" error").to_owned();
    let mut series = vec![training(&format!("{}, training", short(first)), |step| step.top1, one)];
    if !record.epochs.is_empty() {
        series.push(evaluation(&short(first), |epoch| epoch.val_top1, one));
    }
    let mut caption = first.meaning.to_owned();
    if loss != Loss::CrossEntropy || record.classes().is_none_or(|classes| classes >= CLASSES_FOR_TOP5) {
        series.push(training(&format!("{}, training", short(second)), |step| step.top5, five));
        if !record.epochs.is_empty() {
            series.push(evaluation(&short(second), |epoch| epoch.val_top5, five));
        }
        caption = format!("{caption} {}", second.meaning);
    }
    let axis = if first.is_share { Axis::percent("share of images") } else { Axis::linear("error") };
    let chart =
        LineChart { marks: timeline.rate_marks(), ..timeline.chart("Error", series, axis.from_zero()) };
    Figure { name: "error", svg: chart.svg(), caption }
}

fn images_per_s(timeline: &Timeline<'_>) -> Figure {
    let series = vec![Series::binned("", &timeline.per_step(|step| step.images_per_s), BINS)];
    let chart = timeline.chart("Images per second", series, Axis::linear("images/s").from_zero());
    Figure {
        name: "speed",
        svg: chart.svg(),
        caption: "Training images per second, without evaluation.".into(),
    }
}

fn data_wait(timeline: &Timeline<'_>) -> Figure {
    let series = vec![Series::binned("", &timeline.per_step(|step| step.data_wait), BINS)];
    let y = Axis::percent("share of the time").from_zero().reaching(WAITING_SHOWN);
    let caption = "A large share means that the loader cannot keep up: more workers, raw shards or a faster disk would help.";
    Figure {
        name: "data-wait",
        svg: timeline.chart("Waiting for data", series, y).svg(),
        caption: caption.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{DataFacts, examples, has_dropout};
    use super::*;

    fn epoch(epoch: u32, val_loss: f64) -> Epoch {
        Epoch {
            epoch,
            step: 0,
            lr: 0.01,
            train_loss: 1.0,
            train_top1: 0.5,
            train_top5: 0.25,
            val_loss,
            val_top1: 0.4,
            val_top5: 0.2,
            images_per_s: 10.0,
            data_wait: 0.0,
            seconds: 60.5,
        }
    }

    fn data(val_images: u64) -> Option<DataFacts> {
        Some(DataFacts { classes: 10, train_images: 640, val_images })
    }

    fn record_of(name: &str) -> Record {
        let recipe = Recipe::load(name, &[]).unwrap();
        let has_dropout = has_dropout(&recipe);
        Record { recipe, has_dropout, epochs: vec![epoch(1, 1.0)], ..examples::record(&[(1, 2.0), (2, 1.0)]) }
    }

    #[test]
    fn the_caption_names_the_changes_to_training_images() {
        let caption = changes_in_training(&record_of("alexnet"));
        assert!(
            caption.starts_with(
                "In training, images are randomly cropped, flipped and coloured, and dropout is active; "
            ),
            "{caption}"
        );
        let mut plain = record_of("alexnet-no-dropout");
        plain.recipe.augmentation.train.clear();
        assert_eq!(changes_in_training(&plain), "");
        let mut started = record_of("alexnet");
        started.epochs.clear();
        assert!(!changes_in_training(&started).contains("validation"));
    }

    #[test]
    fn without_validation_images_the_evaluation_is_not_called_validation() {
        let record = Record { data: data(0), ..record_of("demo") };
        let section = learning(&record);
        let [loss, error] = section.figures.as_slice() else { panic!("{section:?}") };
        assert!(!loss.svg.body.contains("validation") && !error.svg.body.contains("validation"));
        assert!(loss.caption.contains("has no validation images: the evaluation uses the training images"));
    }

    #[test]
    fn the_caption_explains_a_band_only_if_there_is_one() {
        assert!(!loss(&Timeline::new(&record_of("demo"))).caption.contains("band"));
        let steps: Vec<(u32, f64)> = (0..300).map(|step| (1, f64::from(step % 3))).collect();
        let record = examples::record(&steps);
        assert!(loss(&Timeline::new(&record)).caption.contains("band"));
    }

    #[test]
    fn a_loss_that_grew_without_bounds_is_cut_off_and_the_caption_says_so() {
        let mut record = examples::record(&[(1, 2.3), (1, 1.0), (2, 1e12)]);
        (record.data, record.epochs) = (data(10), vec![epoch(1, f64::INFINITY)]);
        let figure = loss(&Timeline::new(&record));
        assert!(figure.caption.ends_with("Losses above 6.91 are cut off there."), "{}", figure.caption);
        assert!(figure.svg.body.contains(">8</text>") && !figure.svg.body.contains("10¹²"), "{}", figure.svg);
        let record = Record { epochs: Vec::new(), ..examples::record(&[(1, 1e12), (1, 2e12)]) };
        let record = Record { data: data(10), ..record };
        assert!(!loss(&Timeline::new(&record)).caption.contains("cut off"), "all losses are above");
    }

    #[test]
    fn all_curves_span_the_same_epochs_and_little_waiting_looks_like_little() {
        let record =
            Record { epochs: vec![epoch(1, 1.0), epoch(4, 1.0)], ..examples::record(&[(1, 2.0), (2, 1.0)]) };
        let figures = [learning(&record).figures, speed(&record).figures].concat();
        assert_eq!(figures.len(), 4);
        for figure in &figures {
            assert!(figure.svg.body.contains(">4</text>"), "{}: {}", figure.name, figure.svg);
        }
        assert!(figures[3].svg.body.contains(">10 %</text>"), "{}", figures[3].svg);
    }
}
