//! Byte counts as people write and read them.

/// Units and their bytes, largest first. Those with an `i` are powers of 1024.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `256MiB`, `1 GB`, `4096`.
///
/// # Errors
/// A message with the expected form.
pub fn parse(text: &str) -> Result<u64, String> {
    let expected = || format!("{text:?}, expected a whole number of bytes such as 4096, 256MiB or 1GB");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| expected())?;
    let unit = text[end..].trim();
    let unit_bytes = match UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        Some((_, bytes)) => *bytes,
        None if unit.is_empty() => 1,
        None => return Err(expected()),
    };
    number.checked_mul(unit_bytes).ok_or_else(expected)
}

/// Writes `251.9 GB`, `512 B`: three or four digits in a decimal unit.
#[must_use]
pub fn describe(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(name, unit)| !name.contains('i') && bytes >= *unit);
    match unit {
        Some((name, unit)) if *unit > 1 => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        _ => format!("{bytes} B"),
    }
}

/// Writes `4MB`, `786kB`: at most `bytes`, as [`parse`] reads it.
#[must_use]
pub fn at_most(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(name, unit)| !name.contains('i') && bytes >= *unit);
    unit.map_or_else(|| "0B".to_owned(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [("4096", 4096), ("256MiB", 256 << 20), ("1 GB", 1_000_000_000), ("3kb", 3000)] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_size_that_is_written_to_be_read_is_at_most_as_large() {
        for (bytes, expected) in
            [(0, "0B"), (999, "999B"), (204_800, "204kB"), (4_999_999, "4MB"), (1 << 30, "1GB")]
        {
            assert_eq!(at_most(bytes), expected);
            assert!(parse(expected).is_ok_and(|read| read <= bytes), "{expected}");
        }
    }

    #[test]
    fn a_text_that_is_no_size_is_refused_with_an_example() {
        for text in ["", "MiB", "-1", "1.5GB", "10 apples", "99999999999GiB"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("256MiB"), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_printed_in_decimal_units() {
        assert_eq!(describe(999), "999 B");
        assert_eq!(describe(196_608), "196.6 kB");
        assert_eq!(describe(251_888_000_000), "251.9 GB");
    }
}
