//! Platforms: what an image runs on (OCI image-spec, image-index.md#platform).

/// An operating system and a processor, as an index's entry or an image's config names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor architecture, such as `amd64`.
    pub architecture: String,
    /// The variant of the architecture, such as `v7`; empty for none.
    pub variant: String,
    /// The version of the operating system; empty for none.
    pub os_version: String,
    /// Features that the operating system must have.
    pub os_features: Vec<String>,
}
