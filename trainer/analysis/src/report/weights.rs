//! Figures of a checkpoint's tensors.

use fovea_trainer::recipe::LayerKind;
use fovea_trainer::state::Tensor;
use fovea_trainer::training::Trained;

use super::{Figure, Section};
use crate::figure::{Axis, Bar, BarChart, Cell, Color, Level, Picture, Pictures, Row, compact};

/// More kernels would fill the page.
const MOST_KERNELS: usize = 256;

/// Kernels and norms.
pub(super) fn section(trained: &Trained) -> Section {
    let mut section = Section { title: "The network", ..Section::default() };
    match kernels(trained) {
        Ok(figure) => section.figures.push(figure),
        Err(reason) => section.left_out.push(reason),
    }
    section.figures.extend(norms(trained));
    section
}

/// The kernels of the first layer, if they look at colours (figure 3 of the paper).
fn kernels(trained: &Trained) -> Result<Figure, String> {
    let first = trained.recipe.network.layer.iter().find(|layer| matches!(layer.kind, LayerKind::Conv(_)));
    let none = || "kernels of the first layer: the recipe begins with no convolution over colours".to_owned();
    let name = &first.ok_or_else(none)?.name;
    let weight = trained.state.get(&format!("{name}.weight")).ok_or_else(none)?;
    let &[count, 3, side, _] = weight.shape.as_slice() else { return Err(none()) };
    let groups = groups_after_first(trained).filter(|groups| count.is_multiple_of(*groups)).unwrap_or(1);
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
    let chart = Pictures { title: format!("Kernels of {name}"), side_px, gap_px: 3.0, rows };
    let shown =
        if count > MOST_KERNELS { format!(" The first {MOST_KERNELS} of {count}.") } else { String::new() };
    let caption = format!(
        "{count} kernels of {side}×{side} pixels and three colours, each stretched over the whole range from black to white, as in \
         the paper's figure 3.{shown}"
    );
    Ok(Figure { name: "kernels", svg: chart.svg(), caption })
}

/// The side that a kernel is shown with, a multiple of its own, and how many stand in a row. A few small ones are enlarged more.
fn arrangement(side: usize, count: usize) -> (f64, usize) {
    let (shown_px, per_row) = if side < 9 && count <= 64 { (63.0, 8) } else { (31.0, 16) };
    let side = side as f64;
    (side * (shown_px / side).round().max(1.0), per_row)
}

/// The groups of the first layer's kernels, as the second convolution takes them apart.
fn groups_after_first(trained: &Trained) -> Option<usize> {
    let mut convolutions = trained.recipe.network.layer.iter().filter_map(|layer| match &layer.kind {
        LayerKind::Conv(conv) => Some(conv.groups),
        _ => None,
    });
    convolutions.nth(1)
}

/// A kernel stretched to 0..=255, all its colours alike; one without differences is grey.
fn normalised(kernel: &[f32]) -> Vec<u8> {
    let finite = || kernel.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    if low >= high {
        return vec![128; kernel.len()];
    }
    // `as` saturates, and makes 0 of what is not a number.
    kernel.iter().map(|value| (255.0 * (value - low) / (high - low)).round() as u8).collect()
}

/// The last update of each layer's weights beside the weights.
fn norms(trained: &Trained) -> Option<Figure> {
    let norm = |tensor: &Tensor| tensor.values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let state = &trained.state;
    let weights = trained.recipe.network.layer.iter().map(|layer| format!("{}.weight", layer.name));
    let bars: Vec<Bar> = weights
        .filter_map(|name| {
            let (weight, update) = (norm(state.get(&name)?), norm(state.get(&format!("{name}.momentum"))?));
            let notes = [weight, update].map(|norm| compact(norm, 3)).to_vec();
            let label = name.trim_end_matches(".weight").to_owned();
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
    let caption = "Norm of each layer's last update, divided by the norm of its weights. Far above one thousandth a layer jumps; far \
                   below it hardly learns.";
    Some(Figure { name: "norms", svg: chart.svg(), caption: caption.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_stretched_over_the_whole_range_and_a_flat_one_is_grey() {
        assert_eq!(normalised(&[-1.0, 0.0, 1.0]), [0, 128, 255]);
        assert_eq!(normalised(&[0.5, 0.5]), [128, 128]);
        assert_eq!(normalised(&[f32::NAN, 2.0, 3.0]), [0, 0, 255]);
        assert_eq!(normalised(&[f32::NAN]), [128]);
    }

    #[test]
    fn kernels_of_few_pixels_are_enlarged_more_unless_there_are_many_and_always_by_whole_numbers() {
        assert_eq!(arrangement(11, 96), (33.0, 16));
        assert_eq!(arrangement(5, 32), (65.0, 8));
        assert_eq!(arrangement(3, 64), (63.0, 8));
        assert_eq!(arrangement(3, 256), (30.0, 16));
        assert_eq!(arrangement(40, 96), (40.0, 16));
    }
}
