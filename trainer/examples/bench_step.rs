//! Times training steps on one batch of noise and prints what it found as JSON.
//!
//! `cargo run --release -p fovea-trainer --example bench_step -- --recipe alexnet --batch 128 --steps 5`
//!
//! `--state FOLDER` writes the initial weights and the batch there first, for a comparison with another framework from the
//! same start (`benches/compare_pytorch.py`).

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::Parser;
use fovea_trainer::{
    backend::{DeviceChoice, OrtOptions, Precision, TrainingBackend},
    bench::{NoiseBatch, backend, bench_step},
    recipe::Recipe,
    runtime::{self, Options},
};

#[derive(Parser)]
struct Arguments {
    /// Built-in recipe or file
    #[arg(long, default_value = "alexnet")]
    recipe: String,
    /// Changes to the recipe
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Number of classes
    #[arg(long, default_value_t = 1000)]
    classes: usize,
    /// Rows of a batch
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Steps to take
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// auto, cpu or cuda[:i]
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// f32, tf32 or f16
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Do not record the step as a CUDA graph
    #[arg(long)]
    no_cuda_graph: bool,
    /// Do not copy a batch beside the step before
    #[arg(long)]
    no_copy_ahead: bool,
    /// Threads of ONNX Runtime; 0 for one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Folder for the initial weights and the batch; no steps are taken then
    #[arg(long)]
    state: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let recipe = Recipe::load(&arguments.recipe, &arguments.set)?;
    let device = arguments.device.resolve();
    let options = Options { threads: arguments.threads, ..Options::from_env(device.build()) };
    let loaded = runtime::environment(&options, &mut ())?;
    let options = OrtOptions {
        device,
        precision: arguments.precision,
        cuda_graph: !arguments.no_cuda_graph,
        copy_ahead: !arguments.no_copy_ahead,
    };
    let (classes, rows) = (arguments.classes, arguments.batch);
    if let Some(folder) = arguments.state {
        let mut backend = backend(loaded, &recipe, classes, rows, options)?;
        let batch = NoiseBatch::new(&recipe, classes, rows);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let mut written = Ok(());
        backend.export(&mut |tensors| {
            let path = folder.join("state.safetensors");
            written = safetensors::serialize_to_file(tensors.iter().copied(), None, &path);
        })?;
        written.with_context(|| folder.display().to_string())?;
        fs::write(folder.join("images.u8"), &batch.images)?;
        return Ok(());
    }
    let found = bench_step(loaded, &recipe, classes, rows, arguments.steps, options)?;
    println!("{}", serde_json::to_string_pretty(&found)?);
    Ok(())
}
