//! What command lines have in common.

use std::error::Error;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use fovea_pipeline::threads::MOST_THREADS;

/// A parser of an argument that is one of `names`, which `--help` lists.
pub fn one_of<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// A parser of a whole number in `range`; `things` are what it counts, in the plural.
///
/// It fails for any other text, with the range.
pub fn number<T: FromStr>(
    range: RangeInclusive<u64>,
    things: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let is_in_range = text.parse().is_ok_and(|number| range.contains(&number));
        let number = text.parse().ok().filter(|_| is_in_range);
        number.ok_or_else(|| format!("expected {} to {} {things}", range.start(), range.end()))
    }
}

/// A parser of a number of threads.
pub fn threads() -> impl Fn(&str) -> Result<NonZero<usize>, String> + Clone + Send + Sync + 'static {
    number(1..=MOST_THREADS as u64, "threads")
}

/// A parser of a seed.
pub fn seed() -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    |text: &str| text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

/// A parser of a number of seconds above 0.
///
/// # Errors
/// A message with the expected form, for anything else.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected a number of seconds above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_outside_its_range_is_refused_with_the_range() {
        let parse = number::<NonZero<u32>>(1..=1_000_000, "epochs");
        assert_eq!(["1", "1000000"].map(|text| parse(text).unwrap().get()), [1, 1_000_000]);
        for text in
            ["0", "1000001", "4294967296", "18446744073709551617", "-1", "0.5", "1e3", "nan", "many", ""]
        {
            assert_eq!(parse(text).unwrap_err(), "expected 1 to 1000000 epochs", "{text}");
        }
        // A range beyond what the type holds.
        assert_eq!(number::<u8>(1..=300, "things")("256").unwrap_err(), "expected 1 to 300 things");
    }

    #[test]
    fn a_number_of_threads_is_one_that_a_system_starts() {
        assert_eq!(["1", "1024"].map(|text| threads()(text).unwrap().get()), [1, 1024]);
        assert_eq!(threads()("1025").unwrap_err(), "expected 1 to 1024 threads");
    }

    #[test]
    fn every_number_of_64_bits_is_a_seed() {
        assert_eq!(["0", "18446744073709551615"].map(|text| seed()(text).unwrap()), [0, u64::MAX]);
        let expected = "expected a whole number from 0 to 18446744073709551615";
        for text in ["-1", "18446744073709551616", "1e3", ""] {
            assert_eq!(seed()(text).unwrap_err(), expected, "{text}");
        }
    }
}
