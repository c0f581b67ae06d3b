//! What a run writes down: a JSON line per step, a CSV row per epoch, and TensorBoard events.
//!
//! Every record is written to its file at once, in one piece, so that a killed run loses none. A run that is resumed drops
//! what an earlier attempt wrote beyond its checkpoint: those steps are taken again.

mod counts;
mod events;
mod tables;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

pub use counts::BatchMetrics;
pub use events::EventWriter;
use tables::{JsonLines, Rows, read_rows};

/// Name of the table of epochs in a run's folder.
pub const EPOCHS: &str = "epochs.csv";
/// The updates, a JSON object each line.
pub const STEPS: &str = "metrics.jsonl";

/// A file of metrics cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the metrics file {}: {reason}", path.display())]
pub struct MetricsError {
    /// The file.
    pub path: PathBuf,
    /// What the file system said.
    pub reason: io::Error,
}

impl MetricsError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self { path, reason }
    }
}

/// One update. In JSON a loss that is not finite is `null`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Updates done, this one included.
    pub step: u64,
    /// The epoch it belongs to, counted from 1.
    pub epoch: u32,
    /// Mean loss over the batch.
    #[serde(deserialize_with = "number_or_nan")]
    pub loss: f64,
    /// Top-1 error over the batch, 0..=1.
    #[serde(deserialize_with = "number_or_nan")]
    pub top1: f64,
    /// Top-5 error over the batch, 0..=1.
    #[serde(deserialize_with = "number_or_nan")]
    pub top5: f64,
    /// Learning rate.
    #[serde(deserialize_with = "number_or_nan")]
    pub lr: f64,
    /// Images trained on per second.
    #[serde(deserialize_with = "number_or_nan")]
    pub images_per_s: f64,
    /// Share of the time spent waiting for data, 0..=1.
    #[serde(deserialize_with = "number_or_nan")]
    pub data_wait: f64,
}

pub(crate) fn number_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// One epoch with its evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u32,
    /// Updates done at its end.
    pub step: u64,
    /// Learning rate during it.
    pub lr: f64,
    /// Mean loss over the training images.
    pub train_loss: f64,
    /// Top-1 error over the training images as they were seen, 0..=1.
    pub train_top1: f64,
    /// Top-5 error over the training images as they were seen, 0..=1.
    pub train_top5: f64,
    /// Mean loss over the validation images.
    pub val_loss: f64,
    /// Top-1 error over the validation images, 0..=1.
    pub val_top1: f64,
    /// Top-5 error over the validation images, 0..=1.
    pub val_top5: f64,
    /// Images trained on per second.
    pub images_per_s: f64,
    /// Share of the time spent waiting for data, 0..=1.
    pub data_wait: f64,
    /// Duration, evaluation included, in seconds.
    pub seconds: f64,
}

impl Epoch {
    const COLUMNS: [&'static str; 12] = [
        "epoch",
        "step",
        "lr",
        "train_loss",
        "train_top1",
        "train_top5",
        "val_loss",
        "val_top1",
        "val_top5",
        "images_per_s",
        "data_wait",
        "seconds",
    ];

    fn row(&self) -> String {
        let values = [
            self.lr,
            self.train_loss,
            self.train_top1,
            self.train_top5,
            self.val_loss,
            self.val_top1,
            self.val_top5,
            self.images_per_s,
            self.data_wait,
            self.seconds,
        ];
        let values: Vec<_> = values.iter().map(f64::to_string).collect();
        format!("{},{},{}", self.epoch, self.step, values.join(","))
    }

    fn parse(row: &str) -> Option<Self> {
        let mut cells = row.split(',');
        let (epoch, step) = (cells.next()?.parse().ok()?, cells.next()?.parse().ok()?);
        let values: Vec<f64> = cells.map(str::parse).collect::<Result<_, _>>().ok()?;
        let [
            lr,
            train_loss,
            train_top1,
            train_top5,
            val_loss,
            val_top1,
            val_top5,
            images_per_s,
            data_wait,
            seconds,
        ] = values.try_into().ok()?;
        Some(Self {
            epoch,
            step,
            lr,
            train_loss,
            train_top1,
            train_top5,
            val_loss,
            val_top1,
            val_top5,
            images_per_s,
            data_wait,
            seconds,
        })
    }
}

/// The updates that stand in the records of the run in the folder `run`, and the numbers, from 1, of lines that are none: a number
/// that was not finite is NaN, a last line that is not complete is passed over.
///
/// # Errors
/// [`MetricsError`] with the file.
pub fn read_steps(run: &Path) -> Result<(Vec<Step>, Vec<usize>), MetricsError> {
    tables::read_steps(&run.join(STEPS))
}

/// The epochs that stand in the records of the run in the folder `run`; none where there are no records. A row that was cut
/// is left out.
///
/// # Errors
/// [`MetricsError`] with the file.
pub fn read_epochs(run: &Path) -> Result<Vec<Epoch>, MetricsError> {
    Ok(read_rows(&run.join(EPOCHS))?.iter().filter_map(|row| Epoch::parse(row)).collect())
}

/// The three records of a run's folder: `metrics.jsonl`, `epochs.csv` and `events.out.tfevents.*`.
#[derive(Debug)]
pub struct Metrics {
    steps: JsonLines,
    epochs: Rows,
    events: EventWriter,
    /// Files that lack updates or epochs which were done, with how many.
    missing: Vec<(PathBuf, u64)>,
}

impl Metrics {
    /// Opens the records in the folder `run`, for a run that has done `steps` updates and `epochs` epochs (0 for a new one);
    /// what stands there beyond these is removed.
    ///
    /// # Errors
    /// [`MetricsError`] with the file.
    pub fn open(run: &Path, steps: u64, epochs: u32) -> Result<Self, MetricsError> {
        let (steps_path, epochs_path) = (run.join(STEPS), run.join(EPOCHS));
        let (lines, missing_steps) = JsonLines::open(&steps_path, steps)?;
        let (rows, missing_epochs) = Rows::open(&epochs_path, &Epoch::COLUMNS.join(","), epochs.into())?;
        let mut missing = vec![(steps_path, missing_steps), (epochs_path, missing_epochs)];
        missing.retain(|(_, count)| *count > 0);
        Ok(Self { steps: lines, epochs: rows, events: EventWriter::create(run, steps)?, missing })
    }

    /// Files that lack updates or epochs which were done before they were opened, with how many: somebody has changed them, or a
    /// machine has failed.
    #[must_use]
    pub fn missing(&self) -> &[(PathBuf, u64)] {
        &self.missing
    }

    /// Writes down an update.
    ///
    /// # Errors
    /// [`MetricsError`] with the file.
    pub fn step(&mut self, step: &Step) -> Result<(), MetricsError> {
        self.steps.write(step)?;
        self.events.scalars(
            step.step,
            &[
                ("train/loss", step.loss),
                ("train/top1_error", step.top1),
                ("train/top5_error", step.top5),
                ("learning_rate", step.lr),
                ("speed/images_per_s", step.images_per_s),
                ("speed/data_wait", step.data_wait),
            ],
        )
    }

    /// Writes down an epoch.
    ///
    /// # Errors
    /// [`MetricsError`] with the file.
    pub fn epoch(&mut self, epoch: &Epoch) -> Result<(), MetricsError> {
        self.epochs.write(&epoch.row())?;
        self.events.scalars(
            epoch.step,
            &[
                ("validation/loss", epoch.val_loss),
                ("validation/top1_error", epoch.val_top1),
                ("validation/top5_error", epoch.val_top5),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn step(step: u64) -> Step {
        Step {
            step,
            epoch: 1,
            loss: 0.5,
            top1: 0.25,
            top5: 0.125,
            lr: 0.01,
            images_per_s: 100.0,
            data_wait: 0.0,
        }
    }

    fn epoch(epoch: u32) -> Epoch {
        Epoch {
            epoch,
            step: u64::from(epoch) * 2,
            lr: 0.01,
            train_loss: 1.0,
            train_top1: 0.5,
            train_top5: 0.25,
            val_loss: f64::NAN,
            val_top1: 0.4,
            val_top5: 0.2,
            images_per_s: 10.0,
            data_wait: 0.0,
            seconds: 60.5,
        }
    }

    #[test]
    fn a_resumed_run_continues_both_tables_after_its_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(run.path(), 0, 0).unwrap();
        for number in 1..=6 {
            metrics.step(&step(number)).unwrap();
            if number % 2 == 0 {
                metrics.epoch(&epoch(number as u32 / 2)).unwrap();
            }
        }
        drop(metrics);
        let mut metrics = Metrics::open(run.path(), 3, 1).unwrap();
        metrics.step(&Step { loss: 9.0, ..step(4) }).unwrap();
        metrics.epoch(&Epoch { seconds: 7.0, ..epoch(2) }).unwrap();
        let text = fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        let steps: Vec<Step> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(steps, [step(1), step(2), step(3), Step { loss: 9.0, ..step(4) }]);
        let table = fs::read_to_string(run.path().join("epochs.csv")).unwrap();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert_eq!(lines[0], Epoch::COLUMNS.join(","));
        assert_eq!(lines[1], "1,2,0.01,1,0.5,0.25,NaN,0.4,0.2,10,0,60.5");
        assert!(lines[2].starts_with("2,4,") && lines[2].ends_with(",7"), "{table}");
    }

    #[test]
    fn a_new_run_begins_empty_tables() {
        let run = tempfile::tempdir().unwrap();
        Metrics::open(run.path(), 0, 0).unwrap().step(&step(1)).unwrap();
        Metrics::open(run.path(), 0, 0).unwrap();
        assert_eq!(fs::read_to_string(run.path().join("metrics.jsonl")).unwrap(), "");
    }

    #[test]
    fn a_loss_that_is_not_finite_is_null_in_json() {
        let run = tempfile::tempdir().unwrap();
        Metrics::open(run.path(), 0, 0).unwrap().step(&Step { loss: f64::NAN, ..step(1) }).unwrap();
        let text = fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        assert!(text.contains(r#""loss":null"#), "{text}");
    }

    #[test]
    fn epochs_are_read_back_as_they_were_but_for_a_row_that_was_cut() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(read_epochs(run.path()).unwrap(), []);
        let mut metrics = Metrics::open(run.path(), 0, 0).unwrap();
        let third = Epoch { val_loss: 0.1 + 0.2, seconds: 1.0 / 3.0, ..epoch(1) };
        metrics.epoch(&third).unwrap();
        metrics.epoch(&epoch(2)).unwrap();
        let path = run.path().join(EPOCHS);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.trim_end().rsplit_once(',').unwrap().0).unwrap();
        assert_eq!(read_epochs(run.path()).unwrap(), [third]);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir(run.path().join("epochs.csv")).unwrap();
        let error = Metrics::open(run.path(), 0, 0).unwrap_err().to_string();
        assert!(error.contains("epochs.csv"), "{error}");
    }
}
