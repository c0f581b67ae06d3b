//! The report of a run: one page with figures, for people.
//!
//! | file | what |
//! | --- | --- |
//! | `record.rs` | what lies in the run's folder, whatever is missing |
//! | `curves.rs` | figures of the metrics: loss, error, speed |
//! | `weights.rs` | figures of a checkpoint: kernels, norms |
//! | `answers.rs`, `confusion.rs` | figures of what the network says of images |
//! | `page.rs` | all of it as HTML |
//!
//! Nothing that is missing keeps the rest from being shown: what is left out is told, with the reason. A figure more is a function
//! that gives a [`Figure`], and a line where its neighbours are collected.

mod answers;
mod confusion;
mod curves;
mod page;
mod record;
mod weights;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

pub use record::Fingerprint;
use record::Record;

use crate::{
    backend::{BackendError, OrtOptions},
    figure::{self, FigureError},
    files::write_atomically,
    runtime::Loaded,
    training::{Trained, TrainingError, Which},
};

/// A report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder is not that of a run.
    #[error(transparent)]
    Run(#[from] TrainingError),
    /// A figure cannot be drawn.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        reason: io::Error,
    },
}

/// What a report is made of.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Folder of the data set instead of the run's own.
    pub data: Option<PathBuf>,
    /// The checkpoint that is looked into.
    pub which: Which,
    /// Images of each split that the network is asked about, evenly spread over the split.
    pub images: usize,
    /// Where the page goes; figures go to the folder `figures` beside it.
    pub out: PathBuf,
}

/// A figure of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name of its files.
    pub name: &'static str,
    /// The figure.
    pub svg: String,
    /// What one sees in it.
    pub caption: String,
}

/// Figures that belong together, and what had to be left out among them.
#[derive(Clone, Debug, Default)]
struct Section {
    title: &'static str,
    figures: Vec<Figure>,
    left_out: Vec<String>,
}

/// Makes ONNX Runtime ready.
pub type OpenRuntime<'a> = dyn FnMut() -> Result<(&'static Loaded, OrtOptions), BackendError> + 'a;

/// Makes the report of a run, again and again while it goes on.
pub struct Reporter<'a> {
    run: PathBuf,
    options: ReportOptions,
    runtime: &'a mut OpenRuntime<'a>,
    stop: &'a AtomicBool,
    /// The sections about a checkpoint; they are made anew when there is another one.
    looked_into: Option<(PathBuf, Vec<Section>)>,
    /// The figures that stand in files, as they were written.
    written: Vec<Figure>,
}

impl<'a> Reporter<'a> {
    /// Reports on the run in the folder `run`. Asking the network ends early once `stop` is set.
    pub fn new(
        run: &Path,
        options: ReportOptions,
        runtime: &'a mut OpenRuntime<'a>,
        stop: &'a AtomicBool,
    ) -> Self {
        Self { run: run.into(), options, runtime, stop, looked_into: None, written: Vec::new() }
    }

    /// Writes the page and its figures; the page asks to be loaded again every `refresh_s` seconds, if given. Returns what had to be
    /// left out.
    ///
    /// # Errors
    /// [`ReportError::Run`] when the folder is not that of a run, else when something cannot be written.
    pub fn write(&mut self, refresh_s: Option<u64>) -> Result<Vec<String>, ReportError> {
        let record = Record::read(&self.run)?;
        let mut sections = vec![curves::learning(&record), curves::speed(&record)];
        sections.extend(self.checkpoint_sections(&record));
        let left_out: Vec<String> = record
            .damage
            .iter()
            .chain(sections.iter().flat_map(|section| &section.left_out))
            .cloned()
            .collect();
        let page = page::page(&record, &sections, refresh_s);
        write(&self.options.out, page.as_bytes())?;
        self.write_figures(sections.into_iter().flat_map(|section| section.figures).collect())?;
        Ok(left_out)
    }

    fn checkpoint_sections(&mut self, record: &Record) -> Vec<Section> {
        // Before the checkpoint is read, which may be large.
        let path = Trained::path(&self.run, self.options.which);
        if let (Ok(path), Some((looked_into, sections))) = (&path, &self.looked_into)
            && path == looked_into
        {
            return sections.clone();
        }
        let loaded = path.and_then(|path| Ok((path, Trained::load(&self.run, self.options.which)?)));
        let (path, trained) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                let left_out = vec![format!("the network's kernels, norms and answers: {error}")];
                return vec![Section { title: "The network", left_out, ..Section::default() }];
            }
        };
        let network = weights::section(&trained);
        let data =
            self.options.data.as_deref().or(record.settings.as_ref().map(|settings| settings.data.as_path()));
        let answers = answers::section(trained, data, self.options.images, self.runtime, self.stop);
        let sections = vec![network, answers];
        self.looked_into = Some((path, sections.clone()));
        sections
    }

    /// Figures as SVG and PNG; only those that have changed.
    fn write_figures(&mut self, figures: Vec<Figure>) -> Result<(), ReportError> {
        let folder = self.options.out.with_file_name("figures");
        fs::create_dir_all(&folder).map_err(|reason| ReportError::Write { path: folder.clone(), reason })?;
        for figure in figures.iter().filter(|figure| !self.written.contains(figure)) {
            write(&folder.join(format!("{}.svg", figure.name)), figure::standalone(&figure.svg).as_bytes())?;
            write(&folder.join(format!("{}.png", figure.name)), &figure::png(&figure.svg)?)?;
        }
        self.written = figures;
        Ok(())
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    write_atomically(path, |out| io::Write::write_all(out, bytes))
        .map_err(|reason| ReportError::Write { path: path.into(), reason })
}
