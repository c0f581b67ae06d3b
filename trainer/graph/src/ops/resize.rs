//! Resize and Upsample: along one axis after the other, each by a gather or by a matrix of weights, so that
//! every mode has the same values and gradients on every device.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::limits::CONSTANT;
use crate::import::translation::{Family, Translation};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;
use crate::types::{ElementType, TensorType};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&RESIZE, Some(import_resize)), (&UPSAMPLE, Some(import_resize))];
static RESIZE: Operator = Operator::decomposed("Resize", 10);
static UPSAMPLE: Operator = Operator::decomposed("Upsample", 7);

/// How values between those of the operand are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interpolation {
    /// The value at a neighbouring place.
    Nearest(Nearest),
    /// Between two neighbours in proportion.
    Linear,
    /// A cubic through four neighbours (Keys, 1981), with its parameter, such as −0.75.
    Cubic(f64),
}

/// Which place is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearest {
    /// The lower of two places as near.
    PreferFloor,
    /// The higher of two places as near.
    PreferCeil,
    /// The place below.
    Floor,
    /// The place above.
    Ceil,
}

/// Which place of the operand a place of the result stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coordinates {
    /// Pixels are squares, and outer edges agree.
    HalfPixel,
    /// As half pixels, with the middle kept where a size was rounded.
    HalfPixelSymmetric,
    /// As half pixels, but a single pixel is that at the beginning.
    PytorchHalfPixel,
    /// Half pixels in the result only.
    HalfPixelForNearest,
    /// Centres of the outermost pixels agree.
    AlignCorners,
    /// First pixels agree.
    Asymmetric,
    /// Centres of the outermost pixels are those of a part of the axis, of which 0 is the beginning and 1 the
    /// end. What lies beyond the axis is 0.
    Cropped {
        /// Where the part begins.
        start: f64,
        /// Where it ends.
        end: f64,
    },
}

/// How an axis is resized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resize {
    /// How values are computed.
    pub interpolation: Interpolation,
    /// Where they are.
    pub coordinates: Coordinates,
    /// Whether places beyond the edge have no weight, rather than the value of the edge.
    pub exclude_outside: bool,
    /// Whether a smaller result averages over all values that it stands for.
    pub antialias: bool,
}

impl Resize {
    /// Neighbours that each of `to` places takes, with their weights, along an axis of `from` values.
    fn weights(&self, from: usize, to: usize, scale: f64) -> Vec<Vec<(usize, f64)>> {
        let last = from as i64 - 1;
        (0..to)
            .map(|at| {
                let place = self.place(at as f64, from as f64, to as f64, scale);
                if self.is_outside(place, from) {
                    return Vec::new();
                }
                if let Interpolation::Nearest(nearest) = self.interpolation {
                    let index = match nearest {
                        Nearest::PreferFloor => (place - 0.5).ceil(),
                        Nearest::PreferCeil => (place + 0.5).floor(),
                        Nearest::Floor => place.floor(),
                        Nearest::Ceil => place.ceil(),
                    };
                    return vec![((index as i64).clamp(0, last) as usize, 1.0)];
                }
                let (reach, kernel): (f64, fn(f64, f64) -> f64) = match self.interpolation {
                    Interpolation::Cubic(_) => (2.0, cubic),
                    _ => (1.0, |distance, _| (1.0 - distance).max(0.0)),
                };
                let parameter =
                    if let Interpolation::Cubic(parameter) = self.interpolation { parameter } else { 0.0 };
                let squeeze = if self.antialias { scale.min(1.0) } else { 1.0 };
                let (first, end) =
                    ((place - reach / squeeze).floor() as i64, (place + reach / squeeze).ceil() as i64);
                let mut taken: Vec<(usize, f64)> = Vec::new();
                for index in first..=end {
                    let weight = kernel((index as f64 - place).abs() * squeeze, parameter);
                    let is_outside = !(0..=last).contains(&index);
                    if weight == 0.0 || (is_outside && self.exclude_outside) {
                        continue;
                    }
                    let index = index.clamp(0, last) as usize;
                    // Places are in order, also where they are clamped.
                    match taken.last_mut() {
                        Some((last, sum)) if *last == index => *sum += weight,
                        _ => taken.push((index, weight)),
                    }
                }
                let total: f64 = taken.iter().map(|(_, weight)| weight).sum();
                taken.iter_mut().for_each(|(_, weight)| *weight /= total);
                taken
            })
            .collect()
    }

    /// Whether a place stands for nothing of an axis of `from` values.
    fn is_outside(&self, place: f64, from: usize) -> bool {
        matches!(self.coordinates, Coordinates::Cropped { .. }) && !(0.0..=from as f64 - 1.0).contains(&place)
    }

    /// The place of the operand for place `at` of the result.
    fn place(&self, at: f64, from: f64, to: f64, scale: f64) -> f64 {
        // Which of two pixels is nearest is decided in single precision, as by ONNX Runtime.
        let rounded = |value: f64| match self.interpolation {
            Interpolation::Nearest(_) => f64::from(value as f32),
            Interpolation::Linear | Interpolation::Cubic(_) => value,
        };
        let centre = rounded((at + 0.5) / rounded(scale));
        match self.coordinates {
            Coordinates::HalfPixel => rounded(centre - 0.5),
            Coordinates::HalfPixelSymmetric => {
                let adjustment = to / (scale * from);
                from / 2.0 * (1.0 - adjustment) + centre - 0.5
            }
            Coordinates::PytorchHalfPixel => {
                if to > 1.0 {
                    rounded(centre - 0.5)
                } else {
                    0.0
                }
            }
            Coordinates::HalfPixelForNearest => centre,
            Coordinates::AlignCorners => {
                if to > 1.0 {
                    rounded(at * (from - 1.0) / (to - 1.0))
                } else {
                    0.0
                }
            }
            Coordinates::Asymmetric => rounded(at / rounded(scale)),
            Coordinates::Cropped { start, end } => {
                let part =
                    if to > 1.0 { start + at * (end - start) / (to - 1.0) } else { (start + end) / 2.0 };
                rounded(part * (from - 1.0))
            }
        }
    }
}

/// The cubic of Keys with parameter a, at a distance of at most 2.
fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance;
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

impl Builder {
    /// `x` with `length` values along `axis`, where `scale` is about their number for each of the operand's.
    ///
    /// # Errors
    /// `x` is not floating-point, has no such axis or no value along it, or a size is 0.
    pub fn resize(
        &mut self,
        x: Tensor,
        axis: usize,
        length: usize,
        scale: f64,
        resize: &Resize,
    ) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        let from = shape.get(axis).copied().unwrap_or(0);
        let is_ratio = scale > 0.0 && from as f64 * scale >= 0.5 && length.saturating_mul(from) <= CONSTANT;
        if from == 0 || length == 0 || !is_ratio {
            let reason = format!("axis {axis} cannot get a length of {length} by a scale of {scale}");
            return Err(self.mismatch(RESIZE.name, &[x], reason));
        }
        let weights = resize.weights(from, length, scale);
        if weights.iter().all(|taken| matches!(taken[..], [(_, weight)] if weight == 1.0)) {
            let indices: Vec<usize> = weights.iter().map(|taken| taken[0].0).collect();
            return self.pick(x, axis, &indices);
        }
        self.floating(RESIZE.name, x)?;
        self.in_f32(x, |g, x| {
            let mut matrix = vec![0.0; length * from];
            for (at, taken) in weights.iter().enumerate() {
                for &(index, weight) in taken {
                    matrix[at * from + index] = weight;
                }
            }
            let outer: usize = shape[..axis].iter().product();
            let inner: usize = shape[axis + 1..].iter().product();
            let matrix = g.floats(g.ty(x).reshaped([length, from]), &matrix);
            let y = if inner == 1 {
                let rows = g.reshape(x, &[outer, from])?;
                g.gemm(rows, matrix, None, false, true)?
            } else {
                let planes = g.reshape(x, &[outer, from, inner])?;
                g.matmul(matrix, planes)?
            };
            let mut shape = shape.clone();
            shape[axis] = length;
            g.reshape(y, &shape)
        })
    }

    /// `x`, resized along `axis` from a length of `from`, with `value` where that stands for nothing.
    fn fill_outside(
        &mut self,
        x: Tensor,
        axis: usize,
        from: usize,
        resize: &Resize,
        value: f64,
    ) -> Result<Tensor> {
        let (rank, length) = (self.shape(x).len(), self.shape(x)[axis]);
        let place = |at: usize| resize.place(at as f64, from as f64, length as f64, 1.0);
        let outside: Vec<bool> = (0..length).map(|at| resize.is_outside(place(at), from)).collect();
        if value == 0.0 || !outside.contains(&true) {
            return Ok(x);
        }
        let mut shape = vec![1; rank];
        shape[axis] = length;
        let bytes = outside.into_iter().map(u8::from).collect();
        let mask = self.constant(TensorType::new(ElementType::Bool, shape), bytes);
        let value = self.scalar(self.element(x), value);
        self.select(mask, value, x)
    }

    /// The values of `x` at `indices` of `axis`.
    fn pick(&mut self, x: Tensor, axis: usize, indices: &[usize]) -> Result<Tensor> {
        let mut shape = self.shape(x).to_vec();
        let from = shape[axis];
        let times = indices.len() / from;
        if times > 1 && indices.iter().enumerate().all(|(at, &index)| index == at / times) {
            // Each value several times: [.., n, ..] → [.., n, 1, ..] → [.., n, times, ..].
            let single = self.unsqueeze(x, &[axis + 1])?;
            shape.insert(axis + 1, times);
            let repeated = self.expand(single, &shape)?;
            shape.remove(axis + 1);
            shape[axis] = from * times;
            if indices.len() == from * times {
                return self.reshape(repeated, &shape);
            }
        }
        if let [first, second, ..] = *indices
            && second > first
            && indices.windows(2).all(|pair| pair[1] == pair[0] + (second - first))
        {
            let end = indices[indices.len() - 1] + 1;
            return self.slice_step(x, axis, first, end, second - first);
        }
        let indices = self.sizes(indices);
        self.gather(x, indices, axis)
    }
}

/// The attributes of a node, by the version of its operator.
fn resize_of<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Resize> {
    let attributes = NodeAttributes(node);
    let is_simple = node.op_type() == "Upsample" || file.opset() < 11;
    let refused = |name: &str, value: &str| {
        Err(file.at_node(node, format!("has the {name} `{value}`, which is not supported")))
    };
    let nearest = match attributes.text("nearest_mode").as_str() {
        _ if is_simple => Nearest::Floor,
        "" | "round_prefer_floor" => Nearest::PreferFloor,
        "round_prefer_ceil" => Nearest::PreferCeil,
        "floor" => Nearest::Floor,
        "ceil" => Nearest::Ceil,
        other => return refused("nearest_mode", other),
    };
    let interpolation = match attributes.text("mode").as_str() {
        "" | "nearest" => Interpolation::Nearest(nearest),
        "linear" | "bilinear" => Interpolation::Linear,
        "cubic" => Interpolation::Cubic(attributes.float("cubic_coeff_a", -0.75)),
        other => return refused("mode", other),
    };
    let coordinates = match attributes.text("coordinate_transformation_mode").as_str() {
        _ if is_simple => Coordinates::Asymmetric,
        "" | "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "tf_half_pixel_for_nn" => Coordinates::HalfPixelForNearest,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        // The part is that of each axis.
        "tf_crop_and_resize" => Coordinates::Cropped { start: 0.0, end: 1.0 },
        other => return refused("coordinate_transformation_mode", other),
    };
    Ok(Resize {
        interpolation,
        coordinates,
        exclude_outside: attributes.int("exclude_outside", 0) != 0,
        antialias: attributes.int("antialias", 0) != 0,
    })
}

fn import_resize<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, mut x) = (NodeAttributes(node), file.operand(node, 0)?);
    let resize = resize_of(file, node)?;
    let shape = file.g.shape(x).to_vec();
    let axes: Vec<usize> = match attributes.ints("axes") {
        Some(axes) => axes.into_iter().map(|axis| file.axis(x, axis)).collect(),
        None => (0..shape.len()).collect(),
    };
    // Before the region of interest came between them, scales were the second operand.
    let is_old = node.op_type() == "Upsample" || file.opset() < 11;
    let scales = match file.floats(node, if is_old { 1 } else { 2 })? {
        Some(scales) => scales,
        None => attributes.floats("scales").unwrap_or_default(),
    };
    let sizes = if is_old { None } else { file.integers(node, 3)? }.unwrap_or_default();
    let has_axes = axes.iter().all(|&axis| axis < shape.len());
    if !has_axes || scales.len().max(sizes.len()) != axes.len() {
        let reason = format!("has scales {scales:?} and sizes {sizes:?} for the axes {axes:?}");
        return Err(file.at_node(node, reason));
    }
    let mut targets: Vec<(usize, f64)> = Vec::with_capacity(axes.len());
    for (at, &axis) in axes.iter().enumerate() {
        let from = shape[axis] as f64;
        targets.push(match sizes.get(at) {
            Some(&size) => (usize::try_from(size).unwrap_or(0), size as f64 / from),
            None => {
                let length = (from * scales[at] + 1e-5).floor();
                // A scale that was rounded to single precision stands for the exact ratio.
                let exact = length / from;
                let is_exact = (exact - scales[at]).abs() < 1e-6 * exact;
                (length as usize, if is_exact { exact } else { scales[at] })
            }
        });
    }
    let policy = attributes.text("keep_aspect_ratio_policy");
    if !sizes.is_empty() && matches!(policy.as_str(), "not_larger" | "not_smaller") {
        let scales = targets.iter().map(|target| target.1);
        let scale = if policy == "not_larger" {
            scales.fold(f64::INFINITY, f64::min)
        } else {
            scales.fold(0.0, f64::max)
        };
        for (target, &axis) in targets.iter_mut().zip(&axes) {
            *target = ((scale * shape[axis] as f64).round() as usize, scale);
        }
    }
    let is_cropped = matches!(resize.coordinates, Coordinates::Cropped { .. });
    let parts = if is_cropped { file.floats(node, 1)?.unwrap_or_default() } else { Vec::new() };
    if is_cropped && (parts.len() != 2 * axes.len() || parts.iter().any(|part| !part.is_finite())) {
        let reason = format!("has the region {parts:?}, expected beginnings and ends of {} axes", axes.len());
        return Err(file.at_node(node, reason));
    }
    let outside = attributes.float("extrapolation_value", 0.0);
    for (at, (&axis, (length, scale))) in axes.iter().zip(targets).enumerate() {
        let mut resize = resize;
        if is_cropped {
            resize.coordinates = Coordinates::Cropped { start: parts[at], end: parts[axes.len() + at] };
        }
        let is_whole = !is_cropped || (parts[at], parts[axes.len() + at]) == (0.0, 1.0);
        if length != shape[axis] || scale != 1.0 || !is_whole {
            x = file.g.resize(x, axis, length, scale, &resize)?;
            x = file.g.fill_outside(x, axis, shape[axis], &resize, outside)?;
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::{Coordinates, Interpolation, Nearest, Resize};
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, TensorType};

    const NEAREST: Resize = Resize {
        interpolation: Interpolation::Nearest(Nearest::Floor),
        coordinates: Coordinates::Asymmetric,
        exclude_outside: false,
        antialias: false,
    };
    const LINEAR: Resize =
        Resize { interpolation: Interpolation::Linear, coordinates: Coordinates::HalfPixel, ..NEAREST };
    const CUBIC: Resize = Resize { interpolation: Interpolation::Cubic(-0.75), ..LINEAR };

    #[test]
    fn gradients_of_resizing_agree_with_finite_differences() {
        let aligned = Resize { coordinates: Coordinates::AlignCorners, ..LINEAR };
        let cropped = Resize { coordinates: Coordinates::Cropped { start: 0.2, end: 1.3 }, ..LINEAR };
        for resize in [NEAREST, LINEAR, CUBIC, aligned, cropped, Resize { antialias: true, ..LINEAR }] {
            for (axis, length) in [(1, 8), (1, 7), (1, 2), (2, 6), (2, 5)] {
                let name = format!("{resize:?} of axis {axis} to {length}");
                check_gradients(Case::f32(&name).normal([2, 4, 3]), |g, x| {
                    let scale = length as f64 / g.shape(x[0])[axis] as f64;
                    g.resize(x[0], axis, length, scale, &resize)
                });
            }
        }
    }

    #[test]
    fn resized_values_are_those_of_onnx() {
        let line = |values: &[f64], length: usize, resize: Resize| {
            let scale = length as f64 / values.len() as f64;
            let case = Case::f32("Resize").values([values.len()], values.to_vec());
            evaluate(case, |g, x| g.resize(x[0], 0, length, scale, &resize))
        };
        let count = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(line(&[1.0, 2.0], 4, NEAREST), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(line(&count, 2, NEAREST), [1.0, 3.0]);
        let prefer_floor = Interpolation::Nearest(Nearest::PreferFloor);
        let half = Resize { interpolation: prefer_floor, coordinates: Coordinates::HalfPixel, ..NEAREST };
        assert_eq!(line(&count, 7, half), [1.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0]);
        // Pixel 4 of the result lies exactly between two in single precision, as in ONNX Runtime.
        let twenty: Vec<f64> = (0..20).map(f64::from).collect();
        let case = Case::f32("Resize").values([20], twenty);
        let nearest = evaluate(case, |g, x| g.resize(x[0], 0, 9, f64::from(0.45f32), &half));
        assert_eq!(nearest, [1.0, 3.0, 5.0, 7.0, 9.0, 12.0, 14.0, 16.0, 18.0]);
        let aligned = Resize { coordinates: Coordinates::AlignCorners, ..LINEAR };
        let (smooth, smooth_cubic) =
            (Resize { antialias: true, ..LINEAR }, Resize { antialias: true, ..CUBIC });
        let cases = [
            (line(&[1.0, 2.0], 4, LINEAR), vec![1.0, 1.25, 1.75, 2.0]),
            (line(&[1.0, 2.0], 4, aligned), vec![1.0, 4.0 / 3.0, 5.0 / 3.0, 2.0]),
            (
                line(
                    &count,
                    3,
                    Resize { coordinates: Coordinates::Cropped { start: 0.5, end: 1.5 }, ..LINEAR },
                ),
                vec![2.5, 4.0, 0.0],
            ),
            (line(&count, 8, CUBIC), vec![0.894_531_25, 1.191_406_2, 1.667_968_8, 2.296_875]),
            (line(&count, 2, smooth), vec![1.625, 3.375]),
            (line(&count, 3, smooth_cubic), vec![1.155_001_9, 2.5, 3.844_998_1]),
            (
                line(&count, 3, Resize { exclude_outside: true, ..smooth_cubic }),
                vec![1.160_897_7, 2.5, 3.839_102_3],
            ),
        ];
        for (given, expected) in cases {
            for (a, b) in given.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5, "{given:?} against {expected:?}");
            }
        }
    }

    #[test]
    fn sizes_of_nothing_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        assert!(g.resize(x, 1, 0, 0.1, &LINEAR).is_err());
        assert!(g.resize(x, 2, 4, 2.0, &LINEAR).is_err());
        assert!(g.resize(x, 1, 4, -1.0, &LINEAR).is_err());
    }

    #[test]
    fn what_takes_for_ever_is_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        assert!(g.resize(x, 1, 1, 1e-30, &Resize { antialias: true, ..LINEAR }).is_err());
        assert!(g.resize(x, 1, 1 << 24, (1 << 24) as f64 / 3.0, &LINEAR).is_err());
    }
}
