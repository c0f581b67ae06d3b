//! Errors of backends.

use fovea_graph::GraphError;
use fovea_runtime::RuntimeError;

use crate::recipe::RecipeError;
use crate::state::StateError;

/// A backend cannot be made, or fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Rows that the backend is not made for.
    #[error("{what}: {found}, expected {expected}")]
    Rows {
        /// The quantity that does not fit.
        what: &'static str,
        /// The value found.
        found: String,
        /// The value expected.
        expected: String,
    },
    /// A step takes more memory than there is.
    #[error(
        "recipe `{recipe}` with {rows} images at once takes {:.1} GB of memory or more, and there are {:.1} GB; \
         lower the number of images at once, or the size of images and layers",
        *needed_bytes as f64 / 1e9, *most_bytes as f64 / 1e9
    )]
    Memory {
        /// Name of the recipe.
        recipe: String,
        /// Images that the backend processes at once.
        rows: usize,
        /// Bytes that it takes at least.
        needed_bytes: u128,
        /// Bytes that the process can have.
        most_bytes: u64,
    },
    /// The network does not take training images of another side.
    #[error(
        "recipe `{recipe}`: its network does not take both images of {crop_px} pixels (`input.crop_px`) and training \
         images of {px} (`augmentation.sizes`): {reason}; leave `augmentation.sizes` out, or use a network that \
         averages over all places before its last layer, such as resnet18"
    )]
    Size {
        /// Name of the recipe.
        recipe: String,
        /// The side in pixels that does not fit.
        px: usize,
        /// The side of images in evaluation.
        crop_px: usize,
        /// What does not fit, by the name of the layer.
        reason: String,
    },
    /// A saved state does not fit the network.
    #[error(transparent)]
    State(#[from] StateError),
    /// The layers do not fit each other or the images.
    #[error(transparent)]
    Layers(#[from] RecipeError),
    /// The network cannot be expressed as graphs.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// ONNX Runtime cannot be loaded.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// ONNX Runtime reports an error.
    #[error("ONNX Runtime cannot {doing}: {}", .reason.to_string().trim_end())]
    Session {
        /// The operation that failed.
        doing: &'static str,
        /// ONNX Runtime's message.
        reason: ort::Error,
    },
    /// Weights cannot be loaded into a backend that computes nothing.
    #[error("the null backend has no weights; leave --backend out")]
    Weightless,
    /// No loss scale is small enough.
    #[error(
        "the gradients are not finite, however small the loss scale; lower optimizer.learning_rate, or use --precision f32"
    )]
    Gradients,
    /// The GPU cannot be used.
    #[error(
        "cuda:{id} cannot be used: {}; check that the GPU exists and that ONNX Runtime is a build with CUDA \
         (unset ORT_DYLIB_PATH to have one fetched), or use --device cpu",
        .reason.to_string().trim_end()
    )]
    Cuda {
        /// Number of the GPU.
        id: u32,
        /// ONNX Runtime's message.
        reason: ort::Error,
    },
}

impl BackendError {
    /// Whether the network is to blame: its layers do not fit, or not into memory, or it cannot be expressed
    /// as graphs.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Layers(_) | Self::Graph(_) | Self::Memory { .. } | Self::Size { .. })
    }

    /// For `map_err`: ONNX Runtime's error, with the operation that failed.
    pub(super) fn session(doing: &'static str) -> impl Fn(ort::Error) -> Self {
        move |reason| Self::Session { doing, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_onnx_runtime_stay_on_one_line() {
        // The CUDA provider's messages end with a line feed.
        let reason = || ort::Error::new("libcudnn.so.9 is missing\n");
        let errors =
            [BackendError::Cuda { id: 1, reason: reason() }, BackendError::session("load a graph")(reason())];
        for error in errors {
            let message = error.to_string();
            assert!(message.contains("libcudnn.so.9 is missing") && !message.contains('\n'), "{message}");
        }
    }
}
