//! Kernels for ONNX Runtime's CUDA provider: `cuda/kernels.cu`, compiled to cubins, launched through NVIDIA's
//! driver on the provider's stream.

mod driver;
mod operators;
#[cfg(test)]
mod tests;

pub use operators::cuda_operators;
