//! Media types of the OCI image specification and of docker.

/// An index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A plain layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer compressed with gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer compressed with zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// A plain layer that was not to be distributed.
pub const LAYER_NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// A gzip layer that was not to be distributed.
pub const LAYER_NONDISTRIBUTABLE_GZIP: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// A zstd layer that was not to be distributed.
pub const LAYER_NONDISTRIBUTABLE_ZSTD: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
/// The two bytes `{}`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Docker's list of manifests.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's first manifest, which we refuse.
pub const DOCKER_MANIFEST_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// Docker's configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's plain layer.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's layer compressed with gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker's layer compressed with zstd.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// Docker's plain layer that is fetched from elsewhere.
pub const DOCKER_LAYER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
/// Docker's gzip layer that is fetched from elsewhere.
pub const DOCKER_LAYER_FOREIGN_GZIP: &str =
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// A memory image of processes, as a tar.
pub const CHECKPOINT_CRIU: &str = "application/vnd.containerd.container.criu.checkpoint.criu.tar";
/// The runtime specification of a checkpointed container.
pub const CHECKPOINT_CONFIG: &str =
    "application/vnd.containerd.container.checkpoint.config.v1+proto";

/// Whether the type is an index or docker's list.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_MANIFEST_LIST)
}

/// Whether the type is a manifest of one platform.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, MANIFEST | DOCKER_MANIFEST)
}

/// Whether the type is an image's configuration.
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, CONFIG | DOCKER_CONFIG)
}

/// Whether the type is a layer, compressed, encrypted or not.
pub fn is_layer(media_type: &str) -> bool {
    const OCI_LAYER: &str = "application/vnd.oci.image.layer.";
    media_type.starts_with(OCI_LAYER)
        || matches!(
            media_type,
            DOCKER_LAYER
                | DOCKER_LAYER_GZIP
                | DOCKER_LAYER_ZSTD
                | DOCKER_LAYER_FOREIGN
                | DOCKER_LAYER_FOREIGN_GZIP
        )
}

/// Whether the type is a layer that registries need not have.
pub fn is_nondistributable(media_type: &str) -> bool {
    matches!(
        media_type,
        LAYER_NONDISTRIBUTABLE
            | LAYER_NONDISTRIBUTABLE_GZIP
            | LAYER_NONDISTRIBUTABLE_ZSTD
            | DOCKER_LAYER_FOREIGN
            | DOCKER_LAYER_FOREIGN_GZIP
    )
}
