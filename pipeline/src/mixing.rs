//! Mixing of the images of a batch: mixup and CutMix.
//!
//! The images at places 2k and 2k + 1 of a batch are mixed with each other: each keeps a share of itself and
//! takes the rest from its partner, and so does its label. Neighbours are strangers, as the order is random;
//! and they are in the same part of a batch, however it is divided among processes. One draw, a function of
//! (seed, epoch, position of the batch in the epoch), is for all pairs of a batch, those of other processes
//! included.

use rand::RngExt;
use rand_distr::{Beta, Distribution};

use crate::form::{Axes, Slot};
use crate::geometry::{Rect, Size};
use crate::kernels::{self, WHOLE};
use crate::random::mixing_rng;

/// The largest parameter of a distribution, which draws hardly anything but ½.
const MOST_ALPHA: f64 = 1000.0;

/// How the images of a batch are mixed. If both ways are asked for, each batch is mixed in one of them, both
/// equally likely.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixing {
    /// α of mixup (Zhang et al. 2018): an image keeps λ ~ Beta(α, α) of each pixel; 0 for none.
    pub mixup_alpha: f64,
    /// α of CutMix (Yun et al. 2019): a box takes 1 − λ of the area, λ ~ Beta(α, α), around a random centre,
    /// cut off at the edges; 0 for none.
    pub cutmix_alpha: f64,
}

/// The way in which the pairs of one batch are mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// Each pixel keeps so many parts of 256 of itself.
    Blend(u16),
    /// The pixels in this box are those of the partner.
    Box(Rect),
}

impl Mixing {
    /// Whether nothing is mixed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.mixup_alpha == 0.0 && self.cutmix_alpha == 0.0
    }

    /// The name and value of a parameter that is out of its range, which is 0 to 1000.
    #[must_use]
    pub fn out_of_range(&self) -> Option<(&'static str, f64)> {
        [("mixup_alpha", self.mixup_alpha), ("cutmix_alpha", self.cutmix_alpha)]
            .into_iter()
            .find(|(_, alpha)| !(0.0..=MOST_ALPHA).contains(alpha))
    }

    /// The draw for the batch whose first image, of all processes, is at `position` of the epoch; `None` if
    /// nothing is mixed. Images have `size`.
    ///
    /// # Panics
    /// When a parameter is [out of range](Self::out_of_range).
    #[must_use]
    pub fn draw(&self, seed: u64, epoch: u64, position: u64, size: Size) -> Option<Mix> {
        let mut rng = mixing_rng(seed, epoch, position);
        let cuts = match (self.mixup_alpha > 0.0, self.cutmix_alpha > 0.0) {
            (false, false) => return None,
            (true, true) => rng.random_bool(0.5),
            (_, cuts) => cuts,
        };
        let alpha = if cuts { self.cutmix_alpha } else { self.mixup_alpha };
        let beta = Beta::new(alpha, alpha).expect("the parameter is positive");
        let drawn: f64 = beta.sample(&mut rng);
        // For the smallest parameters the quotient of two numbers too small for f64.
        let share = if drawn.is_nan() { f64::from(u8::from(rng.random_bool(0.5))) } else { drawn };
        if !cuts {
            return Some(Mix::Blend((share * f64::from(WHOLE)).round() as u16));
        }
        let half = 0.5 * (1.0 - share).sqrt();
        let mut span = |side: u32| {
            let (center, reach) = (rng.random_range(0..side), (half * f64::from(side)) as u32);
            center.saturating_sub(reach)..side.min(center + reach)
        };
        let (x, y) = (span(size.width), span(size.height));
        let size = Size { width: x.end - x.start, height: y.end - y.start };
        Some(Mix::Box(Rect { x: x.start, y: y.start, size }))
    }
}

impl Mix {
    /// The share of its own that an image of `size` keeps, 0 to 1.
    #[must_use]
    pub fn share(&self, size: Size) -> f32 {
        match self {
            Self::Blend(parts) => f32::from(*parts) / f32::from(WHOLE),
            Self::Box(cut) => (1.0 - cut.size.area() as f64 / size.area() as f64) as f32,
        }
    }

    /// Mixes two views `u8 [3,H,W]` of `size` with each other, and their colour offsets.
    ///
    /// # Panics
    /// When a view has another size.
    pub fn apply_u8(&self, size: Size, views: [&mut [u8]; 2], offsets: [&mut [f32; 3]; 2]) {
        assert!(views.iter().all(|view| view.len() == 3 * size.area()));
        let [first, second] = views;
        self.apply(Axes::Chw, size, (Slot::U8(first), Slot::U8(second)), offsets);
    }

    /// Mixes two views of `size` with each other, and their colour offsets.
    ///
    /// Views in u8 get their offsets on the device. Where a box of one is put into the other, the difference
    /// of their offsets is added to its pixels, rounded, and cut off at 0 and 255.
    pub(crate) fn apply(
        &self,
        axes: Axes,
        size: Size,
        (first, second): (Slot<'_>, Slot<'_>),
        [first_offset, second_offset]: [&mut [f32; 3]; 2],
    ) {
        match self {
            Self::Blend(parts) => {
                let share = self.share(size);
                match (first, second) {
                    (Slot::U8(first), Slot::U8(second)) => kernels::blend_u8(*parts, first, second),
                    (Slot::F32(first), Slot::F32(second)) => kernels::blend_f32(share, first, second),
                    (Slot::F16(first), Slot::F16(second)) => kernels::blend_f16(share, first, second),
                    _ => unreachable!("the views of a batch are of one type"),
                }
                kernels::blend_f32(share, first_offset, second_offset);
            }
            Self::Box(cut) => {
                let rows = Rows { axes, size, cut: *cut };
                match (first, second) {
                    (Slot::U8(first), Slot::U8(second)) => {
                        rows.swap(first, second);
                        if first_offset != second_offset {
                            let shift = [0, 1, 2].map(|c| second_offset[c] - first_offset[c]);
                            rows.shift(first, shift);
                            rows.shift(second, shift.map(|shift| -shift));
                        }
                    }
                    (Slot::F32(first), Slot::F32(second)) => rows.swap(first, second),
                    (Slot::F16(first), Slot::F16(second)) => rows.swap(first, second),
                    _ => unreachable!("the views of a batch are of one type"),
                }
            }
        }
    }
}

/// The rows of a box in a view.
struct Rows {
    axes: Axes,
    size: Size,
    cut: Rect,
}

impl Rows {
    /// Calls `each` with the place of every row's first value, and the number of its values.
    fn each(&self, mut each: impl FnMut(usize, usize)) {
        let Rect { x, y, size } = self.cut;
        let width = self.size.width as usize;
        let (planes, values) = match self.axes {
            Axes::Chw => (3, 1),
            Axes::Hwc => (1, 3),
        };
        for plane in 0..planes {
            for row in y..y + size.height {
                let pixel = plane * self.size.area() + row as usize * width + x as usize;
                each(pixel * values, size.width as usize * values);
            }
        }
    }

    fn swap<T>(&self, first: &mut [T], second: &mut [T]) {
        self.each(|start, len| first[start..][..len].swap_with_slice(&mut second[start..][..len]));
    }

    /// Adds a number to each pixel, by channel.
    fn shift(&self, values: &mut [u8], by: [f32; 3]) {
        let area = self.size.area();
        self.each(|start, len| {
            for (place, value) in values[start..][..len].iter_mut().enumerate() {
                let channel = match self.axes {
                    Axes::Chw => start / area,
                    Axes::Hwc => place % 3,
                };
                // `as` saturates at 0 and 255.
                *value = (f32::from(*value) + by[channel]).round() as u8;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 40, height: 30 };

    fn draws(mixing: Mixing) -> impl Iterator<Item = Mix> {
        (0..4000).map(move |position| mixing.draw(3, 1, 8 * position, SIZE).unwrap())
    }

    #[test]
    fn shares_have_mean_and_variance_of_the_beta_distribution() {
        for alpha in [0.2, 0.8, 1.0, 5.0] {
            let mixing = Mixing { mixup_alpha: alpha, cutmix_alpha: 0.0 };
            let shares: Vec<f64> = draws(mixing).map(|mix| f64::from(mix.share(SIZE))).collect();
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let variance =
                shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64;
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((mean - 0.5).abs() < 0.03, "alpha {alpha}: mean {mean}");
            assert!(
                (variance / expected - 1.0).abs() < 0.1,
                "alpha {alpha}: variance {variance}, not {expected}"
            );
        }
    }

    #[test]
    fn parameters_at_the_ends_of_the_range_give_shares_from_0_to_1() {
        for alpha in [f64::MIN_POSITIVE, 1e-12, 1e-3, MOST_ALPHA] {
            for (mixup_alpha, cutmix_alpha) in [(alpha, 0.0), (0.0, alpha)] {
                let mixing = Mixing { mixup_alpha, cutmix_alpha };
                assert_eq!(mixing.out_of_range(), None);
                for mix in draws(mixing).take(500) {
                    assert!((0.0..=1.0).contains(&mix.share(SIZE)), "alpha {alpha}: {mix:?}");
                }
            }
        }
        let off = |alpha| Mixing { mixup_alpha: 0.0, cutmix_alpha: alpha }.out_of_range().is_some();
        assert!([-0.1, f64::NAN, f64::INFINITY, 1001.0].into_iter().all(off));
        assert!(Mixing::default().draw(0, 0, 0, SIZE).is_none());
    }

    #[test]
    fn both_ways_are_equally_likely_and_boxes_lie_within_the_image() {
        let mut boxes = 0;
        for mix in draws(Mixing { mixup_alpha: 0.8, cutmix_alpha: 1.0 }) {
            let Mix::Box(Rect { x, y, size }) = mix else { continue };
            boxes += 1;
            assert!(x + size.width <= SIZE.width && y + size.height <= SIZE.height);
        }
        assert!((1850..2150).contains(&boxes), "{boxes} of 4000");
    }

    #[test]
    fn draws_depend_on_seed_epoch_and_position_and_are_the_same_in_every_version() {
        let mixing = Mixing { mixup_alpha: 0.8, cutmix_alpha: 1.0 };
        let first = |seed, epoch| {
            (0..20).map(|at| mixing.draw(seed, epoch, 64 * at, SIZE).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(first(7, 2), first(7, 2));
        assert!(first(7, 2) != first(8, 2) && first(7, 2) != first(7, 3) && first(7, 2)[0] != first(7, 2)[1]);
        // Changing these values breaks the resumption of every run that mixes.
        let cut = |x, y, width, height| Mix::Box(Rect { x, y, size: Size { width, height } });
        assert_eq!(first(7, 2)[..3], [cut(0, 14, 14, 16), cut(27, 12, 13, 16), Mix::Blend(9)]);
    }

    #[test]
    fn a_box_comes_from_the_partner_with_its_own_colours() {
        let cut = Rect { x: 1, y: 0, size: Size { width: 2, height: 1 } };
        let size = Size { width: 3, height: 2 };
        for axes in [Axes::Chw, Axes::Hwc] {
            let (mut first, mut second) = ([100u8; 18], [200u8; 18]);
            let (mut offset, mut of_second) = ([10.0, 0.0, -3.0], [0.0, 0.4, 60.0]);
            let slots = (Slot::U8(&mut first), Slot::U8(&mut second));
            Mix::Box(cut).apply(axes, size, slots, [&mut offset, &mut of_second]);
            assert_eq!((offset, of_second), ([10.0, 0.0, -3.0], [0.0, 0.4, 60.0]));
            for pixel in 0..6 {
                for channel in 0..3 {
                    let place = match axes {
                        Axes::Chw => 6 * channel + pixel,
                        Axes::Hwc => 3 * pixel + channel,
                    };
                    // What the network gets, pixel and offset, is what the partner was; to a rounding, and
                    // but for what exceeds 255.
                    let expected = match pixel {
                        1 | 2 => ([190, 200, 255][channel], [110, 100, 37][channel]),
                        _ => (100, 200),
                    };
                    assert_eq!((first[place], second[place]), expected, "{axes:?}, {pixel}, {channel}");
                }
            }
        }
        assert!((Mix::Box(cut).share(size) - 4.0 / 6.0).abs() < 1e-7);
    }
}
