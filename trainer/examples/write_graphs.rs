//! Writes the graphs of a network as `.onnx` files, to be looked at in Netron or run by any ONNX Runtime.
//!
//! `cargo run -p fovea-trainer --example write_graphs -- OUT [alexnet|demo|cifar_quick] [BATCH] [cpu|cuda]`

use std::path::PathBuf;

use anyhow::{Context, bail};
use fovea_trainer::graph::Target;
use fovea_trainer::models::{Activation, AlexNet, GraphOptions, TrainingGraphs, cifar_quick};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let out =
        PathBuf::from(arguments.next().context("usage: write_graphs OUT [NETWORK] [BATCH] [cpu|cuda]")?);
    let network = match arguments.next().as_deref() {
        None | Some("alexnet") => AlexNet::default().network(),
        Some("demo") => AlexNet::demo(32, 10).network(),
        Some("cifar_quick") => cifar_quick(true, Activation::Relu),
        Some(other) => bail!("unknown network `{other}`: alexnet, demo or cifar_quick"),
    };
    let batch = arguments.next().map_or(Ok(128), |b| b.parse()).context("the batch must be a number")?;
    let target = match arguments.next().as_deref() {
        None | Some("cpu") => Target::Cpu,
        Some("cuda") => Target::Cuda,
        Some(other) => bail!("unknown device `{other}`: cpu or cuda"),
    };
    let graphs = TrainingGraphs::build(&network, &GraphOptions { target, ..GraphOptions::new(batch) })?;
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
