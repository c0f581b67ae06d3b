//! `trainer`: trains, evaluates, exports and looks at image classifiers. Each command is a file that calls the library
//! and prints.

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

use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use args::{Cli, Command};
use clap::Parser;
use fovea_analysis::comparison::ComparisonError;
use fovea_tools::signals::on_interrupt;
use fovea_tools::tell;
use fovea_tools::terminal::{USAGE, one_line};
use fovea_trainer::backend::BackendError;
use fovea_trainer::recipe::RecipeError;
use fovea_trainer::training::TrainingError;
use tracing_subscriber::EnvFilter;

/// A command line that cannot be followed, with what would do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUsage(String);

/// Set at the first Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    // Warnings of ours; ONNX Runtime's, of which it has many for graphs that are well, by RUST_LOG.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,ort=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();
    run(Cli::parse())
}

/// Does what was asked for; says on stderr what went wrong.
fn run(cli: Cli) -> ExitCode {
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
    let listening = if listens { stop_when_interrupted() } else { Ok(()) };
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
fn stop_when_interrupted() -> anyhow::Result<()> {
    on_interrupt(|| {
        STOP.store(true, Ordering::Relaxed);
        tell!("\ninterrupted: finishing the step (again to stop at once)");
    })
}
