//! `export`: a trained network as an ONNX file.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use fovea_files::write_atomically;
use fovea_tools::{errln, outln};
use fovea_trainer::training::TrainedModel;

use super::args::ExportArgs;

pub fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let trained = TrainedModel::load(&args.trained.run, args.trained.checkpoint)?;
    let path = trained.path.clone();
    let graph = trained.inference_graph(args.pixels)?;
    let bytes = graph.to_bytes();
    write_atomically(&args.out, |out| out.write_all(&bytes))
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    errln!("from {}", path.display());
    for (way, ports) in [("in ", graph.inputs()), ("out", graph.outputs())] {
        for port in ports {
            let rest: Vec<String> = port.ty.shape.iter().skip(1).map(|length| format!(",{length}")).collect();
            errln!("{way}  {} {:?} [N{}]", port.name, port.ty.element, rest.concat());
        }
    }
    outln!("{}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}
