//! Tensors whose values are in a file, or in one beside it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};

use crate::onnx::tensor_proto::{DataLocation, DataType};
use crate::onnx::{AttributeProto, GraphProto, TensorProto};

/// A tensor with its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub shape: Vec<usize>,
    pub values: Values,
}

/// Values of a tensor, last axis fastest. Floating-point numbers of any precision are held in f32, integers
/// of any width in i64.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    /// Shared with the parameters that begin with them.
    Floats(Arc<[f32]>),
    Integers(Vec<i64>),
    Booleans(Vec<bool>),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Booleans(values) => values.len(),
        }
    }
}

impl Constant {
    pub fn new(shape: impl Into<Vec<usize>>, values: Values) -> Self {
        Self { shape: shape.into(), values }
    }

    pub fn integers(values: Vec<i64>) -> Self {
        Self { shape: vec![values.len()], values: Values::Integers(values) }
    }

    /// Whether its values lie along one axis.
    pub fn is_list(&self) -> bool {
        self.shape.iter().max() == Some(&self.values.len())
    }

    /// Whether the exporter made it to be added to scores of attention: it has two different values, and one
    /// of them makes the softmax 0.
    pub fn is_mask(&self) -> bool {
        const NEGLIGIBLE: f32 = -90.0;
        let Values::Floats(values) = &self.values else { return false };
        let Some(least) = values.iter().copied().reduce(f32::min) else { return false };
        least <= NEGLIGIBLE
            && values.contains(&0.0)
            && values.iter().all(|&value| value == least || value == 0.0)
    }
}

/// The folder of a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref())
}

/// The value of a `Constant` node.
pub(super) fn of_attribute(
    name: &str,
    attribute: &AttributeProto,
    folder: &Path,
) -> Result<Constant, String> {
    let list = |length: usize, values| Constant { shape: vec![length], values };
    Ok(match attribute.name() {
        "value" => {
            let tensor = attribute.t.as_ref().ok_or_else(|| format!("constant `{name}` has no value"))?;
            of_tensor(tensor, folder)?
        }
        "value_int" => Constant { shape: vec![], values: Values::Integers(vec![attribute.i()]) },
        "value_float" => Constant { shape: vec![], values: Values::Floats([attribute.f()].into()) },
        "value_ints" => list(attribute.ints.len(), Values::Integers(attribute.ints.clone())),
        "value_floats" => list(attribute.floats.len(), Values::Floats(attribute.floats.as_slice().into())),
        other => return Err(format!("constant `{name}` is given as `{other}`, expected numbers")),
    })
}

/// A tensor of a file in `folder`.
pub(crate) fn of_tensor(tensor: &TensorProto, folder: &Path) -> Result<Constant, String> {
    let name = tensor.name();
    let shape = shape(tensor)?;
    let product =
        |least| shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length.max(least)));
    // Axes without values do not make the others possible.
    let (Some(expected), Some(_)) = (product(0), product(1)) else {
        return Err(format!("tensor `{name}` has the impossible shape {shape:?}"));
    };
    let external;
    let raw = if tensor.data_location() == DataLocation::External {
        external = external_data(tensor, folder)?;
        Some(external.as_slice())
    } else {
        tensor.raw_data.as_deref()
    };
    let ty = DataType::try_from(tensor.data_type()).unwrap_or(DataType::Undefined);
    let values = match raw {
        Some(raw) => from_raw(ty, raw),
        None => from_fields(ty, tensor),
    };
    let values = values.ok_or_else(|| {
        let element = match ty {
            DataType::Undefined => format!("unknown type {}", tensor.data_type()),
            ty => format!("type {}", ty.as_str_name()),
        };
        format!("tensor `{name}` is of {element}, expected floating-point numbers, integers or Booleans")
    })?;
    if values.len() != expected {
        let found = values.len();
        return Err(format!(
            "tensor `{name}` has {found} values, expected {expected} for its shape {shape:?}"
        ));
    }
    Ok(Constant { shape, values })
}

fn shape(tensor: &TensorProto) -> Result<Vec<usize>, String> {
    let lengths = tensor.dims.iter().map(|&length| usize::try_from(length).ok());
    lengths.collect::<Option<_>>().ok_or_else(|| {
        format!("tensor `{}` has the shape {:?}, expected no negative length", tensor.name(), tensor.dims)
    })
}

/// Values from little-endian bytes; `None` for types that networks do not compute with.
fn from_raw(ty: DataType, raw: &[u8]) -> Option<Values> {
    fn floats<const B: usize>(raw: &[u8], value: impl Fn([u8; B]) -> f32) -> Values {
        Values::Floats(raw.as_chunks().0.iter().map(|&bytes| value(bytes)).collect())
    }
    fn integers<const B: usize>(raw: &[u8], value: impl Fn([u8; B]) -> i64) -> Values {
        Values::Integers(raw.as_chunks().0.iter().map(|&bytes| value(bytes)).collect())
    }
    Some(match ty {
        DataType::Float => floats(raw, f32::from_le_bytes),
        DataType::Double => floats(raw, |bytes| f64::from_le_bytes(bytes) as f32),
        DataType::Float16 => floats(raw, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DataType::Bfloat16 => floats(raw, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        DataType::Int64 => integers(raw, i64::from_le_bytes),
        DataType::Int32 => integers(raw, |bytes| i32::from_le_bytes(bytes).into()),
        DataType::Int16 => integers(raw, |bytes| i16::from_le_bytes(bytes).into()),
        DataType::Int8 => integers(raw, |bytes| i8::from_le_bytes(bytes).into()),
        DataType::Uint32 => integers(raw, |bytes| u32::from_le_bytes(bytes).into()),
        DataType::Uint16 => integers(raw, |bytes| u16::from_le_bytes(bytes).into()),
        DataType::Uint8 => integers(raw, |[byte]| byte.into()),
        DataType::Bool => Values::Booleans(raw.iter().map(|&byte| byte != 0).collect()),
        _ => return None,
    })
}

/// Values from the message's lists; small types are in the list of i32, as bits or as numbers.
fn from_fields(ty: DataType, tensor: &TensorProto) -> Option<Values> {
    let small = &tensor.int32_data;
    Some(match ty {
        DataType::Float => Values::Floats(tensor.float_data.as_slice().into()),
        DataType::Double => Values::Floats(tensor.double_data.iter().map(|&value| value as f32).collect()),
        DataType::Float16 => {
            Values::Floats(small.iter().map(|&bits| f16::from_bits(bits as u16).to_f32()).collect())
        }
        DataType::Bfloat16 => {
            Values::Floats(small.iter().map(|&bits| bf16::from_bits(bits as u16).to_f32()).collect())
        }
        DataType::Int64 => Values::Integers(tensor.int64_data.clone()),
        DataType::Int32 | DataType::Int16 | DataType::Int8 | DataType::Uint16 | DataType::Uint8 => {
            Values::Integers(small.iter().map(|&value| value.into()).collect())
        }
        DataType::Uint32 => Values::Integers(tensor.uint64_data.iter().map(|&value| value as i64).collect()),
        DataType::Bool => Values::Booleans(small.iter().map(|&value| value != 0).collect()),
        _ => return None,
    })
}

/// The files that hold values of a graph, as paths relative to the folder of its own.
pub(super) fn external_files(graph: &GraphProto) -> Vec<PathBuf> {
    let of_nodes =
        graph.node.iter().flat_map(|node| &node.attribute).filter_map(|attribute| attribute.t.as_ref());
    let tensors = graph.initializer.iter().chain(of_nodes);
    let external = tensors.filter(|tensor| tensor.data_location() == DataLocation::External);
    let locations =
        external.flat_map(|tensor| &tensor.external_data).filter(|entry| entry.key() == "location");
    let mut files: Vec<PathBuf> = locations.map(|entry| entry.value().into()).collect();
    files.sort();
    files.dedup();
    files
}

/// The bytes of a tensor that are in another file of `folder`.
fn external_data(tensor: &TensorProto, folder: &Path) -> Result<Vec<u8>, String> {
    let name = tensor.name();
    let find = |key: &str| {
        let entry = tensor.external_data.iter().find(|entry| entry.key() == key);
        entry.map(|entry| entry.value().to_owned())
    };
    let number = |key: &str| match find(key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
            format!("the data of tensor `{name}` have the {key} {text:?}, expected a number of bytes")
        }),
    };
    let location = find("location")
        .ok_or_else(|| format!("tensor `{name}` is stored in another file, which is not named"))?;
    let relative = Path::new(&location);
    let inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let path = folder.join(relative);
    let failed = |reason: String| {
        format!(
            "tensor `{name}` is stored in {}: {reason}; keep the files of an export in one folder",
            path.display()
        )
    };
    if !inside || location.is_empty() {
        return Err(failed("data may only lie in the folder of the network".into()));
    }
    let (real, home) = (path.canonicalize(), folder.canonicalize());
    let (real, home) =
        (real.map_err(|error| failed(error.to_string()))?, home.map_err(|error| failed(error.to_string()))?);
    if !real.starts_with(&home) {
        return Err(failed(format!("which leads to {}, outside of that folder", real.display())));
    }
    let metadata = real.metadata().map_err(|error| failed(error.to_string()))?;
    // To open a FIFO would wait for a writer.
    if !metadata.is_file() {
        return Err(failed("it is not a file".into()));
    }
    let mut file = File::open(&real).map_err(|error| failed(error.to_string()))?;
    let start = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or_else(|| metadata.len().saturating_sub(start));
    if start.checked_add(length).is_none_or(|end| end > metadata.len()) {
        let found = metadata.len();
        return Err(failed(format!("expected {length} bytes at byte {start}, the file has {found} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|error| failed(error.to_string()))?];
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}
