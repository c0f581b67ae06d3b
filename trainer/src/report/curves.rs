//! Figures of the metrics.

use super::{Figure, Section, record::Record};
use crate::{
    figure::{Axis, Color, Level, LineChart, Mark, Series, significant},
    metrics::{Epoch, Step},
};

/// Parts that the updates of a run are averaged over: as many as a chart can show.
const BINS: usize = 120;
/// Classes from which being among the five best answers means something.
const CLASSES_FOR_TOP5: usize = 6;

/// Loss and error.
pub(super) fn learning(record: &Record) -> Section {
    let mut section = Section { title: "Learning", ..Section::default() };
    if record.steps.is_empty() && record.epochs.is_empty() {
        section.left_out.push("loss, error and speed: the run has recorded no update yet".into());
        return section;
    }
    section.figures.push(loss(record));
    section.figures.push(error(record));
    section
}

/// Images per second and waiting for data.
pub(super) fn speed(record: &Record) -> Section {
    let mut section = Section { title: "Speed", ..Section::default() };
    if !record.steps.is_empty() {
        section.figures.push(images_per_s(record));
        section.figures.push(data_wait(record));
    }
    section
}

/// The axis that all curves share: epochs once the first is over, updates before.
fn axis(record: &Record) -> (Axis, f64) {
    match record.steps_per_epoch() {
        Some(steps) => (Axis::whole("epochs").from_zero(), steps),
        None => (Axis::whole("updates").from_zero(), 1.0),
    }
}

fn of_steps(record: &Record, value: fn(&Step) -> f64) -> Vec<(f64, f64)> {
    let (_, per_unit) = axis(record);
    record.steps.iter().map(|step| (step.step as f64 / per_unit, value(step))).collect()
}

fn of_epochs(record: &Record, value: fn(&Epoch) -> f64) -> Vec<(f64, f64)> {
    let (_, per_unit) = axis(record);
    record.epochs.iter().map(|epoch| (epoch.step as f64 / per_unit, value(epoch))).collect()
}

/// Where the learning rate changes.
fn rate_marks(record: &Record) -> Vec<Mark> {
    let rates = of_steps(record, |step| step.lr);
    let rates = if rates.is_empty() { of_epochs(record, |epoch| epoch.lr) } else { rates };
    let changes = rates.windows(2).filter(|pair| pair[0].1 != pair[1].1);
    // The rate of an update holds from the one before it on.
    changes.map(|pair| Mark { at: pair[0].0, label: format!("rate {}", significant(pair[1].1, 4)) }).collect()
}

fn loss(record: &Record) -> Figure {
    let (x, _) = axis(record);
    let mut series = vec![Series::binned("training batches", &of_steps(record, |step| step.loss), BINS)];
    if !record.epochs.is_empty() {
        series.push(Series::new("validation", of_epochs(record, |epoch| epoch.val_loss)));
    }
    let chance = record.classes().map(|classes| (classes as f64).ln());
    // A level far above the curves would press them down.
    let highest = series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max);
    let levels = chance.filter(|chance| *chance < 1.4 * highest);
    let levels = levels.map(|at| Level { at, label: "all classes alike".into() }).into_iter().collect();
    let chart = LineChart {
        title: "Loss".into(),
        series,
        marks: rate_marks(record),
        levels,
        ..LineChart::new(x, Axis::linear("cross-entropy, nats").from_zero())
    };
    let caption = "Training images are cut, flipped and coloured at random and pass through dropout, validation images do not; so \
                   validation may lie below. The band reaches from the least to the greatest batch.";
    Figure { name: "loss", svg: chart.svg(), caption: caption.into() }
}

fn error(record: &Record) -> Figure {
    let (x, _) = axis(record);
    let training = |name: &str, value, color| {
        let mut series = Series::binned(name, &of_steps(record, value), BINS / 2);
        series.band.clear();
        Series { dashed: true, color: Some(color), ..series }
    };
    let validation = |name: &str, value, color| Series {
        color: Some(color),
        ..Series::new(name, of_epochs(record, value))
    };
    let (one, five) = (Color::Series(0), Color::Series(1));
    let mut series = vec![training("top-1, training", |step| step.top1, one)];
    if !record.epochs.is_empty() {
        series.push(validation("top-1, validation", |epoch| epoch.val_top1, one));
    }
    if record.classes().is_none_or(|classes| classes >= CLASSES_FOR_TOP5) {
        series.push(training("top-5, training", |step| step.top5, five));
        if !record.epochs.is_empty() {
            series.push(validation("top-5, validation", |epoch| epoch.val_top5, five));
        }
    }
    let chart = LineChart {
        title: "Error".into(),
        series,
        marks: rate_marks(record),
        ..LineChart::new(x, Axis::percent("share of images").from_zero())
    };
    let caption =
        "Top-1: the best answer is wrong. Top-5: the right class is not among the five best answers.";
    Figure { name: "error", svg: chart.svg(), caption: caption.into() }
}

fn images_per_s(record: &Record) -> Figure {
    let (x, _) = axis(record);
    let chart = LineChart {
        title: "Images per second".into(),
        series: vec![Series::binned("", &of_steps(record, |step| step.images_per_s), BINS)],
        ..LineChart::new(x, Axis::linear("images/s").from_zero())
    };
    Figure {
        name: "speed",
        svg: chart.svg(),
        caption: "Images trained on per second, evaluation left out.".into(),
    }
}

fn data_wait(record: &Record) -> Figure {
    let (x, _) = axis(record);
    let chart = LineChart {
        title: "Waiting for data".into(),
        series: vec![Series::binned("", &of_steps(record, |step| step.data_wait), BINS)],
        ..LineChart::new(x, Axis::percent("share of the time").from_zero())
    };
    let caption = "Much of it means that the loader cannot keep up: more workers, raw shards or a faster disk would help.";
    Figure { name: "data-wait", svg: chart.svg(), caption: caption.into() }
}
