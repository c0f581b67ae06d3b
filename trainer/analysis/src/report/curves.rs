//! Figures of the metrics.

use fovea_pipeline::augment::{ColorJitter, HorizontalFlip, PcaJitter, RandomCrop, RandomResizedCrop};
use fovea_trainer::metrics::{Epoch, Step};
use fovea_trainer::recipe::{LayerKind, Recipe};

use super::record::{Places, Record};
use super::{Figure, Section};
use crate::figure::{Axis, Color, Level, LineChart, Mark, Series, significant};

/// Parts that the updates of a run are averaged over: as many as a chart can show.
const BINS: usize = 120;
/// Classes from which being among the five best answers means something.
const CLASSES_FOR_TOP5: usize = 6;
/// Waiting that an axis shows at least: less of it is no matter, and should not look like one.
const WAITING_SHOWN: f64 = 0.1;

/// Loss and error.
pub(super) fn learning(record: &Record) -> Section {
    let mut section = Section { title: "Learning", ..Section::default() };
    if record.steps.is_empty() && record.epochs.is_empty() {
        section.left_out.push("loss, error and speed: the run has recorded no update yet".into());
        return section;
    }
    let timeline = Timeline::of(record);
    section.figures.push(loss(&timeline));
    section.figures.push(error(&timeline));
    section
}

/// Images per second and waiting for data.
pub(super) fn speed(record: &Record) -> Section {
    let mut section = Section { title: "Speed", ..Section::default() };
    if !record.steps.is_empty() {
        let timeline = Timeline::of(record);
        section.figures.push(images_per_s(&timeline));
        section.figures.push(data_wait(&timeline));
    }
    section
}

/// A run along the axis that all curves share.
struct Timeline<'a> {
    record: &'a Record,
    x: Axis,
    places: Places,
}

impl<'a> Timeline<'a> {
    fn of(record: &'a Record) -> Self {
        let places = record.places();
        let title = match places {
            Places::Epochs(_) => "epochs",
            Places::Updates(_) => "updates",
        };
        let of_epochs = record.epochs.iter().map(|epoch| f64::from(epoch.epoch));
        let end = places.values().iter().copied().chain(of_epochs).fold(0.0, f64::max);
        Self { record, x: Axis::whole(title).from_zero().reaching(end), places }
    }

    fn of_steps(&self, value: impl Fn(&Step) -> f64) -> Vec<(f64, f64)> {
        self.places.values().iter().zip(&self.record.steps).map(|(&at, step)| (at, value(step))).collect()
    }

    fn of_epochs(&self, value: impl Fn(&Epoch) -> f64) -> Vec<(f64, f64)> {
        self.record.epochs.iter().map(|epoch| (f64::from(epoch.epoch), value(epoch))).collect()
    }

    /// Where the learning rate changes.
    fn rate_marks(&self) -> Vec<Mark> {
        let rates = self.of_steps(|step| step.lr);
        let rates = if rates.is_empty() { self.of_epochs(|epoch| epoch.lr) } else { rates };
        let changes = rates.windows(2).filter(|pair| pair[0].1 != pair[1].1);
        // The rate of an update holds from the one before it on.
        changes
            .map(|pair| Mark { at: pair[0].0, label: format!("rate {}", significant(pair[1].1, 4)) })
            .collect()
    }

    fn chart(&self, title: &str, series: Vec<Series>, y: Axis) -> LineChart {
        LineChart { title: title.into(), series, ..LineChart::new(self.x.clone(), y) }
    }

    /// What the curves of the evaluation after an epoch are called.
    fn evaluation(&self) -> &'static str {
        if self.record.has_validation() { "validation" } else { "evaluation" }
    }
}

fn loss(timeline: &Timeline<'_>) -> Figure {
    let record = timeline.record;
    let losses = record.steps.iter().map(|step| step.loss);
    let losses: Vec<f64> = losses.chain(record.epochs.iter().map(|epoch| epoch.val_loss)).collect();
    let cut_at = record
        .loss_limit()
        .filter(|&limit| losses.iter().any(|&loss| loss > limit) && losses.iter().any(|&loss| loss <= limit));
    // `f64::min` would make the limit of what is no number.
    let cut = |loss: f64| cut_at.filter(|&limit| loss > limit).unwrap_or(loss);
    let mut series =
        vec![Series::binned("training batches", &timeline.of_steps(|step| cut(step.loss)), BINS)];
    if !record.epochs.is_empty() {
        series.push(Series::new(timeline.evaluation(), timeline.of_epochs(|epoch| cut(epoch.val_loss))));
    }
    let chance = record.classes().map(|classes| (classes as f64).ln());
    // A level far above the curves would press them down.
    let highest = series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max);
    let levels = chance.filter(|chance| *chance < 1.4 * highest);
    let label = |at| format!("all classes alike: {}", significant(at, 4));
    let levels = levels.map(|at| Level { at, label: label(at) }).into_iter().collect();

    let mut caption = vec![what_is_done(record)];
    if !series[0].band.is_empty() {
        caption.push("The band reaches from the least to the greatest batch.".into());
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

/// What is done to training images alone, and why validation may look better.
fn what_is_done(record: &Record) -> String {
    let training = match (changes(&record.recipe), has_dropout(&record.recipe)) {
        (Some(changes), true) => format!("are {changes} at random and pass through dropout"),
        (Some(changes), false) => format!("are {changes} at random"),
        (None, true) => "pass through dropout".into(),
        (None, false) => String::new(),
    };
    let evaluated = !record.epochs.is_empty();
    let mut told = match (training.is_empty(), evaluated && record.has_validation()) {
        (true, _) => String::new(),
        (false, true) => format!(
            "Training images {training}; none of this is done to validation images, whose loss may lie below."
        ),
        (false, false) => format!("Training images {training}."),
    };
    if evaluated && !record.has_validation() {
        told.push_str(" The data set has no validation images: the evaluation is over the training images");
        told.push_str(if training.is_empty() { "." } else { ", without that." });
    }
    told.trim().to_owned()
}

/// How the recipe changes training images at random.
fn changes(recipe: &Recipe) -> Option<String> {
    let has = |ops: &[&str]| recipe.augmentation.train.iter().any(|step| ops.contains(&step.op.as_str()));
    let words: Vec<&str> = [
        (has(&[RandomCrop::OP, RandomResizedCrop::OP]), "cut"),
        (has(&[HorizontalFlip::OP]), "flipped"),
        (has(&[PcaJitter::OP, ColorJitter::OP]), "coloured"),
    ]
    .into_iter()
    .filter_map(|(is_done, word)| is_done.then_some(word))
    .collect();
    let (last, before) = words.split_last()?;
    Some(if before.is_empty() { (*last).to_owned() } else { format!("{} and {last}", before.join(", ")) })
}

fn has_dropout(recipe: &Recipe) -> bool {
    recipe.network.layer.iter().any(|layer| matches!(layer.kind, LayerKind::Dropout(_)))
}

fn error(timeline: &Timeline<'_>) -> Figure {
    let record = timeline.record;
    let training = |name: &str, value: fn(&Step) -> f64, color| {
        let mut series = Series::binned(name, &timeline.of_steps(value), BINS / 2);
        series.band.clear();
        Series { dashed: true, color: Some(color), ..series }
    };
    let evaluation = |name: &str, value: fn(&Epoch) -> f64, color| Series {
        color: Some(color),
        ..Series::new(format!("{name}, {}", timeline.evaluation()), timeline.of_epochs(value))
    };
    let (one, five) = (Color::Series(0), Color::Series(1));
    let mut series = vec![training("top-1, training", |step| step.top1, one)];
    if !record.epochs.is_empty() {
        series.push(evaluation("top-1", |epoch| epoch.val_top1, one));
    }
    let mut caption = "Top-1: the best answer is wrong.".to_owned();
    if record.classes().is_none_or(|classes| classes >= CLASSES_FOR_TOP5) {
        series.push(training("top-5, training", |step| step.top5, five));
        if !record.epochs.is_empty() {
            series.push(evaluation("top-5", |epoch| epoch.val_top5, five));
        }
        caption.push_str(" Top-5: the right class is not among the five best answers.");
    }
    let chart = LineChart {
        marks: timeline.rate_marks(),
        ..timeline.chart("Error", series, Axis::percent("share of images").from_zero())
    };
    Figure { name: "error", svg: chart.svg(), caption }
}

fn images_per_s(timeline: &Timeline<'_>) -> Figure {
    let series = vec![Series::binned("", &timeline.of_steps(|step| step.images_per_s), BINS)];
    let chart = timeline.chart("Images per second", series, Axis::linear("images/s").from_zero());
    Figure {
        name: "speed",
        svg: chart.svg(),
        caption: "Images trained on per second, evaluation left out.".into(),
    }
}

fn data_wait(timeline: &Timeline<'_>) -> Figure {
    let series = vec![Series::binned("", &timeline.of_steps(|step| step.data_wait), BINS)];
    let y = Axis::percent("share of the time").from_zero().reaching(WAITING_SHOWN);
    let caption = "Much of it means that the loader cannot keep up: more workers, raw shards or a faster disk would help.";
    Figure {
        name: "data-wait",
        svg: timeline.chart("Waiting for data", series, y).svg(),
        caption: caption.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{DataFacts, examples};
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

    fn of_recipe(name: &str) -> Record {
        let recipe = Recipe::load(name, &[]).unwrap();
        Record { recipe, epochs: vec![epoch(1, 1.0)], ..examples::record(&[(1, 2.0), (2, 1.0)]) }
    }

    #[test]
    fn the_caption_speaks_of_what_the_recipe_does_to_training_images() {
        let caption = what_is_done(&of_recipe("alexnet"));
        assert!(
            caption.starts_with(
                "Training images are cut, flipped and coloured at random and pass through dropout; none"
            ),
            "{caption}"
        );
        let mut plain = of_recipe("alexnet");
        plain.recipe.augmentation.train.clear();
        plain.recipe.network.layer.retain(|layer| !matches!(layer.kind, LayerKind::Dropout(_)));
        assert_eq!(what_is_done(&plain), "");
        let mut started = of_recipe("alexnet");
        started.epochs.clear();
        assert!(!what_is_done(&started).contains("validation"));
    }

    #[test]
    fn without_validation_images_nothing_is_called_validation() {
        let record = Record { data: data(0), ..of_recipe("demo") };
        let section = learning(&record);
        let [loss, error] = section.figures.as_slice() else { panic!("{section:?}") };
        assert!(!loss.svg.contains("validation") && !error.svg.contains("validation"));
        assert!(
            loss.caption.contains("has no validation images: the evaluation is over the training images")
        );
    }

    #[test]
    fn a_band_is_told_where_one_is_drawn() {
        assert!(!loss(&Timeline::of(&of_recipe("demo"))).caption.contains("band"));
        let steps: Vec<(u32, f64)> = (0..300).map(|step| (1, f64::from(step % 3))).collect();
        let record = examples::record(&steps);
        assert!(loss(&Timeline::of(&record)).caption.contains("band"));
    }

    #[test]
    fn a_loss_that_grew_without_bounds_is_cut_and_that_is_told() {
        let mut record = examples::record(&[(1, 2.3), (1, 1.0), (2, 1e12)]);
        (record.data, record.epochs) = (data(10), vec![epoch(1, f64::INFINITY)]);
        let figure = loss(&Timeline::of(&record));
        assert!(figure.caption.ends_with("Losses above 6.91 are cut off there."), "{}", figure.caption);
        assert!(figure.svg.contains(">8</text>") && !figure.svg.contains("10¹²"), "{}", figure.svg);
        let record = Record { epochs: Vec::new(), ..examples::record(&[(1, 1e12), (1, 2e12)]) };
        let record = Record { data: data(10), ..record };
        assert!(!loss(&Timeline::of(&record)).caption.contains("cut off"), "all of it lies above");
    }

    #[test]
    fn all_curves_reach_over_the_same_epochs_and_a_little_waiting_looks_little() {
        let record =
            Record { epochs: vec![epoch(1, 1.0), epoch(4, 1.0)], ..examples::record(&[(1, 2.0), (2, 1.0)]) };
        let figures = [learning(&record).figures, speed(&record).figures].concat();
        assert_eq!(figures.len(), 4);
        for figure in &figures {
            assert!(figure.svg.contains(">4</text>"), "{}: {}", figure.name, figure.svg);
        }
        assert!(figures[3].svg.contains(">10 %</text>"), "{}", figures[3].svg);
    }
}
