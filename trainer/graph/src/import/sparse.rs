//! Initialisers that list only their values other than 0.

use std::path::Path;

use super::constant::{Constant, Values, of_tensor};
use super::limits::COMPUTED;
use super::rewrite::raw;
use crate::onnx::tensor_proto::DataType;
use crate::onnx::{GraphProto, SparseTensorProto, TensorProto};

/// Makes the sparse initialisers of a graph ordinary ones; `folder` is that of its file.
pub(super) fn densify(graph: &mut GraphProto, folder: &Path) -> Result<(), String> {
    for sparse in std::mem::take(&mut graph.sparse_initializer) {
        graph.initializer.push(dense(sparse, folder)?);
    }
    Ok(())
}

fn dense(sparse: SparseTensorProto, folder: &Path) -> Result<TensorProto, String> {
    let (values, indices) = (sparse.values.unwrap_or_default(), sparse.indices.unwrap_or_default());
    let name = values.name().to_owned();
    let failed = |reason: &str| format!("the sparse initialiser `{name}` {reason}");
    let shape: Option<Vec<usize>> = sparse.dims.iter().map(|&length| usize::try_from(length).ok()).collect();
    let count = |shape: &[usize]| shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length));
    let Some((shape, count)) = shape.and_then(|shape| count(&shape).map(|count| (shape, count))) else {
        return Err(failed(&format!("has the shape {:?}", sparse.dims)));
    };
    if count > COMPUTED {
        return Err(failed(&format!("has {count} values, expected at most {COMPUTED}")));
    }
    let given = of_tensor(&values, folder)?;
    let Values::Integers(places) = of_tensor(&indices, folder)?.values else {
        return Err(failed("has indices that are no integers"));
    };
    let width = if indices.dims.len() == 2 { shape.len() } else { 1 };
    if width == 0 || Some(places.len()) != given.values.len().checked_mul(width) {
        return Err(failed(&format!("has {} values and {} indices", given.values.len(), places.len())));
    }
    let mut flat = Vec::with_capacity(given.values.len());
    for place in places.chunks_exact(width) {
        let lengths = if width == shape.len() && indices.dims.len() == 2 { &shape[..] } else { &[count] };
        let step = |flat: usize, (&at, &length): (&i64, &usize)| {
            let at = usize::try_from(at).ok().filter(|&at| at < length)?;
            Some(flat * length + at)
        };
        match place.iter().zip(lengths).try_fold(0, step) {
            Some(place) => flat.push(place),
            None => return Err(failed(&format!("has an index {place:?} beyond its shape {shape:?}"))),
        }
    }
    fn spread<T: Copy + Default>(given: &[T], flat: &[usize], count: usize) -> Vec<T> {
        let mut all = vec![T::default(); count];
        given.iter().zip(flat).for_each(|(&value, &place)| all[place] = value);
        all
    }
    let all = match &given.values {
        Values::Floats(list) => Values::Floats(spread(list, &flat, count).into()),
        Values::Integers(list) => Values::Integers(spread(list, &flat, count)),
        Values::Booleans(list) => Values::Booleans(spread(list, &flat, count)),
    };
    let ty = DataType::try_from(values.data_type()).unwrap_or(DataType::Undefined);
    let raw_data =
        raw(ty, &Constant::new(shape, all).values).ok_or_else(|| failed("has values of another type"))?;
    Ok(TensorProto {
        name: Some(name),
        dims: sparse.dims,
        data_type: values.data_type,
        raw_data: Some(raw_data),
        ..Default::default()
    })
}
