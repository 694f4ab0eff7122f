//! Media types: what a piece of content is and how it is compressed.

pub use spec::image::media_type::{
    DOCKER_MANIFEST_1, is_config, is_index, is_manifest, is_nondistributable,
};

use spec::image::media_type as types;

/// An EROFS file system as a layer.
pub const EROFS_LAYER: &str = "application/vnd.erofs.layer.v1";
/// A statement about an image, kept where a layer would be.
pub const ATTESTATION: &str = "application/vnd.in-toto+json";

/// How a layer's type says that it is compressed; the bytes themselves decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// The type does not say.
    Unknown,
}

/// Whether the type is a layer, compressed, encrypted or not.
pub fn is_layer(media_type: &str) -> bool {
    let base = media_type.split('+').next().unwrap_or_default();
    types::is_layer(media_type) || types::is_layer(base) || base == EROFS_LAYER
}

/// Whether the type is a configuration, of an image or of a checkpoint.
pub fn is_known_config(media_type: &str) -> bool {
    is_config(media_type)
        || matches!(
            media_type,
            types::CHECKPOINT_CRIU | types::CHECKPOINT_CONFIG
        )
}

/// Whether the layer is encrypted.
pub fn is_encrypted(media_type: &str) -> bool {
    media_type
        .split('+')
        .skip(1)
        .any(|suffix| suffix == "encrypted")
}

/// The compression that a layer's type names; `None` if it is no type of a tar layer.
pub fn compression(media_type: &str) -> Option<Compression> {
    let mut parts = media_type.split('+');
    let base = parts.next().unwrap_or_default();
    let wrapped = parts.clone().next().is_some();
    let suffix = |name: &str| media_type.split('+').skip(1).any(|part| part == name);
    Some(match base {
        _ if is_encrypted(media_type) && is_layer(media_type) => Compression::Unknown,
        types::DOCKER_LAYER | types::DOCKER_LAYER_FOREIGN if !wrapped => Compression::Unknown,
        types::DOCKER_LAYER_GZIP | types::DOCKER_LAYER_FOREIGN_GZIP if !wrapped => {
            Compression::Gzip
        }
        types::DOCKER_LAYER_ZSTD if !wrapped => Compression::Zstd,
        types::LAYER | types::LAYER_NONDISTRIBUTABLE if suffix("gzip") => Compression::Gzip,
        types::LAYER | types::LAYER_NONDISTRIBUTABLE if suffix("zstd") => Compression::Zstd,
        types::LAYER | types::LAYER_NONDISTRIBUTABLE => Compression::None,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_fall_into_their_classes() {
        for (media_type, layer, named, encrypted) in [
            (types::LAYER, true, Some(Compression::None), false),
            (types::LAYER_GZIP, true, Some(Compression::Gzip), false),
            (types::LAYER_ZSTD, true, Some(Compression::Zstd), false),
            (
                types::LAYER_NONDISTRIBUTABLE_GZIP,
                true,
                Some(Compression::Gzip),
                false,
            ),
            (types::DOCKER_LAYER, true, Some(Compression::Unknown), false),
            (
                types::DOCKER_LAYER_GZIP,
                true,
                Some(Compression::Gzip),
                false,
            ),
            (
                types::DOCKER_LAYER_ZSTD,
                true,
                Some(Compression::Zstd),
                false,
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                true,
                Some(Compression::Unknown),
                true,
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted",
                true,
                Some(Compression::Unknown),
                true,
            ),
            ("application/vnd.erofs.layer.v1+zstd", true, None, false),
            (ATTESTATION, false, None, false),
            (types::MANIFEST, false, None, false),
            ("", false, None, false),
        ] {
            assert_eq!(is_layer(media_type), layer, "{media_type}");
            assert_eq!(compression(media_type), named, "{media_type}");
            assert_eq!(is_encrypted(media_type), encrypted, "{media_type}");
        }
        assert!(is_known_config(types::CHECKPOINT_CRIU) && is_known_config(types::DOCKER_CONFIG));
    }
}
