//! Shearing, moving and rotating an image within its frame.

use serde::Deserialize;

use crate::geometry::Size;

/// How a value between stored pixels is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// It is that of the nearest pixel.
    #[default]
    Nearest,
    /// It is interpolated between four pixels.
    Bilinear,
}

/// Where each pixel of the result comes from: column `x` of row `y` from the column
/// `across[0]·x + across[1]·y + across[2]` and the row `down[0]·x + down[1]·y + down[2]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    across: [f32; 3],
    down: [f32; 3],
}

impl Affine {
    /// Moves rows to the left, by `slope` pixels for each row above; the upper left corner stays.
    pub fn shear_x(slope: f32) -> Self {
        Self { across: [1.0, slope, 0.5 * slope], down: [0.0, 1.0, 0.0] }
    }

    /// Moves columns up, by `slope` pixels for each column to the left; the upper left corner stays.
    pub fn shear_y(slope: f32) -> Self {
        Self { across: [1.0, 0.0, 0.0], down: [slope, 1.0, 0.5 * slope] }
    }

    /// Moves the image to the right and down by whole pixels.
    pub fn translate(x: i32, y: i32) -> Self {
        Self { across: [1.0, 0.0, -x as f32], down: [0.0, 1.0, -y as f32] }
    }

    /// Rotates the image of size `size` about its centre, counter-clockwise.
    pub fn rotate(degrees: f32, size: Size) -> Self {
        let (sine, cosine) = f64::from(degrees).to_radians().sin_cos();
        let (x, y) = (f64::from(size.width - 1) / 2.0, f64::from(size.height - 1) / 2.0);
        let row = |[a, b]: [f64; 2], center: f64| [a as f32, b as f32, (center - a * x - b * y) as f32];
        Self { across: row([cosine, -sine], x), down: row([sine, cosine], y) }
    }

    /// Makes the plane `to` out of the plane `from`, both of size `size`; what comes from outside is `fill`.
    pub fn apply(&self, interpolation: Interpolation, fill: u8, size: Size, from: &[u8], to: &mut [u8]) {
        let (width, height) = (size.width as i32, size.height as i32);
        let pixel = |x: i32, y: i32| {
            let is_inside = (0..width).contains(&x) && (0..height).contains(&y);
            if is_inside { from[(y * width + x) as usize] } else { fill }
        };
        for (y, row) in to.chunks_exact_mut(width as usize).enumerate() {
            let [across, down] = [self.across, self.down].map(|[a, b, start]| (a, b * y as f32 + start));
            for (x, target) in row.iter_mut().enumerate() {
                let (left, top) = (across.0 * x as f32 + across.1, down.0 * x as f32 + down.1);
                *target = match interpolation {
                    Interpolation::Nearest => {
                        pixel(left.round_ties_even() as i32, top.round_ties_even() as i32)
                    }
                    Interpolation::Bilinear => {
                        let (x, y) = (left.floor() as i32, top.floor() as i32);
                        let (right, below) = (left - left.floor(), top - top.floor());
                        let between = |y: i32| {
                            let [a, b] = [x, x + 1].map(|x| f32::from(pixel(x, y)));
                            a + right * (b - a)
                        };
                        let (upper, lower) = (between(y), between(y + 1));
                        (upper + below * (lower - upper)).round() as u8
                    }
                };
            }
        }
    }
}
