//! The default command: train.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use fovea_analysis::figure::grouped;
use fovea_pipeline::summary::{count, percent};
use fovea_pipeline::{Split, cores};
use fovea_tools::terminal::{INTERRUPTED, print};
use fovea_tools::{errln, outln};
use fovea_trainer::checkpoint::Store;
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::{
    Outcome, Report, RunFolder, RunOptions, RunSettings, Score, Session, TrainingData, read_settings,
};

use super::args::{TrainArgs, TrainingArgs};
use super::progress::Terminal;
use super::{STOP, demo, device, finish_first};

/// The recipe of the demonstration.
const DEMO: &str = "demo";

/// A run as the command line describes it.
struct PlannedRun {
    recipe: Recipe,
    settings: RunSettings,
    folder: PathBuf,
    is_demo: bool,
}

pub fn train(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    let training = &args.training;
    let PlannedRun { recipe, settings, folder: path, is_demo } = match &args.resume {
        Some(run) => old_run(args, run)?,
        None => new_run(args)?,
    };
    let data = TrainingData::open(&settings.data, &recipe)?;
    data.check_batch(&recipe)?;
    // An invalid network is an error before a folder is created and ONNX Runtime is loaded.
    data.setup(&recipe, settings.micro_batch, settings.seed)?;
    let keep = training.keep.get();
    let folder =
        if args.resume.is_some() { RunFolder::open(&path, keep)? } else { RunFolder::create(&path, keep)? };
    let precision = settings.precision;
    let session = Session::open(&recipe, &data, options(training, settings), &folder)?;
    let setup = session.setup()?;
    let (trained, all) = setup.trained_values()?;
    let new = setup.network.kept_head.join(", ");
    let mut backend = device::backend(&training.device, Some(&training.step), &setup, precision)?;
    let about = backend.describe();
    errln!("recipe {} on {} ({}), run {}", recipe.name, about.device, about.library, path.display());
    if !new.is_empty() {
        errln!("new for the {} classes, not from the weights: {new}", data.classes().len());
    }
    errln!("trains {} of {} values", grouped(&trained.to_string()), grouped(&all.to_string()));
    let _finish = finish_first("the step");
    // The bar disappears with the statement.
    let outcome = session.train(&mut *backend, &STOP, &mut Terminal::default())?;
    match outcome {
        Outcome::Finished(report) => {
            print_report(&report, folder.store(), &path, args.json)?;
            if is_demo && !args.json {
                print(&demo::next_commands(&path))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted { step } => {
            errln!("stopped after step {step}; resume with: trainer --resume {}", path.display());
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// The options of a run with these settings.
pub fn options(args: &TrainingArgs, settings: RunSettings) -> RunOptions {
    RunOptions {
        settings,
        workers: args.workers.unwrap_or_else(cores).get(),
        checkpoint_every: args.checkpoint_minutes,
    }
}

/// The settings of a new run on the data set in `data`.
pub fn new_settings(args: &TrainingArgs, data: &Path, seed: u64) -> anyhow::Result<RunSettings> {
    Ok(RunSettings {
        data: absolute(data)?,
        limit_batches: args.limit_batches.map(u64::from),
        micro_batch: args.micro_batch.map(usize::from),
        precision: args.device.runtime.precision.unwrap_or_default(),
        seed,
        on_nan: args.on_nan.unwrap_or_default(),
        on_bad_record: args.on_bad_record.unwrap_or_default(),
    })
}

/// The command line's overrides of a recipe.
pub fn overrides(args: &TrainingArgs) -> Vec<String> {
    let mut overrides = args.set.clone();
    overrides.extend(args.batch_size.as_ref().map(|size| format!("training.batch_size={size}")));
    overrides.extend(args.epochs.map(|epochs| format!("training.epochs={epochs}")));
    overrides
}

fn new_run(args: &TrainArgs) -> anyhow::Result<PlannedRun> {
    let default = if args.data.is_some() { "alexnet" } else { DEMO };
    let mut overrides = overrides(&args.training);
    if let Some(file) = &args.weights {
        let file = absolute(file)?;
        let file = file.to_str().context("the path of the weights is not Unicode")?;
        overrides.insert(0, format!("network.weights={}", toml::Value::from(file)));
    }
    let name = args.recipe.as_deref().unwrap_or(default);
    let recipe = match &args.network {
        None => Recipe::load(name, &overrides)?,
        Some(file) => {
            let file = absolute(file)?;
            let file = file.to_str().context("the path of the network is not Unicode")?;
            Recipe::load_with_network(name, file, args.classes, &overrides)?
        }
    };
    let data = match &args.data {
        Some(data) => data.clone(),
        None => demo::prepared_sample(&recipe)?,
    };
    let settings = new_settings(&args.training, &data, args.seed)?;
    let is_demo = args.data.is_none() && recipe.name == DEMO;
    let folder = args.run.clone().unwrap_or_else(|| free_folder(&recipe.name));
    Ok(PlannedRun { recipe, settings, folder, is_demo })
}

/// A resumed run with its own settings, except those on the command line.
fn old_run(args: &TrainArgs, run: &Path) -> anyhow::Result<PlannedRun> {
    let before = read_settings(run)?;
    let file = run.join("recipe.toml");
    let recipe = Recipe::load_used(
        file.to_str().context("the path of the run is not Unicode")?,
        &overrides(&args.training),
    )?;
    let settings = RunSettings {
        data: args.data.as_deref().map(absolute).transpose()?.unwrap_or(before.data),
        limit_batches: args.training.limit_batches.map(u64::from).or(before.limit_batches),
        micro_batch: args.training.micro_batch.map(usize::from).or(before.micro_batch),
        precision: args.training.device.runtime.precision.unwrap_or(before.precision),
        seed: before.seed,
        on_nan: args.training.on_nan.unwrap_or(before.on_nan),
        on_bad_record: args.training.on_bad_record.unwrap_or(before.on_bad_record),
    };
    Ok(PlannedRun { recipe, settings, folder: run.to_owned(), is_demo: false })
}

pub fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("the path {} cannot be used", path.display()))
}

/// The first free folder of runs/NAME-1, runs/NAME-2, …
fn free_folder(name: &str) -> PathBuf {
    let folders = (1..).map(|number: u32| Path::new("runs").join(format!("{name}-{number}")));
    folders.into_iter().find(|folder| !folder.exists()).expect("the numbers do not end")
}

fn print_report(report: &Report, store: &Store, run: &Path, json: bool) -> anyhow::Result<()> {
    // The null backend leaves no checkpoint.
    let best = store.best().ok().map(|best| best.display().to_string());
    if json {
        let mut value = serde_json::to_value(report)?;
        value["run"] = run.display().to_string().into();
        value["best_checkpoint"] = best.into();
        outln!("{value}")?;
        return Ok(());
    }
    outln!("trained       {} and {}", count(report.epochs.into(), "epoch"), count(report.step, "update"))?;
    if report.discarded > 0 {
        outln!("left out      {} with a loss that is not finite", count(report.discarded, "batch"))?;
    }
    let images = measured_on(report.split, report.score.images);
    outln!("measured on   {images}, {}", report.views.title())?;
    let last = score_line(&report.score);
    match &report.best {
        Some(best) if best.step == report.step && best.epoch == report.epochs => {
            outln!("last and best {last} (epoch {})", best.epoch)?;
        }
        Some(best) => {
            outln!("best          {} (epoch {})", score_line(&best.score), best.epoch)?;
            outln!("last          {last} (epoch {})", report.epochs)?;
        }
        None => outln!("last          {last} (epoch {})", report.epochs)?,
    }
    if let Some(best) = best {
        outln!("checkpoint    {best}")?;
    }
    Ok(())
}

/// The images that an error is of.
pub fn measured_on(split: Split, images: u64) -> String {
    let kind = match split {
        Split::Val => "validation image",
        Split::Train => "training image",
    };
    let note = if split == Split::Train { " (there are no validation images)" } else { "" };
    format!("{}{note}", count(images, kind))
}

/// Errors and loss.
pub fn score_line(score: &Score) -> String {
    let Score { top1, top5, loss, .. } = score;
    format!("top-1 error {}, top-5 error {}, loss {loss:.4}", percent(*top1), percent(*top5))
}
