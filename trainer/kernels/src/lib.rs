//! Kernels of Fovea's own for ONNX Runtime's CPU provider, in single precision: what its kernels for standard
//! operators are slow at in a training step. Some have twins for its CUDA provider.
//!
//! [`operators`] registers them as operators of the domain [`DOMAIN`], [`cuda_operators`] the twins. Graphs
//! that hold them are for sessions of this process; files hold standard operators.

mod activations;
mod batch_norm;
mod conv;
#[cfg(test)]
mod conv_tests;
mod cuda;
mod depthwise;
mod lanes;
mod layer_norm;
mod limits;
mod lrn;
mod matmul;
mod node;
mod operators;
mod pool;
mod product;
mod scratch;
mod sums;
mod threads;
mod transpose;

pub use cuda::cuda_operators;
pub use operators::{DOMAIN, operators};

/// Whether the processor has the instructions that the kernels were measured with: AVX2 and FMA. Elsewhere
/// they compute the same, more slowly than ONNX Runtime may.
#[must_use]
pub fn are_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}
