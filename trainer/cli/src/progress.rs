//! Progress on stderr: a bar on a terminal, now and then a line elsewhere.

use std::time::{Duration, Instant};

use console::{measure_text_width, truncate_str};
use fovea_pipeline::summary::{self, count, percent};
use fovea_pipeline::{EvalCrops, Split};
use fovea_tools::bars::{shown, titled_bar};
use fovea_tools::errln;
use fovea_tools::terminal::columns;
use fovea_trainer::metrics;
use fovea_trainer::recipe::Loss;
use fovea_trainer::training::{Observer, Report, RunPlan, Sharing, Warning};
use indicatif::{ProgressBar, ProgressStyle};

/// Time between lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(30);
/// Weight of a new value in a smoothed one.
const FRESH: f64 = 0.05;

/// Columns of the bar, where the terminal has [`BROAD`] columns.
const BAR: usize = 12;
/// Columns of a terminal that has room for a bar.
const BROAD: usize = 70;

/// Draws how a run goes.
#[derive(Default)]
pub struct Terminal {
    plan: Option<RunPlan>,
    /// What stands before the number of the epoch.
    title: String,
    bar: Option<ProgressBar>,
    evaluation: Option<ProgressBar>,
    smoothed: Option<Smoothed>,
    sharing: Option<Sharing>,
    last_line: Option<Instant>,
    /// Side of the training images that was said last.
    training_px: Option<usize>,
}

/// Values that would jump too much to be read.
#[derive(Clone, Copy)]
struct Smoothed {
    loss: f64,
    top1: f64,
    images_per_s: f64,
    data_wait: f64,
    seconds_per_batch: f64,
    at: Instant,
}

impl Smoothed {
    fn with(before: Option<Self>, step: &metrics::Step) -> Self {
        let at = Instant::now();
        let Some(before) = before else {
            let &metrics::Step { loss, top1, images_per_s, data_wait, .. } = step;
            return Self { loss, top1, images_per_s, data_wait, seconds_per_batch: f64::NAN, at };
        };
        let mix = |old: f64, new: f64| if old.is_finite() { old + FRESH * (new - old) } else { new };
        Self {
            loss: mix(before.loss, step.loss),
            top1: mix(before.top1, step.top1),
            images_per_s: mix(before.images_per_s, step.images_per_s),
            data_wait: mix(before.data_wait, step.data_wait),
            seconds_per_batch: mix(before.seconds_per_batch, (at - before.at).as_secs_f64()),
            at,
        }
    }

    /// What there is to say, the most important first.
    fn parts(&self, sharing: Option<Sharing>, loss: Loss, rate: f64, batches_left: u64) -> Vec<String> {
        let [error, _] = loss.measures();
        let left = self.seconds_per_batch * batches_left as f64;
        let left = left.is_finite().then(|| format!("{} left", duration(left)));
        let others = [
            format!("loss {:.3}", self.loss),
            error.with(self.top1),
            format!("{:.0} images/s", self.images_per_s),
            format!("waiting for data {}", percent(self.data_wait)),
        ];
        let together = sharing.map(|Sharing { exchange, waiting, slowest }| {
            format!("exchange {}, waiting for rank {slowest} {}", percent(exchange), percent(waiting))
        });
        left.into_iter()
            .chain(others)
            .chain(together)
            .chain([format!("rate {}", summary::rate(rate))])
            .collect()
    }
}

/// Seconds as `45 s`, `12 min`, `3.5 h`, `2.1 days`.
fn duration(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// The first part, and as many of the others as fit into a line of `columns`.
fn fitting(first: &str, others: &[String], columns: usize) -> String {
    let mut line = truncate_str(first, columns, "…").into_owned();
    for part in others {
        if measure_text_width(&line) + 2 + measure_text_width(part) > columns {
            break;
        }
        line = format!("{line}, {part}");
    }
    line
}

/// Columns that the bar takes, of `columns`.
fn bar_columns(columns: usize) -> usize {
    if columns < BROAD { 0 } else { BAR + 1 }
}

fn style(columns: usize) -> ProgressStyle {
    let template =
        if bar_columns(columns) == 0 { "{msg}".to_owned() } else { format!("{{bar:{BAR}}} {{msg}}") };
    ProgressStyle::with_template(&template).expect("the template is well-formed")
}

impl Terminal {
    /// Draws from now on how a run with this plan goes, under a title.
    pub fn watch(&mut self, plan: &RunPlan, title: String) {
        self.bar = None;
        (self.plan, self.title, self.smoothed) = (Some(*plan), title, None);
    }

    /// Prints a line above the bar.
    pub fn print(line: &str) {
        errln!("{line}");
    }
}

impl Observer for Terminal {
    fn started(&mut self, plan: &RunPlan) {
        self.watch(plan, String::new());
        if plan.epochs_done > 0 || plan.batches_done > 0 {
            Self::print(&format!(
                "resuming after {} and {} of {}",
                count(plan.epochs_done.into(), "epoch"),
                plan.batches_done,
                count(plan.batches, "batch")
            ));
        }
        let measured = match plan.evaluated {
            Split::Val => count(plan.evaluated_images as u64, "validation image"),
            Split::Train => "no validation images".to_owned(),
        };
        let views = match plan.views {
            1 => String::new(),
            views => format!(", each in {}", count(views as u64, "view")),
        };
        Self::print(&format!(
            "{}, {measured}; {} of {} of {}{views}",
            count(plan.images as u64, "training image"),
            count(plan.epochs.into(), "epoch"),
            count(plan.batches, "batch"),
            count(plan.batch_size as u64, "image")
        ));
        if plan.left_out() > 0 {
            Self::print(&format!(
                "each epoch leaves out {}, not always the same, beyond its last whole batch",
                count(plan.left_out(), "training image")
            ));
        }
    }

    fn training_on(&mut self, epoch: u32, px: usize) {
        if self.training_px.replace(px) != Some(px) {
            Self::print(&format!("from epoch {epoch} on, training images have {px}x{px} pixels"));
        }
    }

    fn step(&mut self, step: &metrics::Step, batch: u64) {
        let Some(plan) = self.plan else { return };
        let smoothed = Smoothed::with(self.smoothed, step);
        self.smoothed = Some(smoothed);
        let epochs_left = u64::from(plan.epochs.saturating_sub(step.epoch));
        let parts = smoothed.parts(
            self.sharing,
            plan.loss,
            step.lr,
            epochs_left * plan.batches + plan.batches.saturating_sub(batch),
        );
        let epoch =
            format!("{}epoch {}/{}, batch {batch}/{}", self.title, step.epoch, plan.epochs, plan.batches);
        let bar = self.bar.get_or_insert_with(|| shown(plan.batches, style(columns())));
        if !bar.is_hidden() {
            // The user may have resized the terminal.
            let columns = columns();
            bar.set_style(style(columns));
            bar.set_position(batch);
            bar.set_message(fitting(&epoch, &parts, columns - bar_columns(columns)));
        } else if self.last_line.is_none_or(|at| at.elapsed() >= BETWEEN_LINES) {
            self.last_line = Some(Instant::now());
            errln!("{epoch}: {}", parts.join(", "));
        }
    }

    fn shared(&mut self, sharing: &Sharing) {
        self.sharing = Some(*sharing);
    }

    fn evaluating(&mut self, views: EvalCrops, images: u64, of: u64) {
        self.evaluation.get_or_insert_with(|| titled_bar(views.title(), of, "images")).set_position(images);
        if images == of {
            self.evaluation = None;
        }
    }

    fn epoch(&mut self, epoch: &metrics::Epoch, next_rate: f64) {
        let Some(plan) = self.plan else { return };
        let [first, second] = plan.loss.measures();
        let (epochs, measured) = match plan.evaluated {
            Split::Val => (plan.epochs, "validation"),
            Split::Train => (plan.epochs, "after it, of training images:"),
        };
        Self::print(&format!(
            "epoch {}/{epochs}: training loss {:.4}, {measured} loss {:.4}, {}, {}, {:.0} images/s, \
             waiting for data {}, {:.1} s",
            epoch.epoch,
            epoch.train_loss,
            epoch.val_loss,
            first.with(epoch.val_top1),
            second.with(epoch.val_top5),
            epoch.images_per_s,
            percent(epoch.data_wait),
            epoch.seconds
        ));
        // A schedule by batches changes it in every epoch, by little.
        if next_rate < 0.7 * epoch.lr && epoch.epoch < epochs {
            Self::print(&format!("the learning rate falls to {}", summary::rate(next_rate)));
        }
        // The evaluation in between is no batch.
        if let Some(smoothed) = &mut self.smoothed {
            smoothed.at = Instant::now();
        }
    }

    fn finished(&mut self, _report: &Report) {
        self.bar = None;
    }

    fn warn(&mut self, warning: &Warning) {
        Self::print(&format!("note: {warning}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_fits_and_never_a_part_of_a_number() {
        let smoothed = Smoothed {
            loss: 2.3456,
            top1: 0.351,
            images_per_s: 1234.4,
            data_wait: 0.01,
            seconds_per_batch: 0.1,
            at: Instant::now(),
        };
        let parts = smoothed.parts(None, Loss::CrossEntropy, 0.01, 600);
        let sharing = Sharing { exchange: 0.042, waiting: 0.31, slowest: 3 };
        let shared = smoothed.parts(Some(sharing), Loss::CrossEntropy, 0.01, 600);
        assert!(shared.contains(&"exchange 4.20 %, waiting for rank 3 31.0 %".to_owned()), "{shared:?}");
        let first = "epoch 3/24, batch 120/187";
        let whole = "epoch 3/24, batch 120/187, 60 s left, loss 2.346, top-1 error 35.1 %, 1234 images/s, \
                     waiting for data 1.00 %, rate 0.01";
        assert_eq!(fitting(first, &parts, 200), whole);
        assert_eq!(fitting(first, &parts, 37), "epoch 3/24, batch 120/187, 60 s left");
        for columns in 1..130 {
            let line = fitting(first, &parts, columns);
            assert!(measure_text_width(&line) <= columns, "{columns}: {line}");
            assert!(columns < first.len() || whole.starts_with(&line), "{columns}: {line}");
        }
        // Characters of two columns.
        assert_eq!(fitting("花の名前, epoch 1/2", &[], 9), "花の名前…");
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        let texts = [45.4, 720.0, 12_600.0, 2.5e6].map(duration);
        assert_eq!(texts, ["45 s", "12 min", "3.5 h", "28.9 days"]);
    }
}
