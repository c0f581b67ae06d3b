//! Names of the tensors in graphs, states and checkpoints.
//!
//! Parameters, masks and buffers have the names that the network gives them; names of tensors that belong to
//! one start with its name.

pub use fovea_graph::mask_name;

/// Input `u8 [N,3,H,W]` (optionally f32 in a graph for export), 0..=255.
pub const IMAGES: &str = "images";
/// Input `f32 [N,3]`: offset of colour augmentation for each channel, in units of pixels.
pub const OFFSETS: &str = "offsets";
/// Input `f32 [3,1,1]` or `[3,H,W]`: mean that is subtracted from images, in units of pixels.
pub const MEAN: &str = "mean";
/// Input `i64 [N]`: class numbers.
pub const LABELS: &str = "labels";
/// Input `f32 [N,K]` in place of `labels` where labels are no classes: marks of classes, or numbers.
pub const TARGETS: &str = "targets";
/// Input `i64 [N]` of the train graph where images are mixed: class numbers of the lesser share.
pub const OTHER_LABELS: &str = "other_labels";
/// Input `f32 [N]` beside it: the share of `labels`, the rest is that of `other_labels`.
pub const LABEL_SHARES: &str = "label_shares";
/// Input `bool [N]`: false for the padding rows of a partial batch.
pub const VALID: &str = "valid";
/// Input f32 scalar: factor of all gradients.
pub const GRADIENT_SCALE: &str = "gradient_scale";
/// Input f32 scalar of graphs in half precision: factor of the loss during differentiation. Also the name of
/// the tensor `f32 [2]` of a saved state that holds it.
pub const LOSS_SCALE: &str = "loss_scale";
/// Output f32 scalar of graphs in half precision: sum of all gradients, finite only if all of them are.
pub const GRADIENT_SUM: &str = "gradient_sum";
/// Output f32 scalar: cross-entropy summed over valid rows.
pub const LOSS: &str = "loss";
/// Output f32 scalar: number of valid rows whose class has the highest logit.
pub const TOP1: &str = "top1";
/// Output f32 scalar: number of valid rows whose class has one of the five highest logits.
pub const TOP5: &str = "top5";
/// Output f32 scalar, in place of `top1` where labels are no classes: the first error of the loss, summed
/// over valid rows.
pub const FIRST_ERROR: &str = "first_error";
/// Output f32 scalar, in place of `top5`: the second error of the loss, summed over valid rows.
pub const SECOND_ERROR: &str = "second_error";
/// Output `f32 [N,K]` where labels are numbers.
pub const VALUES: &str = "values";
/// Output `f32 [N,K]` before the softmax or sigmoid.
pub const LOGITS: &str = "logits";
/// Output `f32 [N,K]`: softmax of the logits, or sigmoid where images have any number of classes; views of
/// one image are averaged over these.
pub const PROBABILITIES: &str = "probabilities";
/// Output `f32 [N,D]`: activation of a layer, flattened.
pub const FEATURES: &str = "features";
/// Output `f32 [N,H,W]`: how much the highest logit of an image depends on each of its pixels.
pub const SALIENCY: &str = "saliency";
/// Input `f32 [L]` of the update: weights.
pub const WEIGHTS: &str = "weights";
/// Input `f32 [L]` of the update: gradients.
pub const GRADIENTS: &str = "gradients";
/// Output `f32 [L]` of the update.
pub const NEW_WEIGHTS: &str = "new_weights";
/// Output f32 scalar: sum of the squares of a piece of the gradients.
pub const SQUARES: &str = "squares";
/// Input of the accumulation, `f32 [L]`.
pub const SUM: &str = "sum";
/// Output of the accumulation, `f32 [L]`.
pub const NEW_SUM: &str = "new_sum";

/// Names of inputs and outputs of graphs, which tensors of a network cannot have.
pub const RESERVED: &[&str] = &[
    IMAGES,
    OFFSETS,
    MEAN,
    LABELS,
    TARGETS,
    OTHER_LABELS,
    LABEL_SHARES,
    VALID,
    GRADIENT_SCALE,
    LOSS_SCALE,
    GRADIENT_SUM,
    LOSS,
    TOP1,
    TOP5,
    FIRST_ERROR,
    SECOND_ERROR,
    VALUES,
    LOGITS,
    PROBABILITIES,
    FEATURES,
    SAVED_MEAN,
];

/// The name of the mean in a checkpoint: `f32 [3,H,W]` or `[3]`.
pub const SAVED_MEAN: &str = "input.mean";

/// Output of the train graph: gradient of the parameter `name`.
#[must_use]
pub fn gradient(name: &str) -> String {
    format!("{name}.gradient")
}

/// Tensor of a saved state: slot `slot` of the parameter `name`.
#[must_use]
pub fn slot(name: &str, slot: &str) -> String {
    format!("{name}.{slot}")
}

/// Input `f32 [L]` of the update: the slot `slot`.
#[must_use]
pub fn slot_input(slot: &str) -> String {
    format!("{slot}_buffer")
}

/// Output `f32 [L]` of the update: the slot `slot`.
#[must_use]
pub fn slot_output(slot: &str) -> String {
    format!("new_{slot}_buffer")
}

/// Output of the train graph: the step's change of the buffer `name`.
#[must_use]
pub fn buffer_change(name: &str) -> String {
    format!("{name}.change")
}
