//! The nearest right name for a wrong one.

/// Edits beyond which two names have nothing to do with each other: a third of the wrong one, at least two.
fn edits_max(name: &str) -> usize {
    (name.chars().count() / 3).max(2)
}

/// The known name that is nearest to a wrong one, if any is near.
pub(crate) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .filter(|(edits, name)| {
            *edits <= edits_max(wrong) || (wrong.len() >= 3 && name.contains(wrong))
        })
        .min()
        .map(|(_, name)| name)
}

/// Insertions, deletions and replacements between two names (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for column in 0..right.len() {
            let replaced = diagonal + usize::from(letter != right[column]);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["web", "database", "docker.io/library/alpine:latest"];
        assert_eq!(nearest("wbe", known), Some("web"));
        assert_eq!(nearest("databse", known), Some("database"));
        assert_eq!(
            nearest("alpine", known),
            Some("docker.io/library/alpine:latest")
        );
        assert_eq!(nearest("cache", known), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
