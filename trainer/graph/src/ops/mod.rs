//! Operators by family: each file holds emission, shape rule, gradient rule and tests of its operators.

mod arithmetic;
mod batch_norm;
mod compare;
mod conv;
mod conv_weight;
mod dropout;
mod joining;
mod layout;
mod linear;
mod local;
mod loss;
mod lrn;
mod pool;
mod reduce;
mod softmax;
mod unary;

pub use batch_norm::BatchNorm;
pub use conv::Conv;
pub use dropout::DropoutScaling;
pub use local::Local;
pub use loss::CrossEntropy;
pub use lrn::{Lrn, LrnRegion};
pub use pool::Pool;
