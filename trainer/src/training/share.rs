//! A state that rank 0 has read, for all ranks.

use std::collections::BTreeMap;

use crate::checkpoint::Meta;
use crate::collective::{CollectiveError, Ranks};
use crate::state::{Tensor, Tensors};

/// The state of rank 0, in all processes; `None` if it has none. The others give none.
pub(super) fn share_state(
    ranks: &mut Ranks,
    state: Option<(Meta, Tensors)>,
) -> Result<Option<(Meta, Tensors)>, CollectiveError> {
    if ranks.world() == 1 {
        return Ok(state);
    }
    let is_first = ranks.is_first();
    let (meta, tensors) = state.map_or((None, None), |(meta, tensors)| (Some(meta), Some(tensors)));
    let Some(meta) = ranks.share(is_first.then_some(meta))? else { return Ok(None) };
    let (path, by_name) = tensors.map_or_else(Default::default, Tensors::into_parts);
    let shapes: Vec<(String, Vec<usize>)> =
        by_name.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let (path, shapes) = ranks.share(is_first.then_some((path, shapes)))?;
    let mut values = by_name.into_values().map(|tensor| tensor.values);
    let mut shared = BTreeMap::new();
    for (name, shape) in shapes {
        let mut values = values.next().unwrap_or_else(|| vec![0.0; shape.iter().product()]);
        ranks.share_values(&mut values)?;
        shared.insert(name, Tensor { shape, values });
    }
    Ok(Some((meta, Tensors::new(&path, shared))))
}
