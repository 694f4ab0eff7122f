//! A typed reference to content (OCI image-spec, descriptor.md).

use std::collections::BTreeMap;

use crate::Digest;

/// What a piece of content is, its digest and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The media type, such as `application/vnd.oci.image.manifest.v1+json`.
    pub media_type: String,
    /// The digest of the raw bytes.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// Where else the content may be found.
    pub urls: Vec<String>,
    /// Arbitrary metadata.
    pub annotations: BTreeMap<String, String>,
    /// The platform, as an index's entry names it.
    pub platform: Option<crate::Platform>,
    /// The type of an artifact, when the descriptor points to one.
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with no urls, annotations or platform.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}
