//! `prepare_imagenet`: makes shards of photos, verifies and inspects them.

mod args;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use fovea_datasets::official::{self, OfficialFile};
use fovea_datasets::prepare::{Preparation, PrepareError, Preparer, Progress, Summary};
use fovea_datasets::{EmbeddedSample, OpenOptions, Source, verify};
use fovea_pipeline::{Split, cores};
use fovea_tools::signals::{self, FinishFirst};
use fovea_tools::terminal::{self, INTERRUPTED, USAGE};
use fovea_tools::{bars, bytes, errln};

use crate::args::{Cli, Command, PrepareArgs};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = signals::install().and_then(|()| match cli.command {
        None => prepare(&cli.prepare),
        Some(Command::Verify { dir, workers, json }) => {
            verify_directory(&dir, workers.unwrap_or_else(cores), json)
        }
        Some(Command::Inspect { dir, json }) => inspect(&dir, json),
    });
    result.unwrap_or_else(|error| {
        errln!("error: {}", terminal::one_line(&error));
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
    if args.verify_tars {
        verify_tars(&args.open_options())?;
    }
    let source: Box<dyn Source> = if args.embedded_sample {
        Box::new(EmbeddedSample::new())
    } else {
        fovea_datasets::open(&args.open_options())?
    };
    let out = args.out();
    let preparer = Preparer::new(&*source, options, &out)?;
    announce(&*source, &preparer, &out);

    let start = Instant::now();
    let images_before = preparer.images_kept();
    let total = preparer.images();
    let summary = run_with_progress(preparer, total)?;
    let new_images = total - images_before;
    let pace = report::Pace { seconds: start.elapsed().as_secs_f64(), images: new_images };

    let max_rejects = args.max_rejects.or(official::is_complete(&*source).then_some(0));
    if args.json {
        terminal::print(&format!(
            "{}\n",
            report::summary_json(&summary, source.notes(), args.list_skipped, &out, &pace, max_rejects)
        ))?;
    } else {
        terminal::print(&report::summary_text(&summary, source.notes(), args.list_skipped, &out, &pace))?;
    }
    match max_rejects {
        Some(max) if summary.rejected > max => {
            errln!("error: {}", report::too_many_rejects(summary.rejected, max, &out));
            Ok(ExitCode::FAILURE)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
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
fn announce(source: &dyn Source, preparer: &Preparer<'_>, out: &Path) {
    let [train, val] = Split::ALL.map(|split| source.entries(split).len());
    errln!(
        "{}: {train} training and {val} validation images, {} classes",
        source.name(),
        source.classes().len()
    );
    for note in source.notes() {
        errln!("note: {}", report::note(note));
    }
    if preparer.takes_in_mended() {
        errln!("note: photos that could not be decoded now can: the data set is prepared again");
    }
    if preparer.shards_kept() > 0 {
        errln!("{} of {} shards are finished already", preparer.shards_kept(), preparer.shards());
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
        let run = scope.spawn(|| preparer.run(&progress));
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

fn verify_directory(dir: &Path, workers: std::num::NonZeroUsize, json: bool) -> anyhow::Result<ExitCode> {
    let dataset = verify::open(dir)?;
    let info = dataset.info();
    let total = Split::ALL.into_iter().flat_map(|split| info.shards(split)).map(|shard| shard.bytes).sum();
    let bar = bars::byte_bar(total);
    let report = verify::verify(&dataset, workers, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    if json {
        terminal::print(&format!("{}\n", report::verify_json(&report)))?;
    } else {
        terminal::print(&report::verify_text(&report, dir))?;
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn inspect(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let dataset = verify::open(dir)?;
    let info = dataset.info();
    let preparation = Preparation::read(dir)?;
    if json {
        terminal::print(&format!("{}\n", report::inspect_json(info, preparation.as_ref())))?;
    } else {
        terminal::print(&report::inspect_text(info, preparation.as_ref(), dir))?;
    }
    Ok(ExitCode::SUCCESS)
}
