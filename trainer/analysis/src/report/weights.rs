//! Figures of the weights of a checkpoint.

use fovea_graph::{Parameter, ParameterKind};
use fovea_trainer::names;
use fovea_trainer::state::{Tensor, Tensors};
use fovea_trainer::training::TrainedModel;

use super::section::{Figure, Section};
use crate::figure::{Axis, Bar, BarChart, Cell, Color, Level, Picture, Pictures, Row, compact};

/// Most kernels that are shown.
const MOST_KERNELS: usize = 256;
/// Slot of the optimizer that holds the last update of a weight.
const LAST_UPDATE: &str = "momentum";

/// Kernels and norms.
pub(super) fn section(trained: &TrainedModel) -> Section {
    let mut section = Section { title: "The network", ..Section::default() };
    match trained.network.parameters() {
        Ok(parameters) => {
            match kernels(&parameters, &trained.state) {
                Ok(figure) => section.figures.push(figure),
                Err(reason) => section.omissions.push(reason),
            }
            match norms(&parameters, &trained.state) {
                Some(figure) => section.figures.push(figure),
                None => section
                    .omissions
                    .push("norms of updates: only an optimizer with momentum keeps the last update".into()),
            }
        }
        Err(error) => section.omissions.push(format!("kernels and norms: {error}")),
    }
    section
}

/// The kernels of the first convolution over colours (figure 3 of the paper).
fn kernels(parameters: &[Parameter], state: &Tensors) -> Result<Figure, String> {
    let is_first =
        |parameter: &&Parameter| matches!(parameter.shape[..], [_, 3, height, width] if height == width);
    let missing =
        || "kernels of the first layer: the network has no convolution over three colours".to_owned();
    let first = parameters.iter().find(is_first).ok_or_else(missing)?;
    let weight = state.get(&first.name).ok_or_else(missing)?;
    let &[count, 3, side, _] = weight.shape.as_slice() else { return Err(missing()) };
    let groups = groups_after(first, parameters);
    let pictures: Vec<Cell> = weight
        .values
        .chunks_exact(3 * side * side)
        .take(MOST_KERNELS)
        .map(|kernel| Cell::new(Picture::from_planes(side as u32, side as u32, &normalised(kernel))))
        .collect();
    let (side_px, per_row) = arrangement(side, count);
    let mut rows = Vec::new();
    for (group, cells) in pictures.chunks((count / groups).max(1)).enumerate() {
        for (index, cells) in cells.chunks(per_row).enumerate() {
            let caption =
                if groups > 1 && index == 0 { format!("group {}", group + 1) } else { String::new() };
            rows.push(Row { caption, cells: cells.to_vec() });
        }
    }
    let chart = Pictures { title: format!("Kernels of {}", layer_of(first)), side_px, gap_px: 3.0, rows };
    let shown =
        if count > MOST_KERNELS { format!(" The first {MOST_KERNELS} of {count}.") } else { String::new() };
    let caption = format!(
        "{count} kernels of {side}×{side} pixels and three colours, each scaled to the full range from black to white, as in \
         the paper's figure 3.{shown}"
    );
    Ok(Figure { name: "kernels", svg: chart.svg(), caption })
}

/// Name of the layer that a parameter belongs to.
fn layer_of(parameter: &Parameter) -> &str {
    parameter.name.trim_end_matches(".weight")
}

/// Side of a kernel in the figure, a multiple of its own, and kernels per row. Few small kernels are enlarged
/// more.
fn arrangement(side: usize, count: usize) -> (f64, usize) {
    let (shown_px, per_row) = if side < 9 && count <= 64 { (63.0, 8) } else { (31.0, 16) };
    let side = side as f64;
    (side * (shown_px / side).round().max(1.0), per_row)
}

/// The number of groups that the next convolution divides the outputs of `first` into. Its weights have the
/// shape `[O, C/groups, k, k]`, where C is the number of outputs of `first`.
fn groups_after(first: &Parameter, parameters: &[Parameter]) -> usize {
    let count = first.shape[0];
    let inputs = parameters.iter().filter(|parameter| parameter.name != first.name).find_map(|parameter| {
        match parameter.shape[..] {
            [_, inputs, height, width] if height == width => Some(inputs),
            _ => None,
        }
    });
    match inputs {
        // With one input each, as in depthwise convolutions, groups show nothing.
        Some(inputs) if inputs > 1 && count.is_multiple_of(inputs) => count / inputs,
        _ => 1,
    }
}

/// A kernel scaled to 0..=255, the same for all colours; grey if all values are equal.
fn normalised(kernel: &[f32]) -> Vec<u8> {
    let finite = || kernel.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    if low >= high {
        return vec![128; kernel.len()];
    }
    // `as` saturates, and turns NaN into 0.
    kernel.iter().map(|value| (255.0 * (value - low) / (high - low)).round() as u8).collect()
}

/// The norm of the last update of each weight, relative to the weight.
fn norms(parameters: &[Parameter], state: &Tensors) -> Option<Figure> {
    let norm = |tensor: &Tensor| tensor.values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let bars: Vec<Bar> = parameters
        .iter()
        .filter(|parameter| parameter.kind == ParameterKind::Weight)
        .filter_map(|parameter| {
            let update = state.get(&names::slot(&parameter.name, LAST_UPDATE))?;
            let (weight, update) = (norm(state.get(&parameter.name)?), norm(update));
            let notes = [weight, update].map(|norm| compact(norm, 3)).to_vec();
            let label = layer_of(parameter).to_owned();
            Some(Bar { label, value: update / weight, notes, color: Color::Series(0) })
        })
        .collect();
    if bars.is_empty() {
        return None;
    }
    let chart = BarChart {
        title: "Last update of the weights".into(),
        axis: Axis::log("|Δw| / |w|"),
        bars,
        columns: ["|w|", "|Δw|"].map(str::to_owned).to_vec(),
        levels: vec![Level { at: 1e-3, label: "1/1000".into() }],
    };
    let caption = "Norm of the last update of each layer, relative to the norm of its weights. Far above 1/1000 the \
                   updates are too large; far below, the layer hardly learns.";
    Some(Figure { name: "norms", svg: chart.svg(), caption: caption.into() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use fovea_graph::Target;
    use fovea_trainer::checkpoint::Meta;
    use fovea_trainer::metrics::BatchMetrics;
    use fovea_trainer::models::{Classifier, GraphOptions, PixelType, inference};
    use fovea_trainer::optimizer;
    use fovea_trainer::recipe::Recipe;

    use super::super::record::has_dropout;
    use super::*;

    const CLASSES: usize = 5;

    fn network(recipe: &Recipe) -> (Classifier, Vec<Parameter>) {
        let network = Classifier::new(recipe, CLASSES).unwrap();
        let parameters = network.parameters().unwrap();
        (network, parameters)
    }

    /// A run of `recipe` whose weights and updates depend on nothing but their names.
    fn trained(recipe: Recipe) -> TrainedModel {
        let (network, parameters) = network(&recipe);
        let mut state = BTreeMap::new();
        for Parameter { name, shape, .. } in parameters {
            let values =
                (0..shape.iter().product()).map(|i: usize| ((i * 31 + name.len()) % 17) as f32 - 8.0);
            let weight = Tensor { shape: shape.clone(), values: values.collect() };
            let values = weight.values.iter().map(|value| 1e-3 * value).collect();
            state.insert(names::slot(&name, LAST_UPDATE), Tensor { shape, values });
            state.insert(name, weight);
        }
        let meta = Meta {
            written_by: String::new(),
            recipe: recipe.name.clone(),
            recipe_hash: recipe.hash(),
            classes: vec![String::new(); CLASSES],
            class_names: vec![String::new(); CLASSES],
            data: String::new(),
            is_best: false,
            seed: 0,
            step: 1,
            epoch: 1,
            batch: 0,
            sums: BatchMetrics::default(),
            discarded: 0,
            schedule: optimizer::State::default(),
        };
        let state = Tensors::new(Path::new("state"), state);
        TrainedModel { path: PathBuf::new(), recipe, meta, mean: Vec::new(), state, network }
    }

    /// The recipe with its network exported to `folder` and imported from there.
    fn imported(recipe: &Recipe, folder: &Path) -> Recipe {
        let (network, parameters) = network(recipe);
        let values: Vec<Vec<f32>> = parameters.iter().map(|p| p.initial(3, 0)).collect();
        let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let options = GraphOptions::from_recipe(recipe, 1, Target::Cpu);
        let mean = vec![0.0; 3 * recipe.input.crop_px * recipe.input.crop_px];
        let graph = inference(&network, &options, PixelType::F32, &mean, &values).unwrap();
        let path = folder.join("network.onnx");
        fs::write(&path, graph.to_bytes()).unwrap();
        Recipe::load("demo", &[format!("network={{onnx={:?}}}", path.to_str().unwrap())]).unwrap()
    }

    #[test]
    fn a_network_from_a_file_has_the_same_figures_as_the_layers_it_was_exported_from() {
        let recipe = Recipe::load("demo", &[]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let from_file = imported(&recipe, folder.path());
        assert!(!has_dropout(&from_file), "an exported network has no dropout");
        let [layers, file] = [recipe, from_file].map(|recipe| section(&trained(recipe)));
        assert_eq!(layers.omissions, [""; 0]);
        let names: Vec<&str> = layers.figures.iter().map(|figure| figure.name).collect();
        assert_eq!(names, ["kernels", "norms"]);
        assert!(layers.figures[0].svg.body.contains(">group 2<"), "{}", layers.figures[0].svg);
        assert!(layers.figures[1].svg.body.contains(">fc8<"), "{}", layers.figures[1].svg);
        assert!(layers.figures == file.figures, "{} against {}", layers.figures[1].svg, file.figures[1].svg);
    }

    #[test]
    fn a_kernel_is_scaled_to_the_full_range_and_a_flat_one_is_grey() {
        assert_eq!(normalised(&[-1.0, 0.0, 1.0]), [0, 128, 255]);
        assert_eq!(normalised(&[0.5, 0.5]), [128, 128]);
        assert_eq!(normalised(&[f32::NAN, 2.0, 3.0]), [0, 0, 255]);
        assert_eq!(normalised(&[f32::NAN]), [128]);
    }

    #[test]
    fn an_optimizer_that_keeps_no_update_is_said_to_have_none() {
        let mut model = trained(Recipe::load("demo", &[]).unwrap());
        let weights: BTreeMap<String, Tensor> = model
            .state
            .names()
            .filter(|name| !name.ends_with(LAST_UPDATE))
            .map(|name| (name.to_owned(), model.state.get(name).unwrap().clone()))
            .collect();
        model.state = Tensors::new(Path::new("state"), weights);
        let section = section(&model);
        let names: Vec<&str> = section.figures.iter().map(|figure| figure.name).collect();
        assert_eq!(names, ["kernels"]);
        assert!(section.omissions[0].starts_with("norms of updates: "), "{:?}", section.omissions);
    }

    #[test]
    fn small_kernels_are_enlarged_more_unless_there_are_many_and_always_by_whole_numbers() {
        assert_eq!(arrangement(11, 96), (33.0, 16));
        assert_eq!(arrangement(5, 32), (65.0, 8));
        assert_eq!(arrangement(3, 64), (63.0, 8));
        assert_eq!(arrangement(3, 256), (30.0, 16));
        assert_eq!(arrangement(40, 96), (40.0, 16));
    }
}
