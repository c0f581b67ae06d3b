//! From the samples of a TIFF file to RGB.

use std::io::{Read, Seek};

use tiff::TiffResult;
use tiff::decoder::Decoder;
use tiff::decoder::ifd::Value;
use tiff::tags::Tag;

use super::layout::{Compression, Layout};

const TAG_YCBCR_COEFFICIENTS: Tag = Tag::Unknown(529);

/// Weights of red, green and blue in the brightness that are read, those of JPEG files.
const WEIGHTS: [f64; 3] = [0.299, 0.587, 0.114];

/// What the samples of a pixel stand for.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Grey {
        white_is_zero: bool,
    },
    Rgb,
    /// Colours are multiplied by the alpha behind them.
    PremultipliedRgb,
    /// Indices of these colours.
    Palette(Vec<[u8; 3]>),
    /// 0 is no ink.
    Cmyk,
    YCbCr,
}

/// How samples become colours.
pub(super) struct Colors {
    pub(super) kind: Kind,
    bits: u16,
}

impl Colors {
    /// The reason, where the colours are of a kind that is not read.
    pub(super) fn of<R: Read + Seek>(
        decoder: &mut Decoder<R>,
        photometric: u64,
        layout: &Layout,
    ) -> TiffResult<Result<Self, String>> {
        if let Some(reason) = layout.unsupported() {
            return Ok(Err(reason));
        }
        let kind = match photometric {
            0 | 1 => Kind::Grey { white_is_zero: photometric == 0 },
            2 if layout.samples > 3 && layout.extra_samples.first() == Some(&1) => Kind::PremultipliedRgb,
            2 => Kind::Rgb,
            3 => {
                let values: Vec<u16> = decoder.find_tag_unsigned_vec(Tag::ColorMap)?.unwrap_or_default();
                let count = 1 << layout.bits.min(8);
                if layout.bits > 8 || values.len() != 3 * count {
                    let found = format!("a palette of {} numbers for {} bits", values.len(), layout.bits);
                    return Ok(Err(found));
                }
                let color = |index| [0, 1, 2].map(|c| (values[c * count + index] >> 8) as u8);
                Kind::Palette((0..count).map(color).collect())
            }
            5 => Kind::Cmyk,
            6 if layout.compression == Compression::Jpeg && !layout.is_planar => Kind::YCbCr,
            6 => {
                let sampling: Option<Vec<u16>> = decoder.find_tag_unsigned_vec(Tag::ChromaSubsampling)?;
                if sampling.as_deref() != Some(&[1, 1]) || layout.bits != 8 || !has_usual_weights(decoder)? {
                    return Ok(Err("YCbCr colours of a kind other than those of JPEG files".into()));
                }
                Kind::YCbCr
            }
            8..=10 => return Ok(Err("L*a*b* colours".into())),
            other => {
                return Ok(Err(format!(
                    "colours of the kind {other}, expected grey, RGB, a palette, CMYK or YCbCr"
                )));
            }
        };
        let is_float = layout.sample_format == 3;
        if is_float && !matches!(kind, Kind::Rgb) {
            return Ok(Err("floating-point samples that are not RGB".into()));
        }
        let colors = Self { kind, bits: if is_float { 8 } else { layout.bits } };
        if layout.samples < colors.samples() {
            let (expected, found) = (colors.samples(), layout.samples);
            return Ok(Err(format!("{found} samples for a pixel, expected {expected}")));
        }
        Ok(Ok(colors))
    }

    /// How many samples of a pixel are looked at, from the first on.
    pub(super) fn samples(&self) -> u16 {
        match self.kind {
            Kind::Grey { .. } | Kind::Palette(_) => 1,
            Kind::Rgb | Kind::YCbCr => 3,
            Kind::PremultipliedRgb | Kind::Cmyk => 4,
        }
    }

    /// Makes pixels `u8 [W,3]` of samples of which each pixel has so many.
    pub(super) fn convert(&self, samples: &[u16], per_pixel: usize, rgb: &mut [u8]) {
        let pixels = rgb.chunks_exact_mut(3).zip(samples.chunks_exact(per_pixel));
        pixels.for_each(|(pixel, samples)| pixel.copy_from_slice(&self.color(samples)));
    }

    fn color(&self, samples: &[u16]) -> [u8; 3] {
        let largest = u16::MAX >> (16 - self.bits);
        match &self.kind {
            Kind::Grey { white_is_zero } => {
                [self.in_8_bits(if *white_is_zero { largest - samples[0] } else { samples[0] }); 3]
            }
            Kind::Rgb => [0, 1, 2].map(|c| self.in_8_bits(samples[c])),
            Kind::PremultipliedRgb => {
                let high =
                    |sample: u16| if self.bits == 16 { sample >> 8 } else { self.in_8_bits(sample).into() };
                match high(samples[3]) {
                    0 => [0; 3],
                    alpha => [0, 1, 2]
                        .map(|c| (255 * u32::from(high(samples[c])) / u32::from(alpha)).min(255) as u8),
                }
            }
            Kind::Palette(colors) => colors[usize::from(samples[0])],
            Kind::Cmyk => {
                let largest = f32::from(largest);
                let light = 1.0 - f32::from(samples[3]) / largest;
                [0, 1, 2].map(|c| self.in_8_bits(((largest - f32::from(samples[c])) * light) as u16))
            }
            Kind::YCbCr => {
                let [y, blue, red] = [0, 1, 2].map(|c| f32::from(samples[c]));
                let (blue, red) = (blue - 128.0, red - 128.0);
                [y + 1.402 * red, y - 0.344_136 * blue - 0.714_136 * red, y + 1.772 * blue]
                    .map(|v| v.round() as u8)
            }
        }
    }

    fn in_8_bits(&self, sample: u16) -> u8 {
        match self.bits {
            1 => sample as u8 * 255,
            2 => sample as u8 * 85,
            4 => sample as u8 * 17,
            16 => ((u32::from(sample) + 128) / 257) as u8,
            _ => sample as u8,
        }
    }
}

fn has_usual_weights<R: Read + Seek>(decoder: &mut Decoder<R>) -> TiffResult<bool> {
    let weight = |value: &Value| match *value {
        Value::Rational(above, below) => f64::from(above) / f64::from(below),
        _ => f64::NAN,
    };
    Ok(match decoder.find_tag(TAG_YCBCR_COEFFICIENTS)? {
        None => true,
        Some(Value::List(values)) if values.len() == 3 => {
            values.iter().zip(WEIGHTS).all(|(value, expected)| (weight(value) - expected).abs() < 0.001)
        }
        Some(_) => false,
    })
}
