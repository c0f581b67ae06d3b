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

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

use fovea_files::write_atomically;
use fovea_runtime::Loaded;
use fovea_trainer::backend::{BackendError, OrtOptions};
use fovea_trainer::checkpoint::Meta;
use fovea_trainer::training::{Trained, TrainingError, Which};
pub use record::Fingerprint;
use record::Record;

use crate::figure::{self, FigureError};

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

/// What was seen in a checkpoint.
#[derive(Clone, Debug, Default)]
struct LookedInto {
    path: PathBuf,
    /// Which checkpoint it is, for people.
    told: String,
    sections: Vec<Section>,
}

/// Makes ONNX Runtime ready.
pub type OpenRuntime<'a> = dyn FnMut() -> Result<(&'static Loaded, OrtOptions), BackendError> + 'a;

/// Makes the report of a run, again and again while it goes on.
pub struct Reporter<'a> {
    run: PathBuf,
    options: ReportOptions,
    runtime: &'a mut OpenRuntime<'a>,
    stop: &'a AtomicBool,
    /// What was seen in a checkpoint; it is looked at anew when there is another one.
    looked_into: Option<LookedInto>,
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
        let record = Record::read(&self.run, self.options.data.as_deref())?;
        let mut sections = vec![curves::learning(&record), curves::speed(&record)];
        let LookedInto { told, sections: of_checkpoint, .. } = self.look_into_checkpoint(&record);
        sections.extend(of_checkpoint);
        let left_out: Vec<String> = record
            .damage
            .iter()
            .chain(sections.iter().flat_map(|section| &section.left_out))
            .cloned()
            .collect();
        let page = page::page(&record, &told, &sections, refresh_s);
        write(&self.options.out, page.as_bytes())?;
        self.write_figures(sections.into_iter().flat_map(|section| section.figures).collect())?;
        Ok(left_out)
    }

    fn look_into_checkpoint(&mut self, record: &Record) -> LookedInto {
        // Before the checkpoint is read, which may be large.
        let path = Trained::path(&self.run, self.options.which);
        if let Some(known) = &self.looked_into
            && (self.stop.load(Ordering::Relaxed) || path.as_ref().is_ok_and(|path| *path == known.path))
        {
            return known.clone();
        }
        let loaded = path.and_then(|path| Ok((path, Trained::load(&self.run, self.options.which)?)));
        let (path, trained) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                let left_out = vec![format!("the network's kernels, norms and answers: {error}")];
                let sections = vec![Section { title: "The network", left_out, ..Section::default() }];
                return LookedInto { sections, ..LookedInto::default() };
            }
        };
        let told = told(&trained.meta, self.options.which, record.has_validation());
        let network = weights::section(&trained);
        let data =
            self.options.data.as_deref().or(record.settings.as_ref().map(|settings| settings.data.as_path()));
        let answers = answers::section(trained, data, self.options.images, self.runtime, self.stop);
        let seen = LookedInto { path, told, sections: vec![network, answers] };
        if self.stop.load(Ordering::Relaxed) {
            // What was not finished does not take the place of what was.
            return self.looked_into.get_or_insert(seen).clone();
        }
        self.looked_into.insert(seen).clone()
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

/// Which checkpoint it is, for people.
fn told(meta: &Meta, which: Which, has_validation: bool) -> String {
    let epoch =
        if meta.batch > 0 { format!("in epoch {}", meta.epoch + 1) } else { format!("epoch {}", meta.epoch) };
    let why = match (which, meta.is_best) {
        (Which::Best, true) if has_validation => "lowest validation error",
        (Which::Best, true) => "lowest error",
        // None was saved as the best.
        (Which::Best, false) | (Which::Last, _) => "latest",
    };
    format!("Checkpoint: step {}, {epoch} ({why})", meta.step)
}

#[cfg(test)]
mod tests {
    use fovea_trainer::recipe::Recipe;

    use super::*;

    /// The position of a checkpoint in the fourth epoch.
    fn meta(step: u64) -> Meta {
        let meta = serde_json::json!({
            "written_by": "0.1.0", "recipe": "demo", "recipe_hash": "ab12", "classes": [], "class_names": [],
            "data": "ef56", "is_best": false, "seed": 1, "step": step, "epoch": 3, "batch": 7, "discarded": 0,
            "sums": { "rows": 448, "loss": 0.8, "top1": 12, "top5": 99 },
            "schedule": fovea_trainer::optimizer::State::default(),
        });
        serde_json::from_value(meta).unwrap()
    }

    #[test]
    fn the_page_tells_which_checkpoint_it_shows_and_why() {
        let best = Meta { is_best: true, batch: 0, ..meta(180) };
        assert_eq!(told(&best, Which::Best, true), "Checkpoint: step 180, epoch 3 (lowest validation error)");
        assert_eq!(told(&best, Which::Best, false), "Checkpoint: step 180, epoch 3 (lowest error)");
        assert_eq!(told(&best, Which::Last, true), "Checkpoint: step 180, epoch 3 (latest)");
        assert_eq!(told(&meta(190), Which::Best, true), "Checkpoint: step 190, in epoch 4 (latest)");
    }

    #[test]
    fn once_it_is_interrupted_a_report_keeps_what_was_seen_before() {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join("recipe.toml"), Recipe::load("demo", &[]).unwrap().to_toml()).unwrap();
        let out = run.path().join("report.html");
        let options = ReportOptions { data: None, which: Which::Best, images: 10, out: out.clone() };
        let stop = AtomicBool::new(false);
        let mut runtime = || -> Result<(&'static Loaded, OrtOptions), BackendError> {
            unreachable!("there is no checkpoint to ask")
        };
        let mut reporter = Reporter::new(run.path(), options, &mut runtime, &stop);
        let figure = Figure { name: "answers", svg: "<svg>before</svg>".into(), caption: String::new() };
        let sections =
            vec![Section { title: "What it says", figures: vec![figure.clone()], ..Section::default() }];
        let told = "Checkpoint: step 1".to_owned();
        reporter.looked_into = Some(LookedInto { path: run.path().join("step-1"), told, sections });
        reporter.written = vec![figure];
        stop.store(true, Ordering::Relaxed);
        reporter.write(None).unwrap();
        let page = fs::read_to_string(&out).unwrap();
        assert!(page.contains("<svg>before</svg>") && page.contains("Checkpoint: step 1"), "{page}");
    }
}
