//! `prepare_imagenet`: makes shards of photos, verifies and inspects them.

mod args;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use fovea_datasets::official::{self, OfficialFile};
use fovea_datasets::prepare::{Preparation, PrepareError, Preparer, Progress, Summary};
use fovea_datasets::{EmbeddedSample, Note, OpenOptions, Source, verify};
use fovea_pipeline::summary::count;
use fovea_pipeline::{Dataset, Label, Split, cores};
use fovea_tools::data::{self, CacheArgs, RemoteError, is_url};
use fovea_tools::signals::{self, FinishFirst};
use fovea_tools::terminal::{self, INTERRUPTED, USAGE};
use fovea_tools::{bars, bytes, errln};

use crate::args::{Cli, Command, PrepareArgs};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = signals::install().and_then(|()| match cli.command {
        None => prepare(&cli.prepare),
        Some(Command::Verify { dir, cache, workers, json }) => {
            verify_directory(&dir, &cache, workers.unwrap_or_else(cores), json)
        }
        Some(Command::Inspect { dir, cache, json }) => inspect(&dir, &cache, json),
    });
    result.unwrap_or_else(|error| {
        errln!("error: {}", terminal::one_line(&error));
        if error.downcast_ref().is_some_and(RemoteError::is_usage) {
            return ExitCode::from(USAGE);
        }
        match error.downcast_ref() {
            Some(PrepareError::Interrupted { .. }) => ExitCode::from(INTERRUPTED),
            Some(PrepareError::Option { .. }) => ExitCode::from(USAGE),
            _ => ExitCode::FAILURE,
        }
    })
}

fn prepare(args: &PrepareArgs) -> anyhow::Result<ExitCode> {
    let options = args.prepare_options();
    options.validate()?;
    for note in args.without_effect() {
        errln!("note: {note}");
    }
    let out = args.out()?;
    if let Some(url) = args.url() {
        // What cannot be uploaded to is an error now, and not after hours.
        data::check_destination(url)?;
    }
    if args.verify_tars {
        verify_tars(&args.open_options())?;
    }
    let source: Box<dyn Source> = if args.embedded_sample {
        Box::new(EmbeddedSample::new())
    } else {
        fovea_datasets::open(&args.open_options())?
    };
    let preparer = Preparer::new(&*source, options, &out)?;
    let mut notes: Vec<Note> = source.notes().iter().chain(preparer.taken_in()).cloned().collect();
    announce(&*source, &notes, &preparer, &out);

    let start = Instant::now();
    let images_before = preparer.images_kept();
    let total = preparer.images();
    let summary = run_with_progress(preparer, total)?;
    notes.extend(summary.notes.iter().cloned());
    let new_images = total - images_before;
    let pace = report::Pace { seconds: start.elapsed().as_secs_f64(), images: new_images };

    let max_rejects = args.max_rejects.or(official::is_complete(&*source).then_some(0));
    if args.json {
        let summary = report::summary_json(&summary, &notes, args.list_skipped, &out, &pace, max_rejects);
        terminal::print_json(&summary)?;
    } else {
        terminal::print(&report::summary_text(&summary, &notes, args.list_skipped, &out, &pace))?;
    }
    match max_rejects {
        Some(max) if summary.rejected > max => {
            errln!("error: {}", report::too_many_rejects(summary.rejected, max, &out));
            Ok(ExitCode::FAILURE)
        }
        _ => {
            if let Some(url) = args.url() {
                upload(&out, url)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Uploads what is not there yet; the same command goes on after an interruption.
fn upload(folder: &Path, url: &str) -> anyhow::Result<()> {
    let info = verify::open(folder)?.info().clone();
    let total = Split::ALL.into_iter().flat_map(|split| info.shards(split)).map(|shard| shard.bytes).sum();
    let bar = bars::byte_bar(total);
    let done = data::upload(folder, url, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let (files, sent) = (count(done.files as u64, "file"), bytes::describe(done.bytes));
    errln!("uploaded {files}, {sent}, to {url}; {} were there already", done.skipped);
    errln!("{} is not needed any more, unless you upload it again", folder.display());
    Ok(())
}

/// Compares the files with the official ones; a folder is searched for their names.
fn verify_tars(paths: &OpenOptions) -> anyhow::Result<()> {
    let given = [
        (official::TRAIN_TAR, &paths.train),
        (official::VAL_TAR, &paths.val),
        (official::DEVKIT, &paths.devkit),
    ];
    let files: Vec<(OfficialFile, std::path::PathBuf)> = given
        .into_iter()
        .filter_map(|(file, path)| Some((file, path.as_ref()?)))
        .map(|(file, path)| (file, if path.is_dir() { path.join(file.name) } else { path.clone() }))
        .collect();
    let files: Vec<(OfficialFile, &Path)> =
        files.iter().map(|(file, path)| (*file, path.as_path())).collect();
    let bar = bars::byte_bar(0);
    official::verify_tars(&files, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    Ok(())
}

/// Prints what will be done, and warns of a disk that is too small.
fn announce(source: &dyn Source, notes: &[Note], preparer: &Preparer<'_>, out: &Path) {
    let [train, val] = Split::ALL.map(|split| source.entries(split).len());
    errln!(
        "{}: {}, {}, {}",
        source.name(),
        count(train as u64, "training image"),
        count(val as u64, "validation image"),
        report::outputs(source.label_kind(), source.classes().len())
    );
    for note in notes {
        errln!("note: {}", report::note(note));
    }
    if preparer.shards_kept() > 0 {
        let shards = count(preparer.shards() as u64, "shard");
        errln!("finished already: {} of {shards}", preparer.shards_kept());
    }
    let needed = preparer.expected_bytes();
    if needed > 0 {
        errln!("writing about {} to {}", bytes::describe(needed), out.display());
    }
    // Where the free space is unknown, there is no warning.
    let free = rustix::fs::statvfs(out).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
    if free < needed {
        errln!(
            "warning: only {} are free there; when the disk is full, free some and run the same command again",
            bytes::describe(free)
        );
    }
}

/// Runs with a progress bar, and stops at Ctrl-C.
fn run_with_progress(preparer: Preparer<'_>, total: u64) -> anyhow::Result<Summary> {
    let progress = Arc::new(Progress::default());
    let stopped = Arc::clone(&progress);
    // Only the unfinished shard is lost.
    let _finish = FinishFirst::calling(move || stopped.cancel());

    let kept = preparer.images_kept();
    let bar = bars::item_bar(total, "images").with_position(kept);
    // The speed is that of this run only.
    bar.reset_eta();
    thread::scope(|scope| {
        let run = thread::Builder::new()
            .spawn_scoped(scope, || preparer.run(&progress))
            .context("cannot start a thread; raise the limit (ulimit -u)")?;
        while !run.is_finished() {
            bar.set_position(progress.images());
            if progress.rejected() > 0 {
                bar.set_message(format!("({} rejected)", progress.rejected()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        bar.finish_and_clear();
        let result = run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(result?)
    })
}

/// Opens the data set in a folder or at a URL.
fn open(place: &Path, cache: &CacheArgs) -> anyhow::Result<Dataset> {
    if is_url(place) { cache.open(place) } else { Ok(verify::open(place)?) }
}

fn verify_directory(
    dir: &Path,
    cache: &CacheArgs,
    workers: std::num::NonZeroUsize,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let dataset = open(dir, cache)?;
    let info = dataset.info();
    let total = Split::ALL.into_iter().flat_map(|split| info.shards(split)).map(|shard| shard.bytes).sum();
    let bar = bars::byte_bar(total);
    let report = verify::verify(&dataset, workers, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    if json {
        terminal::print_json(&report::verify_json(&report))?;
    } else {
        terminal::print(&report::verify_text(&report, dir))?;
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn inspect(dir: &Path, cache: &CacheArgs, json: bool) -> anyhow::Result<ExitCode> {
    let dataset = open(dir, cache)?;
    let info = dataset.info();
    let preparation = Preparation::read(dataset.directory())?;
    // A damaged shard takes only the numbers; to fetch all shards for them would take too long.
    let images = (!is_url(dir)).then(|| images_of_classes(&dataset)).transpose();
    let numbers = images.as_ref().ok().and_then(Option::as_deref);
    if json {
        terminal::print_json(&report::inspect_json(info, preparation.as_ref(), numbers))?;
    } else {
        terminal::print(&report::inspect_text(info, preparation.as_ref(), numbers, dir))?;
    }
    images?;
    Ok(ExitCode::SUCCESS)
}

/// The number of images of each class, in training and validation; an image may be of several, or of none.
fn images_of_classes(dataset: &Dataset) -> anyhow::Result<Vec<[u64; 2]>> {
    let info = dataset.info();
    let mut images = vec![[0; 2]; info.classes.len()];
    for split in Split::ALL.into_iter().filter(|split| info.images(*split) > 0) {
        let records = dataset.records(split)?;
        for index in 0..records.len() {
            let record = records.record(index)?;
            let mut add = |class: usize| {
                // Below the number of classes, which is checked when a shard is opened.
                if let Some(class) = images.get_mut(class) {
                    class[split as usize] += 1;
                }
            };
            match record.get().label {
                Label::Class(class) => add(class as usize),
                Label::MultiHot(marks) => {
                    (0..).zip(marks).filter(|(_, mark)| **mark == 1).for_each(|(at, _)| add(at))
                }
                Label::Values(_) => {}
            }
        }
    }
    Ok(images)
}
