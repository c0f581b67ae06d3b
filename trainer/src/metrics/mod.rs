//! Records of a run: a JSON line per step, a CSV row per epoch, and TensorBoard events.
//!
//! Every record is written to its file at once, in one piece, so that a killed run loses none. A resumed run
//! drops the records of an earlier attempt beyond its checkpoint, as those steps are repeated.

mod counts;
mod error;
mod events;
mod records;
mod tables;

use std::path::{Path, PathBuf};

use fovea_pipeline::Split;

pub use counts::BatchMetrics;
pub use error::MetricsError;
pub use events::EventWriter;
pub(crate) use records::number_or_nan;
pub use records::{Epoch, Step};
use tables::{JsonLines, Rows, read_heading, read_rows};

/// Name of the table of epochs in a run's folder.
pub const EPOCHS: &str = "epochs.csv";
/// Name of the file of updates, a JSON object each line.
pub const STEPS: &str = "metrics.jsonl";

/// The updates in the records of the run in the folder `run`, and the numbers, from 1, of invalid lines. A
/// number that was not finite is NaN; an incomplete last line is ignored.
///
/// # Errors
/// [`MetricsError`] with the file.
pub fn read_steps(run: &Path) -> Result<(Vec<Step>, Vec<usize>), MetricsError> {
    tables::read_steps(&run.join(STEPS))
}

/// The epochs in the records of the run in the folder `run`; none if there are no records. A truncated row is
/// left out.
///
/// # Errors
/// [`MetricsError`] with the file.
pub fn read_epochs(run: &Path) -> Result<Vec<Epoch>, MetricsError> {
    Ok(read_rows(&run.join(EPOCHS))?.iter().filter_map(|row| Epoch::parse(row)).collect())
}

/// The split that the errors of epochs are of, in the records of the run in the folder `run`. `None` if there
/// are no records, or they may be those of an earlier version, which did not tell.
///
/// # Errors
/// [`MetricsError`] with the file.
pub fn read_split(run: &Path) -> Result<Option<Split>, MetricsError> {
    Ok(Epoch::split_of(&read_heading(&run.join(EPOCHS))?))
}

/// The three records of a run's folder: `metrics.jsonl`, `epochs.csv` and `events.out.tfevents.*`.
#[derive(Debug)]
pub struct Metrics {
    steps: JsonLines,
    epochs: Rows,
    events: EventWriter,
    /// The split that errors after an epoch are of.
    split: Split,
    /// Files that lack updates or epochs already done, with how many.
    missing: Vec<(PathBuf, u64)>,
}

impl Metrics {
    /// Opens the records in the folder `run`, for a run that has done `steps` updates and `epochs` epochs (0
    /// for a new one) and measures its error on `split`; later records are removed.
    ///
    /// # Errors
    /// [`MetricsError`] with the file.
    pub fn open(run: &Path, steps: u64, epochs: u32, split: Split) -> Result<Self, MetricsError> {
        let (steps_path, epochs_path) = (run.join(STEPS), run.join(EPOCHS));
        let (lines, missing_steps) = JsonLines::open(&steps_path, steps)?;
        let (rows, missing_epochs) = Rows::open(&epochs_path, &Epoch::heading(split), epochs.into())?;
        let mut missing = vec![(steps_path, missing_steps), (epochs_path, missing_epochs)];
        missing.retain(|(_, count)| *count > 0);
        Ok(Self { steps: lines, epochs: rows, events: EventWriter::create(run, steps)?, split, missing })
    }

    /// Files that lacked updates or epochs already done when they were opened, with how many: they were
    /// edited, or a machine failed.
    #[must_use]
    pub fn missing(&self) -> &[(PathBuf, u64)] {
        &self.missing
    }

    /// Records an update.
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

    /// Records an epoch.
    ///
    /// # Errors
    /// [`MetricsError`] with the file.
    pub fn epoch(&mut self, epoch: &Epoch) -> Result<(), MetricsError> {
        self.epochs.write(&epoch.row())?;
        let names = match self.split {
            Split::Val => ["validation/loss", "validation/top1_error", "validation/top5_error"],
            Split::Train => ["train_images/loss", "train_images/top1_error", "train_images/top5_error"],
        };
        let [loss, top1, top5] = names;
        let values = [(loss, epoch.val_loss), (top1, epoch.val_top1), (top5, epoch.val_top5)];
        self.events.scalars(epoch.step, &values)
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
        let mut metrics = Metrics::open(run.path(), 0, 0, Split::Val).unwrap();
        for number in 1..=6 {
            metrics.step(&step(number)).unwrap();
            if number % 2 == 0 {
                metrics.epoch(&epoch(number as u32 / 2)).unwrap();
            }
        }
        drop(metrics);
        let mut metrics = Metrics::open(run.path(), 3, 1, Split::Val).unwrap();
        metrics.step(&Step { loss: 9.0, ..step(4) }).unwrap();
        metrics.epoch(&Epoch { seconds: 7.0, ..epoch(2) }).unwrap();
        let text = fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        let steps: Vec<Step> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(steps, [step(1), step(2), step(3), Step { loss: 9.0, ..step(4) }]);
        let table = fs::read_to_string(run.path().join("epochs.csv")).unwrap();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert_eq!(
            lines[0],
            "epoch,step,lr,train_loss,train_top1,train_top5,val_loss,val_top1,val_top5,images_per_s,data_wait,seconds"
        );
        assert_eq!(lines[1], "1,2,0.01,1.0,0.5,0.25,NaN,0.4,0.2,10.0,0.0,60.5");
        assert!(lines[2].starts_with("2,4,") && lines[2].ends_with(",7.0"), "{table}");
    }

    #[test]
    fn errors_of_training_images_are_not_called_validation() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(read_split(run.path()).unwrap(), None);
        Metrics::open(run.path(), 0, 0, Split::Train).unwrap().epoch(&epoch(1)).unwrap();
        let table = fs::read_to_string(run.path().join(EPOCHS)).unwrap();
        assert!(table.contains(",train_images_loss,train_images_top1,train_images_top5,"), "{table}");
        assert!(!table.contains("val"), "{table}");
        assert_eq!(read_split(run.path()).unwrap(), Some(Split::Train));
        assert_eq!(read_epochs(run.path()).unwrap()[0].val_top1, 0.4);
        let name = fs::read_dir(run.path()).unwrap().map(|entry| entry.unwrap().path());
        let events = name.filter(|path| path.to_string_lossy().contains("tfevents")).last().unwrap();
        let bytes = fs::read(events).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has("train_images/top1_error") && !has("validation"));
        Metrics::open(run.path(), 2, 1, Split::Val).unwrap();
        assert_eq!(read_split(run.path()).unwrap(), None);
    }

    #[test]
    fn a_new_run_starts_with_empty_tables() {
        let run = tempfile::tempdir().unwrap();
        Metrics::open(run.path(), 0, 0, Split::Val).unwrap().step(&step(1)).unwrap();
        Metrics::open(run.path(), 0, 0, Split::Val).unwrap();
        assert_eq!(fs::read_to_string(run.path().join("metrics.jsonl")).unwrap(), "");
    }

    #[test]
    fn a_loss_that_is_not_finite_is_null_in_json() {
        let run = tempfile::tempdir().unwrap();
        Metrics::open(run.path(), 0, 0, Split::Val)
            .unwrap()
            .step(&Step { loss: f64::NAN, ..step(1) })
            .unwrap();
        let text = fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        assert!(text.contains(r#""loss":null"#), "{text}");
    }

    #[test]
    fn epochs_are_read_back_as_written_except_for_a_truncated_row() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(read_epochs(run.path()).unwrap(), []);
        let mut metrics = Metrics::open(run.path(), 0, 0, Split::Val).unwrap();
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
        let error = Metrics::open(run.path(), 0, 0, Split::Val).unwrap_err().to_string();
        assert!(error.contains("epochs.csv"), "{error}");
    }
}
