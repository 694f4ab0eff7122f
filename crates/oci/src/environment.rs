//! `NAME=value` pairs.

/// `base` with `overrides`: a pair replaces the one of its name in place or is added, a bare name removes it.
pub fn merge(base: &[String], overrides: &[String]) -> Vec<String> {
    let name_of = |pair: &str| {
        pair.split_once('=')
            .map_or(pair, |(name, _)| name)
            .to_owned()
    };
    let mut merged: Vec<String> = base.to_vec();
    for pair in overrides {
        let name = name_of(pair);
        let place = merged.iter().position(|held| name_of(held) == name);
        match (place, pair.contains('=')) {
            (Some(place), true) => merged[place].clone_from(pair),
            (Some(place), false) => {
                merged.remove(place);
            }
            (None, true) => merged.push(pair.clone()),
            (None, false) => {}
        }
    }
    merged
}
