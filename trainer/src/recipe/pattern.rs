//! Patterns of parameter names.

use strsim::osa_distance;

/// Names shown beside a pattern that matches none.
const SHOWN: usize = 5;

/// Whether `name` matches `pattern`, in which `*` stands for any characters, also none, and `?` for one.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // The last star, and the first character of the name that it does not stand for.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|&left| left == '*')
}

/// The names most similar to `pattern`, the most similar first.
pub(crate) fn nearest_names(pattern: &str, names: &[&str]) -> Vec<String> {
    let plain: String = pattern.chars().filter(|letter| !"*?".contains(*letter)).collect();
    let mut names: Vec<_> = names
        .iter()
        .map(|name| {
            // The pattern may stand for a part of the name only.
            let part: String = name.chars().take(plain.chars().count()).collect();
            (osa_distance(&plain, &part).min(osa_distance(&plain, name)), *name)
        })
        .collect();
    names.sort_by_key(|(distance, _)| *distance);
    names.into_iter().take(SHOWN).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_a_question_mark_for_one() {
        for (pattern, name, expected) in [
            ("head.*", "head.weight", true),
            ("head.*", "ahead.weight", false),
            ("*.bias", "layer1.0.bn1.bias", true),
            ("*.bias", "layer1.bias.weight", false),
            ("layer?.0.*", "layer4.0.conv1.weight", true),
            ("layer?.0.*", "layer10.0.conv1.weight", false),
            ("*bn*weight", "layer1.bn1.bn2.weight", true),
            ("*a*a*", "a", false),
            ("conv1.weight", "conv1.weight", true),
            ("conv1", "conv1.weight", false),
            ("*", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn names_near_a_pattern_are_those_that_begin_like_it() {
        let names = ["conv1.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "fc.weight"];
        assert_eq!(nearest_names("layr1.*", &names)[0], "layer1.0.conv1.weight");
    }
}
