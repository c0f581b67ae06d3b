//! `gradients`: an `.onnx` file with its gradients.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use fovea_files::write_atomically;
use fovea_graph::{Gradients, Mode, Objective, Port};
use fovea_tools::{errln, outln};
use fovea_trainer::training::TrainingError;

use crate::args::GradientsArgs;

/// Lines of ports of one kind that are printed.
const SHOWN: usize = 8;

pub fn gradients(args: &GradientsArgs) -> anyhow::Result<ExitCode> {
    let gradients = Gradients {
        of: args.of.clone(),
        objective: if args.loss.is_some() { Objective::CrossEntropy } else { Objective::Outputs },
        wrt: args.wrt.clone(),
        mode: if args.training { Mode::Train } else { Mode::Evaluate },
        shapes: args.shape.iter().cloned().collect(),
    };
    let made = gradients.of_file(&args.network).map_err(TrainingError::from)?;
    write_atomically(&args.out, |out| out.write_all(&made.bytes))
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    print("in ", &made.inputs);
    print("may", &made.weights);
    print("out", &made.outputs);
    if !made.weights.is_empty() {
        errln!("in: inputs; may: inputs that have the file's values unless given; out: outputs");
    }
    outln!("{}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a graph takes or gives.
fn print(way: &str, ports: &[Port]) {
    for Port { name, ty, free_batch } in ports.iter().take(SHOWN) {
        let lengths: Vec<String> = ty.shape.iter().map(usize::to_string).collect();
        let lengths = match (free_batch, lengths.as_slice()) {
            (true, [_, rest @ ..]) => [&["N".to_owned()], rest].concat(),
            _ => lengths,
        };
        errln!("{way}  {name} {} [{}]", ty.element, lengths.join(","));
    }
    if ports.len() > SHOWN {
        errln!("{way}  … and {} more", ports.len() - SHOWN);
    }
}
