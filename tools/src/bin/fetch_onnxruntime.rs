//! Fetches ONNX Runtime into the cache ahead of time and prints its path.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use fovea_runtime::{Build, Options, Source, check_library, locate};
use fovea_tools::bars::FetchBar;
use fovea_tools::terminal::exit_code;
use fovea_tools::{errln, outln, signals};

/// Fetch ONNX Runtime into the cache, so that the trainer needs no network
///
/// The path of the library is printed on standard output.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Build to fetch: `cpu` (24 MB) or `cuda` (1.2 GB, with NVIDIA's libraries; only the driver must be
    /// installed)
    #[arg(long, default_value = "cpu")]
    device: Build,

    /// Python package index to fetch from [default: PIP_INDEX_URL, else <https://pypi.org/simple>]
    #[arg(long, value_name = "URL")]
    index_url: Option<String>,

    /// Folder to fetch into [default: FOVEA_CACHE, else $XDG_CACHE_HOME/fovea, else ~/.cache/fovea]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    exit_code(signals::install().and_then(|()| run(arguments)))
}

fn run(arguments: Arguments) -> Result<()> {
    let from_env = Options::from_env(arguments.device);
    let options = Options {
        // This program manages the cache; a library given elsewhere does not matter.
        dylib: None,
        cache: arguments.cache.or(from_env.cache),
        index_url: arguments.index_url.unwrap_or(from_env.index_url),
        ..from_env
    };
    let located = locate(&options, &mut FetchBar::default())?;
    let minor = check_library(&located.library)?;
    let how = if located.source == Source::Fetched { "fetched" } else { "already there" };
    errln!("ONNX Runtime 1.{minor} for {}: {how}", options.build);
    outln!("{}", located.library.display())?;
    Ok(())
}
