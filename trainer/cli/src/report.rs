//! `report`: a page about a run.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use fovea_analysis::report::{Fingerprint, ReportOptions, Reporter};
use fovea_pipeline::Dataset;
use fovea_tools::data::is_url;
use fovea_tools::terminal::{INTERRUPTED, one_line};
use fovea_tools::{errln, outln};
use fovea_trainer::backend::Precision;
use fovea_trainer::training::read_settings;

use super::args::ReportArgs;
use super::features::check_folder_of;
use super::{STOP, device, finish_first};

/// Time between two looks at whether the user wants no more.
const PATIENCE: Duration = Duration::from_millis(100);

pub fn report(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let run = &args.trained.run;
    if let Some(out) = &args.out {
        check_folder_of(out)?;
    }
    let out = args.out.clone().unwrap_or_else(|| run.join("report.html"));
    let options = ReportOptions {
        data: args.data.clone(),
        dataset: elsewhere(args),
        checkpoint: args.trained.checkpoint,
        images: args.images.get(),
        out: out.clone(),
    };
    let mut runtime = || device::runtime(&args.runtime, None, Precision::F32);
    let _finish = finish_first("the batch");
    let mut reporter = Reporter::new(run, options, &mut runtime, &STOP);
    let mut seen = Fingerprint::new(run);
    let interrupted = || {
        errln!("interrupted: nothing was written");
        Ok(ExitCode::from(INTERRUPTED))
    };
    let Some(omissions) = reporter.write(args.watch.map(|seconds| seconds.get().into()))? else {
        return interrupted();
    };
    for omission in omissions {
        errln!("left out: {omission}");
    }
    outln!("{}", out.display())?;
    if let Some(seconds) = args.watch {
        errln!("watching the run; end with Ctrl-C");
        while wait(Duration::from_secs(seconds.get().into())) {
            let now = Fingerprint::new(run);
            if now != seen {
                seen = now;
                reporter.write(Some(seconds.get().into()))?;
            }
        }
        // The last page stays as it is, and need not be loaded again.
        reporter.write(None)?;
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

/// The data set, if it is named by a URL.
fn elsewhere(args: &ReportArgs) -> Option<Result<Dataset, String>> {
    let settings = read_settings(&args.trained.run).ok();
    let place =
        args.data.clone().or_else(|| Some(settings.as_ref()?.data.clone())).filter(|place| is_url(place))?;
    let cache = match settings {
        Some(settings) => args.cache.or_of(settings.cache, settings.cache_limit),
        None => args.cache.clone(),
    };
    Some(cache.open(&place).map_err(|error| one_line(&error)))
}

/// Waits; `false` once the user wants no more.
fn wait(time: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < time {
        if STOP.load(Ordering::Relaxed) {
            return false;
        }
        thread::sleep(PATIENCE.min(time));
    }
    !STOP.load(Ordering::Relaxed)
}
