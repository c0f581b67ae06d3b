//! What is known of an operator besides how a builder emits it.

use std::fmt;

use crate::types::ElementType::{self, Bool, F16, F32, I64, U8};

/// An operator of ONNX, or of another domain.
///
/// Each file of `ops` has a table of the operators that it emits, beside their shape and gradient rules.
#[derive(Clone, Copy)]
pub struct Operator {
    /// Name in files.
    pub name: &'static str,
    /// Domain; empty for ONNX's own operators.
    pub domain: &'static str,
    /// First operator set of the domain that has it.
    pub since: i64,
    /// Types of its data that the CUDA provider of ONNX Runtime has kernels for, in the version of the operator that
    /// emitted graphs use; of f16, f32, i64, u8 and Boolean.
    ///
    /// From the provider's table in ONNX Runtime's `docs/OperatorKernels.md`, as of 1.24 and later. A kernel counts if it
    /// is registered for that version; one whose range of versions begins earlier and has no end does not.
    /// `ScatterElements` and `ReduceMean` lack such a kernel in older releases.
    pub cuda: &'static [ElementType],
}

/// Floating-point types.
pub(crate) const FLOATS: &[ElementType] = &[F16, F32];
/// Types that arithmetic is done in.
pub(crate) const NUMBERS: &[ElementType] = &[F16, F32, I64];
/// Types of [`NUMBERS`], and bytes.
pub(crate) const CHOSEN: &[ElementType] = &[F16, F32, I64, U8];
/// All types.
pub(crate) const MOVED: &[ElementType] = &[F16, F32, I64, U8, Bool];
/// Truth values.
pub(crate) const LOGICAL: &[ElementType] = &[Bool];

impl Operator {
    /// ONNX's operator `name`, which operator set `since` introduced.
    pub const fn new(name: &'static str, since: i64) -> Self {
        Self { name, domain: "", since, cuda: &[] }
    }

    /// The same of another domain; `since` counts in its operator sets.
    pub const fn in_domain(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    /// With kernels of the CUDA provider for data of these types.
    pub const fn on_cuda(self, cuda: &'static [ElementType]) -> Self {
        Self { cuda, ..self }
    }
}

impl PartialEq for Operator {
    fn eq(&self, other: &Self) -> bool {
        (self.domain, self.name) == (other.domain, other.name)
    }
}

impl Eq for Operator {}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
