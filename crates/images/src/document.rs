//! Manifests and indexes (OCI image-spec, manifest.md and image-index.md; docker's schema 2).

use std::collections::BTreeMap;

use model::{Descriptor, Digest, Platform};
use spec::image as raw;

use crate::{DOCUMENT_BYTES_MAX, Error, LAYERS_MAX, MANIFESTS_MAX, media, strict};

/// Most addresses of one descriptor.
const URLS_MAX: usize = 16;
/// Longest media type or address in bytes.
const TEXT_BYTES_MAX: usize = 4096;

const KNOWN: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "fsLayers",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "architecture",
    "os",
    "os.version",
    "os.features",
    "variant",
];

/// An index or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a document is taken apart right after it was read"
)]
pub enum Document {
    /// A list of manifests.
    Index(Index),
    /// One image or artifact.
    Manifest(Manifest),
}

/// A list of manifests, most often one for each platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The entries in their order.
    pub manifests: Vec<Descriptor>,
    /// Arbitrary metadata.
    pub annotations: BTreeMap<String, String>,
}

/// One image or artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the base first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    pub subject: Option<Descriptor>,
    /// The type of an artifact.
    pub artifact_type: Option<String>,
    /// Arbitrary metadata.
    pub annotations: BTreeMap<String, String>,
}

impl Document {
    /// Reads the content of a descriptor whose type is `media_type`; the digest is the caller's business.
    ///
    /// # Errors
    /// The bytes exceed a limit, contradict the type, or could be read in two ways.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, Error> {
        let what = match media_type {
            media::DOCKER_MANIFEST_1 => return Err(Error::Schema1),
            _ if media::is_index(media_type) => "index",
            _ if media::is_manifest(media_type) => "manifest",
            _ => {
                return Err(Error::Invalid {
                    what: "manifest",
                    reason: format!("media type {:?} is no manifest's", cut(media_type)),
                });
            }
        };
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(Error::TooMany {
                what,
                count: bytes.len() as u64,
                unit: "bytes",
                limit: DOCUMENT_BYTES_MAX,
            });
        }
        strict::check(what, bytes, KNOWN, usize::MAX)?;
        check_shape(what, media_type, bytes)?;
        if what == "index" {
            let index =
                raw::Index::from_slice(bytes).map_err(|source| Error::Spec { what, source })?;
            return Self::index(index);
        }
        let manifest =
            raw::Manifest::from_slice(bytes).map_err(|source| Error::Spec { what, source })?;
        Self::manifest(manifest)
    }

    fn index(index: raw::Index) -> Result<Self, Error> {
        if index.manifests.len() > MANIFESTS_MAX {
            return Err(Error::TooMany {
                what: "index",
                count: index.manifests.len() as u64,
                unit: "entries",
                limit: MANIFESTS_MAX as u64,
            });
        }
        let manifests = index
            .manifests
            .into_iter()
            .map(|each| descriptor("index", each));
        Ok(Self::Index(Index {
            manifests: manifests.collect::<Result<_, _>>()?,
            annotations: index.annotations,
        }))
    }

    fn manifest(manifest: raw::Manifest) -> Result<Self, Error> {
        if manifest.layers.len() > LAYERS_MAX {
            return Err(Error::TooMany {
                what: "manifest",
                count: manifest.layers.len() as u64,
                unit: "layers",
                limit: LAYERS_MAX as u64,
            });
        }
        let layers = manifest
            .layers
            .into_iter()
            .map(|each| descriptor("manifest", each));
        Ok(Self::Manifest(Manifest {
            layers: layers.collect::<Result<_, _>>()?,
            config: descriptor("manifest", manifest.config)?,
            subject: manifest
                .subject
                .map(|subject| descriptor("manifest", subject))
                .transpose()?,
            artifact_type: manifest.artifact_type,
            annotations: manifest.annotations,
        }))
    }
}

/// Holds the fields against the type: a document that is both index and manifest is neither.
fn check_shape(what: &'static str, media_type: &str, bytes: &[u8]) -> Result<(), Error> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|source| Error::Parse { what, source })?;
    let invalid = |reason: String| Error::Invalid { what, reason };
    let object = value
        .as_object()
        .ok_or_else(|| invalid("it is no JSON object".into()))?;
    let has = |key: &str| object.get(key).is_some_and(|value| !value.is_null());
    if has("fsLayers") || object.get("schemaVersion") == Some(&serde_json::Value::from(1)) {
        return Err(Error::Schema1);
    }
    let ambiguous = |reason: &str| Error::Ambiguous {
        what,
        reason: reason.into(),
    };
    if what == "manifest" && has("manifests") {
        return Err(ambiguous(
            "expected a manifest but found an index: it has `manifests`",
        ));
    }
    if what == "index" && (has("layers") || has("config")) {
        return Err(ambiguous(
            "expected an index but found a manifest: it has `layers` or `config`",
        ));
    }
    if what == "manifest" && !has("config") {
        return Err(invalid("it has no config".into()));
    }
    match object.get("mediaType") {
        None | Some(serde_json::Value::Null) => Ok(()),
        Some(serde_json::Value::String(own)) if own.is_empty() || own == media_type => Ok(()),
        Some(own) => {
            let own = cut(own.as_str().unwrap_or("no text"));
            Err(ambiguous(&format!(
                "it says that it is {own:?}, its descriptor says {:?}",
                cut(media_type)
            )))
        }
    }
}

fn descriptor(what: &'static str, raw: raw::Descriptor) -> Result<Descriptor, Error> {
    let invalid = |reason: String| Error::Invalid { what, reason };
    let digest: Digest = raw
        .digest
        .parse()
        .map_err(|error: model::InvalidDigest| invalid(error.to_string()))?;
    if raw.size > i64::MAX as u64 {
        return Err(invalid(format!("the size of {digest} is out of range")));
    }
    if raw.media_type.len() > TEXT_BYTES_MAX || raw.media_type.chars().any(char::is_control) {
        return Err(invalid(format!(
            "the media type of {digest} is no media type"
        )));
    }
    if raw.urls.len() > URLS_MAX || raw.urls.iter().any(|url| url.len() > TEXT_BYTES_MAX) {
        return Err(invalid(format!("{digest} has too many or too long urls")));
    }
    Ok(Descriptor {
        urls: raw.urls,
        annotations: raw.annotations,
        platform: raw.platform.map(platform),
        artifact_type: raw.artifact_type,
        ..Descriptor::new(raw.media_type, digest, raw.size)
    })
}

fn platform(raw: raw::Platform) -> Platform {
    Platform {
        os: raw.os,
        architecture: raw.architecture,
        variant: raw.variant.unwrap_or_default(),
        os_version: raw.os_version.unwrap_or_default(),
        os_features: raw.os_features,
    }
}

pub(crate) fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ErrorKind, Kinded};
    use spec::image::media_type as types;

    fn digest(fill: char) -> String {
        format!("sha256:{}", fill.to_string().repeat(64))
    }

    fn entry(fill: char) -> String {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":3}}"#,
            types::LAYER_GZIP,
            digest(fill)
        )
    }

    fn manifest(layers: usize, more: &str) -> String {
        let list = vec![entry('b'); layers].join(",");
        format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{list}]{more}}}"#,
            entry('a')
        )
    }

    fn index(entries: usize, more: &str) -> String {
        let list = vec![entry('b'); entries].join(",");
        format!(r#"{{"schemaVersion":2,"manifests":[{list}]{more}}}"#)
    }

    fn refusal(media_type: &str, text: &str) -> Error {
        Document::parse(media_type, text.as_bytes()).expect_err(text)
    }

    #[test]
    fn documents_are_read() {
        for media_type in [types::MANIFEST, types::DOCKER_MANIFEST] {
            let text = manifest(2, &format!(r#","mediaType":"{media_type}""#));
            let Document::Manifest(read) = Document::parse(media_type, text.as_bytes()).unwrap()
            else {
                panic!("no manifest");
            };
            assert_eq!((read.layers.len(), read.config.size), (2, 3));
        }
        let text = index(3, r#","mediaType":"""#);
        let Document::Index(read) = Document::parse(types::INDEX, text.as_bytes()).unwrap() else {
            panic!("no index");
        };
        assert_eq!(read.manifests[2].digest.as_str(), digest('b'));
    }

    #[test]
    fn documents_with_two_meanings_are_refused() {
        for (media_type, text) in [
            (types::MANIFEST, manifest(1, r#","manifests":[]"#)),
            (types::INDEX, index(1, r#","layers":[]"#)),
            (types::INDEX, index(1, r#","config":{}"#)),
            (
                types::MANIFEST,
                manifest(1, &format!(r#","mediaType":"{}""#, types::INDEX)),
            ),
            (
                types::MANIFEST,
                manifest(1, &format!(r#","mediaType":"{}""#, types::DOCKER_MANIFEST)),
            ),
            (types::MANIFEST, manifest(1, r#","mediaType":7"#)),
            (types::MANIFEST, manifest(1, r#","layers":[]"#)),
            (types::MANIFEST, manifest(1, r#","Layers":[]"#)),
            (types::MANIFEST, manifest(1, r#","Manifests":[]"#)),
            (types::MANIFEST, manifest(1, r#","subject":{"Digest":"x"}"#)),
        ] {
            assert!(
                matches!(refusal(media_type, &text), Error::Ambiguous { .. }),
                "{text}"
            );
        }
    }

    #[test]
    fn broken_documents_are_refused() {
        for (media_type, text) in [
            (types::MANIFEST, "[]".to_owned()),
            (types::MANIFEST, "null".into()),
            (types::MANIFEST, "{}".into()),
            (types::MANIFEST, "<html>".into()),
            (
                types::MANIFEST,
                manifest(1, "").replace("sha256:b", "sha256:../../"),
            ),
            (
                types::MANIFEST,
                manifest(1, "").replace("sha256:b", "sha256:B"),
            ),
            (
                types::MANIFEST,
                manifest(1, "").replace(r#""size":3"#, r#""size":-3"#),
            ),
            (
                types::MANIFEST,
                manifest(1, "").replace(r#""size":3"#, r#""size":9223372036854775808"#),
            ),
            (types::CONFIG, "{}".into()),
        ] {
            assert_eq!(
                refusal(media_type, &text).kind(),
                ErrorKind::InvalidArgument,
                "{text}"
            );
        }
        let old = refusal(types::DOCKER_MANIFEST_1, "{}");
        assert_eq!(
            old.to_string(),
            "schema 1 image manifests are no longer supported"
        );
        assert!(matches!(
            refusal(types::MANIFEST, r#"{"schemaVersion":1,"fsLayers":[]}"#),
            Error::Schema1
        ));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let parse = |media_type: &str, text: &str| Document::parse(media_type, text.as_bytes());
        assert!(parse(types::MANIFEST, &manifest(LAYERS_MAX, "")).is_ok());
        assert!(matches!(
            refusal(types::MANIFEST, &manifest(LAYERS_MAX + 1, "")),
            Error::TooMany { .. }
        ));
        assert!(parse(types::INDEX, &index(MANIFESTS_MAX, "")).is_ok());
        assert!(matches!(
            refusal(types::INDEX, &index(MANIFESTS_MAX + 1, "")),
            Error::TooMany { .. }
        ));
        let room = usize::try_from(DOCUMENT_BYTES_MAX).unwrap() - index(0, "").len();
        assert!(parse(types::INDEX, &(index(0, "") + &" ".repeat(room))).is_ok());
        assert!(parse(types::INDEX, &(index(0, "") + &" ".repeat(room + 1))).is_err());
        let deep = format!(r#","x":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(types::INDEX, &index(0, &deep)).is_err());
    }
}
