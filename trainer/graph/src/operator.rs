//! Static facts about an operator: name, domain, operator set, CUDA kernels.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::types::ElementType::{self, Bool, F16, F32, I64, U8};

/// An operator of ONNX, or of another domain.
///
/// Each file of `ops` has a table of the operators that it emits, next to their shape and gradient rules.
#[derive(Clone, Copy)]
pub struct Operator {
    /// Name in files.
    pub name: &'static str,
    /// Domain; empty for ONNX's own operators.
    pub domain: &'static str,
    /// First operator set of the domain that has it.
    pub since: i64,
    /// Data types for which ONNX Runtime's CUDA provider has a kernel in the operator version that emitted
    /// graphs use; only f16, f32, i64, u8 and Boolean are listed.
    ///
    /// Source: the provider's table in ONNX Runtime's `docs/OperatorKernels.md`, 1.24 and later. A kernel
    /// counts if it is registered for that version; one with an earlier, open-ended version range does not.
    /// `ScatterElements` and `ReduceMean` lack such a kernel in older releases.
    pub cuda: &'static [ElementType],
    /// Whether graphs hold it; an operator that does not is imported as others that compute the same.
    pub emitted: bool,
}

/// Single precision.
pub(crate) const SINGLE: &[ElementType] = &[F32];
/// Floating-point types.
pub(crate) const FLOATS: &[ElementType] = &[F16, F32];
/// Types of arithmetic.
pub(crate) const NUMBERS: &[ElementType] = &[F16, F32, I64];
/// Types of arithmetic, and bytes.
pub(crate) const NUMBERS_AND_BYTES: &[ElementType] = &[F16, F32, I64, U8];
/// All types, for operators that only move data.
pub(crate) const ALL_TYPES: &[ElementType] = &[F16, F32, I64, U8, Bool];
/// Boolean only.
pub(crate) const BOOLEAN: &[ElementType] = &[Bool];

impl Operator {
    /// ONNX's operator `name`, introduced in operator set `since`.
    #[must_use]
    pub const fn new(name: &'static str, since: i64) -> Self {
        Self { name, domain: "", since, cuda: &[], emitted: true }
    }

    /// ONNX's operator `name`, which is imported as others that compute the same.
    #[must_use]
    pub const fn decomposed(name: &'static str, since: i64) -> Self {
        Self { emitted: false, ..Self::new(name, since) }
    }

    /// The operator `name` of a file that uses this version of its `domain`; each is kept for ever, once.
    pub(crate) fn of_file(name: &str, domain: &str, version: i64) -> &'static Self {
        static KNOWN: Mutex<Vec<&'static Operator>> = Mutex::new(Vec::new());
        let domain = if domain == "ai.onnx" { "" } else { domain };
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_this = |other: &&&Self| (other.name, other.domain, other.since) == (name, domain, version);
        if let Some(operator) = known.iter().find(is_this) {
            return operator;
        }
        let [name, domain] = [name, domain].map(|text| &*Box::leak(text.to_owned().into_boxed_str()));
        let operator = &*Box::leak(Box::new(Self { domain, ..Self::new(name, version) }));
        known.push(operator);
        operator
    }

    /// The same operator in another domain; `since` is a version of that domain.
    #[must_use]
    pub const fn in_domain(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    /// The same operator with CUDA kernels for data of these types.
    #[must_use]
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
