//! The OCI image specification 1.1 (descriptor.md, image-index.md, manifest.md, config.md, image-layout.md).
//!
//! Digests stay text here: a value is what a document says, and whoever uses one checks it first.

mod config;
pub mod media_type;

use std::collections::BTreeMap;

pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfiguration, RootFs};

record! {
    /// A typed reference to content (descriptor.md).
    open struct Descriptor {
        /// The media type of the content.
        media_type: String,
        /// The digest of the content.
        digest: String,
        /// The size of the content, in bytes.
        size: u64,
        /// Where else the content may be found.
        urls: Vec<String>,
        /// Arbitrary metadata.
        annotations: BTreeMap<String, String>,
        /// The content itself, in base64.
        data: Option<String>,
        /// The platform, in an index.
        platform: Option<Platform>,
        /// The type of an artifact.
        artifact_type: Option<String>,
    }
}

record! {
    /// What content runs on (image-index.md#image-index-property-descriptions).
    struct Platform {
        /// The processor architecture, as Go names it.
        architecture: String,
        /// The operating system, as Go names it.
        os: String,
        /// The version of the operating system.
        #[serde(rename = "os.version")]
        os_version: Option<String>,
        /// Features that the operating system must have.
        #[serde(rename = "os.features")]
        os_features: Vec<String>,
        /// The variant of the architecture.
        variant: Option<String>,
    }
}

record! {
    /// A list of manifests (image-index.md), also docker's manifest list.
    open struct Index {
        /// Always 2.
        schema_version: u32,
        /// The media type of this document.
        media_type: Option<String>,
        /// The type of an artifact.
        artifact_type: Option<String>,
        /// The manifests, most often one for each platform.
        manifests: Vec<Descriptor>,
        /// The manifest that this one is about.
        subject: Option<Descriptor>,
        /// Arbitrary metadata.
        annotations: BTreeMap<String, String>,
    }
}

record! {
    /// An image or artifact for one platform (manifest.md), also docker's schema 2.
    open struct Manifest {
        /// Always 2.
        schema_version: u32,
        /// The media type of this document.
        media_type: Option<String>,
        /// The type of an artifact.
        artifact_type: Option<String>,
        /// The configuration.
        config: Descriptor,
        /// The layers, the base first.
        layers: Vec<Descriptor>,
        /// The manifest that this one is about.
        subject: Option<Descriptor>,
        /// Arbitrary metadata.
        annotations: BTreeMap<String, String>,
    }
}

record! {
    /// The content of the file `oci-layout` (image-layout.md).
    struct ImageLayout {
        /// The version of the layout.
        image_layout_version: String,
    }
}

/// The version written to the file `oci-layout`.
pub const LAYOUT_VERSION: &str = "1.0.0";

impl Index {
    /// Reads the document; `manifests` must not be hidden behind another document's fields.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, crate::Error> {
        crate::parse("index", bytes, crate::IMAGE_JSON_BYTES_MAX)
    }
}

impl Manifest {
    /// Reads the document.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, crate::Error> {
        crate::parse("manifest", bytes, crate::IMAGE_JSON_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests;
