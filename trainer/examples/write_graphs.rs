//! Writes the graphs of a network as `.onnx` files, to be looked at in Netron or run by any ONNX Runtime.
//!
//! `cargo run -p fovea-trainer --example write_graphs -- OUT [RECIPE] [CLASSES] [BATCH] [cpu|cuda]`

use std::path::PathBuf;

use anyhow::{Context, bail};
use fovea_trainer::graph::Target;
use fovea_trainer::models::{Classifier, GraphOptions, TrainingGraphs};
use fovea_trainer::recipe::Recipe;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let out = PathBuf::from(
        arguments.next().context("usage: write_graphs OUT [RECIPE] [CLASSES] [BATCH] [cpu|cuda]")?,
    );
    let recipe = arguments.next().unwrap_or_else(|| "alexnet".to_owned());
    let recipe = Recipe::load(&recipe, &[])?;
    let classes =
        arguments.next().map_or(Ok(1000), |k| k.parse()).context("the number of classes must be a number")?;
    let batch = arguments.next().map_or(Ok(128), |b| b.parse()).context("the batch must be a number")?;
    let target = match arguments.next().as_deref() {
        None | Some("cpu") => Target::Cpu,
        Some("cuda") => Target::Cuda,
        Some(other) => bail!("unknown device `{other}`: cpu or cuda"),
    };
    let options = GraphOptions::of_recipe(&recipe, batch, target);
    let graphs = TrainingGraphs::build(&Classifier::new(&recipe, classes), &options)?;
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let all = [
        ("train", &graphs.train),
        ("update", &graphs.update),
        ("accumulate", &graphs.accumulate),
        ("evaluate", &graphs.evaluate),
    ];
    for (name, graph) in all {
        let path = out.join(format!("{name}.onnx"));
        std::fs::write(&path, graph.to_bytes()).with_context(|| path.display().to_string())?;
        println!("{}: {}", path.display(), graph.operators().join(" "));
    }
    Ok(())
}
