//! `bench`: how long a training step takes, and what the loader adds to it.

use std::{io, path::Path, process::ExitCode};

use fovea_trainer::{
    backend::{OrtBackend, Precision},
    bench::{SEED, bench_loader, bench_step},
    recipe::Recipe,
    say,
    training::{TrainingData, default_workers},
};

use super::{args::BenchArgs, device, percent};

pub fn bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let mut overrides = args.set.clone();
    overrides.extend(args.batch_size.map(|size| format!("training.batch_size={size}")));
    let recipe = Recipe::load(&args.recipe, &overrides)?;
    match &args.data {
        None => step(args, &recipe)?,
        Some(data) => loader(args, &recipe, data)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn step(args: &BenchArgs, recipe: &Recipe) -> anyhow::Result<()> {
    let rows = recipe.training.batch_size;
    recipe.shapes(3, args.classes.get())?;
    let (loaded, options) = device::runtime(&args.runtime, Precision::F32)?;
    let found = bench_step(loaded, recipe, args.classes.get(), rows, args.steps.get(), options)?;
    if args.json {
        say!("{}", serde_json::to_string(&found)?)?;
        return Ok(());
    }
    print_setting(&found.recipe, found.batch_rows, &found.device, &found.library)?;
    say!("start-up      {:.2} s", found.startup_s)?;
    say!("steps         {}", seconds(&found.step_s))?;
    say!("speed         {:.1} images/s at the median step", found.images_per_s)?;
    if let Some(bytes) = found.peak_bytes {
        say!("peak memory   {:.2} GB", bytes as f64 / 1e9)?;
    }
    Ok(())
}

fn loader(args: &BenchArgs, recipe: &Recipe, data: &Path) -> anyhow::Result<()> {
    let data = TrainingData::open(data, recipe)?;
    data.check_batch(recipe)?;
    recipe.shapes(3, data.classes().len())?;
    let workers = args.workers.map_or_else(default_workers, usize::from);
    let (loaded, options) = device::runtime(&args.runtime, Precision::F32)?;
    let mut backend = OrtBackend::new(loaded, &data.setup(recipe, None, SEED), options)?;
    let found = bench_loader(&mut backend, recipe, &data, workers, args.steps.get())?;
    if args.json {
        say!("{}", serde_json::to_string(&found)?)?;
        return Ok(());
    }
    print_setting(&found.recipe, found.batch_rows, &found.device, &found.library)?;
    say!("one batch     {}", seconds(&found.repeated_step_s))?;
    say!("loader        {} ({} workers)", seconds(&found.loaded_step_s), found.workers)?;
    say!("waiting       {} of the time", percent(found.data_wait))?;
    say!("speed         {} of that with one batch, at the median steps", percent(found.speed_ratio))?;
    Ok(())
}

fn print_setting(recipe: &str, rows: usize, device: &str, library: &str) -> io::Result<()> {
    say!("recipe        {recipe}, batch of {rows} images")?;
    say!("device        {device} ({library})")
}

fn seconds(steps: &[f64]) -> String {
    let steps: Vec<String> = steps.iter().map(|seconds| format!("{seconds:.3}")).collect();
    format!("{} s", steps.join(", "))
}
