//! `bench`: the time of a training step, and the loader's share of it.

use std::num::NonZero;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs, io};

use anyhow::Context;
use fovea_pipeline::cores;
use fovea_pipeline::summary::{count, percent};
use fovea_tools::terminal::print_json;
use fovea_tools::{errln, outln};
use fovea_trainer::backend::{OrtBackend, Precision, Setup, TrainingBackend};
use fovea_trainer::bench::{
    NoiseBatch, RanksBench, SEED, StepBench, backend, bench_loader, bench_ranks, bench_step, median_step,
};
use fovea_trainer::collective::{Place, Ranks, check_parts};
use fovea_trainer::models::check_file;
use fovea_trainer::recipe::{Head, Recipe};
use fovea_trainer::training::{TrainingData, TrainingError};

use super::args::BenchArgs;
use super::ranks::{self, Joined};
use super::{WrongUsage, data, device, launch};

pub fn bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let recipe = recipe(args);
    if let Some(data) = &args.data {
        loader(args, &recipe?, data)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Joined { mut ranks, place } = ranks::join(&args.launched, DEADLINE)?;
    if let Some(place) = place {
        return shared_step(args, recipe, &mut ranks, &place)
            .or_else(|error| Ok(ranks::end(&mut ranks, &error)));
    }
    let recipe = recipe?;
    if let Some(processes) = args.ranks {
        return launch::start(processes, &args.launched);
    }
    if args.parts.is_some() {
        return Err(WrongUsage("`--parts` is for several processes; add --ranks".into()).into());
    }
    match &args.micro_batch[..] {
        [] => step(args, &recipe, recipe.training.batch_size),
        [rows] => step(args, &recipe, rows.get()),
        several => micro_batches(args, &recipe, several),
    }
}

/// The recipe that is measured.
fn recipe(args: &BenchArgs) -> anyhow::Result<Recipe> {
    let mut overrides = args.set.clone();
    overrides.extend(args.batch_size.map(|size| format!("training.batch_size={size}")));
    let mut recipe = match &args.network {
        None => Recipe::load(&args.recipe, &overrides)?,
        Some(file) => {
            let file = file.to_str().context("the path of the network is not Unicode")?;
            Recipe::load_with_network(&args.recipe, file, Some(Head::Auto), &overrides)?
        }
    };
    check_file(&recipe).map_err(TrainingError::from)?;
    if !recipe.augmentation.sizes.is_empty() {
        recipe.augmentation.sizes.clear();
        let px = recipe.input.crop_px;
        errln!(
            "note: all steps are on images of {px} pixels; others of augmentation.sizes by --set input.crop_px="
        );
    }
    Ok(recipe)
}

/// A step that several processes share.
fn shared_step(
    args: &BenchArgs,
    recipe: anyhow::Result<Recipe>,
    ranks: &mut Ranks,
    place: &Place,
) -> anyhow::Result<ExitCode> {
    let world = ranks.world();
    ranks::confirm(ranks, &args.launched, Some(place))?;
    let recipe = &ranks::agreed(ranks, recipe)?;
    ranks::agreed(ranks, device::check(&args.runtime))?;
    let (batch, classes) = (recipe.training.batch_size, args.classes.get());
    let parts = args.parts.map_or(world, usize::from);
    let checked = check_parts(parts, world).map_err(TrainingError::from).and_then(|()| {
        if !batch.is_multiple_of(parts) {
            return Err(TrainingError::Parts { batch, parts });
        }
        Setup::new(recipe, classes, batch / parts, &[], SEED)?;
        Ok(())
    });
    ranks::agreed(ranks, checked)?;
    let mut runtime = args.runtime.clone();
    ranks::share_machine(&mut runtime, place);
    let own = (ranks.rank(), world);
    let made = device::runtime(&runtime, Some(&args.step), Precision::F32).map_err(anyhow::Error::from);
    let made =
        made.and_then(|(loaded, options)| Ok(backend(loaded, recipe, classes, batch / parts, options, own)?));
    let mut backend = ranks::agreed(ranks, made)?;
    let found = bench_ranks(&mut backend, recipe, classes, ranks, parts, args.steps.get())?;
    if !ranks.is_first() {
        return Ok(ExitCode::SUCCESS);
    }
    if args.json {
        print_json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    print_setting(&found.recipe, found.batch_rows, &found.device, &found.library)?;
    let (processes, parts) = (count(world as u64, "process"), count(parts as u64, "part"));
    outln!("processes     {processes}, {} each; {parts}", count(found.threads as u64, "thread"))?;
    outln!("steps         {}", times(&found.step_s))?;
    let spans = [found.computing_s, found.waiting_s, found.exchange_s, found.update_s].map(|s| times(&[s]));
    let [computing, waiting, exchange, update] = spans;
    outln!("of a step     computing {computing}, waiting {waiting},")?;
    outln!("              exchange {exchange}, update {update}")?;
    outln!("sent          {:.1} MB of gradients and weights by each process", found.sent_bytes as f64 / 1e6)?;
    let values = found.values as f64 / 1e6;
    outln!("exchange      {values:.1} M values in {}{}", times(&[found.exchange_alone_s]), compared(&found))?;
    if let Some(bytes) = found.peak_bytes {
        outln!("peak memory   {:.2} GB of the first process", bytes as f64 / 1e9)?;
    }
    outln!("speed         {:.1} images/s at the median step", found.images_per_s)?;
    outln!(
        "alone         {} for a process's share, {} efficiency",
        times(&[found.alone_s]),
        percent(found.efficiency)
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The exchange against the sum of the MPI library.
fn compared(found: &RanksBench) -> String {
    let by =
        |s: f64| format!(", the library's all-reduce in {}: {:.2}", times(&[s]), found.exchange_alone_s / s);
    found.allreduce_s.map_or_else(String::new, by)
}

fn step(args: &BenchArgs, recipe: &Recipe, rows: usize) -> anyhow::Result<ExitCode> {
    check_micro_batch(recipe, rows)?;
    // An error now, before ONNX Runtime is looked for.
    Setup::new(recipe, args.classes.get(), rows, &[], SEED)?;
    let (loaded, options) = device::runtime(&args.runtime, Some(&args.step), Precision::F32)?;
    if let Some(folder) = &args.state {
        let mut backend = backend(loaded, recipe, args.classes.get(), rows, options, (0, 1))?;
        write_state(&mut backend, &NoiseBatch::new(recipe, args.classes.get(), rows), folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let found = bench_step(loaded, recipe, args.classes.get(), rows, args.steps.get(), options)?;
    if args.json {
        print_json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    print_setting(&found.recipe, found.batch_rows, &found.device, &found.library)?;
    if rows < found.batch_rows {
        outln!("micro-batch   {}", count(rows as u64, "image"))?;
    }
    outln!("start-up      {:.2} s", found.startup_s)?;
    outln!("steps         {}", times(&found.step_s))?;
    outln!("speed         {:.1} images/s at the median step", found.images_per_s)?;
    if let Some(bytes) = found.peak_bytes {
        outln!("peak memory   {:.2} GB", bytes as f64 / 1e9)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check_micro_batch(recipe: &Recipe, rows: usize) -> anyhow::Result<()> {
    let batch = recipe.training.batch_size;
    if rows > batch {
        return Err(WrongUsage(format!(
            "--micro-batch {rows}: expected at most the {batch} images of a batch (--batch-size)"
        ))
        .into());
    }
    Ok(())
}

/// Steps with each of these micro-batches.
fn micro_batches(args: &BenchArgs, recipe: &Recipe, several: &[NonZero<usize>]) -> anyhow::Result<ExitCode> {
    for rows in several {
        check_micro_batch(recipe, rows.get())?;
    }
    let trainer = env::current_exe().context("the path of this program is unknown")?;
    let mut all = Vec::new();
    for rows in several {
        let mut own = launch::without(env::args_os().skip(1), "--micro-batch");
        own.retain(|argument| argument != "--json");
        own.extend(["--json".into(), format!("--micro-batch={rows}").into()]);
        let run = Command::new(&trainer).args(own).stderr(Stdio::inherit()).output();
        let run = run.with_context(|| format!("{} cannot be started", trainer.display()))?;
        if !run.status.success() {
            // It has said why.
            return Ok(run.status.code().and_then(|code| u8::try_from(code).ok()).map_or_else(
                || {
                    errln!(
                        "error: the process with micro-batches of {rows} images ended with {}",
                        run.status
                    );
                    ExitCode::FAILURE
                },
                ExitCode::from,
            ));
        }
        let found: StepBench = serde_json::from_slice(&run.stdout).context("the output of a process")?;
        if !args.json {
            if all.is_empty() {
                print_setting(&found.recipe, found.batch_rows, &found.device, &found.library)?;
                outln!("micro-batch   {:>12}{:>14}{:>14}", "median step", "images/s", "peak memory")?;
            }
            let step = times(&[median_step(&found.step_s)]);
            let memory = found.peak_bytes.map(|bytes| format!("{:.2} GB", bytes as f64 / 1e9));
            outln!("{rows:<14}{step:>12}{:>14.1}{:>14}", found.images_per_s, memory.unwrap_or_default())?;
        }
        all.push(found);
    }
    if args.json {
        print_json(&all)?;
    }
    Ok(ExitCode::SUCCESS)
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
    let data = TrainingData::new(&data::open(&args.cache, data)?, recipe)?;
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

/// How long a process waits for the others.
const DEADLINE: Duration = Duration::from_secs(60);

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
