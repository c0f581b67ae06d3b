//! Text files with one line a record, which are truncated when a run is resumed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fovea_files::{read_regular, write_atomically};
use serde::Serialize;

use super::error::MetricsError;
use super::records::Step;

/// An append-only file.
#[derive(Debug)]
struct Appending {
    path: PathBuf,
    file: File,
}

impl Appending {
    /// Replaces the file's content by `lines` and opens it.
    fn open(path: &Path, lines: &[&str]) -> Result<Self, MetricsError> {
        write_atomically(path, |out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))
            .map_err(MetricsError::at(path))?;
        let file = OpenOptions::new().append(true).open(path).map_err(MetricsError::at(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn write(&mut self, mut line: String) -> Result<(), MetricsError> {
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(MetricsError::at(&self.path))
    }
}

fn read_if_there(path: &Path) -> Result<String, MetricsError> {
    match read_regular(path) {
        // A crash of the machine may leave any bytes in the last line.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(MetricsError::at(path)(error)),
    }
}

/// A file with one JSON object a line.
#[derive(Debug)]
pub(super) struct JsonLines(Appending);

impl JsonLines {
    /// Opens the file for a run that has done `steps` updates. Lines beyond are removed, as are lines that
    /// are no steps or out of order. Also returns how many of the first `steps` are missing.
    pub(super) fn open(path: &Path, steps: u64) -> Result<(Self, u64), MetricsError> {
        let text = read_if_there(path)?;
        let mut last = 0;
        let kept: Vec<&str> = text
            .lines()
            .filter(|line| match serde_json::from_str::<Step>(line) {
                Ok(step) if step.step > last && step.step <= steps => {
                    last = step.step;
                    true
                }
                _ => false,
            })
            .collect();
        let missing = steps - kept.len() as u64;
        Ok((Self(Appending::open(path, &kept)?), missing))
    }

    pub(super) fn write(&mut self, record: &impl Serialize) -> Result<(), MetricsError> {
        let line =
            serde_json::to_string(record).map_err(|error| MetricsError::at(&self.0.path)(error.into()))?;
        self.0.write(line)
    }
}

/// The steps in the file of JSON lines at `path`, with the numbers, from 1, of invalid lines. A last line
/// without a line feed is being written or was truncated, and is ignored.
pub(super) fn read_steps(path: &Path) -> Result<(Vec<Step>, Vec<usize>), MetricsError> {
    let text = read_if_there(path)?;
    let (mut steps, mut broken) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        match serde_json::from_str(line) {
            Ok(step) => steps.push(step),
            Err(_) if line.ends_with('\n') => broken.push(number),
            Err(_) => {}
        }
    }
    Ok((steps, broken))
}

/// The heading of a table; empty if there is no table.
pub(super) fn read_heading(path: &Path) -> Result<String, MetricsError> {
    Ok(read_if_there(path)?.lines().next().unwrap_or_default().to_owned())
}

/// The rows of a table, without its heading; none if there is no table.
pub(super) fn read_rows(path: &Path) -> Result<Vec<String>, MetricsError> {
    Ok(read_if_there(path)?.lines().skip(1).map(str::to_owned).collect())
}

/// A CSV file whose first column is an ascending number.
#[derive(Debug)]
pub(super) struct Rows(Appending);

impl Rows {
    /// Opens the file for a run with `count` rows. Rows beyond are removed, as are rows that are truncated or
    /// out of order. Also returns how many of the first `count` are missing.
    pub(super) fn open(path: &Path, header: &str, count: u64) -> Result<(Self, u64), MetricsError> {
        let text = read_if_there(path)?;
        let columns = header.split(',').count();
        let number = |line: &str| line.split(',').next().and_then(|first| first.parse::<u64>().ok());
        let (mut kept, mut last) = (vec![header], 0);
        for line in text.lines().filter(|line| line.split(',').count() == columns) {
            if let Some(number) = number(line).filter(|number| *number > last && *number <= count) {
                kept.push(line);
                last = number;
            }
        }
        let missing = count - (kept.len() as u64 - 1);
        Ok((Self(Appending::open(path, &kept)?), missing))
    }

    pub(super) fn write(&mut self, row: &str) -> Result<(), MetricsError> {
        self.0.write(row.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_truncated_line_is_dropped_and_one_with_a_null_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = r#"{"step":1,"epoch":1,"loss":null,"top1":1.0,"top5":1.0,"lr":0.1,"images_per_s":1.0,"data_wait":0.0}"#;
        fs::write(&path, format!("{line}\n{}", &line[..40])).unwrap();
        let (_, missing) = JsonLines::open(&path, 1).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), missing), (format!("{line}\n"), 0));
    }

    #[test]
    fn lines_that_are_damaged_or_repeated_are_removed_and_counted_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = |step: u64| {
            format!(
                r#"{{"step":{step},"epoch":1,"loss":1.0,"top1":1.0,"top5":1.0,"lr":0.1,"images_per_s":1.0,"data_wait":0.0}}"#
            )
        };
        let lines = [line(1), line(2), line(2), "garbage".to_owned(), line(4), line(5)];
        fs::write(&path, lines.join("\n")).unwrap();
        let (_, missing) = JsonLines::open(&path, 4).unwrap();
        let expected = [1, 2, 4].map(|step| line(step) + "\n").concat();
        assert_eq!((fs::read_to_string(&path).unwrap(), missing), (expected, 1));
    }

    #[test]
    fn a_truncated_row_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epochs.csv");
        fs::write(&path, "epoch,lr\n1,0.1\n2").unwrap();
        let (_, missing) = Rows::open(&path, "epoch,lr", 2).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), missing), ("epoch,lr\n1,0.1\n", 1));
    }
}
