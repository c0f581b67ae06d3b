//! What the ranks of a run tell each other: states, lost data, the largest values.

use std::collections::BTreeMap;

use fovea_pipeline::{DatasetError, LoaderError};

use super::TrainingError;
use crate::backend::ParameterExtremes;
use crate::checkpoint::Meta;
use crate::collective::{CollectiveError, Ranks};
use crate::state::{Tensor, Tensors};

/// In place of a request to stop: the data set of the process is out of reach.
const LOST: u64 = 2;

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

/// Whether the data set of a process cannot be reached any more, which ends the run in all of them together.
pub(super) fn is_out_of_reach(error: &TrainingError) -> bool {
    matches!(
        error,
        TrainingError::Loader(LoaderError::Dataset(DatasetError::NotFetched { .. }))
            | TrainingError::Collective(CollectiveError::Unready { .. })
    )
}

/// The result of this process, and the words of all, the first of which says whether a process is asked to
/// stop.
///
/// # Errors
/// In all processes if the data set of one of them is [out of reach](is_out_of_reach). Of another error of
/// this process the others learn nothing here.
pub(super) fn agree_with_data<T, const N: usize>(
    ranks: &mut Ranks,
    own: Result<T, TrainingError>,
    mut words: [u64; N],
) -> Result<(T, Vec<[u64; N]>), TrainingError> {
    let lost = match &own {
        Err(error) if ranks.world() > 1 && is_out_of_reach(error) => {
            words[0] = LOST;
            Err((error.to_string(), error.is_usage()))
        }
        Err(_) => return own.map(|value| (value, Vec::new())),
        Ok(_) => Ok(()),
    };
    let all = ranks.gather_words(words)?;
    if all.iter().any(|of_rank| of_rank[0] == LOST) {
        ranks.agree(lost)?;
    }
    Ok((own?, all))
}

/// The largest values of all processes.
pub(super) fn extremes_of_all(
    ranks: &mut Ranks,
    own: Vec<ParameterExtremes>,
) -> Result<Vec<ParameterExtremes>, CollectiveError> {
    let bits = |extreme: &ParameterExtremes| [extreme.weight.to_bits(), extreme.gradient.to_bits()];
    let all = ranks.gather(&own.iter().map(bits).collect::<Vec<_>>())?;
    // None is negative, so their bits are in the order of the numbers, with NaN above all.
    let largest = |(at, extreme): (usize, ParameterExtremes)| {
        let most = |which: usize| all.iter().map(|of_rank| of_rank[at][which]).max().map(f32::from_bits);
        ParameterExtremes {
            weight: most(0).unwrap_or(extreme.weight),
            gradient: most(1).unwrap_or(extreme.gradient),
            ..extreme
        }
    };
    Ok(own.into_iter().enumerate().map(largest).collect())
}
