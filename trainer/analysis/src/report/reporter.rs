//! Makes the report of a run and writes its files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

use fovea_files::write_atomically;
use fovea_pipeline::Dataset;
use fovea_trainer::checkpoint::Meta;
use fovea_trainer::training::{CheckpointChoice, TrainedModel, open_dataset};

use super::error::ReportError;
use super::predictions::OpenRuntime;
use super::record::{DataFacts, Record, has_dropout};
use super::section::{Figure, Section};
use super::{curves, page, predictions, weights};
use crate::figure;

/// Options of a report.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Folder of the data set; by default that of the run.
    pub data: Option<PathBuf>,
    /// The data set, where it lies in no folder, or why it cannot be used.
    pub dataset: Option<Result<Dataset, String>>,
    /// The checkpoint to show.
    pub checkpoint: CheckpointChoice,
    /// Images of each split that the network predicts, evenly spread over the split.
    pub images: usize,
    /// File of the page; figures are written to the folder `figures` next to it.
    pub out: PathBuf,
}

/// The sections of a checkpoint.
#[derive(Clone, Debug, Default)]
struct CheckpointSections {
    path: PathBuf,
    /// Describes the checkpoint.
    title: String,
    sections: Vec<Section>,
}

/// Makes the report of a run, repeatedly while the run is in progress.
pub struct Reporter<'a> {
    run: PathBuf,
    options: ReportOptions,
    runtime: &'a mut OpenRuntime<'a>,
    stop: &'a AtomicBool,
    /// The sections of the last checkpoint, until there is another one.
    checkpoint: Option<CheckpointSections>,
    /// Whether the network has dropout, once it was read.
    has_dropout: Option<bool>,
    /// The figures in the files.
    written: Vec<Figure>,
}

impl<'a> Reporter<'a> {
    /// A reporter for the run in the folder `run`. Predictions end early once `stop` is set.
    pub fn new(
        run: &Path,
        options: ReportOptions,
        runtime: &'a mut OpenRuntime<'a>,
        stop: &'a AtomicBool,
    ) -> Self {
        let (checkpoint, has_dropout, written) = (None, None, Vec::new());
        Self { run: run.into(), options, runtime, stop, checkpoint, has_dropout, written }
    }

    /// Writes the page and its figures; the page reloads itself every `refresh_s` seconds, if given. Returns
    /// the omissions. `None` if it was stopped: the files stay as they were.
    ///
    /// # Errors
    /// [`ReportError::Run`] when the folder is not that of a run, others when a file cannot be written.
    pub fn write(&mut self, refresh_s: Option<u64>) -> Result<Option<Vec<String>>, ReportError> {
        // The last page of a report that is kept up to date is written after it was stopped.
        let is_last = self.stop.load(Ordering::Relaxed);
        let mut record = Record::read(&self.run, self.options.data.as_deref())?;
        if let Some(Ok(dataset)) = &self.options.dataset {
            record.data = Some(DataFacts::of(dataset));
        }
        // Reading a large network takes time, and it stays the same.
        record.has_dropout = *self.has_dropout.get_or_insert_with(|| has_dropout(&record.recipe));
        let mut sections = vec![curves::learning(&record), curves::speed(&record)];
        let Some(checkpoint) = self.checkpoint_sections(&record) else { return Ok(None) };
        sections.extend(checkpoint.sections);
        let omissions: Vec<String> = record
            .damage
            .iter()
            .chain(sections.iter().flat_map(|section| &section.omissions))
            .cloned()
            .collect();
        let page = page::page(&record, &checkpoint.title, &sections, refresh_s);
        let figures = sections.into_iter().flat_map(|section| section.figures).collect();
        if !self.write_figures(figures, is_last)? {
            return Ok(None);
        }
        write(&self.options.out, page.as_bytes())?;
        Ok(Some(omissions))
    }

    /// `None` if it was stopped and there are none of before.
    fn checkpoint_sections(&mut self, record: &Record) -> Option<CheckpointSections> {
        // Compares the path first, since reading a checkpoint can take long.
        let path = TrainedModel::path(&self.run, self.options.checkpoint);
        if let Some(known) = &self.checkpoint
            && (self.stop.load(Ordering::Relaxed) || path.as_ref().is_ok_and(|path| *path == known.path))
        {
            return Some(known.clone());
        }
        let loaded =
            path.and_then(|path| Ok((path, TrainedModel::load(&self.run, self.options.checkpoint)?)));
        let (path, trained) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                let omissions = vec![format!("the network's kernels, norms and predictions: {error}")];
                let sections = vec![Section { title: "The network", omissions, ..Section::default() }];
                return Some(CheckpointSections { sections, ..CheckpointSections::default() });
            }
        };
        let title = checkpoint_title(&trained.meta, self.options.checkpoint, record.has_validation());
        let network = weights::section(&trained);
        let data =
            self.options.data.as_deref().or(record.settings.as_ref().map(|settings| settings.data.as_path()));
        let dataset = self.options.dataset.clone().unwrap_or_else(|| {
            let data = data.ok_or("the data set of the run is not known; name one with --data")?;
            open_dataset(data, &trained.recipe).map_err(|error| error.to_string())
        });
        let predictions =
            predictions::section(trained, dataset, self.options.images, self.runtime, self.stop);
        let sections = CheckpointSections { path, title, sections: vec![network, predictions] };
        if self.stop.load(Ordering::Relaxed) {
            // Interrupted sections do not replace complete ones.
            return self.checkpoint.clone();
        }
        Some(self.checkpoint.insert(sections).clone())
    }

    /// Writes the figures that have changed as SVG and PNG; `false` if it was stopped before, and is not the
    /// last time.
    fn write_figures(&mut self, figures: Vec<Figure>, is_last: bool) -> Result<bool, ReportError> {
        let folder = self.options.out.with_file_name("figures");
        // All are drawn before the first is written.
        let mut drawn = Vec::new();
        for figure in figures.iter().filter(|figure| !self.written.contains(figure)) {
            if self.stop.load(Ordering::Relaxed) && !is_last {
                return Ok(false);
            }
            drawn.push((figure, figure::png(&figure.svg)?));
        }
        fs::create_dir_all(&folder).map_err(|reason| ReportError::Write { path: folder.clone(), reason })?;
        for (figure, png) in drawn {
            write(&folder.join(format!("{}.svg", figure.name)), figure.svg.standalone().as_bytes())?;
            write(&folder.join(format!("{}.png", figure.name)), &png)?;
        }
        self.written = figures;
        Ok(true)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    write_atomically(path, |out| io::Write::write_all(out, bytes))
        .map_err(|reason| ReportError::Write { path: path.into(), reason })
}

/// Describes the checkpoint.
fn checkpoint_title(meta: &Meta, choice: CheckpointChoice, has_validation: bool) -> String {
    let epoch =
        if meta.batch > 0 { format!("in epoch {}", meta.epoch + 1) } else { format!("epoch {}", meta.epoch) };
    let why = match (choice, meta.is_best) {
        (CheckpointChoice::Best, true) if has_validation => "lowest validation error",
        (CheckpointChoice::Best, true) => "lowest error of training images",
        // No checkpoint was saved as the best.
        (CheckpointChoice::Best, false) | (CheckpointChoice::Last, _) => "latest",
    };
    format!("Checkpoint: step {}, {epoch} ({why})", meta.step)
}

#[cfg(test)]
mod tests {
    use fovea_runtime::OnnxRuntime;
    use fovea_trainer::backend::{BackendError, OrtOptions};
    use fovea_trainer::recipe::Recipe;

    use super::*;
    use crate::figure::Svg;

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
    fn the_title_names_the_checkpoint_and_why_it_was_chosen() {
        let best = Meta { is_best: true, batch: 0, ..meta(180) };
        assert_eq!(
            checkpoint_title(&best, CheckpointChoice::Best, true),
            "Checkpoint: step 180, epoch 3 (lowest validation error)"
        );
        assert_eq!(
            checkpoint_title(&best, CheckpointChoice::Best, false),
            "Checkpoint: step 180, epoch 3 (lowest error of training images)"
        );
        assert_eq!(
            checkpoint_title(&best, CheckpointChoice::Last, true),
            "Checkpoint: step 180, epoch 3 (latest)"
        );
        assert_eq!(
            checkpoint_title(&meta(190), CheckpointChoice::Best, true),
            "Checkpoint: step 190, in epoch 4 (latest)"
        );
    }

    #[test]
    fn a_report_that_is_stopped_while_it_is_drawn_writes_nothing_unless_it_is_the_last() {
        let run = tempfile::tempdir().unwrap();
        let out = run.path().join("report.html");
        let options =
            ReportOptions { data: None, dataset: None, checkpoint: CheckpointChoice::Best, images: 10, out };
        let stop = AtomicBool::new(true);
        let mut runtime = || -> Result<(&'static OnnxRuntime, OrtOptions), BackendError> {
            unreachable!("there is no checkpoint")
        };
        let mut reporter = Reporter::new(run.path(), options, &mut runtime, &stop);
        let svg = Svg { width: 9.0, height: 9.0, title: "figure".into(), body: String::new() };
        let figure = || vec![Figure { name: "loss", svg: svg.clone(), caption: String::new() }];
        assert!(!reporter.write_figures(figure(), false).unwrap());
        assert!(!run.path().join("figures").exists());
        assert!(reporter.write_figures(figure(), true).unwrap());
        assert!(run.path().join("figures/loss.png").is_file());
    }

    #[test]
    fn an_interrupted_report_keeps_the_sections_of_the_one_before() {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join("recipe.toml"), Recipe::load("demo", &[]).unwrap().to_toml()).unwrap();
        let out = run.path().join("report.html");
        let options = ReportOptions {
            data: None,
            dataset: None,
            checkpoint: CheckpointChoice::Best,
            images: 10,
            out: out.clone(),
        };
        let stop = AtomicBool::new(false);
        let mut runtime = || -> Result<(&'static OnnxRuntime, OrtOptions), BackendError> {
            unreachable!("there is no checkpoint")
        };
        let mut reporter = Reporter::new(run.path(), options, &mut runtime, &stop);
        let svg = Svg { width: 9.0, height: 9.0, title: "before".into(), body: String::new() };
        let figure = Figure { name: "predictions", svg, caption: String::new() };
        let sections =
            vec![Section { title: "Predictions", figures: vec![figure.clone()], ..Section::default() }];
        let title = "Checkpoint: step 1".to_owned();
        reporter.checkpoint = Some(CheckpointSections { path: run.path().join("step-1"), title, sections });
        reporter.written = vec![figure];
        stop.store(true, Ordering::Relaxed);
        reporter.write(None).unwrap();
        let page = fs::read_to_string(&out).unwrap();
        assert!(page.contains("<title>before</title>") && page.contains("Checkpoint: step 1"), "{page}");
    }
}
