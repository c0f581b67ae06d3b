//! Results as people read them: medians, per cent, counts.

/// The median of `values`, one of them (the upper of the middle two); `None` without values.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// A share 0..=1 in per cent: `40.7 %`, with two digits below 10 %.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 10.0 { format!("{percent:.2} %") } else { format!("{percent:.1} %") }
}

/// A share 0..=1 in per cent where space is short: `41 %`, with one digit below 0.95 %.
#[must_use]
pub fn short_percent(share: f32) -> String {
    let percent = 100.0 * share;
    if percent < 0.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// A learning rate with up to four digits, as in 0.1, 0.0316 and 1e-6.
#[must_use]
pub fn rate(rate: f64) -> String {
    let rounded = format!("{rate:.3e}").parse::<f64>().unwrap_or(rate);
    if rounded != 0.0 && rounded.abs() < 1e-4 { format!("{rounded:e}") } else { rounded.to_string() }
}

/// A number of things: `1 image`, `2 images`, `3 batches`; `thing` is an English noun with a regular plural.
#[must_use]
pub fn count(number: u64, thing: &str) -> String {
    let plural = if thing.ends_with("tch") || thing.ends_with('s') { "es" } else { "s" };
    format!("{number} {thing}{}", if number == 1 { "" } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(4.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn small_shares_have_more_digits() {
        assert_eq!([0.407, 0.1, 0.0999].map(percent), ["40.7 %", "10.0 %", "9.99 %"]);
        assert_eq!([0.407, 0.0096, 0.0094].map(short_percent), ["41 %", "1 %", "0.9 %"]);
    }

    #[test]
    fn learning_rates_have_no_more_digits_than_they_need() {
        let rates = [0.1, 0.02 / 3.0, 0.000_001_000_000_000_000_000_2, 1e-4, 1.0, 0.0];
        assert_eq!(rates.map(rate), ["0.1", "0.006667", "1e-6", "0.0001", "1", "0"]);
    }

    #[test]
    fn one_is_singular_and_all_else_is_plural() {
        assert_eq!(count(0, "image"), "0 images");
        assert_eq!(count(1, "class"), "1 class");
        assert_eq!(count(2, "class"), "2 classes");
        assert_eq!(count(187, "batch"), "187 batches");
        assert_eq!(count(24, "epoch"), "24 epochs");
    }
}
