//! Round numbers along an axis, and formatting of numbers.

/// Multiples of a round step (1, 2 or 5 times a power of ten) within `low..=high`, about `most` of them at
/// most; only whole numbers if `whole`.
pub(super) fn linear(low: f64, high: f64, most: usize, whole: bool) -> Vec<f64> {
    let step = round_step(high - low, most, whole);
    // Multiples of the step rather than sums, which accumulate errors.
    let (first, last) = ((low / step - 1e-6).ceil(), (high / step + 1e-6).floor());
    (0..=(last - first).max(0.0) as u64).map(|index| (first + index as f64) * step + 0.0).collect()
}

/// The step of [`linear`].
pub(super) fn round_step(span: f64, most: usize, whole: bool) -> f64 {
    let rough = (span / most as f64).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().map(|m| m * power).find(|&step| step >= rough * (1.0 - 1e-9));
    let step = step.unwrap_or(10.0 * power);
    if whole { step.max(1.0) } else { step }
}

/// Powers of ten within `low..=high`, as many as `most` allows, with their multiples by 2 and 5 if these fit;
/// the ticks of [`linear`] if the range has at most two of them.
pub(super) fn logarithmic(low: f64, high: f64, most: usize) -> Vec<f64> {
    let within = |value: &f64| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(value);
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let multiples = |factors: &[f64]| -> Vec<f64> {
        decades
            .clone()
            .flat_map(|power| factors.iter().map(move |m| m * 10f64.powi(power)))
            .filter(within)
            .collect()
    };
    let powers = multiples(&[1.0]);
    if powers.len() > most {
        return powers.iter().copied().step_by(powers.len().div_ceil(most)).collect();
    }
    let finer = multiples(&[1.0, 2.0, 5.0]);
    match finer.len() {
        0..=2 => linear(low, high, most, false),
        count if count <= most + 2 => finer,
        _ => powers,
    }
}

/// The label of a tick; `step` is the distance to the next one and determines the number of digits.
pub(super) fn label(value: f64, step: f64, percent: bool) -> String {
    if percent {
        return format!("{} %", label(100.0 * value, 100.0 * step, false));
    }
    if !is_plain(value) {
        return scientific(value);
    }
    let digits = (-step.log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
    grouped(&format!("{value:.digits$}"))
}

/// A number rounded to `digits` significant digits, at least 1, without trailing zeros.
#[must_use]
pub fn significant(value: f64, digits: usize) -> String {
    let text = format!("{value:.*e}", digits.saturating_sub(1));
    format!("{}", text.parse().unwrap_or(value))
}

/// A number of `digits` significant digits; very large and very small ones in scientific notation.
#[must_use]
pub fn compact(value: f64, digits: usize) -> String {
    if is_plain(value) { significant(value, digits) } else { scientific(value) }
}

/// Whether a number is legible without scientific notation.
pub(super) fn is_plain(value: f64) -> bool {
    value == 0.0 || !value.is_finite() || (9e-5..9.9e6).contains(&value.abs())
}

/// A number in scientific notation: `3·10⁻⁴`.
pub(super) fn scientific(value: f64) -> String {
    let text = format!("{value:.1e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: String = exponent
        .chars()
        .map(|digit| {
            digit.to_digit(10).map_or('⁻', |digit| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(digit as usize).unwrap_or(' '))
        })
        .collect();
    match mantissa.trim_end_matches('0').trim_end_matches('.') {
        "1" => format!("10{exponent}"),
        mantissa => format!("{mantissa}·10{exponent}"),
    }
}

/// A formatted number with its digits grouped: `12,345.5`.
#[must_use]
pub fn grouped(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("−", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(whole, part)| (whole, Some(part)));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], percent: bool) -> Vec<String> {
        let step = values.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
        values.iter().map(|&value| label(value, step.min(1.0), percent)).collect()
    }

    #[test]
    fn numbers_are_formatted_without_digits_of_rounding_errors() {
        assert_eq!(significant(0.001 / 10.0, 4), "0.0001");
        assert_eq!(significant(1234.56, 3), "1230");
        assert_eq!(significant(f64::NAN, 3), "NaN");
        assert_eq!(
            [14.13, 2.34e13, 3e-7, 0.0].map(|value| compact(value, 3)),
            ["14.1", "2.3·10¹³", "3·10⁻⁷", "0"]
        );
        assert_eq!(compact(f64::INFINITY, 3), "inf");
    }

    #[test]
    fn ticks_are_round_and_within_the_range() {
        assert_eq!(linear(0.0, 1.0, 5, false), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(linear(0.13, 0.92, 4, false), [0.2, 0.4, 0.6000000000000001, 0.8]);
        assert_eq!(linear(-7.0, 12.0, 4, false), [-5.0, 0.0, 5.0, 10.0]);
        assert_eq!(linear(1.0, 3.0, 8, true), [1.0, 2.0, 3.0]);
        assert_eq!(linear(1.0, 90.0, 8, true), [20.0, 40.0, 60.0, 80.0]);
        assert_eq!(linear(0.0, 450_000.0, 5, true).last(), Some(&400_000.0));
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten_with_multiples_if_they_fit() {
        assert_eq!(logarithmic(0.1, 1000.0, 5), [0.1, 1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(logarithmic(0.9, 12.0, 5), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(logarithmic(1.0, 1e12, 5).len(), 5);
        assert_eq!(logarithmic(3.0, 4.0, 4), linear(3.0, 4.0, 4, false));
    }

    #[test]
    fn labels_have_enough_digits_to_differ() {
        assert_eq!(labels(&[0.0, 0.5, 1.0], false), ["0.0", "0.5", "1.0"]);
        assert_eq!(labels(&[0.0, 0.05], false), ["0.00", "0.05"]);
        assert_eq!(labels(&[0.0, 0.1], true), ["0 %", "10 %"]);
        assert_eq!(labels(&[0.01, 0.015], true), ["1.0 %", "1.5 %"]);
        assert_eq!(labels(&[-1.0, 100_000.0], false), ["−1", "100,000"]);
        assert_eq!(labels(&[1e-5, 2e-5], false), ["10⁻⁵", "2·10⁻⁵"]);
    }
}
