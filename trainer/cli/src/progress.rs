//! Progress on stderr: a bar on a terminal, now and then a line elsewhere.

use std::time::{Duration, Instant};

use fovea_pipeline::EvalCrops;
use fovea_pipeline::summary::percent;
use fovea_tools::errln;
use fovea_trainer::metrics;
use fovea_trainer::training::{Observer, RunPlan, Score, Warning};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Time between lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(30);
/// Weight of a new value in a smoothed one.
const FRESH: f64 = 0.05;

/// A bar over images; nothing is drawn where stderr is no terminal.
pub fn images_bar(total: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:32} {pos}/{len} images, {per_sec}, {eta} left")
        .expect("the template is well-formed");
    ProgressBar::new(total).with_style(style).with_prefix(what)
}

/// Draws how a run goes.
#[derive(Default)]
pub struct Terminal {
    plan: Option<RunPlan>,
    /// What stands before the number of the epoch.
    title: String,
    bar: Option<ProgressBar>,
    evaluation: Option<ProgressBar>,
    smoothed: Option<Smoothed>,
    last_line: Option<Instant>,
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

    fn line(&self, rate: f64, batches_left: u64) -> String {
        let left = Duration::try_from_secs_f64(self.seconds_per_batch * batches_left as f64)
            .map_or_else(|_| "?".to_owned(), |left| HumanDuration(left).to_string());
        format!(
            "{:.0} images/s, loss {:.3}, top-1 error {}, rate {rate}, waiting for data {}, {left} left",
            self.images_per_s,
            self.loss,
            percent(self.top1),
            percent(self.data_wait)
        )
    }
}

impl Terminal {
    /// Draws from now on how a run with this plan goes, under a title.
    pub fn watch(&mut self, plan: &RunPlan, title: String) {
        let bar = self.bar.take();
        bar.inspect(ProgressBar::finish_and_clear);
        (self.plan, self.title, self.smoothed) = (Some(*plan), title, None);
    }

    /// Prints a line above the bar.
    pub fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) if !bar.is_hidden() => bar.suspend(|| errln!("{line}")),
            _ => errln!("{line}"),
        }
    }
}

impl Observer for Terminal {
    fn started(&mut self, plan: &RunPlan) {
        self.watch(plan, String::new());
        if plan.epochs_done > 0 || plan.batches_done > 0 {
            self.print(&format!(
                "resuming after {} epochs and {} of {} batches",
                plan.epochs_done, plan.batches_done, plan.batches
            ));
        }
        self.print(&format!(
            "{} training images, {} to measure the error; {} epochs of {} batches",
            plan.images, plan.evaluated_images, plan.epochs, plan.batches
        ));
    }

    fn step(&mut self, step: &metrics::Step, batch: u64) {
        let Some(plan) = self.plan else { return };
        let smoothed = Smoothed::with(self.smoothed, step);
        self.smoothed = Some(smoothed);
        let epochs_left = u64::from(plan.epochs.saturating_sub(step.epoch));
        let line = smoothed.line(step.lr, epochs_left * plan.batches + plan.batches.saturating_sub(batch));
        let epoch = format!("{}epoch {}/{}", self.title, step.epoch, plan.epochs);
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:20} {pos}/{len}  {msg}")
                .expect("the template is well-formed");
            ProgressBar::new(plan.batches).with_style(style)
        });
        if !bar.is_hidden() {
            bar.set_prefix(epoch);
            bar.set_position(batch);
            bar.set_message(line);
        } else if self.last_line.is_none_or(|at| at.elapsed() >= BETWEEN_LINES) {
            self.last_line = Some(Instant::now());
            errln!("{epoch}, batch {batch}/{}: {line}", plan.batches);
        }
    }

    fn evaluating(&mut self, views: EvalCrops, images: u64, of: u64) {
        self.evaluation.get_or_insert_with(|| images_bar(of, views.title())).set_position(images);
        if images == of
            && let Some(bar) = self.evaluation.take()
        {
            bar.finish_and_clear();
        }
    }

    fn epoch(&mut self, epoch: &metrics::Epoch, next_rate: f64) {
        let epochs = self.plan.map_or(0, |plan| plan.epochs);
        self.print(&format!(
            "epoch {}/{epochs}: training loss {:.4}, validation loss {:.4}, top-1 error {}, top-5 error {}, {:.0} images/s, \
             waiting for data {}, {:.1} s",
            epoch.epoch,
            epoch.train_loss,
            epoch.val_loss,
            percent(epoch.val_top1),
            percent(epoch.val_top5),
            epoch.images_per_s,
            percent(epoch.data_wait),
            epoch.seconds
        ));
        if next_rate < epoch.lr && epoch.epoch < epochs {
            self.print(&format!("the learning rate falls to {next_rate}"));
        }
        // The evaluation in between is no batch.
        if let Some(smoothed) = &mut self.smoothed {
            smoothed.at = Instant::now();
        }
    }

    fn finished(&mut self, _views: EvalCrops, _score: &Score) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn warn(&mut self, warning: &Warning) {
        self.print(&format!("note: {warning}"));
    }
}
