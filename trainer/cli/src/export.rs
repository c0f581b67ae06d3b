//! `export`: a trained network as an ONNX file.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use fovea_datasets::photo::{Fit, Orientation};
use fovea_files::write_atomically;
use fovea_tools::{errln, outln};
use fovea_trainer::recipe::Mean;
use fovea_trainer::training::{StoredImages, TrainedModel};

use super::WrongUsage;
use super::args::ExportArgs;
use super::photo_input::preparation_of;

pub fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let trained = TrainedModel::load(&args.trained.run, args.trained.checkpoint)?;
    let (path, stored) = (trained.path.clone(), stored_images(&args.trained.run)?);
    let write = |bytes: &[u8]| {
        write_atomically(&args.out, |out| out.write_all(bytes))
            .with_context(|| format!("cannot write {}", args.out.display()))
    };
    if args.pixels.is_none() && trained.network.file.is_some() {
        if trained.recipe.input.mean == Mean::Image {
            let reason =
                "the run subtracts a mean image, which the network's own file does not: use --pixels";
            return Err(WrongUsage(reason.into()).into());
        }
        let input = trained.metadata(&stored).into_iter().find(|(key, _)| key == "preprocessing");
        write(&trained.own_file(&stored)?.unwrap_or_default())?;
        errln!("from {}", path.display());
        errln!("under the names of the network's file; its input is (pixel - mean) / std of");
        errln!("{}", input.map_or_else(String::new, |(_, value)| value));
    } else {
        let metadata = trained.metadata(&stored);
        let graph = trained.inference_graph(args.pixels.unwrap_or_default())?;
        write(&graph.to_bytes_with(&metadata))?;
        errln!("from {}", path.display());
        for (way, ports) in [("in ", graph.inputs()), ("out", graph.outputs())] {
            for port in ports {
                let rest: Vec<String> =
                    port.ty.shape.iter().skip(1).map(|length| format!(",{length}")).collect();
                errln!("{way}  {} {:?} [N{}]", port.name, port.ty.element, rest.concat());
            }
        }
    }
    outln!("{}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

fn stored_images(run: &Path) -> anyhow::Result<StoredImages> {
    let (orientation, fit, filter) = preparation_of(run)?;
    Ok(StoredImages {
        upright: orientation == Orientation::Apply,
        squashed: fit == Fit::Squash,
        filter: filter.name(),
    })
}
