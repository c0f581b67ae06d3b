//! Values of regions of images, in bins: RoiAlign and MaxRoiPool.
//!
//! Regions have no gradient, as in torchvision.

use super::sampling::{GridSample, Outside, Sampling};
use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::limits::CONSTANT;
use crate::import::translation::{Family, Translation};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;
use crate::types::ElementType::{F16, F32, I64};
use crate::types::TensorType;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family =
    &[(&ROI_ALIGN, Some(import_roi_align)), (&MAX_ROI_POOL, Some(import_max_roi_pool))];
static ROI_ALIGN: Operator = Operator::decomposed("RoiAlign", 10);
static MAX_ROI_POOL: Operator = Operator::decomposed("MaxRoiPool", 1);

/// Between two pixels along each axis in proportion, and at the border outside.
const SAMPLE: GridSample =
    GridSample { sampling: Sampling::Linear, outside: Outside::Border, align_corners: true };

/// How the bins of a region are sampled (He et al., 2017).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RoiAlign {
    /// Bins along the height and the width.
    pub bins: [usize; 2],
    /// Samples of a bin along the height and the width: those of every region, or of each.
    pub samples: Vec<[usize; 2]>,
    /// Pixels for each unit of the regions.
    pub scale: f64,
    /// Whether the centre of the first pixel is at ½, and regions may be narrower than a pixel.
    pub half_pixel: bool,
    /// Whether the largest share of a pixel in a sample is taken, instead of the mean of the samples.
    pub max: bool,
}

/// Pixels of the samples along an axis, i64 `[R,bins·samples]`, and their shares.
type Pixels = [(Tensor, Tensor); 2];

impl Builder {
    /// Bins of the regions `[R,4]`, each x and y of a corner and of the opposite one, of the images of `x`
    /// `[N,C,H,W]` that `images`, i64 `[R]`, names: `[R,C,bins,bins]`.
    ///
    /// # Errors
    /// The operands are not of one floating-point type, or shapes do not fit.
    pub(crate) fn roi_align(
        &mut self,
        x: Tensor,
        regions: Tensor,
        images: Tensor,
        align: &RoiAlign,
    ) -> Result<Tensor> {
        let shape = self.check_regions(&ROI_ALIGN, x, regions, 4)?;
        let count = self.shape(regions)[0];
        let most = [0, 1].map(|axis| align.samples.iter().map(|n| n[axis]).max().unwrap_or(0).max(1));
        let values = [align.bins, most].concat().into_iter().fold(count, usize::saturating_mul);
        let fits = *self.ty(images) == TensorType::new(I64, [count])
            && (1..=CONSTANT).contains(&values)
            && [1, count].contains(&align.samples.len());
        if !fits {
            let reason = format!(
                "there must be an i64 number of an image for each region, bins, and {CONSTANT} samples at most"
            );
            return Err(self.mismatch(ROI_ALIGN.name, &[x, regions, images], reason));
        }
        let element = self.element(x);
        let [x, regions] = self.operands_of_regions(x, regions)?;
        let pixels = self.transpose(x, &[0, 2, 3, 1])?;
        let pixels = self.reshape(pixels, &[shape[0] * shape[2] * shape[3], shape[1]])?;
        let corners = self.split_evenly(regions, 1, 4)?;
        let rows = self.region_pixels([corners[1], corners[3]], 0, shape[2], align)?;
        let columns = self.region_pixels([corners[0], corners[2]], 1, shape[3], align)?;
        let area = self.scalar(I64, (shape[2] * shape[3]) as f64);
        let first = self.mul(images, area)?;
        let first = self.reshape(first, &[count, 1, 1, 1, 1])?;
        let width = self.scalar(I64, shape[3] as f64);
        let mut total = None;
        for (row, row_share) in rows {
            let along = [count, align.bins[0], 1, most[0], 1];
            let (row, row_share) = (self.reshape(row, &along)?, self.reshape(row_share, &along)?);
            let row = self.mul(row, width)?;
            let row = self.add(row, first)?;
            for (column, column_share) in columns {
                let along = [count, 1, align.bins[1], 1, most[1]];
                let (column, column_share) =
                    (self.reshape(column, &along)?, self.reshape(column_share, &along)?);
                let place = self.add(row, column)?;
                let share = self.mul(row_share, column_share)?;
                let share = self.unsqueeze(share, &[5])?;
                let value = self.gather(pixels, place, 0)?;
                let value = self.mul(value, share)?;
                total = Some(match total {
                    Some(total) if align.max => self.max(total, value)?,
                    Some(total) => self.add(total, value)?,
                    None => value,
                });
            }
        }
        let samples = total.unwrap_or(pixels);
        let y = match align.max {
            true => self.reduce_max(samples, &[3, 4], false)?,
            false => self.reduce_sum(samples, &[3, 4], false)?,
        };
        let y = self.transpose(y, &[0, 3, 1, 2])?;
        self.cast(y, element)
    }

    /// The shape of the images `x`, after a check of it and of regions of `width` numbers.
    fn check_regions(
        &self,
        operator: &'static Operator,
        x: Tensor,
        regions: Tensor,
        width: usize,
    ) -> Result<Vec<usize>> {
        let (shape, given) = (self.shape(x).to_vec(), self.shape(regions));
        let fits = shape.len() == 4
            && given.len() == 2
            && given[1] == width
            && self.element(x).is_float()
            && self.element(x) == self.element(regions);
        if !fits {
            let reason = format!(
                "the images must be [N,C,H,W] and the regions [R,{width}], of one floating-point type"
            );
            return Err(self.mismatch(operator.name, &[x, regions], reason));
        }
        Ok(shape)
    }

    /// Images, and regions without a gradient; in f32 if they are f16, in which places are too coarse.
    fn operands_of_regions(&mut self, x: Tensor, regions: Tensor) -> Result<[Tensor; 2]> {
        let regions = self.stop_gradient(regions);
        match self.element(x) {
            F16 => Ok([self.cast(x, F32)?, self.cast(regions, F32)?]),
            _ => Ok([x, regions]),
        }
    }

    /// The two pixels next to each sample along `axis` of the images, which has `length` pixels, of regions
    /// between the given ends `[R,1]`.
    fn region_pixels(
        &mut self,
        [low, high]: [Tensor; 2],
        axis: usize,
        length: usize,
        align: &RoiAlign,
    ) -> Result<Pixels> {
        let (element, bins) = (self.element(low), align.bins[axis]);
        let [low, high] = [self.scale(low, align.scale)?, self.scale(high, align.scale)?];
        let mut extent = self.sub(high, low)?;
        let mut start = low;
        if align.half_pixel {
            let half = self.scalar(element, 0.5);
            start = self.sub(low, half)?;
        } else {
            extent = self.clip(extent, 1.0, f64::INFINITY)?;
        }
        let bin = self.scale(extent, 1.0 / bins as f64)?;
        let (steps, shares) = steps_of(axis, align);
        let ty = TensorType::new(element, [align.samples.len(), steps.len() / align.samples.len()]);
        let (steps, shares) = (self.floats(ty.clone(), &steps), self.floats(ty, &shares));
        let offset = self.mul(bin, steps)?;
        let place = self.add(start, offset)?;
        // A sample counts up to a pixel outside of the image.
        let ends = [-1.0, length as f64].map(|end| self.scalar(element, end));
        let (after, before) = (self.less_or_equal(ends[0], place)?, self.less_or_equal(place, ends[1])?);
        let is_inside = self.and(after, before)?;
        let neighbours = self.neighbours(place, length, SAMPLE)?;
        let mut shared = |(pixel, part): (Tensor, Option<Tensor>)| {
            let share = part.map_or(Ok(shares), |part| self.mul(part, shares))?;
            Ok((pixel, self.keep_where(is_inside, share)?))
        };
        Ok([shared(neighbours[0])?, shared(neighbours[1])?])
    }

    /// The largest pixel in each bin of the regions `[R,5]`, each the number of an image of `x` `[N,C,H,W]`,
    /// x and y of the first pixel, and of the last, where `scale` pixels are a unit: `[R,C,bins,bins]`. A bin
    /// without a pixel is 0.
    ///
    /// Source: R. Girshick, "Fast R-CNN", 2015.
    ///
    /// # Errors
    /// The operands are not of one floating-point type, or shapes do not fit.
    pub(crate) fn max_roi_pool(
        &mut self,
        x: Tensor,
        regions: Tensor,
        bins: [usize; 2],
        scale: f64,
    ) -> Result<Tensor> {
        let shape = self.check_regions(&MAX_ROI_POOL, x, regions, 5)?;
        if bins.contains(&0) || bins[0].saturating_add(bins[1]) > 1024 {
            let reason = format!("there must be 1 to 512 bins along each axis, given {bins:?}");
            return Err(self.mismatch(MAX_ROI_POOL.name, &[x, regions], reason));
        }
        let element = self.element(x);
        let [x, regions] = self.operands_of_regions(x, regions)?;
        let numbers = self.split_evenly(regions, 1, 5)?;
        let count = self.shape(regions)[0];
        let images = self.reshape(numbers[0], &[count])?;
        let images = self.cast(images, I64)?;
        let mut y = self.gather(x, images, 0)?;
        let mut filled = None;
        // Columns first: the first of equal pixels then is the first in the order of rows.
        for (axis, ends) in [(3, [numbers[1], numbers[3]]), (2, [numbers[2], numbers[4]])] {
            let [from, to] = self.bins_of(ends, bins[axis - 2], shape[axis], scale)?;
            y = self.largest_between(y, axis, from, to)?;
            let has_pixels = self.less(from, to)?;
            let along: [usize; 4] = std::array::from_fn(|a| match a {
                0 => count,
                a if a == axis => bins[axis - 2],
                _ => 1,
            });
            let has_pixels = self.reshape(has_pixels, &along)?;
            filled = Some(match filled {
                Some(other) => self.and(other, has_pixels)?,
                None => has_pixels,
            });
        }
        if let Some(filled) = filled {
            y = self.keep_where(filled, y)?;
        }
        self.cast(y, element)
    }

    /// First pixel of each bin and the one after its last, along an axis of `length` pixels, of regions
    /// between the given ends `[R,1]`: `[R,bins]` each.
    fn bins_of(
        &mut self,
        [low, high]: [Tensor; 2],
        bins: usize,
        length: usize,
        scale: f64,
    ) -> Result<[Tensor; 2]> {
        let element = self.element(low);
        let (half, one) = (self.scalar(element, 0.5), self.scalar(element, 1.0));
        // To the nearest pixel; a half is rounded away from 0, unlike by Round.
        let mut nearest = |number: Tensor| {
            let pixel = self.scale(number, scale)?;
            let (sign, size) = (self.sign(pixel)?, self.abs(pixel)?);
            let size = self.add(size, half)?;
            let size = self.floor(size)?;
            self.mul(sign, size)
        };
        let (start, last) = (nearest(low)?, nearest(high)?);
        let extent = self.sub(last, start)?;
        let extent = self.add(extent, one)?;
        let extent = self.clip(extent, 1.0, f64::INFINITY)?;
        let divisor = self.scalar(element, bins as f64);
        let bin = self.div(extent, divisor)?;
        let mut ends = [start; 2];
        for (end, first) in ends.iter_mut().zip([0, 1]) {
            let numbers: Vec<f64> = (first..bins + first).map(|number| number as f64).collect();
            let numbers = self.floats(TensorType::new(element, [1, bins]), &numbers);
            let offset = self.mul(bin, numbers)?;
            let offset = if first == 0 { self.floor(offset)? } else { self.ceil(offset)? };
            let place = self.add(start, offset)?;
            *end = self.clip(place, 0.0, length as f64)?;
        }
        Ok(ends)
    }

    /// The largest values of `x` `[R,…]` along `axis` between each pair of ends `[R,bins]`, of equal ones the
    /// first.
    fn largest_between(&mut self, x: Tensor, axis: usize, from: Tensor, to: Tensor) -> Result<Tensor> {
        let (shape, element) = (self.shape(x).to_vec(), self.element(x));
        let numbers: Vec<f64> = (0..shape[axis]).map(|number| number as f64).collect();
        let along: Vec<usize> = (0..4).map(|a| if a == axis { shape[axis] } else { 1 }).collect();
        let numbers = self.floats(TensorType::new(element, along), &numbers);
        let lowest = self.scalar(element, f32::MIN.into());
        let bins = self.shape(from)[1];
        let mut parts = Vec::with_capacity(bins);
        for (from, to) in self.split_evenly(from, 1, bins)?.into_iter().zip(self.split_evenly(to, 1, bins)?) {
            let (from, to) = (self.unsqueeze(from, &[2, 3])?, self.unsqueeze(to, &[2, 3])?);
            let (after, before) = (self.less_or_equal(from, numbers)?, self.less(numbers, to)?);
            let is_within = self.and(after, before)?;
            let values = self.select(is_within, x, lowest)?;
            let place = self.arg_max(values, axis, true)?;
            parts.push(self.gather_elements(values, place, axis)?);
        }
        self.concat(&parts, axis)
    }
}

/// The place of each sample along `axis`, in bins, and its share, for one region after another.
fn steps_of(axis: usize, align: &RoiAlign) -> (Vec<f64>, Vec<f64>) {
    let most = align.samples.iter().map(|samples| samples[axis]).max().unwrap_or(0).max(1);
    let (mut steps, mut shares) = (Vec::new(), Vec::new());
    for samples in &align.samples {
        let samples = samples[axis];
        for bin in 0..align.bins[axis] {
            for at in 0..most {
                // What a region has less than others is its last sample again, without a share in the mean.
                let place = at.min(samples.saturating_sub(1)) as f64 + 0.5;
                steps.push(bin as f64 + place / samples.max(1) as f64);
                shares.push(match (align.max, at < samples) {
                    (true, _) => f64::from(samples > 0),
                    (false, true) => 1.0 / samples as f64,
                    (false, false) => 0.0,
                });
            }
        }
    }
    (steps, shares)
}

fn import_roi_align<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let number = |name, default| usize::try_from(attributes.int(name, default)).unwrap_or(0);
    let half_pixel = match (attributes.text("coordinate_transformation_mode").as_str(), file.opset()) {
        ("half_pixel", _) | ("", 16..) => true,
        ("output_half_pixel", _) | ("", _) => false,
        (other, _) => return Err(file.at_node(node, format!("has the coordinates `{other}`"))),
    };
    let max = match attributes.text("mode").as_str() {
        "" | "avg" => false,
        "max" => true,
        other => return Err(file.at_node(node, format!("has the mode `{other}`, expected avg or max"))),
    };
    let mut align = RoiAlign {
        bins: [number("output_height", 1), number("output_width", 1)],
        samples: vec![[number("sampling_ratio", 0); 2]],
        scale: attributes.float("spatial_scale", 1.0),
        half_pixel,
        max,
    };
    if align.samples == [[0; 2]] {
        let known = match file.constant(node, 1) {
            Some(_) => file.floats(node, 1)?,
            None => None,
        };
        let Some(regions) = known else {
            let reason = "samples its regions as often as they are large, which is known only when the graph \
                          runs: export it with a sampling_ratio";
            return Err(file.at_node(node, reason));
        };
        align.samples = regions.chunks_exact(4).map(|region| samples_of(region, &align)).collect();
    }
    let (x, images) = (file.operand(node, 0)?, file.operand(node, 2)?);
    let regions = file.operand(node, 1)?;
    file.g.roi_align(x, regions, images, &align)
}

/// One sample for each pixel of a bin along each axis, at least.
fn samples_of(region: &[f64], align: &RoiAlign) -> [usize; 2] {
    [0, 1].map(|axis| {
        let [low, high] = [1 - axis, 3 - axis].map(|at| region[at] as f32 * align.scale as f32);
        let extent = if align.half_pixel { high - low } else { (high - low).max(1.0) };
        (extent / align.bins[axis] as f32).ceil().max(0.0) as usize
    })
}

fn import_max_roi_pool<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let Some(&[height, width]) = attributes.sizes("pooled_shape").as_deref() else {
        return Err(file.at_node(node, "has no pooled_shape, expected bins along height and width"));
    };
    let scale = attributes.float("spatial_scale", 1.0);
    let (x, regions) = (file.operand(node, 0)?, file.operand(node, 1)?);
    file.g.max_roi_pool(x, regions, [height, width], scale)
}

#[cfg(test)]
mod tests {
    use super::RoiAlign;
    use crate::gradcheck::{Case, check_gradients, evaluate, gradient};
    use crate::{Builder, Lowering, Target, TensorType};

    fn align(max: bool) -> RoiAlign {
        RoiAlign { bins: [2, 3], samples: vec![[2, 2]], scale: 0.5, half_pixel: true, max }
    }

    /// Two images of 5×6 pixels, and three regions of which one leaves the image.
    const REGIONS: [f64; 12] = [0.7, 1.3, 7.9, 6.1, 3.3, -2.9, 13.7, 9.7, 2.1, 2.3, 4.5, 4.9];

    #[test]
    fn gradients_of_aligned_regions_agree_with_finite_differences() {
        for half_pixel in [false, true] {
            let samples = [vec![[2, 2]], vec![[1, 2], [3, 3], [0, 0]]];
            for (samples, max) in samples.into_iter().flat_map(|s| [(s.clone(), false), (s, true)]) {
                let align = RoiAlign { half_pixel, samples, ..align(max) };
                check_gradients(Case::f64(&format!("{align:?}")).distinct([2, 2, 5, 6]), |g, x| {
                    let regions = g.floats(g.ty(x[0]).reshaped([3, 4]), &REGIONS);
                    let images = g.integers(&[0, 1, 1]);
                    g.roi_align(x[0], regions, images, &align)
                });
            }
        }
    }

    #[test]
    fn regions_have_no_gradient() {
        let case = || Case::f64("RoiAlign").values([3, 4], REGIONS.to_vec()).normal([2, 2, 5, 6]);
        let given = gradient(case(), |g, x| {
            let images = g.integers(&[0, 1, 1]);
            g.roi_align(x[1], x[0], images, &align(false))
        });
        assert_eq!(given, [0.0; 12]);
    }

    #[test]
    fn a_bin_of_a_plane_is_its_value_in_the_middle() {
        let plane: Vec<f64> = (0..30).map(|at| f64::from(at / 6 * 10 + at % 6)).collect();
        let align = RoiAlign { bins: [1, 2], scale: 1.0, half_pixel: false, ..align(false) };
        let y = evaluate(Case::f32("RoiAlign").values([1, 1, 5, 6], plane), |g, x| {
            let regions = g.floats(g.ty(x[0]).reshaped([1, 4]), &[1.0, 0.5, 4.0, 2.5]);
            let images = g.integers(&[0]);
            g.roi_align(x[0], regions, images, &align)
        });
        assert_eq!(y, [16.75, 18.25]);
    }

    #[test]
    fn gradients_of_pooled_regions_agree_with_finite_differences() {
        let regions = [0.0, 1.0, 0.0, 8.0, 9.0, 1.0, 3.0, 2.0, 20.0, 6.0, 1.0, 4.0, 4.0, 4.0, 4.0];
        check_gradients(Case::f64("MaxRoiPool").distinct([2, 2, 5, 6]), |g, x| {
            let regions = g.floats(g.ty(x[0]).reshaped([3, 5]), &regions);
            g.max_roi_pool(x[0], regions, [2, 3], 0.5)
        });
    }

    #[test]
    fn the_first_of_equal_pixels_is_pooled_and_a_bin_without_one_is_0() {
        let case = || Case::f32("MaxRoiPool").values([1, 1, 2, 3], vec![1.0, 7.0, 7.0, 7.0, 2.0, 3.0]);
        let build = |g: &mut Builder, x: &[crate::Tensor]| {
            let regions = g.floats(g.ty(x[0]).reshaped([2, 5]), &[0., 0., 0., 2., 1., 0., 7., 0., 9., 1.]);
            g.max_roi_pool(x[0], regions, [1, 1], 1.0)
        };
        assert_eq!(evaluate(case(), build), [7.0, 0.0]);
        assert_eq!(gradient(case(), build), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn halves_of_pixels_are_rounded_away_from_0() {
        let case = Case::f32("MaxRoiPool").values([1, 1, 1, 4], vec![1.0, 2.0, 3.0, 4.0]);
        let y = evaluate(case, |g, x| {
            let regions = g.floats(g.ty(x[0]).reshaped([2, 5]), &[0., -3., 0., 3., 0., 0., 1., 0., 5., 0.]);
            g.max_roi_pool(x[0], regions, [1, 2], 0.5)
        });
        // Pixels −2 to 2 in bins of 2.5, and 1 to 3 in bins of 1.5.
        assert_eq!(y, [1.0, 3.0, 3.0, 4.0]);
    }

    #[test]
    fn regions_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3, 5, 6])).unwrap();
        let flat = g.input("flat", TensorType::f32([2, 3, 5])).unwrap();
        let [four, five] =
            [4, 5].map(|width| g.input(&format!("r{width}"), TensorType::f32([3, width])).unwrap());
        let images = g.integers(&[0, 1, 1]);
        let two = g.integers(&[0, 1]);
        assert!(g.roi_align(x, four, images, &align(false)).is_ok());
        assert!(g.roi_align(x, five, images, &align(false)).is_err());
        assert!(g.roi_align(flat, four, images, &align(false)).is_err());
        assert!(g.roi_align(x, four, two, &align(false)).is_err());
        assert!(g.roi_align(x, four, images, &RoiAlign { bins: [0, 1], ..align(false) }).is_err());
        let of_two = RoiAlign { samples: vec![[1, 1]; 2], ..align(false) };
        assert!(g.roi_align(x, four, images, &of_two).is_err());
        assert!(g.max_roi_pool(x, five, [2, 2], 1.0).is_ok());
        assert!(g.max_roi_pool(x, four, [2, 2], 1.0).is_err());
        assert!(g.max_roi_pool(x, five, [2, 0], 1.0).is_err());
    }
}
