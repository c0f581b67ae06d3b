//! What command lines have in common.

use std::error::Error;
use std::num::NonZero;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use fovea_pipeline::threads::MOST_THREADS;

/// A parser of an argument that is one of `names`, which `--help` lists.
pub fn one_of<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// Parses a number of threads.
///
/// # Errors
/// When it is none from 1 to [`MOST_THREADS`].
pub fn threads(text: &str) -> Result<NonZero<usize>, String> {
    let number = text.parse::<NonZero<usize>>().ok().filter(|number| number.get() <= MOST_THREADS);
    number.ok_or_else(|| format!("expected 1 to {MOST_THREADS} threads"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_threads_is_one_that_a_system_starts() {
        assert_eq!([threads("1"), threads("1024")].map(|number| number.unwrap().get()), [1, 1024]);
        for text in ["0", "1025", "4000000", "99999999999999999999", "-1", "many", ""] {
            assert_eq!(threads(text).unwrap_err(), "expected 1 to 1024 threads", "{text}");
        }
    }
}
