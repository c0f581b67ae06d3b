//! Building ONNX graphs and differentiating them.
//!
//! [`Builder`] appends operators with shape and type inference and records a gradient rule for each;
//! [`Builder::grad`] appends the gradients of a scalar; [`Builder::finish`] gives a [`Graph`], which writes itself as
//! an ONNX model of operator set 18 in standard operators, so that every stock ONNX Runtime can run it.
//!
//! Letters: N batch, C input channels, O output channels, H W input height and width, P Q output height and width,
//! K classes.

mod builder;
mod error;
mod grad;
mod import;
mod init;
mod lowering;
mod model;
mod module;
mod node;
pub mod onnx;
mod operator;
pub mod ops;
mod types;

#[cfg(test)]
mod check;

pub use builder::{Builder, Upstream};
pub use error::{GraphError, Result};
pub use import::Imported;
pub use init::Init;
pub use lowering::{ADDRESSES_AS_ARGUMENTS, ConvWeightForm, Lowering, LrnForm, Target};
pub use model::{Graph, IR_VERSION, OPSET, Port, free_batch};
pub use module::{
    Buffer, BufferUse, DropoutMask, Forward, Mode, Network, Parameter, ParameterKind, mask_name, unknown_tap,
};
pub use node::{Attribute, Attributes, Tensor};
pub use operator::Operator;
pub use types::{ElementType, TensorType};
