//! A node with its operands.

use crate::import::constant::{Constant, Values};
use crate::import::file::NodeAttributes;

pub(super) type Folded = Result<Vec<Constant>, String>;

/// One node and its operands.
pub(super) struct Call<'a> {
    pub attributes: NodeAttributes<'a>,
    pub operands: &'a [Option<&'a Constant>],
    pub opset: i64,
}

impl Call<'_> {
    pub fn operand(&self, at: usize) -> Result<&Constant, String> {
        self.optional(at).ok_or_else(|| format!("lacks operand {}", at + 1))
    }

    pub fn optional(&self, at: usize) -> Option<&Constant> {
        self.operands.get(at).copied().flatten()
    }

    pub fn first(&self) -> Result<&Constant, String> {
        self.operand(0)
    }

    pub fn integers(&self, at: usize) -> Result<&[i64], String> {
        match &self.operand(at)?.values {
            Values::Integers(values) => Ok(values),
            _ => Err(format!("has an operand {} that is not of integers", at + 1)),
        }
    }

    pub fn booleans(&self, at: usize) -> Result<(&[usize], &[bool]), String> {
        let x = self.operand(at)?;
        match &x.values {
            Values::Booleans(values) => Ok((&x.shape, values)),
            _ => Err(format!("has an operand {} that is not Boolean", at + 1)),
        }
    }

    /// A list of integers that is an operand from operator set `since` on, and an attribute before; `None` if
    /// it is absent.
    pub fn list(&self, name: &str, at: usize, since: i64) -> Result<Option<Vec<i64>>, String> {
        if self.opset < since {
            return Ok(self.attributes.ints(name));
        }
        self.optional(at).map(|_| self.integers(at).map(<[i64]>::to_vec)).transpose()
    }
}
