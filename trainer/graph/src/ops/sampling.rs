//! Values between pixels, at places that a network computes: GridSample, and AffineGrid, which makes places.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::limits::CONSTANT;
use crate::import::translation::{Family, Translation};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;
use crate::types::ElementType::{F16, F32, I64};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family =
    &[(&GRID_SAMPLE, Some(import_grid_sample)), (&AFFINE_GRID, Some(import_affine_grid))];
static GRID_SAMPLE: Operator = Operator::decomposed("GridSample", 16);
static AFFINE_GRID: Operator = Operator::decomposed("AffineGrid", 20);

/// The parameter of the cubic through four neighbours (Keys, 1981).
const CUBIC: f64 = -0.75;

/// How a value between pixels is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// The nearest pixel; the gradient with respect to the place is 0.
    Nearest,
    /// Between two neighbours along each axis in proportion.
    Linear,
    /// A cubic through four neighbours along each axis.
    Cubic,
}

/// What is outside of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Zeros.
    Zeros,
    /// The nearest pixel of the border.
    Border,
    /// The image, reflected at its borders.
    Reflection,
}

/// How an image is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridSample {
    /// How a value between pixels is computed.
    pub sampling: Sampling,
    /// What is outside of the image.
    pub outside: Outside,
    /// Whether −1 and 1 are the centres of the outermost pixels, instead of their outer edges.
    pub align_corners: bool,
}

/// A neighbour along one axis: its place, i64, and its share.
pub(super) type Neighbour = (Tensor, Option<Tensor>);

impl Builder {
    /// The values of `x` `[N,C,…]`, of any number D of axes after the channels, at the places `grid`
    /// `[N,…,D]`, from −1 to 1 and with the last axis first: `[N,C,…]`, with the axes of the grid.
    ///
    /// # Errors
    /// The operands are not of one floating-point type, or shapes do not fit.
    pub fn grid_sample(&mut self, x: Tensor, grid: Tensor, sample: GridSample) -> Result<Tensor> {
        let (shape, places) = (self.shape(x).to_vec(), self.shape(grid).to_vec());
        let axes = shape.len().saturating_sub(2);
        let fits = axes > 0
            && places.len() == shape.len()
            && places[0] == shape[0]
            && places[axes + 1] == axes
            && self.element(x) == self.element(grid);
        if !fits || !self.element(x).is_float() {
            let reason = "the image must be [N,C,…] and the grid [N,…,D] of one type, for D axes";
            return Err(self.mismatch(GRID_SAMPLE.name, &[x, grid], reason));
        }
        // Places are too coarse in half precision.
        let narrow = self.element(x) == F16;
        let [x, grid] = if narrow { [self.cast(x, F32)?, self.cast(grid, F32)?] } else { [x, grid] };
        let count: usize = places[1..=axes].iter().product();
        let grid = self.reshape(grid, &[shape[0], count, axes])?;
        let coordinates = self.split_evenly(grid, 2, axes)?;
        let mut pixels = Vec::with_capacity(axes);
        for (&length, &place) in shape[2..].iter().zip(coordinates.iter().rev()) {
            // −1 to 1 become 0 to length − 1, or −½ to length − ½.
            let reach = if sample.align_corners { length as f64 - 1.0 } else { length as f64 };
            let scaled = self.scale(place, reach / 2.0)?;
            let middle = self.scalar(self.element(place), (length as f64 - 1.0) / 2.0);
            pixels.push(self.add(scaled, middle)?);
        }
        let y = self.sampled(x, &pixels, sample)?;
        let y = self.transpose(y, &[0, 2, 1])?;
        let y = self.reshape(y, &[&shape[..2], &places[1..=axes]].concat())?;
        if narrow { self.cast(y, F16) } else { Ok(y) }
    }

    /// The values of `x` `[N,C,…]` at P places, of which `places` has the pixel along each axis, `[N,P,1]`:
    /// `[N,P,C]`.
    pub(super) fn sampled(&mut self, x: Tensor, places: &[Tensor], sample: GridSample) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        let mut combined: Vec<Neighbour> = Vec::new();
        for (&length, &place) in shape[2..].iter().zip(places) {
            let neighbours = self.neighbours(place, length, sample)?;
            combined =
                if combined.is_empty() { neighbours } else { self.products(&combined, &neighbours, length)? };
        }
        let pixels = self.reshape(x, &[shape[0], shape[1], shape[2..].iter().product()])?;
        let pixels = self.transpose(pixels, &[0, 2, 1])?;
        let mut total = None;
        for (place, share) in combined {
            let mut value = self.gather_nd(pixels, place, 1)?;
            if let Some(share) = share {
                value = self.mul(value, share)?;
            }
            total = Some(match total {
                Some(total) => self.add(total, value)?,
                None => value,
            });
        }
        Ok(total.unwrap_or(pixels))
    }

    /// The neighbours of both lists together, along axes of which the latter has `length` pixels.
    fn products(
        &mut self,
        outer: &[Neighbour],
        inner: &[Neighbour],
        length: usize,
    ) -> Result<Vec<Neighbour>> {
        let mut list = Vec::with_capacity(outer.len() * inner.len());
        let stride = self.scalar(I64, length as f64);
        for &(place, share) in outer {
            let before = self.mul(place, stride)?;
            for &(offset, other) in inner {
                let place = self.add(before, offset)?;
                let share = match (share, other) {
                    (Some(share), Some(other)) => Some(self.mul(share, other)?),
                    (share, other) => share.or(other),
                };
                list.push((place, share));
            }
        }
        Ok(list)
    }

    /// The neighbours of a place along an axis of `length` pixels, the first of which is at 0.
    pub(super) fn neighbours(
        &mut self,
        mut place: Tensor,
        length: usize,
        sample: GridSample,
    ) -> Result<Vec<Neighbour>> {
        if sample.sampling != Sampling::Cubic && sample.outside != Outside::Zeros {
            place = self.within(place, length, sample)?;
        }
        let below =
            if sample.sampling == Sampling::Nearest { self.round(place)? } else { self.floor(place)? };
        let shares: Vec<Option<Tensor>> = match sample.sampling {
            Sampling::Nearest => vec![None],
            Sampling::Linear => {
                let (part, one) = (self.sub(place, below)?, self.scalar(self.element(place), 1.0));
                vec![Some(self.sub(one, part)?), Some(part)]
            }
            Sampling::Cubic => {
                let part = self.sub(place, below)?;
                self.cubic_shares(part)?.into_iter().map(Some).collect()
            }
        };
        let first = if sample.sampling == Sampling::Cubic { -1.0 } else { 0.0 };
        let mut list = Vec::with_capacity(shares.len());
        for (at, share) in shares.into_iter().enumerate() {
            let offset = self.scalar(self.element(place), first + at as f64);
            let pixel = self.add(below, offset)?;
            list.push(self.neighbour(pixel, share, length, sample)?);
        }
        Ok(list)
    }

    /// `pixel` as a place within an axis of `length` pixels, and its share.
    fn neighbour(
        &mut self,
        pixel: Tensor,
        mut share: Option<Tensor>,
        length: usize,
        sample: GridSample,
    ) -> Result<Neighbour> {
        let mut inside = pixel;
        match sample.outside {
            Outside::Zeros => {
                let element = self.element(pixel);
                let ends = [0.0, length as f64 - 1.0].map(|end| self.scalar(element, end));
                let (after, before) =
                    (self.less_or_equal(ends[0], pixel)?, self.less_or_equal(pixel, ends[1])?);
                let is_inside = self.and(after, before)?;
                share = Some(match share {
                    Some(share) => self.keep_where(is_inside, share)?,
                    None => self.cast(is_inside, element)?,
                });
            }
            Outside::Reflection if sample.sampling == Sampling::Cubic => {
                inside = self.within(pixel, length, sample)?;
            }
            Outside::Border | Outside::Reflection => {}
        }
        let inside = self.clamped(inside, length)?;
        Ok((self.cast(inside, I64)?, share))
    }

    /// `place` within an axis of `length` pixels.
    fn within(&mut self, mut place: Tensor, length: usize, sample: GridSample) -> Result<Tensor> {
        let (low, span) =
            if sample.align_corners { (0.0, length as f64 - 1.0) } else { (-0.5, length as f64) };
        if sample.outside == Outside::Reflection && span > 0.0 {
            let [low, span, two] = [low, span, 2.0].map(|value| self.scalar(self.element(place), value));
            let distance = self.sub(place, low)?;
            let distance = self.abs(distance)?;
            let rest = self.modulo(distance, span, true)?;
            let ratio = self.div(distance, span)?;
            let times = self.floor(ratio)?;
            let parity = self.modulo(times, two, true)?;
            let half = self.scalar(self.element(place), 0.5);
            let is_reflected = self.greater(parity, half)?;
            let reflected = self.sub(span, rest)?;
            let distance = self.select(is_reflected, reflected, rest)?;
            place = self.add(distance, low)?;
        }
        self.clamped(place, length)
    }

    /// `place` not before the first of `length` pixels, nor after the last.
    fn clamped(&mut self, place: Tensor, length: usize) -> Result<Tensor> {
        if length > 1 {
            return self.clip(place, 0.0, length as f64 - 1.0);
        }
        let ty = self.ty(place).clone();
        self.zeros(ty)
    }

    /// The shares of four neighbours of a place that is `part` of a pixel after the second.
    fn cubic_shares(&mut self, part: Tensor) -> Result<[Tensor; 4]> {
        let near = [CUBIC + 2.0, -(CUBIC + 3.0), 0.0, 1.0];
        let far = [CUBIC, -5.0 * CUBIC, 8.0 * CUBIC, -4.0 * CUBIC];
        let [one, two] = [1.0, 2.0].map(|value| self.scalar(self.element(part), value));
        let distances = [self.add(part, one)?, part, self.sub(one, part)?, self.sub(two, part)?];
        Ok([
            self.polynomial(distances[0], far)?,
            self.polynomial(distances[1], near)?,
            self.polynomial(distances[2], near)?,
            self.polynomial(distances[3], far)?,
        ])
    }

    /// a·x³ + b·x² + c·x + d.
    fn polynomial(&mut self, x: Tensor, [a, b, c, d]: [f64; 4]) -> Result<Tensor> {
        let mut y = self.scale(x, a)?;
        for coefficient in [b, c] {
            let coefficient = self.scalar(self.element(x), coefficient);
            let sum = self.add(y, coefficient)?;
            y = self.mul(sum, x)?;
        }
        let d = self.scalar(self.element(x), d);
        self.add(y, d)
    }

    /// The places, for [`grid_sample`](Self::grid_sample), that the transformations `theta` `[N,D,D+1]` give
    /// to those of an image with D axes of `lengths`: `[N,…,D]`.
    ///
    /// # Errors
    /// `theta` has another shape.
    pub fn affine_grid(&mut self, theta: Tensor, lengths: &[usize], align_corners: bool) -> Result<Tensor> {
        let (shape, axes) = (self.shape(theta).to_vec(), lengths.len());
        let values = lengths.iter().fold(axes + 1, |values, &length| values.saturating_mul(length));
        let fits = shape.len() == 3 && shape[1..] == [axes, axes + 1];
        if !fits || !(1..=CONSTANT).contains(&values) {
            let reason = format!(
                "transformations for images of {lengths:?} must be [N,{axes},{}], with {CONSTANT} places at most",
                axes + 1
            );
            return Err(self.mismatch(AFFINE_GRID.name, &[theta], reason));
        }
        let place = |at: usize, length: usize| match (align_corners, length) {
            (true, 1) => 0.0,
            (true, _) => 2.0 * at as f64 / (length as f64 - 1.0) - 1.0,
            (false, _) => (2.0 * at as f64 + 1.0) / length as f64 - 1.0,
        };
        let count: usize = lengths.iter().product();
        let mut values = Vec::with_capacity(count * (axes + 1));
        for pixel in 0..count {
            let mut rest = pixel;
            for &length in lengths.iter().rev() {
                values.push(place(rest % length, length));
                rest /= length;
            }
            values.push(1.0);
        }
        let ty = self.ty(theta).reshaped(vec![count, axes + 1]);
        let places = self.floats(ty, &values);
        let matrices = self.swap_last(theta)?;
        let grid = self.matmul(places, matrices)?;
        self.reshape(grid, &[&shape[..1], lengths, &[axes]].concat())
    }
}

fn import_grid_sample<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    // Both names of each mode were in use.
    let sampling = match attributes.text("mode").as_str() {
        "" | "linear" | "bilinear" => Sampling::Linear,
        "nearest" => Sampling::Nearest,
        "cubic" | "bicubic" => Sampling::Cubic,
        other => return Err(file.at_node(node, format!("has the mode `{other}`"))),
    };
    let outside = match attributes.text("padding_mode").as_str() {
        "" | "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => return Err(file.at_node(node, format!("has the padding mode `{other}`"))),
    };
    let align_corners = attributes.int("align_corners", 0) != 0;
    let (x, grid) = (file.operand(node, 0)?, file.operand(node, 1)?);
    file.g.grid_sample(x, grid, GridSample { sampling, outside, align_corners })
}

/// The batch in the operand of sizes is that of the transformations.
fn import_affine_grid<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let theta = file.operand(node, 0)?;
    let sizes = file.integers(node, 1)?.unwrap_or_default();
    let lengths: Vec<usize> =
        sizes.iter().skip(2).map(|&length| usize::try_from(length).unwrap_or(0)).collect();
    file.g.affine_grid(theta, &lengths, NodeAttributes(node).int("align_corners", 0) != 0)
}

#[cfg(test)]
mod tests {
    use super::{GridSample, Outside, Sampling};
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, TensorType};

    const SAMPLINGS: [Sampling; 3] = [Sampling::Nearest, Sampling::Linear, Sampling::Cubic];
    const OUTSIDES: [Outside; 3] = [Outside::Zeros, Outside::Border, Outside::Reflection];

    #[test]
    fn gradients_of_samples_agree_with_finite_differences() {
        // Places inside and outside, none within a step of an edge between pixels.
        let grid = vec![-0.83, 0.21, 0.47, -1.37, 1.29, 0.63, 0.09, -0.41, -0.57, 1.71, 2.33, -0.11];
        for sampling in SAMPLINGS {
            for outside in OUTSIDES {
                for align_corners in [false, true] {
                    let sample = GridSample { sampling, outside, align_corners };
                    let case = Case::f64(&format!("GridSample {sample:?}"));
                    let case = case.normal([2, 2, 4, 5]).values([2, 3, 1, 2], grid.clone());
                    check_gradients(case, |g, x| g.grid_sample(x[0], x[1], sample));
                }
            }
        }
        let volume = GridSample { sampling: Sampling::Linear, outside: Outside::Zeros, align_corners: false };
        let case = Case::f64("GridSample of volumes").normal([1, 2, 3, 2, 4]);
        check_gradients(case.values([1, 2, 2, 1, 3], grid), |g, x| g.grid_sample(x[0], x[1], volume));
    }

    #[test]
    fn gradients_of_grids_agree_with_finite_differences() {
        for align_corners in [false, true] {
            check_gradients(Case::f64("AffineGrid").normal([2, 2, 3]), |g, x| {
                g.affine_grid(x[0], &[2, 3], align_corners)
            });
            check_gradients(Case::f64("AffineGrid of volumes").normal([1, 3, 4]), |g, x| {
                g.affine_grid(x[0], &[2, 1, 3], align_corners)
            });
        }
    }

    #[test]
    fn a_grid_that_changes_nothing_samples_the_image() {
        let pixels: Vec<f64> = (0..12).map(f64::from).collect();
        for sampling in SAMPLINGS {
            for align_corners in [false, true] {
                let case = Case::f64("GridSample").values([1, 1, 3, 4], pixels.clone());
                let y = evaluate(case.values([1, 2, 3], vec![1., 0., 0., 0., 1., 0.]), |g, x| {
                    let grid = g.affine_grid(x[1], &[3, 4], align_corners)?;
                    let sample = GridSample { sampling, outside: Outside::Border, align_corners };
                    g.grid_sample(x[0], grid, sample)
                });
                let error = y.iter().zip(&pixels).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
                assert!(error < 1e-12, "{sampling:?} {align_corners}: {y:?}");
            }
        }
    }

    #[test]
    fn grids_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3, 4, 5])).unwrap();
        let sample = GridSample { sampling: Sampling::Linear, outside: Outside::Zeros, align_corners: false };
        for shape in [vec![2, 4, 5], vec![2, 4, 5, 3], vec![1, 4, 5, 2]] {
            let grid = g.input(&format!("{shape:?}"), TensorType::f32(shape)).unwrap();
            assert!(g.grid_sample(x, grid, sample).is_err());
        }
        assert!(g.affine_grid(x, &[4, 5], false).is_err());
        let theta = g.input("theta", TensorType::f32([2, 2, 3])).unwrap();
        assert!(g.affine_grid(theta, &[1 << 40, 1 << 40], false).is_err());
    }
}
