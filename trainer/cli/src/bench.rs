//! `bench`: the time of a training step, and the loader's share of it.

use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use anyhow::Context;
use fovea_pipeline::cores;
use fovea_pipeline::summary::percent;
use fovea_tools::outln;
use fovea_tools::terminal::print_json;
use fovea_trainer::backend::{OrtBackend, Precision, Setup, TrainingBackend};
use fovea_trainer::bench::{NoiseBatch, SEED, backend, bench_loader, bench_step, median_step};
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::TrainingData;

use super::args::BenchArgs;
use super::device;

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
    // An error now, before ONNX Runtime is looked for.
    Setup::new(recipe, args.classes.get(), rows, &[], SEED)?;
    let (loaded, options) = device::runtime(&args.runtime, Some(&args.step), Precision::F32)?;
    if let Some(folder) = &args.state {
        let mut backend = backend(loaded, recipe, args.classes.get(), rows, options)?;
        return write_state(&mut backend, &NoiseBatch::new(recipe, args.classes.get(), rows), folder);
    }
    let found = bench_step(loaded, recipe, args.classes.get(), rows, args.steps.get(), options)?;
    if args.json {
        print_json(&found)?;
        return Ok(());
    }
    print_setting(&found.recipe, found.batch_rows, &found.device, &found.library)?;
    outln!("start-up      {:.2} s", found.startup_s)?;
    outln!("steps         {}", times(&found.step_s))?;
    outln!("speed         {:.1} images/s at the median step", found.images_per_s)?;
    if let Some(bytes) = found.peak_bytes {
        outln!("peak memory   {:.2} GB", bytes as f64 / 1e9)?;
    }
    Ok(())
}

/// Writes `state.safetensors` and `images.u8` to `folder`.
fn write_state(backend: &mut OrtBackend, batch: &NoiseBatch, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (state, images) = (folder.join("state.safetensors"), folder.join("images.u8"));
    let mut written = Ok(());
    backend.export(&mut |tensors| {
        written = safetensors::serialize_to_file(tensors.iter().copied(), None, &state);
    })?;
    written.with_context(|| format!("cannot write {}", state.display()))?;
    fs::write(&images, &batch.images).with_context(|| format!("cannot write {}", images.display()))?;
    outln!("{}\n{}", state.display(), images.display())?;
    Ok(())
}

fn loader(args: &BenchArgs, recipe: &Recipe, data: &Path) -> anyhow::Result<()> {
    let data = TrainingData::open(data, recipe)?;
    data.check_batch(recipe, 1)?;
    let setup = data.setup(recipe, recipe.training.batch_size, SEED)?;
    let workers = args.workers.unwrap_or_else(cores).get();
    let (loaded, options) = device::runtime(&args.runtime, Some(&args.step), Precision::F32)?;
    let mut backend = OrtBackend::new(loaded, &setup, options)?;
    let found = bench_loader(&mut backend, recipe, &data, workers, args.steps.get())?;
    if args.json {
        print_json(&found)?;
        return Ok(());
    }
    print_setting(&found.recipe, found.batch_rows, &found.device, &found.library)?;
    outln!("one batch     {}", times(&found.repeated_step_s))?;
    outln!("loader        {} ({} workers)", times(&found.loaded_step_s), found.workers)?;
    outln!("waiting       {} of the time", percent(found.data_wait))?;
    outln!("speed         {} of that with one batch, at the median steps", percent(found.speed_ratio))?;
    Ok(())
}

fn print_setting(recipe: &str, rows: usize, device: &str, library: &str) -> io::Result<()> {
    outln!("recipe        {recipe}, batch of {rows} images")?;
    outln!("device        {device} ({library})")
}

/// Most times that are printed one by one.
const FEW: usize = 10;

/// The times of a few steps, given in seconds; of many the median, the minimum and the maximum.
fn times(steps: &[f64]) -> String {
    let median = median_step(steps);
    let (unit, in_unit, decimals) = if median < 0.1 { ("ms", 1e3, 2) } else { ("s", 1.0, 3) };
    let text = |seconds: &f64| format!("{:.decimals$}", seconds * in_unit);
    if steps.len() <= FEW {
        let steps: Vec<String> = steps.iter().map(text).collect();
        return format!("{} {unit}", steps.join(", "));
    }
    let least = steps.iter().copied().fold(f64::INFINITY, f64::min);
    let most = steps.iter().copied().fold(0.0, f64::max);
    format!("{} {unit} median of {}, {} to {}", text(&median), steps.len(), text(&least), text(&most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_times_are_listed_and_many_are_summarised_in_a_fitting_unit() {
        assert_eq!(times(&[2.5, 1.0, 0.25]), "2.500, 1.000, 0.250 s");
        assert_eq!(times(&[0.0145, 0.7, 0.0145]), "14.50, 700.00, 14.50 ms");
        let many: Vec<f64> = (1..=21).map(|step| f64::from(step) / 1000.0).collect();
        assert_eq!(times(&many), "11.00 ms median of 21, 1.00 to 21.00");
    }
}
