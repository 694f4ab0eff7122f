//! JSON that every reader understands alike.
//!
//! Readers differ in which of two equal keys they take and in whether they look at case, so that one set of bytes
//! can be two images (CVE-2021-41190 and its like). Such documents are refused before anybody reads them.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::Error;

/// Deepest nesting of objects and lists.
const DEPTH_MAX: usize = 32;
/// Most keys of one object.
const KEYS_MAX: usize = 10_000;

/// Objects whose keys are data and differ by case.
const FREE: &[&str] = &["annotations", "Labels", "ExposedPorts", "Volumes"];

/// Refuses repeated keys anywhere, keys that differ in case only, and a key of `known` in another case at one of the
/// first `levels` levels of objects.
pub(crate) fn check(
    what: &'static str,
    bytes: &[u8],
    known: &'static [&'static str],
    levels: usize,
) -> Result<(), Error> {
    let walk = Walk {
        known,
        levels,
        depth: 0,
        free: false,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = walk
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    read.map_err(|source| match source.classify() {
        serde_json::error::Category::Data => Error::Ambiguous {
            what,
            reason: source.to_string(),
        },
        _ => Error::Parse { what, source },
    })
}

#[derive(Clone, Copy)]
struct Walk {
    known: &'static [&'static str],
    levels: usize,
    depth: usize,
    free: bool,
}

impl Walk {
    fn below<E: serde::de::Error>(self, key: Option<&str>) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom("nested too deep"));
        }
        Ok(Self {
            depth: self.depth + 1,
            levels: self.levels.saturating_sub(usize::from(key.is_some())),
            free: key.is_some_and(|key| FREE.contains(&key)),
            ..self
        })
    }

    fn check_key<E: serde::de::Error>(
        &self,
        key: &str,
        folded: &mut HashSet<String>,
    ) -> Result<(), E> {
        let shown: String = key.chars().take(64).collect();
        let fold = if self.free { key.to_owned() } else { fold(key) };
        if self.levels > 0
            && !self.free
            && self
                .known
                .iter()
                .any(|known| *known != key && self::fold(known) == fold)
        {
            return Err(E::custom(format!(
                "key {shown:?} is a known key in another case"
            )));
        }
        if !folded.insert(fold) {
            return Err(E::custom(format!("key {shown:?} stands there twice")));
        }
        if folded.len() > KEYS_MAX {
            return Err(E::custom("an object has too many keys"));
        }
        Ok(())
    }
}

/// As Go's decoder folds: Unicode's simple folding, where ſ is s and the Kelvin sign is k.
fn fold(key: &str) -> String {
    key.chars()
        .map(|char| if char == 'ſ' { 's' } else { char })
        .flat_map(char::to_lowercase)
        .collect()
}

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let below = self.below::<A::Error>(None)?;
        while list.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut folded = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            self.check_key::<A::Error>(&key, &mut folded)?;
            let below = self
                .below::<A::Error>(Some(&key))
                .map_err(A::Error::custom)?;
            map.next_value_seed(below)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> bool {
        check("test", text.as_bytes(), &["layers", "config", "kind"], 2).is_ok()
    }

    #[test]
    fn readers_agree_about_what_passes() {
        for good in [
            "{}",
            r#"{"layers":[{"size":1}],"other":{"a":null,"b":1.5,"c":[true]}}"#,
            r#"{"annotations":{"a":"1","A":"2","Layers":"3"}}"#,
            r#"{"a":{"b":{"LAYERS":1}}}"#,
        ] {
            assert!(accepts(good), "{good}");
        }
        for bad in [
            r#"{"layers":[],"layers":[]}"#,
            r#"{"layers":[],"Layers":[]}"#,
            r#"{"Layers":[]}"#,
            r#"{"layerſ":[]}"#,
            "{\"\u{212a}ind\":1}",
            r#"{"x":{"CONFIG":1}}"#,
            r#"{"x":[{"CONFIG":1}]}"#,
            r#"{"x":{"y":{"a":1,"a":2}}}"#,
            r#"{"x":{"y":{"a":1,"A":2}}}"#,
            r#"{"annotations":{"a":"1","a":"2"}}"#,
            "{} {}",
            "{",
            "",
        ] {
            assert!(!accepts(bad), "{bad}");
        }
        let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(accepts(&deep(DEPTH_MAX)) && !accepts(&deep(DEPTH_MAX + 1)));
        assert!(!accepts(&deep(1_000_000)));
    }
}
