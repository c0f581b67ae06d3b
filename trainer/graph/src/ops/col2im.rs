//! Columns to images: the blocks of `torch.nn.Fold`, added where they overlap.

use super::conv_nd::ConvNd;
use super::windows::{Windows, reach};
use crate::error::Result;
use crate::import::limits::CONSTANT;
use crate::import::translation::{Family, Translation};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;
use crate::types::TensorType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&COL2IM, Some(import_col2im))];
static COL2IM: Operator = Operator::decomposed("Col2Im", 18);

/// Columns `[N,C·K,L]` of blocks of K elements at L places become images `[N,C,…]`, by a transposed
/// convolution of each channel with K kernels: kernel k is 1 at its element k, and 0 elsewhere.
fn import_col2im<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let columns = file.operand(node, 0)?;
    let (image, block) = (lengths(file, node, 1)?, lengths(file, node, 2)?);
    let windows = Windows::of_node(file, node, &image, &block)?;
    let places: Option<Vec<usize>> = (0..image.len())
        .map(|a| {
            let padded = image[a] + windows.before[a] + windows.after[a];
            let last = padded.checked_sub(reach(block[a], windows.dilations[a]))?;
            Some(last / windows.strides[a] + 1)
        })
        .collect();
    let Some(places) = places else {
        let expected = "expected that it fits into the image with its padding";
        return Err(
            file.at_node(node, format!("has a block of {block:?} in images of {image:?}, {expected}"))
        );
    };
    let (elements, count) = (block.iter().product::<usize>(), places.iter().product::<usize>());
    let ty = file.g.ty(columns).clone();
    let &[n, values, found] = &ty.shape[..] else {
        return Err(file.at_node(node, format!("takes {ty}, expected columns [N,C·K,L]")));
    };
    if found != count || !values.is_multiple_of(elements) || values.saturating_mul(elements) > CONSTANT {
        let expected = format!("expected {count} columns of blocks of {elements} values");
        return Err(file.at_node(node, format!("takes {found} columns of {values} values, {expected}")));
    }
    let by_place = [&[n, values][..], &places].concat();
    let columns = file.g.reshape(columns, &by_place)?;
    let kernels: Vec<f64> = (0..values * elements)
        .map(|at| f64::from(u8::from(at / elements % elements == at % elements)))
        .collect();
    let kernels = file.g.floats(TensorType::new(ty.element, [&[values, 1][..], &block].concat()), &kernels);
    file.g.conv_transpose(columns, kernels, None, ConvNd { windows, groups: values / elements }, &image)
}

/// An operand that is a list of lengths, as many as the image has axes.
fn lengths<'a>(file: &Translation<'a>, node: &'a NodeProto, at: usize) -> Result<Vec<usize>> {
    let given = file.integers(node, at)?.unwrap_or_default();
    let lengths: Vec<usize> = given
        .iter()
        .filter_map(|&length| usize::try_from(length).ok().filter(|&length| length > 0))
        .collect();
    if lengths.is_empty() || lengths.len() < given.len() {
        let reason = format!("takes the lengths {given:?} as operand {}, expected positive ones", at + 1);
        return Err(file.at_node(node, reason));
    }
    Ok(lengths)
}
