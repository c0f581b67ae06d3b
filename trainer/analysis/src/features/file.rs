//! Features in a file, for other programs.
//!
//! `.safetensors` holds `features` f32 `[N,D]`, `labels` i64 `[N]`, and `keys` u8: the images' names in UTF-8, each ended by a line
//! feed. Its metadata tell `layer`, `run`, `checkpoint`, and `classes`: the WordNet IDs in the order of the labels, as a JSON array.
//! `.npy` holds the features alone; a `.csv` of the same name beside it has a row for each image: label, WordNet ID and key.
//! Both are written as the features come, so that they need not fit into memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fovea_files::write_atomically;
use fovea_pipeline::{Class, Records};
use fovea_trainer::training::TrainingError;
use serde_json::json;

use super::Extractor;

/// Features cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The name of the file does not tell its format.
    #[error("{}: expected a name that ends with .safetensors or .npy", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The features cannot be had.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// The file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        reason: io::Error,
    },
}

impl FeatureError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Write { path, reason }
    }
}

/// How features are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One file with labels and keys.
    Safetensors,
    /// NumPy's, and a table beside it.
    Npy,
}

impl Format {
    /// The format that the name of a file asks for.
    ///
    /// # Errors
    /// [`FeatureError::Format`].
    pub fn of(path: &Path) -> Result<Self, FeatureError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("npy") => Ok(Self::Npy),
            _ => Err(FeatureError::Format { path: path.into() }),
        }
    }
}

/// Where features come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The layer whose activations they are.
    pub layer: String,
    /// Folder of the run.
    pub run: PathBuf,
    /// Folder of the checkpoint.
    pub checkpoint: PathBuf,
}

impl Origin {
    /// As the metadata of a file, which are texts alone.
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

/// Writes what `extractor` sees in every image of `records`, in their order, to `path`; `progress` hears how many images are done.
/// `false` when `stop` was set meanwhile; there is no file then.
///
/// # Errors
/// [`FeatureError`]; `path` is as it was then.
pub fn write_features(
    path: &Path,
    (extractor, origin): (&mut Extractor, &Origin),
    (records, classes): (&Arc<Records>, &[Class]),
    workers: usize,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<bool, FeatureError> {
    let format = Format::of(path)?;
    let shape = [records.len(), extractor.width()];
    let mut outcome = Ok(true);
    let written = write_atomically(path, |out| {
        let fail = FeatureError::at;
        let metadata = origin.metadata(classes);
        let begun = begin(out, format, records, shape, metadata).map_err(fail(path));
        let looked = begun.and_then(|()| {
            extractor.look_at_all(records, workers, stop, &mut |first, seen| {
                progress(first);
                let bytes: Vec<u8> = seen.features.iter().flat_map(|value| value.to_le_bytes()).collect();
                out.write_all(&bytes).map_err(fail(path))
            })
        });
        outcome = looked.and_then(|finished| {
            end(out, format, records).map_err(fail(path))?;
            Ok(finished)
        });
        // What goes wrong, and what is not whole, leaves no file behind.
        if matches!(outcome, Ok(true)) { Ok(()) } else { Err(io::Error::other("not whole")) }
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

/// Everything before the features.
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
    let keys: usize = (0..rows).map(|index| records.record(index).key.len() + 1).sum();
    let (labels_end, features_end) = (8 * rows, 8 * rows + 4 * rows * width);
    let header = json!({
        "__metadata__": metadata,
        "labels": { "dtype": "I64", "shape": [rows], "data_offsets": [0, labels_end] },
        "features": { "dtype": "F32", "shape": shape, "data_offsets": [labels_end, features_end] },
        "keys": { "dtype": "U8", "shape": [keys], "data_offsets": [features_end, features_end + keys] },
    });
    let mut header = header.to_string().into_bytes();
    // The tensors begin at a multiple of 8.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    (0..rows).try_for_each(|index| out.write_all(&records.record(index).label.to_le_bytes()))
}

/// Everything after them.
fn end(out: &mut BufWriter<File>, format: Format, records: &Records) -> io::Result<()> {
    match format {
        Format::Npy => Ok(()),
        Format::Safetensors => {
            (0..records.len()).try_for_each(|index| writeln!(out, "{}", records.record(index).key))
        }
    }
}

/// Version 1.0 of NumPy's format: f32, little endian, rows first.
fn npy_header(shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version and length take 10 bytes, a line feed ends the header, and all of it is a multiple of 64.
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
        let record = records.record(index);
        let class = usize::try_from(record.label).ok().and_then(|label| classes.get(label));
        let wnid = class.map_or("", |class| class.wnid.as_str());
        writeln!(out, "{},{},{}", record.label, quoted(wnid), quoted(record.key))
    })
}

/// A cell of a table, quoted so that it may hold anything.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_tells_the_format() {
        assert_eq!(Format::of(Path::new("a/b.safetensors")).unwrap(), Format::Safetensors);
        assert_eq!(Format::of(Path::new("b.npy")).unwrap(), Format::Npy);
        let error = Format::of(Path::new("b.txt")).unwrap_err().to_string();
        assert!(error.contains("b.txt") && error.contains(".safetensors or .npy"), "{error}");
    }

    #[test]
    fn a_header_for_numpy_is_a_multiple_of_64_and_ends_its_line() {
        for shape in ["(1, 2)", "(1281167, 4096)"] {
            let header = npy_header(shape);
            assert!(header.len().is_multiple_of(64) && header.ends_with(b"\n"), "{header:?}");
            assert_eq!(usize::from(header[8]) + 256 * usize::from(header[9]), header.len() - 10);
        }
    }

    #[test]
    fn cells_of_a_table_may_hold_commas_and_quotes() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
