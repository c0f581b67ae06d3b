//! Gradients of ONNX graphs, in standard operators, without a runtime.
//!
//! ```text
//! network.onnx ─► Imported ─┐
//!                           ├─► Builder ── grad ─► Builder ── finish ─► Graph ─► bytes of an .onnx file
//! calls such as g.conv(…) ──┘   (nodes, and a gradient rule for each)
//! ```
//!
//! [`Builder`] appends operators, infers their shapes and types, and records a gradient rule for each;
//! [`Builder::grad`] appends the gradients of a scalar; [`Builder::finish`] returns a [`Graph`], which
//! encodes itself as an ONNX model of operator set [`OPSET`] in standard operators: every stock ONNX Runtime
//! runs it, on every device and from every language, and Netron shows it.
//!
//! ```
//! use fovea_graph::{Builder, Lowering, Target, TensorType};
//!
//! # fn main() -> fovea_graph::Result<()> {
//! let mut g = Builder::new("line", Lowering::training(Target::Cpu));
//! let x = g.input("x", TensorType::f32([16, 4]))?;
//! let w = g.input("w", TensorType::f32([1, 4]))?;
//! let b = g.input("b", TensorType::f32([1]))?;
//! let y = g.linear(x, w, b)?; // [16, 1]
//! let square = g.mul(y, y)?;
//! let loss = g.sum(square)?;
//! let gradients = g.grad(loss, &[w, b])?;
//! g.output("w.gradient", gradients[0])?;
//! g.output("b.gradient", gradients[1])?;
//! let bytes = g.finish().to_bytes(); // a whole .onnx file
//! # assert!(!bytes.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! A network in a file is imported node by node through the same builder: [`Imported`], and
//! `examples/differentiate.rs`, which adds the gradients of all parameters to any such file. [`Network`] is
//! what a builder can append, with the parameters, buffers and random inputs that it declares.
//!
//! An operator of another domain, or of your own, is a `static` [`Operator`]: [`Builder::emit`] appends its
//! node and [`Builder::record`] gives it a gradient rule.
//!
//! Letters: N batch, C input channels, O output channels, H W input height and width, P Q output height and
//! width, K classes.

mod builder;
mod error;
mod free_batch;
mod grad;
mod import;
mod init;
mod lowering;
mod model;
mod module;
mod nearest;
mod node;
pub mod onnx;
mod operator;
pub mod ops;
mod types;

#[cfg(test)]
mod gradcheck;

pub use builder::{Builder, Upstream};
pub use error::{GraphError, Result};
pub use free_batch::free_batch;
pub use import::{
    ConstantSummary, Differentiated, Gradients, Imported, LayerSummary, Objective, Summary, Wrt,
};
pub use init::{Init, draw_normal};
pub use lowering::{
    ADDRESSES_AS_ARGUMENTS, ConvWeightForm, DepthwiseForm, Lowering, LrnForm, MaskForm, Target,
};
pub use model::{DOMAIN, Graph, IR_VERSION, OPSET, Port};
pub use module::{
    Buffer, BufferUse, Distribution, Drawn, DropoutMask, Forward, Mode, Network, Noise, Parameter,
    ParameterKind, mask_name, unknown_tap,
};
pub use nearest::nearest_names;
pub use node::{Attribute, Attributes, Tensor};
pub use operator::Operator;
pub use types::{ElementType, TensorType};
