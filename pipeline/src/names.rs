//! From a word on a command line to a value of an enum.

/// A word that names none of an enum's values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {given:?}, expected one of {}", known.join(", "))]
pub struct UnknownName {
    /// What the values are, for instance `layout`.
    pub what: &'static str,
    /// The word that was given.
    pub given: String,
    /// The names there are.
    pub known: Vec<&'static str>,
}

impl UnknownName {
    /// The one of `all` that is named `given`.
    ///
    /// # Errors
    /// This error when there is none.
    pub fn find<T: Copy>(
        what: &'static str,
        given: &str,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Result<T, Self> {
        let found = all.iter().copied().find(|value| name(*value) == given);
        found.ok_or_else(|| {
            let known = all.iter().map(|value| name(*value)).collect();
            Self { what, given: given.to_owned(), known }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    use serde::Serialize;

    use crate::loader::OnBadRecord;
    use crate::{Encoding, EvalCrops, Split};

    /// Command lines, error messages and files use the same names.
    fn check<T>(all: &[T], error: &str)
    where
        T: Copy + Debug + Display + PartialEq + Serialize + FromStr,
        T::Err: Debug + Display,
    {
        for value in all {
            assert_eq!(value.to_string().parse::<T>().unwrap(), *value);
            assert_eq!(serde_json::to_value(value).unwrap(), value.to_string());
        }
        assert_eq!("other".parse::<T>().unwrap_err().to_string(), error);
    }

    #[test]
    fn every_value_is_parsed_printed_and_stored_by_the_same_name() {
        check(&Split::ALL, "unknown split \"other\", expected one of train, val");
        check(&Encoding::ALL, "unknown encoding \"other\", expected one of raw, jpeg");
        check(&OnBadRecord::ALL, "unknown reaction to bad records \"other\", expected one of stop, skip");
        check(&EvalCrops::ALL, "unknown views \"other\", expected one of center, ten-crop, nine-crop");
    }
}
