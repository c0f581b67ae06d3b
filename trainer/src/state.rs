//! The state of a training run: parameters, optimizer slots and buffers, as named tensors of f32.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, View};

/// A tensor of f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Values, the last axis fastest.
    pub values: Vec<f32>,
}

/// A tensor in borrowed memory, to be written.
#[derive(Debug, Clone, Copy)]
pub struct TensorRef<'a> {
    /// Length of each axis.
    pub shape: &'a [usize],
    /// Values, the last axis fastest.
    pub values: &'a [f32],
}

impl View for TensorRef<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        bytes.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// Tensors by name, from one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensors {
    path: PathBuf,
    by_name: BTreeMap<String, Tensor>,
}

/// The tensors of a file are not the required ones.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A tensor is missing.
    #[error("{} lacks the tensor `{name}`; delete its folder to use the checkpoint before it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
    },
    /// A tensor has another shape.
    #[error("{}: tensor `{name}` has shape {found:?}, expected {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Expected shape.
        expected: Vec<usize>,
    },
    /// A tensor's values are invalid.
    #[error(
        "{}: tensor `{name}` is {values:?}, which is not a state of training; delete its folder to use the \
         checkpoint before it",
        path.display()
    )]
    Values {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Its values.
        values: Vec<f32>,
    },
}

impl Tensors {
    /// The tensors of the file `path`.
    #[must_use]
    pub fn new(path: &Path, by_name: BTreeMap<String, Tensor>) -> Self {
        Self { path: path.to_owned(), by_name }
    }

    /// The path of the file, and the tensors that have not been taken.
    #[must_use]
    pub fn into_parts(self) -> (PathBuf, BTreeMap<String, Tensor>) {
        (self.path, self.by_name)
    }

    /// Removes and returns the tensor with this name if it has this shape.
    ///
    /// # Errors
    /// [`StateError::Missing`] and [`StateError::Shape`].
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, StateError> {
        self.expect(name, shape)?;
        self.by_name.remove(name).ok_or_else(|| self.missing(name))
    }

    /// The tensor with this name if it has this shape.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<&Tensor, StateError> {
        let found = self.by_name.get(name).ok_or_else(|| self.missing(name))?;
        if found.shape != shape {
            return Err(StateError::Shape {
                path: self.path.clone(),
                name: name.to_owned(),
                found: found.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        Ok(found)
    }

    fn missing(&self, name: &str) -> StateError {
        StateError::Missing { path: self.path.clone(), name: name.to_owned() }
    }

    /// Like [`take`](Self::take), for a tensor that may be missing.
    ///
    /// # Errors
    /// [`StateError::Shape`].
    pub fn take_if_there(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>, StateError> {
        if self.by_name.contains_key(name) { self.take(name, shape).map(Some) } else { Ok(None) }
    }

    /// The error of a tensor whose values are invalid.
    #[must_use]
    pub fn senseless(&self, name: &str, values: &[f32]) -> StateError {
        StateError::Values { path: self.path.clone(), name: name.to_owned(), values: values.to_vec() }
    }

    /// The tensor with this name, unless it is missing or already taken.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name)
    }

    /// The names of the tensors that have not been taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_that_are_missing_or_of_another_shape_are_errors_with_their_names() {
        let weight = Tensor { shape: vec![2, 3], values: vec![0.5; 6] };
        let mut tensors =
            Tensors::new("state".as_ref(), [("conv1.weight".to_owned(), weight.clone())].into());
        let error = tensors.take("conv2.weight", &[1]).unwrap_err();
        assert!(matches!(error, StateError::Missing { .. }), "{error}");
        let error = tensors.take("conv1.weight", &[3, 2]).unwrap_err();
        assert!(error.to_string().contains("has shape [2, 3], expected [3, 2]"), "{error}");
        assert_eq!(tensors.take_if_there("conv2.weight", &[1]).unwrap(), None);
        assert_eq!(tensors.take("conv1.weight", &[2, 3]).unwrap(), weight);
        assert_eq!(tensors.names().count(), 0);
    }
}
