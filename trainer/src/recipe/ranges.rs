//! Ranges of the whole numbers of recipes, and what is said of a number that is none.

use std::ops::RangeInclusive;

/// Most pixels of the side of an image, a window or a step between windows.
pub const MOST_PX: u64 = 16_384;
/// Most images of a batch.
pub const MOST_BATCH: u64 = 1_000_000;
/// Most passes over the training images.
pub const MOST_EPOCHS: u64 = 1_000_000;
/// Most channels or units of a layer; the last one has one for each class.
pub const MOST_OUTPUTS: u64 = 1_000_000;

/// Most blocks of a stage.
const MOST_DEPTH: u64 = 1000;

/// Keys by their last part, with their ranges.
const RANGES: [(&str, RangeInclusive<u64>); 26] = [
    ("image_px", 1..=MOST_PX),
    ("crop_px", 1..=MOST_PX),
    ("kernel", 1..=MOST_PX),
    ("stride", 1..=MOST_PX),
    ("pad", 0..=MOST_PX),
    ("out", 1..=MOST_OUTPUTS),
    ("groups", 1..=MOST_OUTPUTS),
    ("size", 1..=999),
    ("batch_size", 1..=MOST_BATCH),
    ("views", 1..=64),
    ("epochs", 1..=MOST_EPOCHS),
    ("patience", 1..=MOST_EPOCHS),
    ("times", 0..=MOST_EPOCHS),
    ("milestones", 1..=MOST_EPOCHS),
    ("after", 0..=MOST_EPOCHS),
    ("axes", 0..=8),
    ("steps", 1..=1_000_000_000),
    ("depth", 1..=MOST_DEPTH),
    ("depths", 1..=MOST_DEPTH),
    ("width", 1..=MOST_OUTPUTS),
    ("widths", 1..=MOST_OUTPUTS),
    ("heads", 1..=MOST_OUTPUTS),
    ("stem", 1..=MOST_OUTPUTS),
    ("hidden", 1..=MOST_OUTPUTS),
    ("expanded", 1..=MOST_OUTPUTS),
    ("patch_px", 1..=MOST_PX),
];

/// The range of the whole number `key`.
pub(super) fn range(key: &str) -> Option<&'static RangeInclusive<u64>> {
    let last = key.rsplit('.').find(|part| part.parse::<u64>().is_err())?;
    RANGES.iter().find(|(name, _)| *name == last).map(|(_, range)| range)
}

/// A range as it is said in errors.
pub(super) fn said(range: &RangeInclusive<u64>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

/// A number in short form, without hundreds of zeros.
pub(super) fn short(value: f64) -> String {
    let is_short = value == 0.0 || !value.is_finite() || (1e-6..1e9).contains(&value.abs());
    if is_short { value.to_string() } else { format!("{value:e}") }
}

/// The message of the parser about the value of `key`: what was found, and the range that was expected.
pub(super) fn plain(message: &str, key: &str) -> String {
    let expected = match message.rsplit_once("expected ") {
        Some((_, "usize" | "u32" | "u64")) => said(range(key).unwrap_or(&(0..=u32::MAX.into()))),
        Some((_, "f64")) => "a number".to_owned(),
        _ => return message.to_owned(),
    };
    let found = message.split_once(": ").and_then(|(_, rest)| rest.rsplit_once(", expected "));
    let found = found.map_or(message, |(found, _)| found);
    let float = found.strip_prefix("floating point `").and_then(|rest| rest.strip_suffix('`'));
    let found = match float.and_then(|text| text.parse().ok()) {
        Some(number) => short(number),
        None => found.to_owned(),
    };
    format!("found {found}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_the_key_is_said_with_its_range() {
        for (message, key, expected) in [
            (
                "invalid type: string \"1e400\", expected usize",
                "network.layer.conv1.out",
                "found string \"1e400\", expected a whole number from 1 to 1000000",
            ),
            (
                "invalid value: integer `-1`, expected u32",
                "schedule.milestones.0",
                "found integer `-1`, expected a whole number from 1 to 1000000",
            ),
            (
                "invalid type: floating point `100000000000000000000.0`, expected usize",
                "input.image_px",
                "found 1e20, expected a whole number from 1 to 16384",
            ),
            (
                "invalid type: boolean `true`, expected f64",
                "input.scale",
                "found boolean `true`, expected a number",
            ),
            ("missing field `out`", "network.layer.conv1", "missing field `out`"),
        ] {
            assert_eq!(plain(message, key), expected);
        }
    }

    #[test]
    fn a_number_takes_few_characters() {
        let texts = [0.0, -0.5, 1e308, 5e-324, f64::NAN, f64::NEG_INFINITY, 1234.5].map(short);
        assert_eq!(texts, ["0", "-0.5", "1e308", "5e-324", "NaN", "-inf", "1234.5"]);
    }
}
