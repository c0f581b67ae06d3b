//! The known word that a mistyped one most likely stands for.

/// The candidate with the smallest edit distance, unless even that one has little in common with `given`.
pub(super) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let given: Vec<char> = given.to_lowercase().chars().collect();
    candidates
        .into_iter()
        .map(|candidate| (distance(&given, &candidate.chars().collect::<Vec<_>>()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance * 2 <= given.len().max(candidate.chars().count()) + 1)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Edits (insertion, removal, replacement, swap of neighbours) that turn `a` into `b`: the optimal string alignment
/// distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_edits() {
        for (a, b, expected) in [
            ("", "", 0),
            ("momentum", "momentm", 1),
            ("rate", "raet", 1),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
        ] {
            let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
            assert_eq!((distance(&a, &b), distance(&b, &a)), (expected, expected), "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_typing_error_finds_its_word_and_nonsense_finds_none() {
        let keys = ["learning_rate", "momentum", "weight_decay"];
        assert_eq!(nearest("learnig_rate", keys).as_deref(), Some("learning_rate"));
        assert_eq!(nearest("momentun", keys).as_deref(), Some("momentum"));
        assert_eq!(nearest("xyzzy", keys), None);
        assert_eq!(nearest("a", []), None);
    }
}
