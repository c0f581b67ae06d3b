//! `trainer`: trains, evaluates, exports and inspects image classifiers. Each command is a file that calls
//! the library and prints.

mod args;
mod bench;
mod compare;
mod data;
mod demo;
mod device;
mod evaluate;
mod export;
mod features;
mod gradients;
mod graphs;
mod inspect;
mod launch;
mod photo_input;
mod predict;
mod progress;
mod ranks;
mod recipes;
mod report;
mod search;
mod train;
mod warnings;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use args::{Cli, Command};
use clap::Parser;
use fovea_analysis::comparison::ComparisonError;
use fovea_tools::data::RemoteError;
use fovea_tools::errln;
use fovea_tools::signals::{self, FinishFirst};
use fovea_tools::terminal::{USAGE, one_line};
use fovea_trainer::backend::BackendError;
use fovea_trainer::checkpoint::CheckpointError;
use fovea_trainer::recipe::RecipeError;
use fovea_trainer::training::TrainingError;

/// An invalid command line, with the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUsage(String);

/// Set at the first Ctrl-C, where there is something to finish.
static STOP: AtomicBool = AtomicBool::new(false);

/// For what an interrupt ends at once.
static NEVER: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    warnings::print_to_stderr();
    run(Cli::parse())
}

/// Runs the command; prints errors to stderr.
fn run(cli: Cli) -> ExitCode {
    // Several processes check theirs once they have met.
    let runtime = || cli.runtime().filter(|_| !ranks::are_launched());
    let device = || Ok(runtime().map_or(Ok(()), device::check)?);
    let alone = || cli.command.as_ref().map_or(Ok(()), ranks::refuse);
    let result =
        signals::install().and_then(|()| alone()).and_then(|()| device()).and_then(|()| match cli.command {
            None => train::train(&cli.train),
            Some(Command::Launch(args)) => launch::launch(&args),
            Some(Command::Compare(args)) => compare::compare(&args),
            Some(Command::Evaluate(args)) => evaluate::evaluate(&args),
            Some(Command::Predict(args)) => predict::predict(&args),
            Some(Command::Report(args)) => report::report(&args),
            Some(Command::Features(args)) => features::features(&args),
            Some(Command::Search(args)) => search::search(&args),
            Some(Command::Export(args)) => export::export(&args),
            Some(Command::Graphs(args)) => graphs::graphs(&args),
            Some(Command::Gradients(args)) => gradients::gradients(&args),
            Some(Command::Bench(args)) => bench::bench(&args),
            Some(Command::Inspect(args)) => inspect::inspect(&args),
            Some(Command::Recipes { recipe: None, json }) => recipes::list(json),
            Some(Command::Recipes { recipe: Some(recipe), json }) => recipes::print(&recipe, json),
        });
    result.unwrap_or_else(|error| {
        print_error(&error);
        ExitCode::from(exit_code(&error))
    })
}

/// Prints an error to stderr.
fn print_error(error: &anyhow::Error) {
    if let Some(TrainingError::NotFinite(divergence)) = error.downcast_ref() {
        errln!("{}", divergence.table().trim_end());
    }
    errln!("error: {}", one_line(error));
}

/// The exit code after an error.
fn exit_code(error: &anyhow::Error) -> u8 {
    if is_usage(error) { USAGE } else { 1 }
}

/// Whether the error is in the command line, a recipe, a network or a data set.
fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<RecipeError>()
        || error.is::<WrongUsage>()
        || error.downcast_ref().is_some_and(ComparisonError::is_usage)
        || error.downcast_ref().is_some_and(TrainingError::is_usage)
        || error.downcast_ref().is_some_and(RemoteError::is_usage)
        || error.downcast_ref().is_some_and(BackendError::is_usage)
        || error.downcast_ref().is_some_and(CheckpointError::is_usage)
}

/// While this exists, the first interrupt sets [`STOP`], and `what` is said to be finished.
fn finish_first(what: &'static str) -> FinishFirst {
    FinishFirst::calling(move || {
        STOP.store(true, Ordering::Relaxed);
        errln!("interrupted: finishing {what} (again to stop at once)");
    })
}
