//! Operators by family. A file has the table of its operators, and for each operator its emission with shape
//! and gradient rules, its import from files, and tests.

use crate::import::translation::{Family, Import};
use crate::operator::Operator;

mod arithmetic;
mod attention;
mod batch_norm;
mod col2im;
mod compare;
mod conv;
mod conv_nd;
mod conv_product;
mod conv_weight;
mod deform_conv;
mod determinant;
mod dropout;
mod einsum;
mod element_loss;
mod extrema;
mod fourier;
mod gate_functions;
mod indexing;
mod layout;
mod linear;
mod local;
mod loss;
mod lrn;
mod normalise;
mod norms;
mod own_conv;
mod padding;
mod piecewise;
mod pool;
mod pool_nd;
mod recurrent;
mod reduce;
mod regions;
mod resize;
mod sampling;
mod scatter;
mod slicing;
mod smooth;
mod softmax;
mod sorting;
mod tiling;
mod trigonometry;
mod unary;
mod unpool;
mod windows;

pub(crate) use arithmetic::{ADD, MUL};
pub use attention::Attention;
pub use batch_norm::BatchNorm;
pub use conv::Conv;
pub use dropout::DropoutScaling;
pub use element_loss::ElementLoss;
pub use gate_functions::Function;
pub(crate) use layout::SHAPE;
pub use local::Local;
pub use loss::CrossEntropy;
pub use lrn::{Lrn, LrnRegion};
pub use padding::Padding;
pub use pool::Pool;
pub use recurrent::{Cell, Recurrent, RecurrentWeights, Steps};
pub use resize::{Coordinates, Interpolation, Nearest, Resize};
pub use sampling::{GridSample, Outside, Sampling};
pub use scatter::Scatter;
pub(crate) use slicing::SLICE;

/// All operators that the builder emits, by family.
const FAMILIES: &[Family] = &[
    arithmetic::OPERATORS,
    attention::OPERATORS,
    batch_norm::OPERATORS,
    col2im::OPERATORS,
    compare::OPERATORS,
    conv::OPERATORS,
    deform_conv::OPERATORS,
    determinant::OPERATORS,
    own_conv::OPERATORS,
    dropout::OPERATORS,
    einsum::OPERATORS,
    extrema::OPERATORS,
    fourier::OPERATORS,
    indexing::OPERATORS,
    layout::OPERATORS,
    linear::OPERATORS,
    lrn::OPERATORS,
    normalise::OPERATORS,
    norms::OPERATORS,
    padding::OPERATORS,
    piecewise::OPERATORS,
    pool::OPERATORS,
    recurrent::OPERATORS,
    reduce::OPERATORS,
    regions::OPERATORS,
    resize::OPERATORS,
    sampling::OPERATORS,
    scatter::OPERATORS,
    slicing::OPERATORS,
    smooth::OPERATORS,
    softmax::OPERATORS,
    sorting::OPERATORS,
    tiling::OPERATORS,
    trigonometry::OPERATORS,
    unary::OPERATORS,
    unpool::OPERATORS,
];

/// All operators that the builder emits.
pub fn operators() -> impl Iterator<Item = &'static Operator> {
    imports().map(|(operator, _)| operator).filter(|operator| operator.emitted)
}

/// All operators, each with its import; `None` where files may not hold it.
pub(crate) fn imports() -> impl Iterator<Item = (&'static Operator, Option<Import>)> {
    FAMILIES.iter().copied().flatten().copied()
}

#[cfg(test)]
mod tests {
    use super::{imports, operators};
    use crate::OPSET;

    #[test]
    fn every_operator_is_in_one_table_and_exists_in_the_operator_set_of_emitted_graphs() {
        let mut names: Vec<_> = imports().map(|(operator, _)| (operator.domain, operator.name)).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        for operator in operators() {
            let expected = 1..=if operator.domain.is_empty() { OPSET } else { i64::MAX };
            assert!(expected.contains(&operator.since), "{operator:?} since {}", operator.since);
        }
    }
}
