//! Repetition and rearrangement: Tile, DepthToSpace, SpaceToDepth, CumSum, Trilu.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::node::{Tensor, int};
use crate::onnx::NodeProto;
use crate::operator::{NUMBERS, Operator};
use crate::types::{ElementType, TensorType};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&TILE, Some(import_tile)),
    (&DEPTH_TO_SPACE, Some(import_depth_to_space)),
    (&SPACE_TO_DEPTH, Some(import_space_to_depth)),
    (&CUM_SUM, Some(import_cum_sum)),
    (&TRILU, Some(import_trilu)),
];
static TILE: Operator = Operator::decomposed("Tile", 1);
static DEPTH_TO_SPACE: Operator = Operator::decomposed("DepthToSpace", 1);
static SPACE_TO_DEPTH: Operator = Operator::decomposed("SpaceToDepth", 1);
static CUM_SUM: Operator = Operator::new("CumSum", 11).on_cuda(NUMBERS);
static TRILU: Operator = Operator::decomposed("Trilu", 14);

impl Builder {
    /// `x` repeated `repeats[i]` times along axis i.
    ///
    /// # Errors
    /// There is not one number of repeats for each axis.
    pub fn tile(&mut self, x: Tensor, repeats: &[usize]) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        if repeats.len() != shape.len() {
            let reason = format!("repeats {repeats:?} must have one entry per axis");
            return Err(self.mismatch(TILE.name, &[x], reason));
        }
        // [a, b] → [1, a, 1, b] → [r, a, s, b] → [r·a, s·b].
        let (mut apart, mut repeated, mut joined) = (Vec::new(), Vec::new(), Vec::new());
        for (&length, &times) in shape.iter().zip(repeats) {
            if times != 1 {
                apart.push(1);
                repeated.push(times);
            }
            apart.push(length);
            repeated.push(length);
            joined.push(length * times);
        }
        let apart = self.reshape(x, &apart)?;
        let repeated = self.expand(apart, &repeated)?;
        self.reshape(repeated, &joined)
    }

    /// Channels of `x` `[N,C·s²,H,W]` as squares of s × s pixels, s = `block`, `[N,C,H·s,W·s]`. A square's
    /// pixels are C channels apart, or neighbouring channels if `neighbours` (ONNX's mode CRD).
    ///
    /// # Errors
    /// `x` does not have four axes, or s² does not divide the channels.
    pub fn depth_to_space(&mut self, x: Tensor, block: usize, neighbours: bool) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        let (&[n, channels, h, w], true) = (&shape[..], block > 0) else {
            return Err(self.mismatch(DEPTH_TO_SPACE.name, &[x], "the operand must be [N,C,H,W]"));
        };
        if !channels.is_multiple_of(block * block) {
            let reason = format!("{} must divide the channels", block * block);
            return Err(self.mismatch(DEPTH_TO_SPACE.name, &[x], reason));
        }
        let c = channels / (block * block);
        let (apart, order) = if neighbours {
            ([n, c, block, block, h, w], [0, 1, 4, 2, 5, 3])
        } else {
            ([n, block, block, c, h, w], [0, 3, 4, 1, 5, 2])
        };
        let apart = self.reshape(x, &apart)?;
        let moved = self.transpose(apart, &order)?;
        self.reshape(moved, &[n, c, h * block, w * block])
    }

    /// Squares of s × s pixels of `x` `[N,C,H·s,W·s]`, s = `block`, as channels `[N,s²·C,H,W]`. A square's
    /// pixels are C channels apart, or neighbouring channels if `neighbours` (ONNX's mode CRD).
    ///
    /// # Errors
    /// `x` does not have four axes, or s does not divide its sides.
    pub fn depth_from_space(&mut self, x: Tensor, block: usize, neighbours: bool) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        let (&[n, c, height, width], true) = (&shape[..], block > 0) else {
            return Err(self.mismatch(SPACE_TO_DEPTH.name, &[x], "the operand must be [N,C,H,W]"));
        };
        let (h, w) = (height / block, width / block);
        if [h * block, w * block] != [height, width] {
            let reason = format!("{block} must divide the sides");
            return Err(self.mismatch(SPACE_TO_DEPTH.name, &[x], reason));
        }
        let apart = self.reshape(x, &[n, c, h, block, w, block])?;
        let order = if neighbours { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
        let moved = self.transpose(apart, &order)?;
        self.reshape(moved, &[n, block * block * c, h, w])
    }

    /// Sums of all values up to each along `axis`: without the value itself if `exclusive`, from the end if
    /// `reverse`.
    ///
    /// # Errors
    /// `x` has no such axis.
    pub fn cum_sum(&mut self, x: Tensor, axis: usize, exclusive: bool, reverse: bool) -> Result<Tensor> {
        if axis >= self.shape(x).len() {
            let reason = format!("axis {axis} must be an axis of the operand");
            return Err(self.mismatch(CUM_SUM.name, &[x], reason));
        }
        self.in_f32(x, |g, x| {
            let at = g.scalar(ElementType::I64, axis as f64);
            let attributes = vec![int("exclusive", exclusive.into()), int("reverse", reverse.into())];
            let y = g.emit(&CUM_SUM, &[x, at], attributes, g.ty(x).clone());
            g.record(&[x], &[y], move |g, up| {
                Ok(vec![Some(g.cum_sum(up.single(), axis, exclusive, !reverse)?)])
            });
            Ok(y)
        })
    }

    /// `x` `[…,H,W]` with zeros below the diagonal `offset` to the right of the main one if `upper`, else
    /// above it.
    ///
    /// # Errors
    /// `x` has fewer than two axes.
    pub fn trilu(&mut self, x: Tensor, offset: i64, upper: bool) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        let &[.., rows, columns] = &ty.shape[..] else {
            return Err(self.mismatch(TRILU.name, &[x], "the operand must have two axes or more"));
        };
        // The mask is computed in the graph, so that it takes no space in the file.
        let row: Vec<i64> = (0..rows as i64).map(|row| row + offset).collect();
        let column: Vec<usize> = (0..columns).collect();
        let (row, column) = (self.integers(&row), self.sizes(&column));
        let row = self.reshape(row, &[rows, 1])?;
        let kept = if upper { self.less_or_equal(row, column)? } else { self.less_or_equal(column, row)? };
        if ty.element == ElementType::Bool {
            return self.and(x, kept);
        }
        let zero = self.scalar(ty.element, 0.0);
        self.select(kept, x, zero)
    }

    /// The integers 0, 1, … below `count`, as a constant of the given shape.
    pub(super) fn counting(&mut self, count: usize, shape: &[usize]) -> Tensor {
        let bytes = (0..count as i64).flat_map(i64::to_le_bytes).collect();
        self.constant(TensorType::new(ElementType::I64, shape), bytes)
    }

    /// [`counting`](Self::counting), computed when the graph runs, so that `count` may be a free batch.
    pub(super) fn counted(&mut self, count: usize, shape: &[usize]) -> Result<Tensor> {
        let one = self.scalar(ElementType::I64, 1.0);
        let ones = self.expand(one, &[count])?;
        let list = self.cum_sum(ones, 0, true, false)?;
        self.reshape(list, shape)
    }
}

fn import_tile<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let repeats = file.integers(node, 1)?.unwrap_or_default();
    let repeats: Vec<usize> = repeats.into_iter().map(|times| usize::try_from(times).unwrap_or(0)).collect();
    file.g.tile(x, &repeats)
}

fn block_size(node: &NodeProto) -> usize {
    usize::try_from(NodeAttributes(node).int("blocksize", 0)).unwrap_or(0)
}

fn has_neighbours(node: &NodeProto) -> bool {
    NodeAttributes(node).text("mode") == "CRD"
}

fn import_depth_to_space<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    file.g.depth_to_space(x, block_size(node), has_neighbours(node))
}

fn import_space_to_depth<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    file.g.depth_from_space(x, block_size(node), has_neighbours(node))
}

fn import_cum_sum<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let Some(&[axis]) = file.integers(node, 1)?.as_deref() else {
        return Err(file.at_node(node, "has no axis, expected one"));
    };
    let flag = |name| attributes.int(name, 0) != 0;
    let axis = file.axis(x, axis);
    file.g.cum_sum(x, axis, flag("exclusive"), flag("reverse"))
}

fn import_trilu<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let x = file.operand(node, 0)?;
    let offset = file.integers(node, 1)?.and_then(|list| list.first().copied()).unwrap_or(0);
    file.g.trilu(x, offset, NodeAttributes(node).int("upper", 1) != 0)
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate};

    #[test]
    fn gradients_of_rearrangements_agree_with_finite_differences() {
        check_gradients(Case::f64("Tile").normal([2, 3]), |g, x| g.tile(x[0], &[2, 3]));
        for neighbours in [false, true] {
            check_gradients(Case::f64("DepthToSpace").normal([2, 8, 2, 3]), |g, x| {
                g.depth_to_space(x[0], 2, neighbours)
            });
            check_gradients(Case::f64("SpaceToDepth").normal([2, 2, 4, 6]), |g, x| {
                g.depth_from_space(x[0], 2, neighbours)
            });
        }
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            check_gradients(Case::f64("CumSum").normal([2, 4]), |g, x| {
                g.cum_sum(x[0], 1, exclusive, reverse)
            });
        }
        for (offset, upper) in [(0, false), (1, true), (-1, false)] {
            check_gradients(Case::f64("Trilu").normal([2, 3, 4]), |g, x| g.trilu(x[0], offset, upper));
        }
    }

    #[test]
    fn rearranged_values_are_where_onnx_puts_them() {
        let count = |n: usize| (0..n).map(|i| i as f64).collect::<Vec<_>>();
        let tiled = evaluate(Case::f64("Tile").values([2], count(2)), |g, x| g.tile(x[0], &[2]));
        assert_eq!(tiled, [0.0, 1.0, 0.0, 1.0]);
        let deep = || Case::f64("DepthToSpace").values([1, 8, 1, 1], count(8));
        let given = evaluate(deep(), |g, x| g.depth_to_space(x[0], 2, false));
        assert_eq!(given, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        assert_eq!(evaluate(deep(), |g, x| g.depth_to_space(x[0], 2, true)), count(8));
        let wide = || Case::f64("SpaceToDepth").values([1, 2, 2, 2], count(8));
        let given = evaluate(wide(), |g, x| g.depth_from_space(x[0], 2, true));
        assert_eq!(given, count(8));
        let given = evaluate(wide(), |g, x| g.depth_from_space(x[0], 2, false));
        assert_eq!(given, [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
        let sums = || Case::f64("CumSum").values([3], vec![1.0, 2.0, 3.0]);
        assert_eq!(evaluate(sums(), |g, x| g.cum_sum(x[0], 0, false, false)), [1.0, 3.0, 6.0]);
        assert_eq!(evaluate(sums(), |g, x| g.cum_sum(x[0], 0, true, true)), [5.0, 3.0, 0.0]);
        let square = || Case::f64("Trilu").values([2, 3], vec![1.0; 6]);
        assert_eq!(evaluate(square(), |g, x| g.trilu(x[0], 0, true)), [1.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
        assert_eq!(evaluate(square(), |g, x| g.trilu(x[0], 1, false)), [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
    }
}
