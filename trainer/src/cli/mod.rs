//! The command line of `trainer`: each command is a file that calls the library and prints.

mod args;
mod bench;
mod compare;
mod demo;
mod device;
mod evaluate;
mod export;
mod eye;
mod features;
mod graphs;
mod predict;
mod progress;
mod recipes;
mod report;
mod search;
mod train;

use std::{
    process::{self, ExitCode},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use fovea_trainer::{
    backend::BackendError, comparison::ComparisonError, recipe::RecipeError, tell, terminal::one_line,
    training::TrainingError,
};

pub use args::Cli;
use args::Command;

/// Exit code for a wrong command line, a wrong recipe included.
const USAGE: u8 = 2;
/// Exit code after Ctrl-C: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

/// A command line that cannot be followed, with what would do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUsage(String);

/// Set at the first Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Does what was asked for; says on stderr what went wrong.
pub fn run(cli: Cli) -> ExitCode {
    let listens = !matches!(
        cli.command,
        Some(
            Command::Predict(_)
                | Command::Export(_)
                | Command::Graphs(_)
                | Command::Bench(_)
                | Command::Recipes { .. }
        )
    );
    let listening = if listens { listen_to_interrupts() } else { Ok(()) };
    let result = listening.and_then(|()| match cli.command {
        None => train::train(&cli.train),
        Some(Command::Compare(args)) => compare::compare(&args),
        Some(Command::Evaluate(args)) => evaluate::evaluate(&args),
        Some(Command::Predict(args)) => predict::predict(&args),
        Some(Command::Report(args)) => report::report(&args),
        Some(Command::Features(args)) => features::features(&args),
        Some(Command::Search(args)) => search::search(&args),
        Some(Command::Export(args)) => export::export(&args),
        Some(Command::Graphs(args)) => graphs::graphs(&args),
        Some(Command::Bench(args)) => bench::bench(&args),
        Some(Command::Recipes { json }) => recipes::recipes(json),
    });
    result.unwrap_or_else(|error| {
        if let Some(TrainingError::NotFinite(divergence)) = error.downcast_ref() {
            tell!("{}", divergence.table().trim_end());
        }
        tell!("error: {}", one_line(&error));
        ExitCode::from(if is_usage(&error) { USAGE } else { 1 })
    })
}

/// Whether the command line or a recipe is to blame.
fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<RecipeError>()
        || error.is::<WrongUsage>()
        || error.downcast_ref().is_some_and(ComparisonError::is_usage)
        || matches!(error.downcast_ref(), Some(BackendError::Layers(_)))
}

/// For commands that look at [`STOP`]; the others end at once when they are interrupted.
fn listen_to_interrupts() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            // Asked twice: whoever asks does not want to wait. The last checkpoint stays.
            process::exit(INTERRUPTED.into());
        }
        tell!("\ninterrupted: finishing the step (again to stop at once)");
    })
    .context("cannot listen to Ctrl-C")
}

/// A share as people read it: `40.7 %`, with two digits below 10 %.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 10.0 { format!("{percent:.2} %") } else { format!("{percent:.1} %") }
}
