//! What can go wrong in a backend.

use fovea_graph::GraphError;
use fovea_runtime::RuntimeError;

use crate::recipe::RecipeError;
use crate::state::StateError;

/// A backend cannot be made or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Rows that the backend was not made for.
    #[error("{what}: {found}, expected {expected}")]
    Rows {
        /// What does not fit.
        what: &'static str,
        /// What was given.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A saved state does not fit the network.
    #[error(transparent)]
    State(#[from] StateError),
    /// The layers do not fit each other or the images.
    #[error(transparent)]
    Layers(#[from] RecipeError),
    /// The network cannot be made into graphs.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// ONNX Runtime cannot be had.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// ONNX Runtime refused.
    #[error("ONNX Runtime cannot {doing}: {}", .reason.to_string().trim_end())]
    Session {
        /// What was to be done.
        doing: &'static str,
        /// What it said.
        reason: ort::Error,
    },
    /// Weights were to be given to a backend that computes nothing.
    #[error("the null backend has no weights to put to use; leave --backend out")]
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
        /// What ONNX Runtime said.
        reason: ort::Error,
    },
}

impl BackendError {
    /// For `map_err`: ONNX Runtime's refusal, with what was being done.
    pub(super) fn session(doing: &'static str) -> impl Fn(ort::Error) -> Self {
        move |reason| Self::Session { doing, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_onnx_runtime_says_keeps_to_its_line() {
        // Its CUDA provider ends what it says with a line feed.
        let reason = || ort::Error::new("libcudnn.so.9 is missing\n");
        let errors =
            [BackendError::Cuda { id: 1, reason: reason() }, BackendError::session("load a graph")(reason())];
        for error in errors {
            let told = error.to_string();
            assert!(told.contains("libcudnn.so.9 is missing") && !told.contains('\n'), "{told}");
        }
    }
}
