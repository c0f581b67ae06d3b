//! The known word that is most similar to a mistyped one.

use strsim::osa_distance;

/// The candidate with the smallest edit distance, unless even that one has little in common with `given`.
pub(super) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let given = given.to_lowercase();
    let length = given.chars().count();
    candidates
        .into_iter()
        .map(|candidate| (osa_distance(&given, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance * 2 <= length.max(candidate.chars().count()) + 1)
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word_and_nonsense_finds_none() {
        let keys = ["learning_rate", "momentum", "weight_decay"];
        assert_eq!(nearest("learnig_rate", keys).as_deref(), Some("learning_rate"));
        assert_eq!(nearest("momentun", keys).as_deref(), Some("momentum"));
        assert_eq!(nearest("xyzzy", keys), None);
        assert_eq!(nearest("a", []), None);
    }
}
