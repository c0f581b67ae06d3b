//! Patterns of parameter names.

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
}
