//! The default command: train.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::Context;
use fovea_analysis::figure::grouped;
use fovea_pipeline::summary::count;
use fovea_pipeline::{Split, cores};
use fovea_tools::data::{CacheArgs, is_url};
use fovea_tools::signals::FinishFirst;
use fovea_tools::terminal::{INTERRUPTED, print, print_json};
use fovea_tools::{errln, outln};
use fovea_trainer::checkpoint::Store;
use fovea_trainer::collective::{Place, Ranks, check_parts};
use fovea_trainer::models::check_file;
use fovea_trainer::recipe::{Loss, Recipe};
use fovea_trainer::training::{
    Outcome, Report, RunFolder, RunOptions, RunSettings, Score, Session, TrainingData, TrainingError,
    read_settings,
};

use super::args::{TrainArgs, TrainingArgs};
use super::progress::Terminal;
use super::ranks::Joined;
use super::{STOP, data, demo, device, finish_first, ranks};

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
    let Joined { mut ranks, place } = ranks::join(&args.launched, args.deadline)?;
    match place {
        None => train_as(args, &mut ranks, None),
        Some(place) => {
            train_as(args, &mut ranks, Some(&place)).or_else(|error| Ok(ranks::end(&mut ranks, &error)))
        }
    }
}

/// Trains as one of the processes; all of them come to each point where one of them may have an error.
fn train_as(args: &TrainArgs, ranks: &mut Ranks, place: Option<&Place>) -> anyhow::Result<ExitCode> {
    let world = ranks.world();
    ranks::confirm(ranks, &args.launched, place)?;
    let device = args.training.device.used();
    ranks::agreed(ranks, device.map_or(Ok(()), device::check))?;
    // The first process prepares what the others read.
    let planned = ranks.first_before_others(|| match &args.resume {
        Some(run) => old_run(args, run),
        None => new_run(args, world),
    });
    let planned = planned.map_err(TrainingError::from)?;
    let PlannedRun { recipe, mut settings, folder: path, is_demo } = ranks::agreed(ranks, planned)?;
    if is_url(&settings.data) {
        ranks.lengthen_deadline(args.cache.data_timeout);
    }
    let mut training = args.training.clone();
    ranks::share_cores(&mut training, place, settings.parts);
    let opened = open_data(&args.cache, &recipe, &settings, world);
    let data = ranks::agreed(ranks, opened)?;
    if let Some(window) = settings.window {
        ranks::agreed(ranks, data.check_window(window))?;
    } else if args.resume.is_none() {
        settings.window = ranks::agreed(ranks, data.window_that_fits())?;
        if let Some(window) = settings.window.filter(|_| ranks.is_first()) {
            errln!(
                "note: the cache does not hold all shards: images are shuffled among {window} at a time (--window)"
            );
        }
    }
    let keep = training.keep.get();
    let folder = ranks.is_first().then(|| match args.resume {
        Some(_) => RunFolder::open(&path, keep),
        None => RunFolder::create(&path, keep),
    });
    let folder = ranks::agreed(ranks, folder.transpose())?;
    let precision = settings.precision;
    let options = options(&training, settings);
    let session = match &folder {
        Some(folder) => Session::open(&recipe, &data, options, folder),
        None => Ok(Session::follow(&recipe, &data, options)),
    };
    let session = ranks::agreed(ranks, session)?;
    let setup = session.setup()?.of_rank(ranks.rank(), world);
    let (trained, all) = setup.trained_values()?;
    let new = setup.network.kept_head.join(", ");
    let backend = device::backend(&training.device, Some(&training.step), &setup, precision);
    let mut backend = ranks::agreed(ranks, backend)?;
    ranks.handshake(&session.fingerprint(&*backend)).map_err(TrainingError::from)?;
    if !ranks.is_first() {
        let _finish = FinishFirst::calling(|| STOP.store(true, Ordering::Relaxed));
        return Ok(match session.train_with(ranks, &mut *backend, &STOP, &mut ())? {
            Outcome::Finished(_) => ExitCode::SUCCESS,
            Outcome::Interrupted { .. } => ExitCode::from(INTERRUPTED),
        });
    }
    let about = backend.describe();
    errln!("recipe {} on {} ({}), run {}", recipe.name, about.device, about.library, path.display());
    if !new.is_empty() {
        errln!("new for the {} classes, not from the weights: {new}", data.classes().len());
    }
    errln!("trains {} of {} values", grouped(&trained.to_string()), grouped(&all.to_string()));
    let _finish = finish_first("the step");
    // The bar disappears with the statement.
    let outcome = session.train_with(ranks, &mut *backend, &STOP, &mut Terminal::default())?;
    match outcome {
        Outcome::Finished(report) => {
            let loss = recipe.training.loss;
            print_report(&report, loss, &Store::new(&path, keep), &path, args.json)?;
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

/// The data set of a run by `world` processes. An invalid network is an error now, before a folder is created
/// and ONNX Runtime is loaded.
fn open_data(
    cache: &CacheArgs,
    recipe: &Recipe,
    settings: &RunSettings,
    world: usize,
) -> anyhow::Result<TrainingData> {
    check_file(recipe).map_err(TrainingError::from)?;
    let cache = cache.or_of(settings.cache.clone(), settings.cache_limit);
    let data = TrainingData::new(&data::open(&cache, &settings.data)?, recipe)?;
    data.check_batch(recipe, settings.parts)?;
    check_parts(settings.parts, world).map_err(TrainingError::from)?;
    data.setup(recipe, settings.rows_at_once(recipe.training.batch_size), settings.seed)
        .map_err(TrainingError::from)?;
    Ok(data)
}

/// The options of a run with these settings.
pub fn options(args: &TrainingArgs, settings: RunSettings) -> RunOptions {
    RunOptions {
        settings,
        workers: args.workers.unwrap_or_else(cores).get(),
        checkpoint_every: args.checkpoint_minutes,
    }
}

/// The settings of a new run by `world` processes on the data set in `data`.
pub fn new_settings(
    args: &TrainingArgs,
    data: &Path,
    cache: &CacheArgs,
    seed: u64,
    world: usize,
) -> anyhow::Result<RunSettings> {
    let (cache, cache_limit) = match is_url(data) {
        true => (cache.cache.as_deref().map(absolute).transpose()?, cache.cache_limit),
        false => (None, None),
    };
    Ok(RunSettings {
        data: absolute(data)?,
        cache,
        cache_limit,
        limit_batches: args.limit_batches.map(u64::from),
        micro_batch: args.micro_batch.map(usize::from),
        parts: args.parts.map_or(world, usize::from),
        window: None,
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

fn new_run(args: &TrainArgs, world: usize) -> anyhow::Result<PlannedRun> {
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
    // Before a data set is prepared.
    check_file(&recipe).map_err(TrainingError::from)?;
    let data = match &args.data {
        Some(data) => data.clone(),
        None => demo::prepared_sample(&recipe)?,
    };
    let settings = new_settings(&args.training, &data, &args.cache, args.seed, world)?;
    let settings = RunSettings { window: args.window, ..settings };
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
        cache: args.cache.cache.as_deref().map(absolute).transpose()?.or(before.cache),
        cache_limit: args.cache.cache_limit.or(before.cache_limit),
        limit_batches: args.training.limit_batches.map(u64::from).or(before.limit_batches),
        micro_batch: args.training.micro_batch.map(usize::from).or(before.micro_batch),
        parts: args.training.parts.map_or(before.parts, usize::from),
        window: before.window,
        precision: args.training.device.runtime.precision.unwrap_or(before.precision),
        seed: before.seed,
        on_nan: args.training.on_nan.unwrap_or(before.on_nan),
        on_bad_record: args.training.on_bad_record.unwrap_or(before.on_bad_record),
    };
    Ok(PlannedRun { recipe, settings, folder: run.to_owned(), is_demo: false })
}

/// The path from the root; a URL as it is.
pub fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    if is_url(path) {
        return Ok(path.to_owned());
    }
    std::path::absolute(path).with_context(|| format!("the path {} cannot be used", path.display()))
}

/// The first free folder of runs/NAME-1, runs/NAME-2, …
fn free_folder(name: &str) -> PathBuf {
    let folders = (1..).map(|number: u32| Path::new("runs").join(format!("{name}-{number}")));
    folders.into_iter().find(|folder| !folder.exists()).expect("the numbers do not end")
}

fn print_report(report: &Report, loss: Loss, store: &Store, run: &Path, json: bool) -> anyhow::Result<()> {
    // The null backend leaves no checkpoint.
    let best = store.best().ok().map(|best| best.display().to_string());
    if json {
        let mut value = serde_json::to_value(report)?;
        value["run"] = run.display().to_string().into();
        value["best_checkpoint"] = best.into();
        print_json(&value)?;
        return Ok(());
    }
    outln!("trained       {} and {}", count(report.epochs.into(), "epoch"), count(report.step, "update"))?;
    if report.discarded > 0 {
        outln!("left out      {} with a loss that is not finite", count(report.discarded, "batch"))?;
    }
    let images = measured_on(report.split, report.score.images);
    outln!("measured on   {images}, {}", report.views.title())?;
    let last = score_line(&report.score, loss);
    match &report.best {
        Some(best) if best.step == report.step && best.epoch == report.epochs => {
            outln!("last and best {last} (epoch {})", best.epoch)?;
        }
        Some(best) => {
            outln!("best          {} (epoch {})", score_line(&best.score, loss), best.epoch)?;
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
pub fn score_line(score: &Score, loss: Loss) -> String {
    let [first, second] = loss.measures();
    format!("{}, {}, loss {:.4}", first.with(score.top1), second.with(score.top5), score.loss)
}
