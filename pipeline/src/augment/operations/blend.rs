//! Blends of pixels with a colour: brightness, contrast, saturation; and turning of hues.

use multiversion::multiversion;

use super::bytes::to_byte;

/// Weights of R, G and B in the luma of ITU-R BT.601.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// What pixels are blended with.
#[derive(Clone, Copy, Debug)]
pub enum Blend {
    /// Black.
    Brightness,
    /// The image's mean luma.
    Contrast,
    /// Each pixel's luma.
    Saturation,
}

#[inline(always)]
fn luma(red: u8, green: u8, blue: u8) -> f32 {
    LUMA[0] * f32::from(red) + LUMA[1] * f32::from(green) + LUMA[2] * f32::from(blue)
}

/// The luma of the mean of all pixels.
#[inline(always)]
fn mean_luma(planes: [&[u8]; 3]) -> f32 {
    let sum_of = |pixels: &[u8]| pixels.iter().map(|&pixel| u32::from(pixel)).sum::<u32>();
    let mean = |plane: &[u8]| {
        plane.chunks(1 << 16).map(|part| u64::from(sum_of(part))).sum::<u64>() as f32 / plane.len() as f32
    };
    let [red, green, blue] = planes.map(mean);
    LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
}

/// Moves every pixel away from (factor above 1) or towards (below 1) the colour that the blend mixes in.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+sse4.1"
))]
pub fn mix(kind: Blend, factor: f32, [red, green, blue]: [&mut [u8]; 3]) {
    let mixed = |value: u8, base: f32| to_byte(base + factor * (f32::from(value) - base));
    let base = match kind {
        Blend::Brightness => 0.0,
        Blend::Contrast => mean_luma([red, green, blue]),
        Blend::Saturation => {
            for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
                let base = luma(*red, *green, *blue);
                (*red, *green, *blue) = (mixed(*red, base), mixed(*green, base), mixed(*blue, base));
            }
            return;
        }
    };
    for plane in [red, green, blue] {
        for value in plane {
            *value = mixed(*value, base);
        }
    }
}

/// Turns the hue of every pixel by `turns` full circles, -0.5..=0.5.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+sse4.1"
))]
pub fn turn_hue(turns: f32, [red, green, blue]: [&mut [u8]; 3]) {
    let part = 6.0 * turns;
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let (r, g, b) = (f32::from(*red), f32::from(*green), f32::from(*blue));
        let value = r.max(g).max(b);
        let range = value - r.min(g).min(b);
        let divisor = if range > 0.0 { range } else { 1.0 };
        // The hue in sixths of a circle, from red over green and blue.
        let hue = if value == r {
            (g - b) / divisor
        } else if value == g {
            2.0 + (b - r) / divisor
        } else {
            4.0 + (r - g) / divisor
        };
        let hue = hue + part + 12.0;
        // How much of the range a channel lacks is a trapezium of its distance from the hue.
        let turned = |first: f32| {
            let place = hue + first;
            let place = place - 6.0 * (place * (1.0 / 6.0)).floor();
            to_byte(value - range * place.min(4.0 - place).clamp(0.0, 1.0))
        };
        (*red, *green, *blue) = (turned(5.0), turned(3.0), turned(1.0));
    }
}

/// Replaces every pixel by its luma.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vbmi+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+sse4.1"
))]
pub fn to_gray([red, green, blue]: [&mut [u8]; 3]) {
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let gray = to_byte(luma(*red, *green, *blue));
        (*red, *green, *blue) = (gray, gray, gray);
    }
}
