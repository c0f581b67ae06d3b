//! `bench`: how long a training step takes.

use std::process::ExitCode;

use fovea_trainer::{backend::Precision, bench::bench_step, recipe::Recipe};

use super::{args::BenchArgs, device};

pub fn bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let recipe = Recipe::load(&args.recipe, &args.set)?;
    let rows = args.batch_size.map_or(recipe.training.batch_size, usize::from);
    let (loaded, options) = device::runtime(&args.runtime, Precision::F32)?;
    let found = bench_step(loaded, &recipe, args.classes.get(), rows, args.steps.get(), options)?;
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
        return Ok(ExitCode::SUCCESS);
    }
    let steps: Vec<String> = found.step_s.iter().map(|seconds| format!("{seconds:.3}")).collect();
    println!("recipe        {}, batch of {} images", found.recipe, found.batch_rows);
    println!("device        {} ({})", found.device, found.library);
    println!("start-up      {:.2} s", found.startup_s);
    println!("steps         {} s", steps.join(", "));
    println!("speed         {:.1} images/s at the median step", found.images_per_s);
    if let Some(bytes) = found.peak_bytes {
        println!("peak memory   {:.2} GB", bytes as f64 / 1e9);
    }
    Ok(ExitCode::SUCCESS)
}
