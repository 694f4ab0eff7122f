//! Which containers share a shim.

use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The annotations that name a group, most telling first.
pub const ANNOTATIONS: [&str; 2] = [
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

/// The part of a runtime specification that grouping needs.
#[derive(Debug, Default, Deserialize)]
struct Shallow<'a> {
    #[serde(default, borrow)]
    annotations: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

/// The group of a container: what its `config.json` names, otherwise its own identifier.
pub fn of_config(config: &[u8], id: &str) -> Result<String, crate::Error> {
    let spec: Shallow<'_> =
        serde_json::from_slice(config).map_err(|source| crate::Error::Json {
            what: "config.json",
            source,
        })?;
    let annotations = spec.annotations.unwrap_or_default();
    let named = ANNOTATIONS.iter().find_map(|name| annotations.get(*name));
    Ok(named.map_or_else(|| id.to_owned(), ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_annotation_wins() {
        for (config, group) in [
            ("{}", "me"),
            (r#"{"annotations":null}"#, "me"),
            (
                r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#,
                "pod",
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.containerd.runc.v2.group":"g\u0031"}}"#,
                "g1",
            ),
        ] {
            assert_eq!(of_config(config.as_bytes(), "me").unwrap(), group);
        }
        assert!(of_config(b"", "me").is_err());
    }
}
