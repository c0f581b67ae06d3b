//! `inspect`: what the network of a file is, and what training changes of it.

use std::process::ExitCode;

use fovea_analysis::figure;
use fovea_graph::{Imported, Summary};
use fovea_tools::outln;
use fovea_tools::terminal::print_json;
use fovea_trainer::training::TrainingError;
use serde_json::json;

use crate::args::InspectArgs;

/// Side of the images where neither the file nor the user fixes it.
const DEFAULT_PX: usize = 224;

pub fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let network = Imported::read(&args.network).map_err(TrainingError::from)?;
    let given = args.px.map(|side| [side.get(); 2]);
    let [height, width] = given.or(network.input_px()).unwrap_or([DEFAULT_PX; 2]);
    let summary = network.summary([height, width]).map_err(TrainingError::from)?;
    if args.json {
        print_json(&as_json(&summary, [height, width]))?;
    } else {
        print(&summary, [height, width])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(summary: &Summary, [height, width]: [usize; 2]) -> serde_json::Value {
    let layers = summary.layers.iter().map(|layer| {
        json!({
            "name": layer.name,
            "operator": layer.operator,
            "shape": layer.shape,
            "parameters": layer.parameters,
            "multiply_adds": layer.multiply_adds,
        })
    });
    let constant = summary.constant.iter().map(
        |constant| json!({ "name": constant.name, "values": constant.values, "reason": constant.reason }),
    );
    json!({
        "image": [3, height, width],
        "classes": summary.classes,
        "trained": summary.trained,
        "running_statistics": summary.running,
        "multiply_adds": multiply_adds(summary),
        "layers": layers.collect::<Vec<_>>(),
        "constant": constant.collect::<Vec<_>>(),
    })
}

fn print(summary: &Summary, [height, width]: [usize; 2]) -> anyhow::Result<()> {
    let rows: Vec<[String; 5]> = summary
        .layers
        .iter()
        .map(|layer| {
            let count = |count: u64| if count == 0 { String::new() } else { grouped(count) };
            let shape = layer.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
            let (parameters, products) = (count(layer.parameters as u64), count(layer.multiply_adds));
            [layer.operator.clone(), shape, parameters, products, layer.name.clone()]
        })
        .collect();
    let heads = ["operator", "output", "parameters", "multiply-adds", "name"].map(str::to_owned);
    let width_of =
        |column: usize| rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [a, b, c, d] = [0, 1, 2, 3].map(width_of);
    for [operator, shape, parameters, products, name] in [&heads].into_iter().chain(&rows) {
        outln!("{operator:a$}  {shape:b$}  {parameters:>c$}  {products:>d$}  {name}")?;
    }
    let constant: usize = summary.constant.iter().map(|constant| constant.values).sum();
    let all = grouped((summary.trained + constant) as u64);
    outln!("")?;
    outln!("image          3 x {height} x {width}")?;
    outln!("classes        {}", grouped(summary.classes as u64))?;
    outln!("trains         {} of {all} values", grouped(summary.trained as u64))?;
    if summary.running > 0 {
        outln!("statistics     {} running values, which training moves", grouped(summary.running as u64))?;
    }
    outln!("multiply-adds  {} an image", grouped(multiply_adds(summary)))?;
    for constant in &summary.constant {
        let (name, values) = (&constant.name, grouped(constant.values as u64));
        outln!("not trained    {name} ({values}): {}", constant.reason)?;
    }
    Ok(())
}

fn grouped(number: u64) -> String {
    figure::grouped(&number.to_string())
}

fn multiply_adds(summary: &Summary) -> u64 {
    summary.layers.iter().map(|layer| layer.multiply_adds).sum()
}
