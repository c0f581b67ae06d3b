//! `trainer`: trains, evaluates and exports image classifiers.

mod cli;

use std::{io, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Warnings of ours; ONNX Runtime's, of which it has many for graphs that are well, by RUST_LOG.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,ort=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();
    cli::run(cli::Cli::parse())
}
