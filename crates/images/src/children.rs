//! What a document points to, and the labels by which the collector keeps that.

use model::{Descriptor, Labels, Reference};

use crate::{Document, media};

/// Which children a document's labels keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcLabels {
    /// All.
    All,
    /// All but the layers: for a content store whose layers may go once they are unpacked.
    WithoutLayers,
}

/// What a document points to, in order: the configuration before the layers.
pub fn children(document: &Document) -> Vec<Descriptor> {
    match document {
        Document::Index(index) => index.manifests.clone(),
        Document::Manifest(manifest) => std::iter::once(&manifest.config)
            .chain(&manifest.layers)
            .cloned()
            .collect(),
    }
}

/// The labels that a document's content needs so that its children are kept as long as it is.
pub fn gc_labels(children: &[Descriptor], which: GcLabels) -> Labels {
    let mut labels = Labels::new();
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for child in children {
        let key = match child.media_type.as_str() {
            kind if media::is_known_config(kind) => "containerd.io/gc.ref.content.config",
            kind if media::is_manifest(kind) => "containerd.io/gc.ref.content.m.",
            kind if media::is_layer(kind) && which == GcLabels::WithoutLayers => continue,
            kind if media::is_layer(kind) => "containerd.io/gc.ref.content.l.",
            _ => "containerd.io/gc.ref.content.",
        };
        let count = counts.entry(key).or_default();
        let numbered = key.ends_with('.') || *count > 0;
        let key = if numbered {
            format!("{key}{count}")
        } else {
            key.to_owned()
        };
        *count += 1;
        labels.insert(key, child.digest.to_string());
    }
    labels
}

/// The label that says which repositories of a registry hold a blob, with `reference` added to what it said before.
/// `None` when it would grow too long for a label.
pub fn distribution_source(
    before: Option<&str>,
    reference: &Reference,
) -> Option<(String, String)> {
    let host = reference.host();
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let key = format!("containerd.io/distribution.source.{name}");
    let known = before
        .unwrap_or_default()
        .split(',')
        .filter(|each| !each.is_empty());
    let all: std::collections::BTreeSet<&str> = known.chain([reference.repository()]).collect();
    let value = all.into_iter().collect::<Vec<_>>().join(",");
    model::check_label(&key, &value)
        .is_ok()
        .then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::image::media_type as types;

    #[test]
    fn children_are_labelled_by_kind_and_number() {
        let child = |media_type: &str, fill: char| {
            let digest = format!("sha256:{}", fill.to_string().repeat(64))
                .parse()
                .unwrap();
            Descriptor::new(media_type, digest, 1)
        };
        let all = [
            child(types::CONFIG, 'a'),
            child(types::LAYER_GZIP, 'b'),
            child(types::DOCKER_LAYER, 'c'),
            child(types::MANIFEST, 'd'),
            child(types::INDEX, 'e'),
            child(types::EMPTY, 'f'),
            child(types::CONFIG, '1'),
        ];
        let labels = gc_labels(&all, GcLabels::All);
        for (key, child) in [
            ("config", 0),
            ("l.0", 1),
            ("l.1", 2),
            ("m.0", 3),
            ("0", 4),
            ("1", 5),
            ("config1", 6),
        ] {
            let key = format!("containerd.io/gc.ref.content.{key}");
            assert_eq!(
                labels.get(&key).map(String::as_str),
                Some(all[child].digest.as_str()),
                "{key}"
            );
        }
        assert_eq!(labels.len(), 7);
        assert_eq!(gc_labels(&all, GcLabels::WithoutLayers).len(), 5);
    }

    #[test]
    fn sources_gather_repositories() {
        let reference = Reference::parse("localhost:5000/b/c:1").unwrap();
        for (before, value) in [
            (None, "b/c"),
            (Some("a,d"), "a,b/c,d"),
            (Some("b/c"), "b/c"),
        ] {
            let (key, got) = distribution_source(before, &reference).unwrap();
            assert_eq!(
                (key.as_str(), got.as_str()),
                ("containerd.io/distribution.source.localhost", value)
            );
        }
        assert_eq!(
            distribution_source(Some(&"x".repeat(4096)), &reference),
            None
        );
    }
}
