//! Element types, and the type of a tensor: element type and shape.

use std::fmt;

use crate::onnx::tensor_proto::DataType;

/// The element types that graphs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElementType {
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// IEEE half precision.
    F16,
    /// Unsigned byte, the type of pixels.
    U8,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer, the type of labels, axes and shapes.
    I64,
    /// Boolean, one byte each.
    Bool,
}

impl ElementType {
    /// Whether gradients flow through tensors of this type.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16)
    }

    /// Size of one element in bytes.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        match self {
            Self::U8 | Self::Bool => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// The number of this type in ONNX files.
    pub(crate) fn onnx(self) -> i32 {
        match self {
            Self::F32 => DataType::Float,
            Self::F64 => DataType::Double,
            Self::F16 => DataType::Float16,
            Self::U8 => DataType::Uint8,
            Self::I32 => DataType::Int32,
            Self::I64 => DataType::Int64,
            Self::Bool => DataType::Bool,
        }
        .into()
    }

    /// The type with this number in ONNX files, if graphs use it.
    pub(crate) fn of_onnx(number: i32) -> Option<Self> {
        let all = [Self::F32, Self::F64, Self::F16, Self::U8, Self::I32, Self::I64, Self::Bool];
        all.into_iter().find(|element| element.onnx() == number)
    }

    /// `value` as little-endian bytes of this type, rounded to nearest; a Boolean is `value != 0`.
    pub(crate) fn encode(self, value: f64) -> Vec<u8> {
        match self {
            Self::F32 => (value as f32).to_le_bytes().to_vec(),
            Self::F64 => value.to_le_bytes().to_vec(),
            Self::F16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
            Self::U8 => vec![value as u8],
            Self::I32 => (value as i32).to_le_bytes().to_vec(),
            Self::I64 => (value as i64).to_le_bytes().to_vec(),
            Self::Bool => vec![u8::from(value != 0.0)],
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
        })
    }
}

/// Element type and static shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Type of the elements.
    pub element: ElementType,
    /// Length of every axis; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorType {
    /// A tensor of `element` with the given axes.
    pub fn new(element: ElementType, shape: impl Into<Vec<usize>>) -> Self {
        Self { element, shape: shape.into() }
    }

    /// A single-precision tensor.
    pub fn f32(shape: impl Into<Vec<usize>>) -> Self {
        Self::new(ElementType::F32, shape)
    }

    /// The same element type with another shape.
    pub fn reshaped(&self, shape: impl Into<Vec<usize>>) -> Self {
        Self::new(self.element, shape)
    }

    /// The same shape with another element type.
    #[must_use]
    pub fn with_element(&self, element: ElementType) -> Self {
        Self::new(element, self.shape.clone())
    }

    /// Number of axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements; at the largest `usize` if there are more.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().fold(1, |count, &length| count.saturating_mul(length))
    }

    /// Whether the tensor has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        write!(f, "{}[{}]", self.element, axes.join(","))
    }
}

/// The shape of two operands broadcast against each other by NumPy's rule, or `None` if they do not
/// broadcast.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let axis = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |j| shape[j]);
    (0..rank)
        .map(|i| match (axis(a, i), axis(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::broadcast;

    #[test]
    fn broadcasting_follows_numpy() {
        assert_eq!(broadcast(&[3, 1, 5], &[4, 1]), Some(vec![3, 4, 5]));
        assert_eq!(broadcast(&[], &[2]), Some(vec![2]));
        assert_eq!(broadcast(&[3], &[2]), None);
    }
}
