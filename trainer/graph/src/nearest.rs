//! The names that a mistyped one may stand for.

use strsim::osa_distance;

/// Names shown beside one that is unknown.
const SHOWN: usize = 5;

/// The names most similar to `given`, or that begin like it, the most similar first; five at most.
#[must_use]
pub fn nearest_names<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let (given, length) = (given.to_lowercase(), given.chars().count());
    let mut names: Vec<_> = names
        .into_iter()
        .map(|name| {
            let lower = name.to_lowercase();
            let start: String = lower.chars().take(length).collect();
            let whole = osa_distance(&given, &lower);
            let start = osa_distance(&given, &start);
            // Of names that are as near, those that are so as a whole come first.
            ((start.min(whole), whole > start), name)
        })
        .collect();
    names.sort_by_key(|(distance, _)| *distance);
    names.into_iter().take(SHOWN).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest_names;

    #[test]
    fn names_near_another_are_spelt_or_begin_like_it() {
        let names = ["conv1.weight", "layer1.0.conv1.weight", "fc.weight", "fc.bias", "ReduceMax", "Relu"];
        assert_eq!(nearest_names("layr1.", names)[0], "layer1.0.conv1.weight");
        assert_eq!(nearest_names("fc.wieght", names)[..2], ["fc.weight", "fc.bias"]);
        assert_eq!(nearest_names("ReRU", names)[..2], ["Relu", "ReduceMax"]);
        assert_eq!(nearest_names("x", names).len(), 5);
        assert!(nearest_names("x", []).is_empty());
    }
}
