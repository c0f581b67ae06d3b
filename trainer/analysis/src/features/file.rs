//! Writes features to a file for other programs.
//!
//! A `.safetensors` file holds `features` f32 `[N,D]`, `labels` i64 `[N]`, and `keys` u8: the names of the
//! images in UTF-8, each followed by a line feed. Its metadata have `layer`, `run`, `checkpoint`, and
//! `classes`: the WordNet IDs in the order of the labels, as a JSON array. A `.npy` file holds the features
//! only; a `.csv` file of the same name has a row for each image: label, WordNet ID and key. Both are written
//! batch by batch, so that the features need not fit into memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fovea_files::write_atomically;
use fovea_pipeline::records::StoredRecord;
use fovea_pipeline::text::printable;
use fovea_pipeline::{Class, Records};
use fovea_trainer::training::TrainingError;
use serde_json::json;

use super::extractor::Extractor;

/// Features cannot be computed or written.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The name of the file has no known extension.
    #[error("{}: expected a name that ends with .safetensors or .npy", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The features cannot be computed.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// The file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Reason given by the file system.
        reason: io::Error,
    },
}

impl FeatureError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Write { path, reason }
    }
}

/// Format of a file of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One file with labels and keys.
    Safetensors,
    /// NumPy's format, and a table of labels and keys.
    Npy,
}

impl Format {
    /// The format for the extension of `path`.
    ///
    /// # Errors
    /// [`FeatureError::Format`].
    pub fn from_path(path: &Path) -> Result<Self, FeatureError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("npy") => Ok(Self::Npy),
            _ => Err(FeatureError::Format { path: path.into() }),
        }
    }
}

/// The origin of features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The layer.
    pub layer: String,
    /// Folder of the run.
    pub run: PathBuf,
    /// Folder of the checkpoint.
    pub checkpoint: PathBuf,
}

impl Origin {
    /// The metadata of a file; all values are strings.
    fn metadata(&self, classes: &[Class]) -> serde_json::Value {
        let wnids: Vec<&str> = classes.iter().map(|class| class.wnid.as_str()).collect();
        let checkpoint = self.checkpoint.file_name().unwrap_or(self.checkpoint.as_os_str());
        json!({
            "layer": self.layer,
            "run": self.run.display().to_string(),
            "checkpoint": checkpoint.to_string_lossy(),
            "classes": json!(wnids).to_string(),
        })
    }
}

/// Writes the features of all images of `records`, in their order, to `path`; `progress` receives the number
/// of finished images. Returns `false`, without writing a file, once `stop` is set.
///
/// # Errors
/// [`FeatureError`]; `path` is unchanged then.
pub fn write_features(
    path: &Path,
    (extractor, origin): (&mut Extractor, &Origin),
    (records, classes): (&Arc<Records>, &[Class]),
    workers: usize,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<bool, FeatureError> {
    let format = Format::from_path(path)?;
    let shape = [records.len(), extractor.width()];
    let mut outcome = Ok(true);
    let written = write_atomically(path, |out| {
        let fail = FeatureError::at;
        let metadata = origin.metadata(classes);
        let begun = begin(out, format, records, shape, metadata).map_err(fail(path));
        let finished = begun.and_then(|()| {
            extractor.run_all(records, workers, stop, &mut |first, activations| {
                progress(first);
                let bytes: Vec<u8> =
                    activations.features.iter().flat_map(|value| value.to_le_bytes()).collect();
                out.write_all(&bytes).map_err(fail(path))
            })
        });
        outcome = finished.and_then(|finished| {
            end(out, format, records).map_err(fail(path))?;
            Ok(finished)
        });
        // An error keeps `write_atomically` from leaving an incomplete file.
        if matches!(outcome, Ok(true)) { Ok(()) } else { Err(io::Error::other("incomplete")) }
    });
    if outcome? {
        written.map_err(FeatureError::at(path))?;
        if format == Format::Npy {
            let table = path.with_extension("csv");
            write_atomically(&table, |out| write_table(out, records, classes))
                .map_err(FeatureError::at(&table))?;
        }
        return Ok(true);
    }
    Ok(false)
}

/// Writes everything before the features.
fn begin(
    out: &mut BufWriter<File>,
    format: Format,
    records: &Records,
    shape: [usize; 2],
    metadata: serde_json::Value,
) -> io::Result<()> {
    let [rows, width] = shape;
    if format == Format::Npy {
        return out.write_all(&npy_header(&format!("({rows}, {width})")));
    }
    let keys =
        (0..rows).map(|index| Ok(record(records, index)?.key().len() + 1)).sum::<io::Result<usize>>()?;
    let (labels_end, features_end) = (8 * rows, 8 * rows + 4 * rows * width);
    let header = json!({
        "__metadata__": metadata,
        "labels": { "dtype": "I64", "shape": [rows], "data_offsets": [0, labels_end] },
        "features": { "dtype": "F32", "shape": shape, "data_offsets": [labels_end, features_end] },
        "keys": { "dtype": "U8", "shape": [keys], "data_offsets": [features_end, features_end + keys] },
    });
    let mut header = header.to_string().into_bytes();
    // The tensors start at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    (0..rows).try_for_each(|index| out.write_all(&record(records, index)?.label().to_le_bytes()))
}

/// A record, or the reason why its shard cannot be read.
fn record(records: &Records, index: usize) -> io::Result<StoredRecord> {
    records.record(index).map_err(io::Error::other)
}

/// Writes everything after the features.
fn end(out: &mut BufWriter<File>, format: Format, records: &Records) -> io::Result<()> {
    match format {
        Format::Npy => Ok(()),
        Format::Safetensors => {
            (0..records.len()).try_for_each(|index| writeln!(out, "{}", record(records, index)?.key()))
        }
    }
}

/// The header of NumPy's format, version 1.0: f32, little-endian, C order.
fn npy_header(shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version and length take 10 bytes; a line feed ends the header, which is padded to a multiple of
    // 64.
    let padding = (10 + text.len() + 1).next_multiple_of(64) - (10 + text.len() + 1);
    text.extend(std::iter::repeat_n(' ', padding));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}

fn write_table(out: &mut BufWriter<File>, records: &Records, classes: &[Class]) -> io::Result<()> {
    writeln!(out, "label,wnid,key")?;
    (0..records.len()).try_for_each(|index| {
        let record = record(records, index)?;
        let class = usize::try_from(record.label()).ok().and_then(|label| classes.get(label));
        let wnid = class.map_or("", |class| class.wnid.as_str());
        writeln!(out, "{},{},{}", record.label(), quoted(wnid), quoted(&record.key()))
    })
}

/// A quoted cell of a CSV table, on one line.
fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_table_are_quoted_and_printable() {
        assert_eq!(quoted("a \"b\", c"), "\"a \"\"b\"\", c\"");
        assert_eq!(quoted("a\n\u{1b}[2J"), "\"a\\n\\u{1b}[2J\"");
    }

    #[test]
    fn the_format_is_known_by_the_extension() {
        assert_eq!(Format::from_path(Path::new("a/b.safetensors")).unwrap(), Format::Safetensors);
        assert_eq!(Format::from_path(Path::new("b.npy")).unwrap(), Format::Npy);
        let error = Format::from_path(Path::new("b.txt")).unwrap_err().to_string();
        assert!(error.contains("b.txt") && error.contains(".safetensors or .npy"), "{error}");
    }

    #[test]
    fn a_header_for_numpy_is_a_multiple_of_64_and_ends_with_a_line_feed() {
        for shape in ["(1, 2)", "(1281167, 4096)"] {
            let header = npy_header(shape);
            assert!(header.len().is_multiple_of(64) && header.ends_with(b"\n"), "{header:?}");
            assert_eq!(usize::from(header[8]) + 256 * usize::from(header[9]), header.len() - 10);
        }
    }

    #[test]
    fn cells_of_a_table_can_hold_commas_and_quotes() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
